"""The contract of detectors as a public check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftproof.models.detectors.detector import DetectorLike
from shiftproof.testing.predictions import AnswerContract, check_predictions, make_images
from shiftproof.types import Detections, Image

TOLERANCE = 1e-3
"""Tolerance of pixels and scores between batch sizes, which change the order of summation."""

_SHAPES = [(64, 64, 3), (48, 80, 3), (71, 33, 3), (64, 64, 3)]


def check_detector(
    detector: DetectorLike,
    images: Sequence[Image] | None = None,
    *,
    batch_independent: bool = True,
) -> None:
    """Check that a detector keeps the contract of detectors.

    It has a name, classes and JSON-compatible settings; returns one valid ``Detections`` per image,
    in the order of the images, for no, one and many images of different sizes; labels index its
    classes. It does not change the images, accepts read-only arrays and views, is deterministic,
    and changes neither its weights and settings nor a global random state or torch's number of
    threads.

    Args:
        detector: the detector to check.
        images: two or more, ``(H, W, 3)`` uint8; None generates some of different sizes.
        batch_independent: whether an image's detections do not depend on its batch. False for
            networks that pad the images of a batch to a common size without masking.

    Raises:
        AssertionError: the contract is violated; the message begins with the violated clause.

    >>> from shiftproof.models import Detector
    >>> check_detector(Detector(lambda images: [Detections([], [], []) for _ in images], ["thing"]))
    """
    images = make_images(_SHAPES) if images is None else list(images)
    if len(images) < 2:
        raise ValueError("check_detector needs two images or more.")
    check_predictions(detector, images, DETECTIONS, batch_independent=batch_independent)


def _check_answer(where: str, one: Any, image: Image, classes: int) -> None:
    assert isinstance(one, Detections), f"{where}: {type(one).__name__}, expected Detections"
    try:
        # Constructed again, since arrays may have changed since their validation.
        Detections(one.boxes, one.scores, one.labels, one.masks)
    except ValueError as error:
        raise AssertionError(f"{where}: {error}") from error
    assert not len(one) or one.labels.max() < classes, f"{where}: a label without a class"
    for mask in one.masks or ():
        assert list(mask["size"]) == list(image.shape[:2]), f"{where}: a mask of another size"


def _copy(one: Detections) -> Detections:
    return Detections(one.boxes.copy(), one.scores.copy(), one.labels.copy(), one.masks)


def _check_same(
    found: Sequence[Detections], expected: Sequence[Detections], clause: str, tolerance: float
) -> None:
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        same = (
            np.array_equal(one.labels, other.labels)
            and np.allclose(one.boxes, other.boxes, rtol=0, atol=tolerance)
            and np.allclose(one.scores, other.scores, rtol=0, atol=tolerance)
        )
        assert same, f"{clause}: other detections for image {index}"


DETECTIONS = AnswerContract("a detector", _check_answer, _copy, _check_same, TOLERANCE)
