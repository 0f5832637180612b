"""The contract of adapted detectors and segmenters as a public check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from shiftproof.adapt.dense.adapted_model import AdaptedModel
from shiftproof.errors import InputError
from shiftproof.models.any_size import AnySizeModel
from shiftproof.testing.detectors import DETECTIONS, check_detector
from shiftproof.testing.predictions import AnswerContract, make_images
from shiftproof.testing.segmenters import LABEL_MAPS, check_segmenter
from shiftproof.testing.untouched import check_json, check_untouched
from shiftproof.types import Image

Model = TypeVar("Model", bound=AnySizeModel[Any])

_SHAPES = [(48, 64, 3), (48, 64, 3), (48, 64, 3), (48, 64, 3), (40, 56, 3)]


def check_adapted(
    make: Callable[[Model], AdaptedModel[Any, Any]],
    model: Model,
    images: Sequence[Image] | None = None,
) -> None:
    """Check that an adapted detector or segmenter keeps the contract of adapters.

    It has the name and classes of the wrapped model, and does not change that model (weights,
    settings, modes), the global random states, torch's number of threads or its gradient mode;
    predicts as a detector or segmenter, also for one image, none, and images of several sizes;
    repeats its predictions after ``reset()``, which empties ``events``, and in a second instance;
    learns nothing in ``frozen()``; and ``merge()`` is a plain model that equals the wrapped one
    before any batch and keeps the contract of its kind. ``state()`` returns finite copies on the
    CPU: a new instance that loads them continues identically, and the state of another adapter is
    refused without any change. Its settings are JSON-compatible.

    Args:
        make: adapts a model: ``lambda detector: AdaptedDetector(detector, "actmad")``.
        model: a ``Detector`` or ``Segmenter`` on torch.
        images: four or more, ``(H, W, 3)`` uint8; None generates some, of two sizes.

    Raises:
        AssertionError: the contract is violated; the message begins with the violated clause.
    """
    images = make_images(_SHAPES) if images is None else list(images)
    if len(images) < 4:
        raise ValueError("check_adapted needs four images or more.")
    contract: AnswerContract[Any] = _choose_contract(model)
    with check_untouched(model, "adapting"):
        _check_surface(make(model), model)
        expected = _check_repeats(make, model, images, contract)
        _check_frozen(make(model), images, contract)
        _check_state(make, model, images, contract)
        _check_merged(make, model, images, contract)
    assert len(expected) == len(images), "answers: not one for each image"


def _choose_contract(model: AnySizeModel[Any]) -> AnswerContract[Any]:
    from shiftproof.models.segmenters.segmenter import Segmenter

    return LABEL_MAPS if isinstance(model, Segmenter) else DETECTIONS


def _check_surface(adapted: AdaptedModel[Any, Any], model: AnySizeModel[Any]) -> None:
    assert adapted.name == model.name, "is a model: it has another name"
    assert adapted.classes == model.classes, "is a model: it has other classes"
    check_json(adapted.settings)
    assert _predict(adapted, [], 1) == [], "no image: expected an empty list"


def _check_repeats(
    make: Callable[[Any], AdaptedModel[Any, Any]],
    model: AnySizeModel[Any],
    images: list[Image],
    contract: AnswerContract[Any],
) -> list[Any]:
    adapted = make(model)
    before = [image.copy() for image in images]
    expected = _copy_all(_predict(adapted, images, 2), contract)
    for image, kept in zip(images, before, strict=True):
        assert (image == kept).all(), "images: predict changed its argument"
    for one, image in zip(expected, images, strict=True):
        contract.check("answers", one, image, len(model.classes))
    contract.check_same(_predict(make(model), images, 2), expected, "deterministic", 0)
    _predict(adapted, images[:1], 1)
    _predict(adapted, images, len(images))
    adapted.end_epoch()
    adapted.reset()
    assert len(adapted.events) == 0, "reset: events are left"
    contract.check_same(_predict(adapted, images, 2), expected, "reset: other answers", 0)
    return expected


def _check_frozen(
    adapted: AdaptedModel[Any, Any], images: list[Image], contract: AnswerContract[Any]
) -> None:
    _predict(adapted, images[:2], 2)
    state = adapted.state()
    with adapted.frozen():
        first = _copy_all(_predict(adapted, images[2:4], 2), contract)
        contract.check_same(
            _predict(adapted, images[2:4], 2), first, "frozen: other predictions the second time", 0
        )
    _check_tensors(adapted.state(), state, "frozen: the state has changed")


def _check_state(
    make: Callable[[Any], AdaptedModel[Any, Any]],
    model: AnySizeModel[Any],
    images: list[Image],
    contract: AnswerContract[Any],
) -> None:
    one, other = make(model), make(model)
    _predict(one, images[:2], 2)
    state = one.state()
    for name, value in state.items():
        assert value.device.type == "cpu", f"state: {name!r} is not on the CPU"
        finite = not value.is_floating_point() or bool(torch.isfinite(value).all())
        assert finite, f"state: {name!r} is not finite"
    other.load_state(state)
    _check_tensors(other.state(), state, "state: the loaded state differs from the given one")
    continued = _copy_all(_predict(one, images[2:4], 2), contract)
    contract.check_same(
        _predict(other, images[2:4], 2), continued, "state: a new instance continues differently", 0
    )
    state = one.state()
    try:
        one.load_state({"nonsense": torch.zeros(3)})
    except InputError:
        _check_tensors(one.state(), state, "state: a refused state changed it")
    else:
        raise AssertionError("state: the state of another adapter is accepted")


def _check_merged(
    make: Callable[[Any], AdaptedModel[Any, Any]],
    model: AnySizeModel[Any],
    images: list[Image],
    contract: AnswerContract[Any],
) -> None:
    adapted: Any = make(model)
    plain = _predict(model, images[:2], 2)
    merged = adapted.merge()
    assert type(merged) is type(model), "merge: returned another type than the model's"
    contract.check_same(
        _predict(merged, images[:2], 2), plain, "merge: before any batch it differs", 1e-4
    )
    _predict(adapted, images[:2], 2)
    merged = adapted.merge()
    module: Any = model.module
    own = module.state_dict()
    assert list(merged.module.state_dict()) == list(own), "merge: other names of tensors"
    shared = {tensor.data_ptr() for tensor in own.values() if tensor.numel()}
    for name, tensor in merged.module.state_dict().items():
        assert not tensor.numel() or tensor.data_ptr() not in shared, (
            f"merge: {name!r} is the wrapped model's own"
        )
    check = check_segmenter if contract is LABEL_MAPS else check_detector
    check(merged, images[:2], batch_independent=False)


def _predict(model: Any, images: list[Image], batch_size: int) -> list[Any]:
    found: list[Any] = model.predict(images, batch_size=batch_size)
    return found


def _copy_all(answers: list[Any], contract: AnswerContract[Any]) -> list[Any]:
    return [contract.copy(one) for one in answers]


def _check_tensors(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], clause: str
) -> None:
    assert found.keys() == expected.keys(), f"{clause}: other names"
    for name, value in expected.items():
        assert torch.equal(found[name], value), f"{clause}: {name!r}"
