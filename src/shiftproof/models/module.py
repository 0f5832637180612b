"""The base class of models: checks, device and settings of the module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from shiftproof.classes import Classes
from shiftproof.errors import ImageError, ModelError
from shiftproof.io import files
from shiftproof.models.preprocess import Preprocessing, to_batch
from shiftproof.models.structure import (
    copy_structure,
    find_device,
    fingerprint_weights,
    get_device,
    is_torch_module,
)
from shiftproof.types import Image, Images, Settings

if TYPE_CHECKING:
    import torch


class ModelLike(Protocol):
    """A model that can be measured, whatever its task."""

    @property
    def name(self) -> str:
        """Name in the records."""

    @property
    def classes(self) -> Classes:
        """The classes of its predictions."""

    @property
    def settings(self) -> Settings:
        """The settings that reproduce it, for JSON."""


class HeldModule:
    """The base class of models: a network or function on a device.

    Attributes:
        module: a copy of a network in evaluation mode, or the function.
        device: its device (never ``"auto"``).
        name: name in the tables.
        assumed: the assumptions made when it was loaded, as sentences.
    """

    module: Callable[..., Any]
    device: str
    name: str
    assumed: tuple[str, ...]

    def __init__(
        self,
        module: torch.nn.Module | Callable[..., Any],
        classes: object,
        *,
        device: str,
        name: str | None,
        assumed: Sequence[str],
        expected: str,
    ) -> None:
        """``expected`` is the error for a wrong module; ``{}`` in it becomes the module's type."""
        if not callable(module):
            raise ModelError(expected.format(type(module).__name__))
        if isinstance(module, type):
            raise ModelError(f"Expected a model, got the class {module.__name__}: call it first.")
        if isinstance(classes, str):
            raise ModelError(f"classes: expected a list of names, got the text {classes!r}.")
        self.assumed = tuple(assumed)
        self.name = name or getattr(module, "__name__", None) or type(module).__name__
        kind = module if hasattr(module, "__qualname__") else type(module)
        self._module_name = f"{kind.__module__}.{kind.__qualname__}"
        self._torch = is_torch_module(module)
        self.module, self.device = place_module(module, device)

    def _list_settings(self) -> dict[str, Any]:
        """Return the settings that all models have.

        The fingerprint is computed from the weights at each call, since they may be trained.
        """
        return {
            "name": self.name,
            "module": self._module_name,
            "fingerprint": fingerprint_of(self.module),
            "device": self.device,
        }


def place_module(module: Callable[..., Any], device: str) -> tuple[Callable[..., Any], str]:
    """Return the module to run, and its device.

    A ``torch.nn.Module`` is copied in evaluation mode to ``device``; the copy shares the tensors
    that are already there. A function has its own device.

    Raises:
        ModelError: the device is not available, or not the function's.
    """
    if is_torch_module(module):
        network = cast("torch.nn.Module", module)
        target = find_device(device)
        if get_device(network) in (None, target):
            return copy_structure(network, share="tensors"), str(target)
        return copy_structure(network, share="nothing").to(target), str(target)
    own = str(getattr(module, "device", "cpu"))
    if device not in ("auto", own, own.partition(":")[0]):
        raise ModelError(
            f"A function brings its own device; this one runs on {own!r}, "
            f"so device={device!r} has no effect on it."
        )
    return module, own


def fingerprint_of(module: Callable[..., Any]) -> str:
    """Return the fingerprint of a module's weights; computed at each call, since they may be
    trained.
    """
    if is_torch_module(module):
        return fingerprint_weights(cast("torch.nn.Module", module))
    return str(getattr(module, "fingerprint", "unknown"))


def check_size(
    images: Images | Sequence[Image], preprocess: Preprocessing
) -> Images | Sequence[Image]:
    """Check that images have the size that ``preprocess.geometry`` returns, and return them.

    With a fixed size they are returned as one array ``(N, H, W, 3)``, else unchanged.

    Raises:
        ImageError: another shape, size or dtype.
    """
    if preprocess.size is None:
        return images
    batch = to_batch(images)
    if batch.shape[1:3] != preprocess.size:
        raise ImageError(
            f"Expected images of {preprocess.size[0]} x {preprocess.size[1]} pixels, "
            f"got {batch.shape[1]} x {batch.shape[2]}. "
            "Pass each through preprocess.geometry first."
        )
    return batch


def make_black_image(preprocess: Preprocessing) -> Images:
    """Return one black image of the size that ``preprocess.geometry`` returns, or 224 by 224."""
    height, width = preprocess.size or (224, 224)
    return np.zeros((1, height, width, 3), np.uint8)


def make_black_image_error(image: Images, name: str, error: Exception) -> ModelError:
    """Return the error for a model that fails on an image of its own size."""
    return ModelError(
        f"{name}: failed on one black image of {image.shape[1]} x {image.shape[2]} pixels "
        f"({error}). Check that the preprocessing fits the model."
    )


def describe_classes(classes: Classes) -> Settings:
    """Return the identity of classes, for the settings of a model."""
    return {
        "title": classes.title,
        "count": len(classes),
        "fingerprint": files.fingerprint(name.encode() for name in classes.names),
    }
