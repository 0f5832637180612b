"""The contract of segmenters as a public check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftproof.classes import Classes
from shiftproof.models.segmenters.segmenter import SegmenterLike
from shiftproof.models.structure import is_torch_module, weights_fingerprint
from shiftproof.testing.detectors import global_states
from shiftproof.types import Image, LabelMap

DIFFERING = 1e-3
"""Share of the pixels that batches of other sizes may differ in: sums are taken in another order."""


def check_segmenter(
    segmenter: SegmenterLike,
    images: Sequence[Image] | None = None,
    *,
    batch_independent: bool = True,
) -> None:
    """Check that a segmenter keeps the contract of segmenters.

    It has a name, classes and settings that JSON takes; gives one label map per image, int16 and of
    the image's size, in the order of the images, for none, one and many of them, of different sizes;
    labels index its classes, or are -1. It leaves the images as they were, takes read-only arrays and
    views, gives the same again, and changes neither its weights and settings nor a global random
    state or torch's number of threads.

    Args:
        segmenter: what is checked.
        images: two or more, ``(H, W, 3)`` uint8; None makes some of different sizes.
        batch_independent: whether an image's label map is the same in whatever batch it comes, but
            for a thousandth of its pixels.

    Raises:
        AssertionError: it does not; the message begins with the clause that is broken.

    >>> from shiftproof.models import Segmenter
    >>> check_segmenter(Segmenter(lambda images: [i[..., 0] // 128 for i in images], ["dark", "light"]))
    """
    images = _pictures() if images is None else list(images)
    if len(images) < 2:
        raise ValueError("check_segmenter needs two images or more.")
    _check_surface(segmenter)
    settings, weights = json.dumps(segmenter.settings), _weights(segmenter)
    before = [image.copy() for image in images]
    states = global_states()

    expected = _predict(segmenter, images, len(images))
    for image, kept in zip(images, before, strict=True):
        assert np.array_equal(image, kept), "images: predict changed its argument"
    _check_same(_predict(segmenter, images, len(images)), expected, "deterministic", 0)
    assert _predict(segmenter, [], 1) == [], "no image: expected an empty list"

    read_only = [image.copy() for image in images]
    for image in read_only:
        image.flags.writeable = False
    _check_same(_predict(segmenter, read_only, len(images)), expected, "read-only images", 0)
    views = [np.repeat(image, 2, axis=1)[:, ::2] for image in images]
    _check_same(_predict(segmenter, views, len(images)), expected, "views of larger arrays", 0)

    single = _predict(segmenter, images, 1)
    turned = _predict(segmenter, images[::-1], 1)[::-1]
    _check_same(turned, single, "order: in another order of the images", DIFFERING)
    if batch_independent:
        _check_same(single, expected, "batches: one by one", DIFFERING)

    assert json.dumps(segmenter.settings) == settings, "settings: changed by predicting"
    assert _weights(segmenter) == weights, "weights: changed by predicting"
    for name, state in global_states().items():
        # A library that is first used here brings its state with it.
        assert states.get(name, state) == state, f"globals: {name} is changed"


def _check_surface(segmenter: SegmenterLike) -> None:
    for name in ("name", "classes", "settings", "predict"):
        assert hasattr(segmenter, name), f"is a segmenter: it has no attribute {name!r}"
    assert isinstance(segmenter.name, str), "is a segmenter: its name is no text"
    assert isinstance(segmenter.classes, Classes), "is a segmenter: its classes are no Classes"
    try:
        json.dumps(segmenter.settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"settings: not what JSON takes ({error})") from error


def _predict(segmenter: SegmenterLike, images: Sequence[Image], batch_size: int) -> list[LabelMap]:
    what = f"{len(images)} images in batches of {batch_size}"
    try:
        found = segmenter.predict(images, batch_size=batch_size)
    except Exception as error:
        raise AssertionError(f"{what}: predict raised {type(error).__name__}: {error}") from error
    assert isinstance(found, list), f"{what}: predict returned {type(found).__name__}"
    assert len(found) == len(images), f"{what}: {len(found)} results"
    count = len(segmenter.classes)
    for index, (one, image) in enumerate(zip(found, images, strict=True)):
        where = f"{what}: image {index}"
        assert isinstance(one, np.ndarray), f"{where}: {type(one).__name__}, expected an array"
        assert one.dtype == np.int16, f"{where}: {one.dtype}, expected int16"
        assert one.shape == image.shape[:2], f"{where}: {one.shape}, expected the image's size"
        assert one.min() >= -1, f"{where}: the label {one.min()}"
        assert one.max() < count, f"{where}: the label {one.max()} has no class"
    # A segmenter may hand out arrays that it uses again.
    return [one.copy() for one in found]


def _check_same(
    found: Sequence[LabelMap], expected: Sequence[LabelMap], clause: str, differing: float
) -> None:
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        share = float((one != other).mean())
        assert share <= differing, f"{clause}: another label map for image {index} ({share:.1%})"


def _pictures() -> list[Image]:
    rng = np.random.default_rng(0)
    shapes = [(64, 64, 3), (48, 80, 3), (71, 43, 3), (64, 64, 3)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def _weights(segmenter: SegmenterLike) -> Any:
    module: Any = getattr(segmenter, "module", None)
    if not is_torch_module(module):
        return None
    return weights_fingerprint(module), [part.training for part in module.modules()]
