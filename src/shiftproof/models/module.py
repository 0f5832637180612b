"""What a classifier and a detector do alike with the module that they wrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from shiftproof import files
from shiftproof.classes import Classes
from shiftproof.errors import ModelError
from shiftproof.models.structure import (
    find_device,
    is_torch_module,
    place_of,
    structural_copy,
    weights_fingerprint,
)
from shiftproof.types import Settings

if TYPE_CHECKING:
    import torch


def check_module(module: object, classes: object, expected: str) -> None:
    """Raise a ModelError unless ``module`` can be called and ``classes`` may be a list of names.

    ``expected`` says what module is expected, and ``{}`` in it where the type that came stands.
    """
    if not callable(module):
        raise ModelError(expected.format(type(module).__name__))
    if isinstance(module, type):
        raise ModelError(f"Expected a model, got the class {module.__name__}: call it first.")
    if isinstance(classes, str):
        raise ModelError(f"classes: expected a list of names, got the text {classes!r}.")


def placed(module: Callable[..., Any], device: str) -> tuple[Callable[..., Any], str]:
    """Return what runs, and where, spelt out.

    A ``torch.nn.Module`` becomes a twin in evaluation mode on ``device``, which shares its tensors
    where they are there already. A function brings its own device.

    Raises:
        ModelError: the device is not there, or not the function's own.
    """
    if is_torch_module(module):
        network = cast("torch.nn.Module", module)
        target = find_device(device)
        if place_of(network) in (None, target):
            return structural_copy(network, share="tensors"), str(target)
        return structural_copy(network, share="nothing").to(target), str(target)
    own = str(getattr(module, "device", "cpu"))
    if device not in ("auto", own, own.partition(":")[0]):
        raise ModelError(
            f"A function brings its own device; this one runs on {own!r}, "
            f"so device={device!r} has no effect on it."
        )
    return module, own


def name_of(module: object) -> str:
    """Return what tables call a module that was given no name."""
    return getattr(module, "__name__", None) or type(module).__name__


def qualified_name(module: object) -> str:
    """Return where the module's class, or the function, is defined."""
    kind = module if hasattr(module, "__qualname__") else type(module)
    return f"{kind.__module__}.{kind.__qualname__}"


def fingerprint_of(module: Callable[..., Any]) -> str:
    """Return what tells a module's weights from others; computed anew, as they may be trained."""
    if is_torch_module(module):
        return weights_fingerprint(cast("torch.nn.Module", module))
    return str(getattr(module, "fingerprint", "unknown"))


def classes_settings(classes: Classes) -> Settings:
    """Return what tells classes from others, as the settings of a model hold it."""
    return {
        "title": classes.title,
        "count": len(classes),
        "fingerprint": files.fingerprint(name.encode() for name in classes.names),
    }
