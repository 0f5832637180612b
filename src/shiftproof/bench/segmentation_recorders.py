"""Comparing label maps with the truth, batch by batch, into the record table of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from shiftproof.data import SegmentationData
from shiftproof.errors import ModelError
from shiftproof.metrics.segmentation import pixel_confusion
from shiftproof.models.detectors.class_match import ClassMatch
from shiftproof.models.segmenters.class_match import translate_labels
from shiftproof.models.segmenters.segmenter import SegmenterLike
from shiftproof.runs.records.segmentation import (
    NO_PIXELS,
    PixelCounts,
    SegmentationRecords,
    as_counts,
    read_segmentation,
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
        return as_counts(pixel_confusion(truth, labels, len(self.data.classes)))


class SegmentationRecorder:
    """Counts one segmenter's pixels in one cell, batch by batch; ``samples`` are the cell's."""

    def __init__(self, samples: Sequence[Sample], truths: Truths) -> None:
        self._samples = samples
        self._truths = truths
        self._counts: dict[int, PixelCounts] = {}
        self._position: dict[int, int] = {}
        self._error: dict[int, str] = {}

    @classmethod
    def of(
        cls, records: SegmentationRecords, samples: Sequence[Sample], truths: Truths
    ) -> SegmentationRecorder:
        """Continue from records of some of the samples.

        Raises:
            LookupError: records of other samples.
        """
        recorder = cls(samples, truths)
        places = {sample.id: row for row, sample in enumerate(samples)}
        for at, (name, reason) in enumerate(zip(records.ids, records.error, strict=True)):
            row = places[name]
            recorder._position[row] = int(records.position[at])
            if reason is None:
                recorder._counts[row] = records.counts[at]
            else:
                recorder._error[row] = reason
        return recorder

    def add(
        self, rows: Sequence[int], answers: Sequence[LabelMap], positions: Sequence[int]
    ) -> None:
        """Count the label maps of some images, given by their places among the samples."""
        for row, labels, position in zip(rows, answers, positions, strict=True):
            self.add_counted(row, self._truths.count(self._samples[row], labels), position)

    def add_counted(self, row: int, counts: PixelCounts, position: int) -> None:
        """Record the pixels of one image, counted already."""
        self._counts[row] = counts
        self._position[row] = position

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""
        self._position[row] = position
        self._error[row] = reason

    def finish(self) -> SegmentationRecords:
        """Return the table of the samples that were seen, in their order."""
        rows = sorted(self._position)
        return SegmentationRecords(
            ids=[self._samples[row].id for row in rows],
            position=np.array([self._position[row] for row in rows], dtype=np.int32),
            counts=[self._counts.get(row, NO_PIXELS) for row in rows],
            error=[self._error.get(row) for row in rows],
        )


class SegmenterRecording:
    """Recording of segmenters: counts of pixels by true and predicted class of the data.

    Args:
        data: has the label maps.
    """

    def __init__(self, data: SegmentationData) -> None:
        self._truths = Truths(data)
        # By the model itself: its id is another one where both are sent to.
        self._matches: list[tuple[SegmenterLike, ClassMatch]] = []

    def add(self, model: SegmenterLike, match: ClassMatch) -> None:
        """Store the class match of a segmenter."""
        self._matches.append((model, match))

    def gather(self, images: Sequence[Image]) -> list[Image]:
        """Return the images: a segmenter takes them in any sizes."""
        return list(images)

    def predict(self, model: SegmenterLike, batch: Sequence[Image]) -> list[LabelMap]:
        """Return the label map of each image, in the data's classes."""
        match = next(match for one, match in self._matches if one is model)
        answers = model.predict(batch, batch_size=len(batch))
        return [translate_labels(match, labels) for labels in answers]

    def pick(self, answers: list[LabelMap], places: Sequence[int]) -> list[LabelMap]:
        """Return the label maps of some of the images."""
        return [answers[place] for place in places]

    def recorder(self, samples: Sequence[Sample]) -> SegmentationRecorder:
        """Return an empty recorder."""
        return SegmentationRecorder(samples, self._truths)

    def resume(self, path: Path, samples: Sequence[Sample]) -> SegmentationRecorder:
        """Return a recorder that continues a table."""
        return SegmentationRecorder.of(read_segmentation(path), samples, self._truths)

    def write(self, path: Path, recorder: SegmentationRecorder) -> None:
        """Write the table of a recorder."""
        write_segmentation(path, recorder.finish())
