"""Shared parts of the contracts of detectors and segmenters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from shiftproof.classes import Classes
from shiftproof.models.module import ModelLike
from shiftproof.testing.untouched import check_json, check_untouched
from shiftproof.types import Image

Answer = TypeVar("Answer")


class PredictsImages(ModelLike, Protocol[Answer]):
    """A model that gives one answer for each image."""

    def predict(self, images: Sequence[Image], *, batch_size: int = 1) -> list[Answer]:
        """Return the prediction for each image, in the order of the images."""


@dataclass(frozen=True)
class AnswerContract(Generic[Answer]):
    """The specific part of one kind of model's contract.

    Args:
        kind: name with article, such as "a detector".
        check: asserts that a prediction is valid; arguments are its position (for messages), the
            prediction, its image and the number of classes.
        copy: copies a prediction, since a model may reuse its output arrays.
        check_same: asserts that two lists of predictions agree; further arguments are the clause
            and the tolerance.
        tolerance: tolerance between batch sizes.
    """

    kind: str
    check: Callable[[str, Any, Image, int], None]
    copy: Callable[[Answer], Answer]
    check_same: Callable[[Sequence[Answer], Sequence[Answer], str, float], None]
    tolerance: float


def check_predictions(
    model: PredictsImages[Answer],
    images: Sequence[Image],
    contract: AnswerContract[Answer],
    *,
    batch_independent: bool,
) -> None:
    """Check that a model keeps the contract of its kind, on two images or more.

    Raises:
        AssertionError: the contract is violated; the message begins with the violated clause.
    """
    _check_surface(model, contract.kind)
    with check_untouched(model, "predicting"):
        _check_answers(model, images, contract, batch_independent=batch_independent)


def _check_answers(
    model: PredictsImages[Answer],
    images: Sequence[Image],
    contract: AnswerContract[Answer],
    *,
    batch_independent: bool,
) -> None:
    before = [image.copy() for image in images]

    def predict(images: Sequence[Image], batch_size: int) -> list[Answer]:
        return _predict(model, images, batch_size, contract)

    expected = predict(images, len(images))
    for image, kept in zip(images, before, strict=True):
        assert np.array_equal(image, kept), "images: predict changed its argument"
    contract.check_same(predict(images, len(images)), expected, "deterministic", 0)
    assert predict([], 1) == [], "no image: expected an empty list"

    read_only = [image.copy() for image in images]
    for image in read_only:
        image.flags.writeable = False
    contract.check_same(predict(read_only, len(images)), expected, "read-only images", 0)
    views = [np.repeat(image, 2, axis=1)[:, ::2] for image in images]
    contract.check_same(predict(views, len(images)), expected, "views of larger arrays", 0)

    single = predict(images, 1)
    reversed_order = predict(images[::-1], 1)[::-1]
    contract.check_same(
        reversed_order, single, "order: in another order of the images", contract.tolerance
    )
    if batch_independent:
        contract.check_same(single, expected, "batches: one by one", contract.tolerance)


def make_images(shapes: Sequence[tuple[int, int, int]]) -> list[Image]:
    """Return images of noise in these shapes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def _check_surface(model: PredictsImages[Any], kind: str) -> None:
    for name in ("name", "classes", "settings", "predict"):
        assert hasattr(model, name), f"is {kind}: it has no attribute {name!r}"
    assert isinstance(model.name, str), f"is {kind}: its name is not a string"
    assert isinstance(model.classes, Classes), f"is {kind}: its classes are not Classes"
    check_json(model.settings)


def _predict(
    model: PredictsImages[Answer],
    images: Sequence[Image],
    batch_size: int,
    contract: AnswerContract[Answer],
) -> list[Answer]:
    what = f"{len(images)} images in batches of {batch_size}"
    try:
        found = model.predict(images, batch_size=batch_size)
    except Exception as error:
        raise AssertionError(f"{what}: predict raised {type(error).__name__}: {error}") from error
    assert isinstance(found, list), f"{what}: predict returned {type(found).__name__}"
    assert len(found) == len(images), f"{what}: {len(found)} results"
    for index, (one, image) in enumerate(zip(found, images, strict=True)):
        contract.check(f"{what}: image {index}", one, image, len(model.classes))
    return [contract.copy(one) for one in found]
