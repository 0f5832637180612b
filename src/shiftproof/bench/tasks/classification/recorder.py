"""Collecting the predictions of classifiers, batch by batch, into the record table of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shiftproof.bench.cells.on_device import PendingLogits
from shiftproof.bench.tasks.classification.calibrators import Calibrator
from shiftproof.metrics import classification
from shiftproof.metrics.calibration import brier_scores
from shiftproof.models import ClassifierLike
from shiftproof.runs.records.classification import (
    TOP,
    CalibratedPredictions,
    CellRecords,
    read_cell,
    write_cell,
)
from shiftproof.types import Image, Images, Logits, Sample

if TYPE_CHECKING:
    import torch


class CellRecorder:
    """Collects the predictions of one model in one cell, batch by batch; ``samples`` are the cell's.

    It uses arrays instead of rows, to save memory: in a mixed stream all cells are recorded at once. With a
    ``calibrator`` it also records the calibrated confidence and the prediction sets.
    """

    def __init__(self, samples: Sequence[Sample], calibrator: Calibrator | None = None) -> None:
        count = len(samples)
        self._samples = samples
        self._calibrator = calibrator
        self._calibrated = None if calibrator is None else CalibratedPredictions.empty(count)
        self._seen = np.zeros(count, dtype=bool)
        self._position = np.zeros(count, dtype=np.int32)
        self._prediction = np.full(count, -1, dtype=np.int32)
        self._confidence = np.full(count, np.nan, dtype=np.float32)
        self._loss = np.full(count, np.nan, dtype=np.float32)
        self._top = np.full((count, TOP), -1, dtype=np.int32)
        self._brier = np.full(count, np.nan, dtype=np.float32)
        self._error: dict[int, str] = {}

    @classmethod
    def of(
        cls, records: CellRecords, samples: Sequence[Sample], calibrator: Calibrator | None = None
    ) -> CellRecorder:
        """Continue from records of some of the samples.

        Raises:
            LookupError: the records are of other samples, or lack columns.
        """
        recorder = cls(samples, calibrator)
        if records.brier is None or (records.calibrated is None) != (calibrator is None):
            raise LookupError("records that lack columns")
        places = {sample.id: row for row, sample in enumerate(samples)}
        rows = np.array([places[name] for name in records.ids], dtype=np.int64)
        recorder._seen[rows] = True
        recorder._position[rows] = records.position
        recorder._prediction[rows] = records.prediction
        recorder._confidence[rows] = records.confidence
        recorder._loss[rows] = records.loss
        recorder._top[rows] = records.top
        recorder._brier[rows] = records.brier
        if recorder._calibrated is not None and records.calibrated is not None:
            recorder._calibrated.put(rows, records.calibrated)
        recorder._error = {
            int(row): reason
            for row, reason in zip(rows, records.error, strict=True)
            if reason is not None
        }
        return recorder

    def add(self, rows: Sequence[int], logits: Logits, positions: Sequence[int]) -> None:
        """Record a batch of samples, given by their indices; ``logits`` is ``(N, K)`` for those N."""
        where = np.array(rows, dtype=np.int64)
        target = np.array([self._samples[row].target for row in rows], dtype=np.int32)
        top = classification.top_classes(logits, TOP)
        self._seen[where] = True
        self._position[where] = positions
        self._prediction[where] = top[:, 0]
        self._confidence[where] = classification.confidence(logits)
        self._top[where, : top.shape[1]] = top
        known = target >= 0
        if known.any():
            self._loss[where[known]] = classification.cross_entropy(logits[known], target[known])
            with np.errstate(over="ignore"):
                probabilities = np.exp(classification.log_softmax(logits[known]))
            self._brier[where[known]] = brier_scores(probabilities, target[known])
        if self._calibrator is not None and self._calibrated is not None:
            names = [self._samples[row].id for row in rows]
            self._calibrated.put(where, self._calibrator.answer(logits, target, names))

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""
        self._seen[row] = True
        self._position[row] = position
        self._error[row] = reason

    def finish(self) -> CellRecords:
        """Return the table of the samples that were seen, in their order."""
        rows = np.flatnonzero(self._seen)
        samples = [self._samples[row] for row in rows.tolist()]
        return CellRecords(
            ids=[sample.id for sample in samples],
            position=self._position[rows],
            target=np.array([sample.target for sample in samples], dtype=np.int32),
            prediction=self._prediction[rows],
            confidence=self._confidence[rows],
            loss=self._loss[rows],
            top=self._top[rows],
            error=[self._error.get(row) for row in rows.tolist()],
            brier=self._brier[rows],
            calibrated=None if self._calibrated is None else self._calibrated.pick(rows),
        )


class ClassifierRecording:
    """Recording of classifiers: from logits to the table of a cell.

    Args:
        calibrators: by the name of the model in the run, in a run that calibrates.
    """

    def __init__(self, calibrators: Mapping[str, Calibrator] | None = None) -> None:
        self._calibrators = dict(calibrators or {})
        self._calibrator: Calibrator | None = None

    def of_model(self, name: str) -> ClassifierRecording:
        """Return the recording of the model of that name."""
        own = ClassifierRecording()
        own._calibrator = self._calibrators.get(name)
        return own

    def gather(self, images: Sequence[Image]) -> Images | list[Image]:
        """Return one array if all images have one size, as after a preprocess with a fixed size."""
        same = all(image.shape == images[0].shape for image in images)
        return np.stack(images) if images and same else list(images)

    def predict(
        self, model: ClassifierLike, batch: Images | Sequence[Image] | torch.Tensor
    ) -> Logits | PendingLogits:
        """Return the logits of a gathered batch; on a device they may still be in transfer."""
        if isinstance(batch, (np.ndarray, Sequence)):
            return model.predict(batch)
        return PendingLogits(model(batch))

    def pick(self, answers: Logits | PendingLogits, places: Sequence[int]) -> Logits:
        """Return the logits of some of the images."""
        logits = answers.read() if isinstance(answers, PendingLogits) else answers
        return logits[list(places)]

    def recorder(self, samples: Sequence[Sample]) -> CellRecorder:
        """Return an empty recorder."""
        return CellRecorder(samples, self._calibrator)

    def resume(self, path: Path, samples: Sequence[Sample]) -> CellRecorder:
        """Return a recorder that continues a table."""
        return CellRecorder.of(read_cell(path), samples, self._calibrator)

    def write(self, path: Path, recorder: CellRecorder) -> None:
        """Write the table of a recorder."""
        write_cell(path, recorder.finish())
