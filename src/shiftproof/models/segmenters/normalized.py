"""Networks that take one tensor of normalized images: torchvision's, and most custom ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np

from shiftproof.counts import pluralize
from shiftproof.errors import ModelError
from shiftproof.models.structure import get_input_dtype, is_torch_module
from shiftproof.types import F32, Image, Settings

if TYPE_CHECKING:
    import torch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's training images, in 0..1: what nearly all backbones are trained with."""


@final
@dataclass(frozen=True)
class NormalizedSegmentation:
    """A network from normalized images ``(N, 3, H, W)`` to logits ``(N, K, h, w)``.

    The logits are the tensor that it returns, its entry "out" (torchvision) or its attribute
    ``logits`` (transformers). Images of different sizes are shown one by one.

    Args:
        mean: of each channel, in 0..1.
        std: of each channel.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def score(self, network: Callable[..., Any], images: Sequence[Image], device: str) -> list[Any]:
        """Take images through the network."""
        import torch

        dtype = (
            get_input_dtype(cast("torch.nn.Module", network))
            if is_torch_module(network)
            else torch.float32
        )
        found: list[Any] = []
        for batch in group_by_size(images):
            inputs = torch.from_numpy(normalize_images(batch, self.mean, self.std)).to(
                device, dtype
            )
            found += list(find_logits(network(inputs), len(batch)))
        return found

    def settings(self) -> Settings:
        """Return what reproduces the reading."""
        return {"mean": list(self.mean), "std": list(self.std)}


def normalize_images(images: Sequence[Image], mean: Sequence[float], std: Sequence[float]) -> F32:
    """Return ``(N, 3, H, W)`` float32 of images of one size."""
    batch = np.stack(images).astype(np.float32) / np.float32(255)
    values = (batch - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)


def group_by_size(images: Sequence[Image]) -> list[list[Image]]:
    """Return the images as one batch if all have one size, else one by one."""
    if len({image.shape for image in images}) == 1:
        return [list(images)]
    return [[image] for image in images]


def find_logits(output: Any, count: int) -> Any:
    """Return the logits in a network's output for ``count`` images.

    Raises:
        ModelError: no output ``(N, K, h, w)``.
    """
    found = output
    if isinstance(output, dict) and "out" in output:
        found = output["out"]
    elif hasattr(output, "logits"):
        found = output.logits
    shape = tuple(getattr(found, "shape", ()))
    if len(shape) != 4 or shape[0] != count:
        what = f"{type(found).__name__} {shape}" if shape else type(found).__name__
        raise ModelError(
            f"expected logits (N, K, H, W) of {pluralize(count, 'image')}, as a tensor, in 'out' or "
            "in .logits, "
            f"got {what}."
        )
    return found
