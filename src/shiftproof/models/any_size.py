"""The base class of detectors and segmenters, which take images of any size."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from shiftproof.classes import Classes, name_classes
from shiftproof.counts import pluralize
from shiftproof.errors import ImageError, InputError, ModelError, ShiftproofError
from shiftproof.models.module import HeldModule, describe_classes
from shiftproof.types import Image, Settings

if TYPE_CHECKING:
    import torch

Answer = TypeVar("Answer")

Result = TypeVar("Result")


class AnySizeModel(HeldModule, abc.ABC, Generic[Answer]):
    """A network with its classes that predicts for each image of a list.

    A ``torch.nn.Module`` is copied in evaluation mode; the copy shares the tensors that are on the
    device. A function is called as given.
    """

    classes: Classes

    def __init__(
        self,
        module: torch.nn.Module | Callable[..., Any],
        classes: Classes | Iterable[str],
        *,
        device: str,
        name: str | None,
        assumed: Sequence[str],
        expected: str,
    ) -> None:
        """``expected`` is the error for a wrong module; ``{}`` in it becomes the module's type."""
        super().__init__(
            module, classes, device=device, name=name, assumed=assumed, expected=expected
        )
        self.classes = classes if isinstance(classes, Classes) else name_classes(classes)

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({self.name}, {len(self.classes)} classes, {self.device})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this model, for JSON."""
        own = None if self._torch else getattr(self.module, "settings", None)
        return {
            **self._list_settings(),
            "classes": describe_classes(self.classes),
            **self._list_reading(),
            "function": own if isinstance(own, dict) else None,
        }

    def predict_with(self, network: Callable[..., Any], images: Sequence[Image]) -> list[Answer]:
        """Return the predictions for one batch, computed by another network.

        Outputs are decoded as this model's own; gradient mode is the caller's.

        ``network`` has the inputs and outputs of ``module``, on the same device.

        Raises:
            ImageError, ModelError: as for ``predict``.
        """
        check_images(images)
        return self._answer(network, list(images), 0)

    @abc.abstractmethod
    def _list_reading(self) -> Settings:
        """Return the settings of preparing images and decoding outputs, for JSON."""

    @abc.abstractmethod
    def _answer(self, network: Callable[..., Any], batch: list[Image], start: int) -> list[Answer]:
        """Return the predictions for one batch, whose first image has the index ``start``."""

    def _predict(self, images: Sequence[Image], batch_size: int) -> list[Answer]:
        return self._map_batches(images, batch_size, self._answer)

    def _map_batches(
        self,
        images: Sequence[Image],
        batch_size: int,
        answer: Callable[[Callable[..., Any], list[Image], int], list[Result]],
    ) -> list[Result]:
        """Return what ``answer`` gives for each image of all batches; it is called as ``_answer``."""
        check_images(images)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: expected a whole number, 1 or more, got {batch_size!r}.")
        found: list[Result] = []
        for start in range(0, len(images), batch_size):
            batch = list(images[start : start + batch_size])
            with self._inference():
                found += answer(self.module, batch, start)
        return found

    def _inference(self) -> contextlib.AbstractContextManager[Any]:
        if not self._torch:
            return contextlib.nullcontext()
        import torch

        return torch.inference_mode()


def check_images(images: Any) -> None:
    """Check that ``images`` is a list of images.

    Raises:
        ImageError: another shape or dtype.
    """
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise ImageError(
            f"Expected a list of images (H, W, 3), got one array of shape {images.shape}. "
            "For one image: predict([image])."
        )
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray):
            raise ImageError(
                f"Image {index}: expected a numpy array (H, W, 3), got {type(image).__name__}."
            )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(
                f"Image {index}: expected uint8 RGB (H, W, 3), got {image.dtype} {image.shape}."
            )


def choose_classes(
    spec: str, named: Classes | None, own: Classes | None, *, outputs: str, ways: str
) -> Classes:
    """Return the classes of a model: the given ones, or those of its source.

    ``named`` are those given by the caller, ``own`` those of the source. Errors tell the ``spec``,
    the word for the ``outputs``, and the ``ways`` to name classes.

    Raises:
        InputError: there are neither, or their numbers differ.
    """
    chosen = named or own
    if chosen is None:
        raise InputError(f"{spec!r} does not state the classes of its {outputs}: {ways}.")
    if own is not None and len(own) != len(chosen):
        raise InputError(
            f"{spec!r} has {pluralize(len(own), 'class')}, but {len(chosen)} are named."
        )
    return chosen


def try_on_black(model: AnySizeModel[Any], height: int, width: int) -> None:
    """Run one black image, so that a model that does not fit fails before the run.

    Raises:
        ModelError: the model fails on it.
    """
    try:
        model._predict([np.zeros((height, width, 3), np.uint8)], 1)
    except ShiftproofError:
        raise
    except Exception as error:
        raise ModelError(
            f"{model.name} does not run on an image of {height} x {width} pixels ({error})."
        ) from error
