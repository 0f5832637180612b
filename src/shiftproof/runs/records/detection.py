"""The record table of detectors: one row per image with all its detections.

Boxes are stored as position and size in float64, as in result files, so that scores can be
recomputed bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftproof.errors import InputError
from shiftproof.io.parquet import decode_texts
from shiftproof.metrics.coco import DetectionColumns
from shiftproof.metrics.masks import Code, compute_areas
from shiftproof.runs.parquet import open_table, write_table
from shiftproof.runs.records.rows import ImageRows
from shiftproof.types import F64, I32

if TYPE_CHECKING:
    import pyarrow


GROUND_TRUTH = "ground_truth.json"
"""The file of the ground truth in a run, as COCO annotations."""


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """The detections in one image.

    ``labels`` ``(D,)`` int32 indices into the dataset's classes; ``scores`` ``(D,)`` float64;
    ``positions`` ``(D, 4)`` float64 x, y, width, height in pixels; ``masks`` D compressed
    run-length codes of the image's size, or None.
    """

    labels: I32
    scores: F64
    positions: F64
    masks: tuple[bytes, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)


NO_DETECTIONS = ImageDetections(np.empty(0, np.int32), np.empty(0), np.empty((0, 4)))


@dataclass(eq=False)
class DetectionRecords(ImageRows):
    """The detections of one detector in one cell, one entry per image in the order of the dataset.

    ``position`` is the index in the stream; ``error`` the reason if a file could not be read.
    """

    ids: list[str] = field(default_factory=list)
    position: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    found: list[ImageDetections] = field(default_factory=list)
    error: list[str | None] = field(default_factory=list)

    def columns(
        self, places: Sequence[int], sizes: Sequence[tuple[int, int] | None] | None = None
    ) -> DetectionColumns:
        """Return all detections as columns, for the metrics.

        Args:
            places: ``(N,)`` index of each image in the ground truth; negative ones are skipped.
            sizes: (height, width) of each image of the ground truth, for masks.

        Raises:
            InputError: masks are needed, but there are only boxes.
        """
        kept = [(index, one) for index, one in zip(places, self.found, strict=True) if index >= 0]
        counts = [len(one) for _, one in kept]
        parts = [NO_DETECTIONS, *(one for _, one in kept)]
        positions = np.concatenate([one.positions for one in parts])
        masks = None if sizes is None else _read_codes(kept, sizes)
        return DetectionColumns(
            image=np.repeat(np.array([index for index, _ in kept], np.int64), counts),
            category=np.concatenate([one.labels for one in parts]).astype(np.int64),
            boxes=positions,
            area=positions[:, 2] * positions[:, 3] if masks is None else compute_areas(masks),
            score=np.concatenate([one.scores for one in parts]),
            masks=masks,
        )


def _read_codes(
    kept: Sequence[tuple[int, ImageDetections]], sizes: Sequence[tuple[int, int] | None]
) -> tuple[Code, ...]:
    codes: list[Code] = []
    for index, one in kept:
        if one.masks is None and len(one):
            raise InputError("Expected masks, got detections with boxes only; measure boxes.")
        codes += [{"size": list(sizes[index] or ()), "counts": mask} for mask in one.masks or ()]
    return tuple(codes)


def _make_schema() -> pyarrow.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("label", pa.list_(pa.int32())),
            pa.field("score", pa.list_(pa.float64())),
            pa.field("box", pa.list_(pa.list_(pa.float64(), 4))),
            pa.field("mask", pa.list_(pa.binary())),
            pa.field("error", pa.string()),
        ]
    )


def write_detections(path: Path, records: DetectionRecords) -> None:
    """Write a cell's table, atomically and deterministically."""
    import pyarrow as pa

    offsets = np.cumsum([0, *(len(one) for one in records.found)]).astype(np.int32)

    def make_lists(values: Any) -> Any:
        return pa.ListArray.from_arrays(pa.array(offsets), values)

    found = [NO_DETECTIONS, *records.found]
    labels, scores, boxes = (
        np.concatenate([getattr(one, name) for one in found])
        for name in ("labels", "scores", "positions")
    )
    columns = [
        pa.array(records.ids, pa.string()),
        pa.array(records.position, pa.int32()),
        make_lists(pa.array(labels, pa.int32())),
        make_lists(pa.array(scores, pa.float64())),
        make_lists(pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel(), pa.float64()), 4)),
        pa.array([one.masks for one in records.found], pa.list_(pa.binary())),
        pa.array(records.error, pa.string()),
    ]
    table = pa.Table.from_arrays(columns, names=_make_schema().names).cast(_make_schema())
    write_table(path, table)


def read_detections(path: Path) -> DetectionRecords:
    """Read a cell's table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    with open_table(path, _make_schema()) as table:
        column = {name: table.column(name).combine_chunks() for name in table.schema.names}
        offsets = np.asarray(column["label"].offsets)
        labels = np.asarray(column["label"].flatten(), dtype=np.int32)
        scores = np.asarray(column["score"].flatten(), dtype=np.float64)
        boxes = np.asarray(column["box"].flatten().flatten(), dtype=np.float64).reshape(-1, 4)
        if not len(labels) == len(scores) == len(boxes) == offsets[-1] - offsets[0]:
            raise ValueError("its columns are of different lengths")
        if any(column[name].null_count for name in ("position", "label", "score", "box")):
            raise ValueError("a row has no position or no list")
        found = []
        for row, masks in enumerate(column["mask"].to_pylist()):
            part = slice(offsets[row] - offsets[0], offsets[row + 1] - offsets[0])
            codes = None if masks is None else tuple(masks)
            if codes is not None and (len(codes) != len(labels[part]) or None in codes):
                raise ValueError("a row has different numbers of masks and boxes")
            found.append(ImageDetections(labels[part], scores[part], boxes[part], codes))
        return DetectionRecords(
            ids=column["id"].to_pylist(),
            position=np.asarray(column["position"], dtype=np.int32),
            found=found,
            error=decode_texts(column["error"]),
        )
