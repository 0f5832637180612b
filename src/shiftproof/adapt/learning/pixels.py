"""Conversion of a network's inputs to pixels and back, for methods that augment images."""

from __future__ import annotations

import torch

from shiftproof.errors import ModelError
from shiftproof.models.preprocess import Preprocess, Preprocessing

_LUMINOSITY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R 601-2), as in ``Preprocess``."""


class PixelSpace:
    """The pixels behind a network's normalized inputs.

    Adapters receive normalized batches, but augmentations are defined on pixels in 0..1. The
    channel of a gray network corresponds to three equal ones.

    Args:
        preprocess: the classifier's preprocessing.
        method: the adapter's name, for the error message.

    Raises:
        ModelError: the normalization is a user's function, which cannot be inverted.
    """

    def __init__(self, preprocess: Preprocessing, method: str) -> None:
        if not isinstance(preprocess, Preprocess):
            raise ModelError(
                f"{method} augments images and so has to undo their normalization, but this "
                f"classifier's preprocessing is a {type(preprocess).__name__}. Expected a "
                "Preprocess with size, mean and std."
            )
        self._channels = preprocess.channels
        self._mean, self._std = preprocess.mean, preprocess.std

    def to_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``(N, 3, H, W)`` float32 in 0..1 of prepared inputs ``(N, C, H, W)``."""
        pixels = inputs.float() * self._per_channel(self._std, inputs)
        pixels = (pixels + self._per_channel(self._mean, inputs)).clamp(0, 1)
        return pixels.expand(-1, 3, -1, -1) if self._channels == 1 else pixels

    def to_inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return ``(N, C, H, W)`` float32, normalized, in channels_last, of ``(N, 3, H, W)``."""
        if self._channels == 1:
            pixels = (pixels * self._per_channel(_LUMINOSITY, pixels)).sum(1, keepdim=True)
        inputs = pixels - self._per_channel(self._mean, pixels)
        inputs = inputs / self._per_channel(self._std, pixels)
        return inputs.contiguous(memory_format=torch.channels_last)

    def _per_channel(self, values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)
