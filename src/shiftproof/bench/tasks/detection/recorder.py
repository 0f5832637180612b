"""Detections, translated to the classes of the data, in the record table of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, final

import numpy as np

from shiftproof.bench.tasks.dense_recorder import DenseRecorder, DenseRecording
from shiftproof.metrics.masks import encode_masks
from shiftproof.models.detectors.detector import DetectorLike
from shiftproof.runs.records.detection import (
    NO_DETECTIONS,
    DetectionRecords,
    ImageDetections,
    read_detections,
    write_detections,
)
from shiftproof.types import Detections, Image, Sample

DetectionRecorder: TypeAlias = DenseRecorder[ImageDetections, DetectionRecords]


@final
class DetectorRecording(DenseRecording[ImageDetections]):
    """Records detections, translated to the dataset's classes.

    Args:
        masks: whether masks are kept; they need pycocotools.
    """

    def __init__(self, *, masks: bool) -> None:
        super().__init__()
        self.masks = masks

    def predict(self, model: DetectorLike, batch: Sequence[Image]) -> list[ImageDetections]:
        """Return the detections of each image."""
        match = self.match_of(model)
        predictions = model.predict(batch, batch_size=len(batch))
        return [
            self._convert(match.translate(one), image)
            for one, image in zip(predictions, batch, strict=True)
        ]

    def recorder(self, samples: Sequence[Sample]) -> DetectionRecorder:
        """Return an empty recorder."""
        return DenseRecorder(samples, NO_DETECTIONS, DetectionRecords)

    def resume(self, path: Path, samples: Sequence[Sample]) -> DetectionRecorder:
        """Return a recorder that continues a table."""
        recorder, there = self.recorder(samples), read_detections(path)
        recorder.add_table(there.ids, there.position, there.found, there.error)
        return recorder

    def write(self, path: Path, recorder: DetectionRecorder) -> None:
        """Write the records of a recorder."""
        write_detections(path, recorder.finish())

    def _convert(self, detections: Detections, image: Image) -> ImageDetections:
        corners = detections.boxes.astype(np.float64)
        masks = None
        if self.masks:
            height, width = image.shape[:2]
            codes = encode_masks(
                "masks", list(detections.masks or ()), [(height, width)] * len(detections)
            )
            masks = tuple(code["counts"] for code in codes)
        return ImageDetections(
            labels=detections.labels.astype(np.int32),
            scores=detections.scores.astype(np.float64),
            positions=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
            masks=masks,
        )
