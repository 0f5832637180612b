"""The record table of segmenters: one row per image with its pixels by true and predicted class.

Only pairs of classes that occur are stored, so rows are short even if there are many classes. All
scores and their intervals follow from these counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.io.parquet import decode_texts
from shiftproof.runs.parquet import TableFormat, open_table
from shiftproof.runs.records.rows import ImageRows
from shiftproof.types import F64, I16, I32, I64, Flags


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """The pixels of one image, an entry for each pair of classes that occurs.

    ``truth`` ``(E,)`` int16 is the true class, ``prediction`` ``(E,)`` int16 the predicted one, -1 for
    none of the dataset's classes; ``pixels`` ``(E,)`` int64 is the number of pixels.
    """

    truth: I16
    prediction: I16
    pixels: I64

    def __len__(self) -> int:
        return len(self.pixels)


NO_PIXELS = PixelCounts(np.empty(0, np.int16), np.empty(0, np.int16), np.empty(0, np.int64))


def to_counts(confusion: I64) -> PixelCounts:
    """Return the entries above 0 of a ``(K, K + 1)`` confusion, whose last column is no class.

    >>> to_counts(np.array([[3, 0, 1], [0, 2, 0]])).prediction
    array([ 0, -1,  1], dtype=int16)
    """
    truth, prediction = np.nonzero(confusion)
    pixels = confusion[truth, prediction].astype(np.int64)
    classes = len(confusion)
    prediction = np.where(prediction == classes, -1, prediction)
    return PixelCounts(truth.astype(np.int16), prediction.astype(np.int16), pixels)


@dataclass(eq=False)
class SegmentationRecords(ImageRows):
    """The predictions of one segmenter in one cell, one entry per image in the order of the dataset.

    ``position`` is the index in the stream; ``error`` the reason if a file could not be read.
    """

    ids: list[str] = field(default_factory=list)
    position: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    counts: list[PixelCounts] = field(default_factory=list)
    error: list[str | None] = field(default_factory=list)

    def find_largest_class(self) -> int:
        """Return the largest index of a class that occurs, -1 if none does."""
        largest = [max(one.truth.max(), one.prediction.max()) for one in self.counts if len(one)]
        return int(max(largest, default=-1))

    def compute_marginals(self, classes: int) -> F64:
        """Return ``(N, 3 K)`` pixels per image: hits, truth and predicted of each of K classes."""
        rows = np.repeat(np.arange(len(self)), [len(one) for one in self.counts])
        truth, prediction, pixels = self._columns()
        shape = (len(self), classes)
        is_known = prediction >= 0
        is_hit = truth == prediction
        return np.concatenate(
            [
                _sum_pixels(rows[is_hit], truth[is_hit], pixels[is_hit], shape),
                _sum_pixels(rows, truth, pixels, shape),
                _sum_pixels(rows[is_known], prediction[is_known], pixels[is_known], shape),
            ],
            axis=1,
        )

    def compute_confusion(self, classes: int, used: Flags) -> I64:
        """Return the ``(K, K + 1)`` confusion matrix of the images that are ``used``, ``(N,)`` bool."""
        rows = np.repeat(used, [len(one) for one in self.counts])
        truth, prediction, pixels = (column[rows] for column in self._columns())
        column = np.where(prediction < 0, classes, prediction)
        return _sum_pixels(truth, column, pixels, (classes, classes + 1)).astype(np.int64)

    def _columns(self) -> tuple[I64, I64, I64]:
        counts = [NO_PIXELS, *self.counts]
        return (
            np.concatenate([one.truth for one in counts]).astype(np.int64),
            np.concatenate([one.prediction for one in counts]).astype(np.int64),
            np.concatenate([one.pixels for one in counts]),
        )


def _sum_pixels(rows: I64, columns: I64, pixels: I64, shape: tuple[int, int]) -> F64:
    """Sum pixels by row and column; such sums are exact in float64."""
    sums = np.bincount(rows * shape[1] + columns, weights=pixels, minlength=shape[0] * shape[1])
    table: F64 = sums.reshape(shape).astype(np.float64, copy=False)
    return table


_FORMAT = TableFormat(
    {
        "id": "string", "position": "int32", "truth": "[int16]", "prediction": "[int16]",
        "pixels": "[int64]", "error": "string",
    },
    required=("id", "position"),
)  # fmt: skip


def write_segmentation(path: Path, records: SegmentationRecords) -> None:
    """Write a cell's table, atomically and deterministically."""
    import pyarrow as pa

    offsets = pa.array(np.cumsum([0, *(len(one) for one in records.counts)]).astype(np.int32))
    counts = [NO_PIXELS, *records.counts]

    def make_lists(name: str) -> Any:
        values = np.concatenate([getattr(one, name) for one in counts])
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    lists = {name: make_lists(name) for name in ("truth", "prediction", "pixels")}
    values = {"id": records.ids, "position": records.position, **lists, "error": records.error}
    _FORMAT.write(path, values)


def read_segmentation(path: Path) -> SegmentationRecords:
    """Read a cell's table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    with open_table(path, _FORMAT.make_schema()) as table:
        column = {name: table.column(name).combine_chunks() for name in table.schema.names}
        if any(column[name].null_count for name in ("position", "truth", "prediction", "pixels")):
            raise ValueError("a row has no position or no list")
        offsets = np.asarray(column["truth"].offsets)
        parts = {
            name: np.asarray(column[name].flatten()) for name in ("truth", "prediction", "pixels")
        }
        _check_parts(parts, [np.asarray(column[name].offsets) for name in parts])
        ends = offsets - offsets[0]
        return SegmentationRecords(
            ids=column["id"].to_pylist(),
            position=np.asarray(column["position"], dtype=np.int32),
            counts=[
                PixelCounts(*(values[start:stop] for values in parts.values()))
                for start, stop in itertools.pairwise(ends)
            ],
            error=decode_texts(column["error"]),
        )


def _check_parts(parts: dict[str, Any], offsets: Sequence[Any]) -> None:
    if any(not np.array_equal(other, offsets[0]) for other in offsets):
        raise ValueError("its columns are of different lengths")
    truth, prediction, pixels = parts.values()
    if any(values.dtype.kind != "i" for values in parts.values()):
        raise ValueError("a count or a class is missing")
    if len(pixels) and (truth.min() < 0 or prediction.min() < -1 or pixels.min() < 1):
        raise ValueError("a class or a number of pixels is out of range")
