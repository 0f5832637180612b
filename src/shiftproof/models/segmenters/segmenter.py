"""A segmenter with its classes: images of any sizes in, the class of each pixel out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ModelError
from shiftproof.models.any_size import AnySizeModel
from shiftproof.models.module import ModelLike
from shiftproof.models.segmenters.windows import (
    Framing,
    check_framing,
    slide,
    sum_probabilities,
    to_labels,
)
from shiftproof.models.structure import is_torch_module
from shiftproof.types import F64, Image, LabelMap, Settings

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


class SegmenterLike(ModelLike, Protocol):
    """The interface that benchmarks need: ``Segmenter`` itself, and adapted ones."""

    def predict(self, images: Sequence[Image], *, batch_size: int = 4) -> list[LabelMap]:
        """Return the class of each pixel of each image, in the order of the images."""


class SegmenterConvention(Protocol):
    """A library's convention for the inputs and outputs of its networks."""

    def score(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> Sequence[Any]:
        """Run the network, and return each image's logits ``(K, h, w)`` or label map ``(h, w)``."""

    def settings(self) -> Settings:
        """Return the settings of the convention, for JSON."""


@final
class Segmenter(AnySizeModel[LabelMap]):
    """A network for semantic segmentation with its classes.

    A ``torch.nn.Module`` runs in evaluation mode and without gradients, independent of your
    module's mode; your module is never modified. On the same device its parameters and buffers are
    shared, so later training takes effect; on another device a copy is used.

    Args:
        module: any function from a list of uint8 RGB images ``(H, W, 3)`` of any sizes to a list
            with one entry per image: logits ``(K, h, w)`` in floating point, which are resized
            bilinearly to the image before the argmax, or label maps ``(h, w)`` of integers. With
            ``convention``, a network with other inputs and outputs. A function may carry
            ``fingerprint`` (a string that names its weights), ``device`` and ``settings`` (a dict),
            which are recorded.
        classes: the classes: ``Classes``, or a list of names in the order of the labels.
        convention: the convention of the network's inputs and outputs; None for a function of
            images.
        framing: resizing and sliding windows.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        name: name in the tables; None is the module's class name.
        assumed: the assumptions made when it was loaded, as sentences.

    Attributes:
        module: the network that runs: a copy of your module in evaluation mode, on ``device``; or
            your function.
        device: its device (never ``"auto"``).

    Raises:
        ModelError: the module cannot be called or copied, or the device does not exist.
        InputError: windows with gaps between them.

    >>> import numpy as np
    >>> def by_brightness(images):
    ...     return [(image.mean(2) > 127).astype(np.uint8) for image in images]
    >>> segmenter = Segmenter(by_brightness, ["dark", "bright"])
    >>> segmenter.predict([np.full((1, 2, 3), [[[9], [200]]], np.uint8)])[0]
    array([[0, 1]], dtype=int16)
    """

    convention: SegmenterConvention | None
    framing: Framing

    def __init__(
        self,
        module: torch.nn.Module | Callable[..., Any],
        classes: Classes | Iterable[str],
        *,
        convention: SegmenterConvention | None = None,
        framing: Framing | None = None,
        device: str = "cpu",
        name: str | None = None,
        assumed: Sequence[str] = (),
    ) -> None:
        super().__init__(
            module,
            classes,
            device=device,
            name=name,
            assumed=assumed,
            expected="Expected a torch.nn.Module or a function from images to label maps, got {}. A "
            "file is read by load_segmenter('onnx:PATH').",
        )
        self.convention = convention
        self.framing = framing or Framing()
        check_framing(self.framing)

    def _list_reading(self) -> Settings:
        return {
            "convention": None if self.convention is None else self.convention.settings(),
            "framing": self.framing.settings(),
        }

    def with_network(
        self, network: torch.nn.Module | Callable[..., Any], *, name: str | None = None
    ) -> Segmenter:
        """Return a segmenter with another network, such as an adapted one.

        Args:
            network: has the inputs and outputs of ``module``.
            name: name in the tables; None keeps the name.
        """
        return Segmenter(
            network,
            self.classes,
            convention=self.convention,
            framing=self.framing,
            device=self.device if is_torch_module(network) else "auto",
            name=name or self.name,
            assumed=self.assumed,
        )

    def predict(self, images: Sequence[Image], *, batch_size: int = 4) -> list[LabelMap]:
        """Return the class of each pixel of each image, in the order of the images.

        Args:
            images: ``(H, W, 3)`` uint8 RGB, of any sizes, as loaded: resizing is done here. Not
                modified.
            batch_size: number of images per call of the module.

        Returns:
            One ``(H, W)`` int16 per image, of the image's size: indices of the classes. A function
            of yours may return -1 for none of them.

        Raises:
            ImageError: another shape or dtype.
            InputError: a batch size below 1.
            ModelError: not one result per image, another number of classes than ``classes``, a
                label without a class, or a result that is neither logits nor a label map.
        """
        return self._predict(images, batch_size)

    def predict_with_sums(
        self, images: Sequence[Image], *, batch_size: int = 4
    ) -> list[tuple[LabelMap, F64 | None]]:
        """Return the label maps of ``predict`` with sums of probabilities, in one pass.

        Args and errors as for :meth:`predict`.

        Returns:
            One pair per image: its label map, and ``(3, K)`` sums over its pixels for
            :func:`~shiftproof.metrics.expect_mean_iou`; None if the network returns a label map
            instead of logits.
        """

        def answer(
            network: Callable[..., Any], batch: list[Image], start: int
        ) -> list[tuple[LabelMap, F64 | None]]:
            return self._read_batch(network, batch, start, self._labels_and_sums)

        return self._map_batches(images, batch_size, answer)

    def _answer(
        self, network: Callable[..., Any], batch: list[Image], start: int
    ) -> list[LabelMap]:
        return self._read_batch(network, batch, start, self._labels)

    def _read_batch(
        self,
        network: Callable[..., Any],
        batch: list[Image],
        start: int,
        read: Callable[[Any, Image], Result],
    ) -> list[Result]:
        """Return ``read(output, image)`` for each image of a batch."""
        where = f"{self.name}, images {start} to {start + len(batch) - 1}"
        try:
            resized = [self.framing.scale(image) for image in batch]
            answers = self._score_all(network, resized)
            return [read(answer, image) for answer, image in zip(answers, batch, strict=True)]
        except InputError as error:
            raise ModelError(f"{where}: {error}") from error
        except (TypeError, AttributeError) as error:
            if self.convention is not None or not self._torch:
                raise
            raise ModelError(
                f"{self.name} does not take a list of uint8 arrays ({error}). Say what it takes: "
                "Segmenter(module, classes, convention=NormalizedSegmentation()), or wrap it in a "
                "function from images to label maps."
            ) from error

    def _score_all(self, network: Callable[..., Any], images: list[Image]) -> Sequence[Any]:
        if self.framing.window is None:
            return self._score(network, images)
        return [
            slide(image, self.framing, lambda crops: self._score(network, crops))
            for image in images
        ]

    def _score(self, network: Callable[..., Any], images: list[Image]) -> Sequence[Any]:
        if self.convention is None:
            answers = network(images)
        else:
            answers = self.convention.score(network, images, self.device)
        count = len(answers) if hasattr(answers, "__len__") else None
        if count != len(images):
            got = type(answers).__name__ if count is None else count
            raise ModelError(
                f"expected {pluralize(len(images), 'answer')}, one per image, got {got}."
            )
        found: Sequence[Any] = answers
        return found

    def _labels_and_sums(self, answer: Any, image: Image) -> tuple[LabelMap, F64 | None]:
        labels = self._labels(answer, image)
        if len(getattr(answer, "shape", ())) != 3:
            return labels, None
        return labels, sum_probabilities(answer, labels.size)

    def _labels(self, answer: Any, image: Image) -> LabelMap:
        shape = tuple(getattr(answer, "shape", ()))
        if len(shape) == 3 and shape[0] != len(self.classes):
            raise ModelError(
                f"it gives logits of {pluralize(shape[0], 'class')}, but "
                f"{pluralize(len(self.classes), 'is', 'are')} named. Give the "
                "classes that it was trained on, in the order of its outputs."
            )
        height, width = image.shape[:2]
        labels = to_labels(answer, (height, width))
        if labels.max() >= len(self.classes):
            raise ModelError(
                f"the label {labels.max()} has no class; expected 0 to {len(self.classes) - 1}."
            )
        return labels
