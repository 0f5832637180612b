"""The contract of detectors as a public check."""

from __future__ import annotations

import json
import pickle
import random
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftproof.classes import Classes
from shiftproof.models.detectors.detector import DetectorLike
from shiftproof.models.structure import is_torch_module, weights_fingerprint
from shiftproof.types import Detections, Image

TOLERANCE = 1e-3
"""Pixels and scores that batches of other sizes may differ by: sums are taken in another order."""


def check_detector(
    detector: DetectorLike,
    images: Sequence[Image] | None = None,
    *,
    batch_independent: bool = True,
) -> None:
    """Check that a detector keeps the contract of detectors.

    It has a name, classes and settings that JSON takes; gives one ``Detections`` per image, in the
    order of the images, for none, one and many of them, of different sizes; boxes, scores and
    masks are those of ``Detections``, and labels index its classes. It leaves the images as they
    were, takes read-only arrays and views, gives the same again, and changes neither its weights
    and settings nor a global random state or torch's number of threads.

    Args:
        detector: what is checked.
        images: two or more, ``(H, W, 3)`` uint8; None makes some of different sizes.
        batch_independent: whether an image's detections are the same in whatever batch it comes.
            False for networks that pad the images of a batch to a common size and let the padding
            matter.

    Raises:
        AssertionError: it does not; the message begins with the clause that is broken.

    >>> from shiftproof.models import Detector
    >>> check_detector(Detector(lambda images: [Detections([], [], []) for _ in images], ["thing"]))
    """
    images = _pictures() if images is None else list(images)
    if len(images) < 2:
        raise ValueError("check_detector needs two images or more.")
    _check_surface(detector)
    settings, weights = json.dumps(detector.settings), _weights(detector)
    before = [image.copy() for image in images]
    states = global_states()

    expected = _predict(detector, images, len(images))
    for image, kept in zip(images, before, strict=True):
        assert np.array_equal(image, kept), "images: predict changed its argument"
    _check_same(_predict(detector, images, len(images)), expected, "deterministic", 0)
    assert _predict(detector, [], 1) == [], "no image: expected an empty list"

    read_only = [image.copy() for image in images]
    for image in read_only:
        image.flags.writeable = False
    _check_same(_predict(detector, read_only, len(images)), expected, "read-only images", 0)
    views = [np.repeat(image, 2, axis=1)[:, ::2] for image in images]
    _check_same(_predict(detector, views, len(images)), expected, "views of larger arrays", 0)

    single = _predict(detector, images, 1)
    turned = _predict(detector, images[::-1], 1)[::-1]
    _check_same(turned, single, "order: in another order of the images", TOLERANCE)
    if batch_independent:
        _check_same(single, expected, "batches: one by one", TOLERANCE)

    assert json.dumps(detector.settings) == settings, "settings: changed by predicting"
    assert _weights(detector) == weights, "weights: changed by predicting"
    for name, state in global_states().items():
        # A library that is first used here brings its state with it.
        assert states.get(name, state) == state, f"globals: {name} is changed"


def _check_surface(detector: DetectorLike) -> None:
    for name in ("name", "classes", "settings", "predict"):
        assert hasattr(detector, name), f"is a detector: it has no attribute {name!r}"
    assert isinstance(detector.name, str), "is a detector: its name is no text"
    assert isinstance(detector.classes, Classes), "is a detector: its classes are no Classes"
    try:
        json.dumps(detector.settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"settings: not what JSON takes ({error})") from error


def _predict(detector: DetectorLike, images: Sequence[Image], batch_size: int) -> list[Detections]:
    what = f"{len(images)} images in batches of {batch_size}"
    try:
        found = detector.predict(images, batch_size=batch_size)
    except Exception as error:
        raise AssertionError(f"{what}: predict raised {type(error).__name__}: {error}") from error
    assert isinstance(found, list), f"{what}: predict returned {type(found).__name__}"
    assert len(found) == len(images), f"{what}: {len(found)} results"
    for index, (one, image) in enumerate(zip(found, images, strict=True)):
        where = f"{what}: image {index}"
        assert isinstance(one, Detections), f"{where}: {type(one).__name__}, expected Detections"
        try:
            # Built anew, since arrays can be changed after they were checked.
            Detections(one.boxes, one.scores, one.labels, one.masks)
        except ValueError as error:
            raise AssertionError(f"{where}: {error}") from error
        count = len(detector.classes)
        assert not len(one) or one.labels.max() < count, f"{where}: a label without a class"
        for mask in one.masks or ():
            assert list(mask["size"]) == list(image.shape[:2]), f"{where}: a mask of another size"
    # A detector may hand out arrays that it uses again.
    return [
        Detections(one.boxes.copy(), one.scores.copy(), one.labels.copy(), one.masks)
        for one in found
    ]


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


def _pictures() -> list[Image]:
    rng = np.random.default_rng(0)
    shapes = [(64, 64, 3), (48, 80, 3), (71, 33, 3), (64, 64, 3)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def _weights(detector: DetectorLike) -> Any:
    module: Any = getattr(detector, "module", None)
    if not is_torch_module(module):
        return None
    return weights_fingerprint(module), [part.training for part in module.modules()]


def global_states() -> dict[str, bytes | int]:
    """Return the random states and numbers of threads of the process, by name."""
    # The global states are what is looked at here, so they are used.
    states: dict[str, bytes | int] = {
        "numpy's global random state": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "Python's global random state": pickle.dumps(random.getstate()),
    }
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch is not None:
        states["torch's global random state"] = torch.random.get_rng_state().numpy().tobytes()
        states["torch's number of threads"] = torch.get_num_threads()
    if cv2 is not None:
        states["cv2's number of threads"] = cv2.getNumThreads()
    return states
