"""Collecting what classifiers answer, batch by batch, into the record table of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shiftproof.bench.on_device import Answers
from shiftproof.metrics import classification
from shiftproof.models import ClassifierLike
from shiftproof.runs.records.classification import TOP, CellRecords, read_cell, write_cell
from shiftproof.types import Image, Images, Logits, Sample

if TYPE_CHECKING:
    import torch


class CellRecorder:
    """Collects the answers of one model in one cell, batch by batch; ``samples`` are the cell's.

    Arrays and no rows: where all cells are mixed, all of them are under way at once.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        count = len(samples)
        self._samples = samples
        self._seen = np.zeros(count, dtype=bool)
        self._position = np.zeros(count, dtype=np.int32)
        self._prediction = np.full(count, -1, dtype=np.int32)
        self._confidence = np.full(count, np.nan, dtype=np.float32)
        self._loss = np.full(count, np.nan, dtype=np.float32)
        self._top = np.full((count, TOP), -1, dtype=np.int32)
        self._error: dict[int, str] = {}

    @classmethod
    def of(cls, records: CellRecords, samples: Sequence[Sample]) -> CellRecorder:
        """Go on with records of some of the samples.

        Raises:
            LookupError: records of other samples.
        """
        recorder = cls(samples)
        places = {sample.id: row for row, sample in enumerate(samples)}
        rows = np.array([places[name] for name in records.ids], dtype=np.int64)
        recorder._seen[rows] = True
        recorder._position[rows] = records.position
        recorder._prediction[rows] = records.prediction
        recorder._confidence[rows] = records.confidence
        recorder._loss[rows] = records.loss
        recorder._top[rows] = records.top
        recorder._error = {
            int(row): reason
            for row, reason in zip(rows, records.error, strict=True)
            if reason is not None
        }
        return recorder

    def add(self, rows: Sequence[int], logits: Logits, positions: Sequence[int]) -> None:
        """Record a batch of samples, given by their places; ``logits`` is ``(N, K)`` for those N."""
        where = np.array(rows, dtype=np.int64)
        target = np.array([_label(self._samples[row]) for row in rows], dtype=np.int32)
        top = classification.top_classes(logits, TOP)
        self._seen[where] = True
        self._position[where] = positions
        self._prediction[where] = top[:, 0]
        self._confidence[where] = classification.confidence(logits)
        self._top[where, : top.shape[1]] = top
        known = target >= 0
        if known.any():
            self._loss[where[known]] = classification.cross_entropy(logits[known], target[known])

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
            target=np.array([_label(sample) for sample in samples], dtype=np.int32),
            prediction=self._prediction[rows],
            confidence=self._confidence[rows],
            loss=self._loss[rows],
            top=self._top[rows],
            error=[self._error.get(row) for row in rows.tolist()],
        )


class ClassifierRecording:
    """How the answers of classifiers are kept: logits in, the table of a cell out."""

    def gather(self, images: Sequence[Image]) -> Images | list[Image]:
        """Return one array where all images have one size, as behind a preprocess with a fixed size."""
        same = all(image.shape == images[0].shape for image in images)
        return np.stack(images) if images and same else list(images)

    def predict(
        self, model: ClassifierLike, batch: Images | Sequence[Image] | torch.Tensor
    ) -> Logits | Answers:
        """Return the logits of a gathered batch, or of one on a device those that are under way."""
        if isinstance(batch, (np.ndarray, Sequence)):
            return model.predict(batch)
        return Answers(model(batch))

    def pick(self, answers: Logits | Answers, places: Sequence[int]) -> Logits:
        """Return the logits of some of the images."""
        logits = answers.read() if isinstance(answers, Answers) else answers
        return logits[list(places)]

    def recorder(self, samples: Sequence[Sample]) -> CellRecorder:
        """Return an empty recorder."""
        return CellRecorder(samples)

    def resume(self, path: Path, samples: Sequence[Sample]) -> CellRecorder:
        """Return a recorder that goes on with a table."""
        return CellRecorder.of(read_cell(path), samples)

    def write(self, path: Path, recorder: CellRecorder) -> None:
        """Write what a recorder has."""
        write_cell(path, recorder.finish())


def _label(sample: Sample) -> int:
    return -1 if sample.label is None else sample.label
