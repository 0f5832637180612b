"""Comparing label maps with the truth, batch by batch, into the record table of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias, final

from shiftproof.bench.tasks.dense_recorder import DenseRecorder, DenseRecording
from shiftproof.data import SegmentationData
from shiftproof.errors import ModelError
from shiftproof.metrics.segmentation import pixel_confusion
from shiftproof.models.segmenters.class_match import translate_labels
from shiftproof.models.segmenters.segmenter import SegmenterLike
from shiftproof.runs.records.segmentation import (
    NO_PIXELS,
    PixelCounts,
    SegmentationRecords,
    read_segmentation,
    to_counts,
    write_segmentation,
)
from shiftproof.types import Image, LabelMap, Sample

_MASKS = 64
"""Label maps that are kept, so that several models that see a batch need read them once."""


class Truths:
    """The label maps of a dataset; the last few are kept in memory."""

    def __init__(self, data: SegmentationData) -> None:
        self.data = data
        self.read = lru_cache(maxsize=_MASKS)(data.read_mask)

    def __reduce__(self) -> tuple[type[Truths], tuple[SegmentationData]]:
        """Pickle without the label maps, which are read again where they are needed."""
        return Truths, (self.data,)

    def count(self, sample: Sample, labels: LabelMap) -> PixelCounts:
        """Return the pixels of an image by true class and by the class in ``labels``."""
        truth = self.read(sample)
        if truth.shape != labels.shape:
            raise ModelError(
                f"{sample.id}: the image has {labels.shape[1]} x {labels.shape[0]} pixels, and its "
                f"label map {truth.shape[1]} x {truth.shape[0]}; expected the same."
            )
        return to_counts(pixel_confusion(truth, labels, len(self.data.classes)))


SegmentationRecorder: TypeAlias = DenseRecorder[PixelCounts, SegmentationRecords]


@final
class SegmenterRecording(DenseRecording[LabelMap]):
    """Recording of segmenters: counts of pixels by true and predicted class of the data.

    Args:
        data: has the label maps.
    """

    def __init__(self, data: SegmentationData) -> None:
        super().__init__()
        self._truths = Truths(data)

    def predict(self, model: SegmenterLike, batch: Sequence[Image]) -> list[LabelMap]:
        """Return the label map of each image, in the data's classes."""
        match = self.match_of(model)
        predictions = model.predict(batch, batch_size=len(batch))
        return [translate_labels(match, labels) for labels in predictions]

    def recorder(self, samples: Sequence[Sample]) -> SegmentationRecorder:
        """Return an empty recorder."""
        return DenseRecorder(samples, NO_PIXELS, SegmentationRecords, self._truths.count)

    def resume(self, path: Path, samples: Sequence[Sample]) -> SegmentationRecorder:
        """Return a recorder that continues a table."""
        recorder, there = self.recorder(samples), read_segmentation(path)
        recorder.add_table(there.ids, there.position, there.counts, there.error)
        return recorder

    def write(self, path: Path, recorder: SegmentationRecorder) -> None:
        """Write the table of a recorder."""
        write_segmentation(path, recorder.finish())
