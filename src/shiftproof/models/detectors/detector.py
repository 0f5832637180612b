"""A detector with its classes: images of any sizes in, boxes with scores and labels out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, final

from shiftproof.classes import Classes
from shiftproof.errors import InputError, ModelError
from shiftproof.models.any_size import AnySizeModel
from shiftproof.models.module import ModelLike
from shiftproof.models.structure import is_torch_module
from shiftproof.types import Detections, Image, Settings

if TYPE_CHECKING:
    import torch


class DetectorLike(ModelLike, Protocol):
    """What can be measured as a detector."""

    def predict(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Detections]:
        """Return the detections of each image, in the order of the images."""


class Convention(Protocol):
    """A library's convention for the inputs and outputs of its networks."""

    def detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> Sequence[Detections]:
        """Run the network on a batch of images of any sizes, and decode its outputs."""

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return the settings of the decoding (thresholds, sizes), for JSON."""


@final
class Detector(AnySizeModel[Detections]):
    """A detector with its classes.

    A ``torch.nn.Module`` runs in evaluation mode and without gradients, independent of your
    module's mode; your module is never modified. On the same device its parameters and buffers are
    shared, so later training takes effect; on another device a copy is used.

    Args:
        module: any function from a list of uint8 RGB images ``(H, W, 3)`` of any sizes to a list of
            ``Detections``, one per image. With ``convention``, a network with other inputs and
            outputs, such as a torchvision detector. A function may carry ``fingerprint`` (a string
            that names its weights), ``device`` and ``settings`` (a dict), which are recorded.
        classes: the classes: ``Classes``, or a list of names in the order of the labels.
        convention: the convention of the network's inputs and outputs; None if it takes images and
            returns ``Detections``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        name: name in the tables; None is the module's class name.
        assumed: the assumptions made when it was loaded, as sentences.

    Attributes:
        module: the network that runs: a copy of your module in evaluation mode, on ``device``; or
            your function.
        device: its device (never ``"auto"``).

    Raises:
        ModelError: the module cannot be called or copied, or the device does not exist.

    >>> import numpy as np
    >>> def middle(images):
    ...     boxes = [[w / 4, h / 4, 3 * w / 4, 3 * h / 4] for h, w, _ in (i.shape for i in images)]
    ...     return [Detections([box], [0.5], [0]) for box in boxes]
    >>> detector = Detector(middle, ["thing"])
    >>> detector.predict([np.zeros((40, 80, 3), np.uint8)])[0].boxes
    array([[20., 10., 60., 30.]], dtype=float32)
    """

    convention: Convention | None

    def __init__(
        self,
        module: torch.nn.Module | Callable[..., Any],
        classes: Classes | Iterable[str],
        *,
        convention: Convention | None = None,
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
            expected="Expected a torch.nn.Module or a function from images to Detections, got {}. A "
            "file is read by load_detector('onnx:PATH?decode=...') or "
            "load_detector('file:PATH?arch=...').",
        )
        self.convention = convention

    def _list_reading(self) -> Settings:
        convention = self.convention
        return {"convention": None if convention is None else convention.settings(self.module)}

    def with_network(
        self, network: torch.nn.Module | Callable[..., Any], *, name: str | None = None
    ) -> Detector:
        """Return a detector with another network, such as an adapted one.

        Args:
            network: has the inputs and outputs of ``module``.
            name: name in the tables; None keeps the name.
        """
        device = self.device if is_torch_module(network) else "auto"
        return Detector(
            network,
            self.classes,
            convention=self.convention,
            device=device,
            name=name or self.name,
            assumed=self.assumed,
        )

    def predict(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Detections]:
        """Return the detections of each image, in the order of the images.

        Args:
            images: ``(H, W, 3)`` uint8 RGB, of any sizes, as loaded: resizing is up to the module.
                Not modified.
            batch_size: number of images per call of the module.

        Returns:
            One ``Detections`` per image: boxes in pixels of the image as given.

        Raises:
            ImageError: another shape or dtype.
            InputError: a batch size below 1.
            ModelError: not one ``Detections`` per image, a label without a class, a mask whose size
                differs from the image's, or boxes and scores that ``Detections`` refuses.
        """
        return self._predict(images, batch_size)

    def _answer(
        self, network: Callable[..., Any], batch: list[Image], start: int
    ) -> list[Detections]:
        return self._check_answers(self._run(network, batch, start), batch, start)

    def _run(self, network: Callable[..., Any], batch: list[Image], start: int) -> Any:
        try:
            if self.convention is None:
                return network(batch)
            return self.convention.detect(network, batch, self.device)
        except InputError as error:
            where = f"images {start} to {start + len(batch) - 1}"
            raise ModelError(f"{self.name}, {where}: {error}") from error
        except (TypeError, AttributeError) as error:
            if self.convention is not None or not self._torch:
                raise
            raise ModelError(
                f"{self.name} does not take a list of uint8 arrays ({error}). Say what it "
                "takes: Detector(module, classes, convention=TorchvisionConvention()), or wrap "
                "it in a function from images to Detections."
            ) from error

    def _check_answers(self, found: Any, batch: Sequence[Image], start: int) -> list[Detections]:
        if not isinstance(found, (list, tuple)) or len(found) != len(batch):
            got = f"{len(found)}" if isinstance(found, (list, tuple)) else type(found).__name__
            raise ModelError(
                f"{self.name}: expected a list of {len(batch)} Detections, one per image, got {got}."
            )
        for index, (one, image) in enumerate(zip(found, batch, strict=True), start):
            if not isinstance(one, Detections):
                raise ModelError(
                    f"{self.name}, image {index}: expected Detections, got {type(one).__name__}. "
                    "Build them by Detections(boxes, scores, labels)."
                )
            if len(one) and one.labels.max() >= len(self.classes):
                raise ModelError(
                    f"{self.name}, image {index}: the label {one.labels.max()} has no class; "
                    f"expected 0 to {len(self.classes) - 1}. Labels index the classes: neither a "
                    "background class nor gaps count."
                )
            for mask in one.masks or ():
                if list(mask["size"]) != list(image.shape[:2]):
                    raise ModelError(
                        f"{self.name}, image {index}: a mask of {list(mask['size'])} pixels; "
                        f"expected the image's {list(image.shape[:2])}, height and width."
                    )
        return list(found)
