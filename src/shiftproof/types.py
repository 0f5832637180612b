"""Common types, with their dtypes, shapes and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.errors import InputError

__all__ = [
    "CLEAN",
    "Cell",
    "Detections",
    "Image",
    "Images",
    "Logits",
    "Mask",
    "Sample",
    "Settings",
]

U8: TypeAlias = NDArray[np.uint8]
U16: TypeAlias = NDArray[np.uint16]
U32: TypeAlias = NDArray[np.uint32]
U64: TypeAlias = NDArray[np.uint64]
I8: TypeAlias = NDArray[np.int8]
I16: TypeAlias = NDArray[np.int16]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
F16: TypeAlias = NDArray[np.float16]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.intp]
"""Arrays of numbers by their dtype; a docstring gives shape and meaning."""

Image: TypeAlias = NDArray[np.uint8]
"""``(H, W, 3)`` uint8 in 0..255, RGB; ``(H, W)`` is gray."""

Images: TypeAlias = NDArray[np.uint8]
"""``(N, H, W, 3)`` uint8 in 0..255, RGB: a batch of images of one size."""

Logits: TypeAlias = NDArray[np.float32]
"""``(N, K)`` float32: one unnormalized log-probability per image and class."""

LabelMap: TypeAlias = NDArray[np.int16]
"""``(H, W)`` int16: the class of each pixel, or -1 where it has none."""

Settings: TypeAlias = dict[str, Any]
"""Settings that reproduce an object: strings, numbers, booleans, None, lists and dicts of these."""

Mask: TypeAlias = Mapping[str, Any]
"""COCO run-length code: ``{"size": [height, width], "counts": bytes, str or list of integers}``."""


@dataclass(frozen=True)
class Sample:
    """One image of a dataset.

    ``id`` names it within the dataset, is unique there, and is the key of its randomness.
    ``label`` is an index into the model's classes; None where the image has no label.
    """

    id: str
    label: int | None = None

    @property
    def target(self) -> int:
        """The label as in records: -1 where the image has none."""
        return -1 if self.label is None else self.label


@dataclass(frozen=True, order=True)
class Cell:
    """A cell of the corruption grid: ``severity`` 1 to 5, or the clean cell with severity 0."""

    corruption: str
    severity: int

    @property
    def is_clean(self) -> bool:
        """Whether this is the cell of the uncorrupted images."""
        return self.severity == 0

    def __str__(self) -> str:
        return self.corruption if self.is_clean else f"{self.corruption}-{self.severity}"


CLEAN = Cell("clean", 0)
"""The cell of the uncorrupted images."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections in one image, in any order.

    Lists and arrays of other number types are converted; N = 0 is an image without detections.

    Attributes:
        boxes: ``(N, 4)`` float32, ``x1, y1, x2, y2`` in pixels of the image as loaded, with the upper left
            corner of the image at 0, 0; the width is x2 - x1. Boxes may extend beyond the image.
        scores: ``(N,)`` float32 in 0..1, higher for more confident detections.
        labels: ``(N,)`` int64, 0 or more, indexes into the classes.
        masks: N masks of the image's size, or None.

    Raises:
        InputError: wrong shapes, a number that is not finite, a box with swapped corners, a score
            outside 0..1, or labels that are not indices.

    >>> Detections([[10, 20, 30, 40]], [0.9], [2]).boxes
    array([[10., 20., 30., 40.]], dtype=float32)
    """

    boxes: F32
    scores: F32
    labels: I64
    masks: tuple[Mask, ...] | None = None

    def __init__(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        labels: ArrayLike,
        masks: tuple[Mask, ...] | list[Mask] | None = None,
    ) -> None:
        checked_boxes = _check_boxes(boxes)
        count = len(checked_boxes)
        object.__setattr__(self, "boxes", checked_boxes)
        object.__setattr__(self, "scores", _check_scores(scores, count))
        object.__setattr__(self, "labels", _check_labels(labels, count))
        object.__setattr__(self, "masks", None if masks is None else tuple(masks))
        if self.masks is not None and len(self.masks) != count:
            raise InputError(f"Expected one mask for each box ({count:,}), got {len(self.masks)}.")

    def __len__(self) -> int:
        return len(self.boxes)


def _check_boxes(boxes: ArrayLike) -> F32:
    values = _check_numbers("boxes", boxes)
    if values.size == 0 and values.shape in {(0,), (0, 4)}:
        return np.empty((0, 4), dtype=np.float32)
    if values.ndim != 2 or values.shape[1] != 4:
        raise InputError(f"Expected boxes of shape (N, 4), x1, y1, x2, y2, got {values.shape}.")
    swapped = (values[:, 2] < values[:, 0]) | (values[:, 3] < values[:, 1])
    if swapped.any():
        raise InputError(
            f"Expected boxes as x1, y1, x2, y2 with x2 >= x1 and y2 >= y1; {swapped.sum()} of "
            f"{len(values)} are not, such as {values[swapped][0].tolist()}. If they are x, y, width, "
            "height, add x to the width and y to the height."
        )
    return values.astype(np.float32)


def _check_scores(scores: ArrayLike, count: int) -> F32:
    values = _check_numbers("scores", scores)
    if values.shape != (count,):
        raise InputError(f"Expected one score for each box ({count:,}), got shape {values.shape}.")
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise InputError(
            f"Expected scores in 0..1, got {values[outside][0]}; pass probabilities, not logits or "
            "percentages."
        )
    return values.astype(np.float32)


def _check_labels(labels: ArrayLike, count: int) -> I64:
    values = np.asarray(labels)
    if values.shape != (count,):
        raise InputError(f"Expected one label for each box ({count:,}), got shape {values.shape}.")
    if count and (values.dtype.kind not in "iu" or values.min() < 0):
        raise InputError(
            "Expected labels as indexes of classes, integers of 0 or more, got "
            f"{values.dtype} {values.tolist()!r:.60}."
        )
    return values.astype(np.int64)


def _check_numbers(what: str, values: ArrayLike) -> F64:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"Expected {what} as rows of equal length, got {values!r:.80}.") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"Expected {what} as numbers, got {array.dtype}.")
    # They must also be finite in float32, the dtype in which they are stored.
    if not (np.abs(array.astype(np.float64)) < 1e38).all():
        raise InputError(f"Expected finite {what}, got NaN, infinity or a number out of range.")
    return array.astype(np.float64)
