"""Encoders: a network with its preprocessing, from images to vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import ModelError
from shiftproof.models.module import (
    HeldModule,
    check_size,
    make_black_image,
    make_black_image_error,
)
from shiftproof.models.outputs import VECTORS, describe_output, find_tensor
from shiftproof.models.preprocess import (
    ModelInput,
    Preprocessing,
    check_preprocess,
    count_images,
)
from shiftproof.models.structure import get_input_dtype
from shiftproof.types import Image, Images, Settings
from shiftproof.unit_rows import normalize_rows

if TYPE_CHECKING:
    import torch

Vectors: TypeAlias = NDArray[np.float32]
"""``(N, width)`` float32: one vector per image."""


class EncoderLike(Protocol):
    """The interface for embedding images: ``Encoder`` itself, or your own class."""

    @property
    def name(self) -> str:
        """Name in manifests and tables."""

    @property
    def width(self) -> int:
        """Length of its vectors."""

    @property
    def normalize(self) -> bool:
        """Whether its vectors have the norm 1."""

    @property
    def preprocess(self) -> Preprocessing:
        """The preprocessing of images for ``encode``."""

    @property
    def settings(self) -> Settings:
        """The settings that reproduce it, for JSON; ``fingerprint`` identifies its weights."""

    def encode(self, images: Images | Sequence[Image]) -> Vectors:
        """Return ``(N, width)`` float32 of images processed by ``preprocess.geometry``."""


@final
class Encoder(HeldModule):
    """A network with its preprocessing, whose outputs are vectors.

    The network runs in evaluation mode and without gradients, independent of your module's mode;
    your module is never modified. On the same device its parameters and buffers are shared; on
    another device a copy is used.

    Args:
        module: a ``torch.nn.Module`` from ``(N, C, H, W)`` floats to ``(N, width)``; or any
            function from a float32 array of that shape to a float array ``(N, width)``, which needs
            no torch. A function may carry ``fingerprint`` (a string that names its weights) and
            ``device``, which are recorded. Vectors may come in a mapping, a dataclass or a tuple,
            by the rule of ``shiftproof.models.outputs``.
        preprocess: the preprocessing of images for the module.
        normalize: scale every vector to length 1, so that the inner product of two is their cosine.
            A zero vector is unchanged.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        name: name in manifests; None is the module's class name.
        assumed: the assumptions made when it was loaded, as sentences.

    Attributes:
        module: the network that runs: a copy of your module in evaluation mode, on ``device``.
        device: its device (never ``"auto"``).
        width: length of its vectors, found with one black image.

    Raises:
        ModelError: the module cannot be called or copied, the device does not exist, or the output
            for a black image is not ``(1, width)``.

    >>> from shiftproof.models import Preprocess
    >>> means = lambda inputs: inputs.mean(axis=(2, 3))
    >>> encoder = Encoder(means, Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1)), name="means")
    >>> encoder.encode(np.full((2, 8, 8, 3), 255, np.uint8)).shape
    (2, 3)
    """

    preprocess: Preprocessing
    normalize: bool
    width: int

    def __init__(
        self,
        module: torch.nn.Module | Callable[[ModelInput], NDArray[Any]],
        preprocess: Preprocessing,
        *,
        normalize: bool = True,
        device: str = "cpu",
        name: str | None = None,
        assumed: Sequence[str] = (),
    ) -> None:
        super().__init__(
            module,
            None,
            device=device,
            name=name,
            assumed=assumed,
            expected="Expected a torch.nn.Module or a function from float32 (N, C, H, W) to vectors, "
            "got {}. A checkpoint file is read by load_encoder('file:PATH?arch=...').",
        )
        check_preprocess(preprocess)
        self.preprocess = preprocess
        self.normalize = normalize
        self.width = self._probe()

    def __repr__(self) -> str:
        return f"Encoder({self.name}, width {self.width}, {self.device})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this encoder, for JSON.

        The fingerprint is computed from the weights at each call, since they may be trained; it is
        "unknown" for a function without one.
        """
        return {
            **self._list_settings(),
            "width": self.width,
            "normalize": self.normalize,
            "preprocess": self.preprocess.settings(),
        }

    def encode(self, images: Images | Sequence[Image]) -> Vectors:
        """Return the vectors of a batch of images.

        Args:
            images: ``(N, H, W, 3)`` uint8 RGB in 0..255, each already through
                ``preprocess.geometry``; where that keeps the images' own sizes, a sequence of
                ``(H, W, 3)`` is taken too. Not changed.

        Returns:
            ``(N, width)`` float32, of norm 1 if ``normalize`` is true; a vector that is zero or not
            finite is returned unchanged.

        Raises:
            ImageError: another shape, size or dtype.
            ModelError: the module's output is not ``(N, width)``.
        """
        if count_images(images) == 0:
            return np.zeros((0, self.width), np.float32)
        vectors = self._run(check_size(images, self.preprocess))
        if vectors.shape != (len(images), self.width):
            raise ModelError(
                f"{self.name}: expected vectors ({len(images)}, {self.width}), got shape "
                f"{vectors.shape}."
            )
        return normalize_rows(vectors) if self.normalize else vectors

    def _run(self, images: Images | Sequence[Image]) -> Vectors:
        inputs = self.preprocess.normalize(images)
        if not self._torch:
            return np.array(self._find_vectors(self.module(inputs)), dtype=np.float32)
        import torch

        module = cast("torch.nn.Module", self.module)
        with torch.inference_mode():
            batch = torch.from_numpy(inputs).to(self.device, get_input_dtype(module))
            output = module(batch.contiguous(memory_format=torch.channels_last))
            return cast("Vectors", self._find_vectors(output).float().cpu().numpy())

    def _find_vectors(self, output: Any) -> Any:
        """Return the vectors in the module's output; see ``shiftproof.models.outputs``."""
        found = find_tensor(output, VECTORS)
        if found is None:
            raise ModelError(
                f"{self.name}: expected vectors as one tensor, or under a name such as "
                f"pooler_output, got {describe_output(output)}. Wrap the model in a module that "
                "returns the vectors alone."
            )
        return found

    def _probe(self) -> int:
        """Return the width of the output for one black image."""
        black = make_black_image(self.preprocess)
        try:
            shape = self._run(black).shape
        except ModelError:
            raise
        except Exception as error:
            raise make_black_image_error(black, self.name, error) from error
        if len(shape) != 2 or shape[0] != 1 or shape[1] == 0:
            raise ModelError(
                f"{self.name}: expected vectors (1, width) for one image, got shape {shape}. Pool "
                "or flatten the output first."
            )
        return int(shape[1])
