"""The contract of segmenters as a public check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftproof.models.segmenters.segmenter import SegmenterLike
from shiftproof.testing.predictions import AnswerContract, check_predictions, make_images
from shiftproof.types import Image, LabelMap

MAX_DIFFERING = 1e-3
"""Share of pixels that may differ between batch sizes, which change the order of summation."""

_SHAPES = [(64, 64, 3), (48, 80, 3), (71, 43, 3), (64, 64, 3)]


def check_segmenter(
    segmenter: SegmenterLike,
    images: Sequence[Image] | None = None,
    *,
    batch_independent: bool = True,
) -> None:
    """Check that a segmenter keeps the contract of segmenters.

    It has a name, classes and JSON-compatible settings; returns one int16 label map per image, of
    the image's size and in the order of the images, for no, one and many images of different sizes;
    labels index its classes, or are -1. It does not change the images, accepts read-only arrays and
    views, is deterministic, and changes neither its weights and settings nor a global random state
    or torch's number of threads.

    Args:
        segmenter: the segmenter to check.
        images: two or more, ``(H, W, 3)`` uint8; None generates some of different sizes.
        batch_independent: whether an image's label map does not depend on its batch, except for a
            thousandth of its pixels.

    Raises:
        AssertionError: the contract is violated; the message begins with the violated clause.

    >>> from shiftproof.models import Segmenter
    >>> check_segmenter(Segmenter(lambda images: [i[..., 0] // 128 for i in images], ["dark", "light"]))
    """
    images = make_images(_SHAPES) if images is None else list(images)
    if len(images) < 2:
        raise ValueError("check_segmenter needs two images or more.")
    check_predictions(segmenter, images, LABEL_MAPS, batch_independent=batch_independent)


def _check_answer(where: str, one: Any, image: Image, classes: int) -> None:
    assert isinstance(one, np.ndarray), f"{where}: {type(one).__name__}, expected an array"
    assert one.dtype == np.int16, f"{where}: {one.dtype}, expected int16"
    assert one.shape == image.shape[:2], f"{where}: {one.shape}, expected the image's size"
    assert one.min() >= -1, f"{where}: the label {one.min()}"
    assert one.max() < classes, f"{where}: the label {one.max()} has no class"


def _check_same(
    found: Sequence[LabelMap], expected: Sequence[LabelMap], clause: str, differing: float
) -> None:
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        share = float((one != other).mean())
        assert share <= differing, f"{clause}: another label map for image {index} ({share:.1%})"


LABEL_MAPS = AnswerContract("a segmenter", _check_answer, np.copy, _check_same, MAX_DIFFERING)
