"""Collecting detections, batch by batch, into the record table of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shiftproof.metrics.masks import run_length_codes
from shiftproof.models.detectors.class_match import ClassMatch
from shiftproof.models.detectors.detector import DetectorLike
from shiftproof.runs.records.detection import (
    NOTHING,
    DetectionRecords,
    FoundInImage,
    read_detections,
    write_detections,
)
from shiftproof.types import Detections, Image, Sample


class DetectionRecorder:
    """Collects the detections of one detector in one cell, batch by batch; ``samples`` are the
    cell's.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._found: dict[int, FoundInImage] = {}
        self._position: dict[int, int] = {}
        self._error: dict[int, str] = {}

    @classmethod
    def of(cls, records: DetectionRecords, samples: Sequence[Sample]) -> DetectionRecorder:
        """Continue from records of some of the samples.

        Raises:
            LookupError: records of other samples.
        """
        recorder = cls(samples)
        places = {sample.id: row for row, sample in enumerate(samples)}
        for at, (name, reason) in enumerate(zip(records.ids, records.error, strict=True)):
            row = places[name]
            recorder._position[row] = int(records.position[at])
            if reason is None:
                recorder._found[row] = records.found[at]
            else:
                recorder._error[row] = reason
        return recorder

    def add(
        self, rows: Sequence[int], answers: Sequence[FoundInImage], positions: Sequence[int]
    ) -> None:
        """Record the detections of some images, given by their indices in the samples."""
        self._found.update(zip(rows, answers, strict=True))
        self._position.update(zip(rows, positions, strict=True))

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""
        self._position[row] = position
        self._error[row] = reason

    def finish(self) -> DetectionRecords:
        """Return the table of the recorded samples, in order."""
        rows = sorted(self._position)
        return DetectionRecords(
            ids=[self._samples[row].id for row in rows],
            position=np.array([self._position[row] for row in rows], dtype=np.int32),
            found=[self._found.get(row, NOTHING) for row in rows],
            error=[self._error.get(row) for row in rows],
        )


class DetectorRecording:
    """Records detections, translated to the dataset's classes.

    Args:
        masks: whether masks are kept; they need pycocotools.
    """

    def __init__(self, *, masks: bool) -> None:
        self.masks = masks
        # Keyed by the model itself: its id changes when both are pickled.
        self._matches: list[tuple[DetectorLike, ClassMatch]] = []

    def add(self, model: DetectorLike, match: ClassMatch) -> None:
        """Store the class match of a detector."""
        self._matches.append((model, match))

    def gather(self, images: Sequence[Image]) -> list[Image]:
        """Return the images: a detector takes them in any sizes."""
        return list(images)

    def predict(self, model: DetectorLike, batch: Sequence[Image]) -> list[FoundInImage]:
        """Return the detections of each image."""
        match = next(match for one, match in self._matches if one is model)
        answers = model.predict(batch, batch_size=len(batch))
        return [
            self._keep(match.translate(one), image)
            for one, image in zip(answers, batch, strict=True)
        ]

    def pick(self, answers: list[FoundInImage], places: Sequence[int]) -> list[FoundInImage]:
        """Return the detections of some of the images."""
        return [answers[place] for place in places]

    def recorder(self, samples: Sequence[Sample]) -> DetectionRecorder:
        """Return an empty recorder."""
        return DetectionRecorder(samples)

    def resume(self, path: Path, samples: Sequence[Sample]) -> DetectionRecorder:
        """Return a recorder that continues a table."""
        return DetectionRecorder.of(read_detections(path), samples)

    def write(self, path: Path, recorder: DetectionRecorder) -> None:
        """Write the records of a recorder."""
        write_detections(path, recorder.finish())

    def _keep(self, detections: Detections, image: Image) -> FoundInImage:
        corners = detections.boxes.astype(np.float64)
        masks = None
        if self.masks:
            height, width = image.shape[:2]
            codes = run_length_codes(
                "masks", list(detections.masks or ()), [(height, width)] * len(detections)
            )
            masks = tuple(code["counts"] for code in codes)
        return FoundInImage(
            labels=detections.labels.astype(np.int32),
            scores=detections.scores.astype(np.float64),
            positions=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
            masks=masks,
        )
