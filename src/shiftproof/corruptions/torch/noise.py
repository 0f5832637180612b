"""The noises on a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shiftproof.corruptions import noise
from shiftproof.corruptions.checks import get_constants
from shiftproof.corruptions.torch.filters import Draws, draw_normal, draw_uniform


def gaussian_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``noise.gaussian_noise`` to a batch."""
    sigma = 255 * get_constants(noise.GAUSSIAN_NOISE, severity)
    return x + sigma * draw_normal(sources, *x.shape[1:])


def shot_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``noise.shot_noise`` to a batch."""
    photons = get_constants(noise.SHOT_NOISE, severity)
    rates = x * (photons / 255)
    counts = [torch.poisson(r, generator=s.fields) for r, s in zip(rates, sources, strict=True)]
    return torch.stack(counts) * (255 / photons)


def impulse_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``noise.impulse_noise`` to a batch."""
    share = get_constants(noise.IMPULSE_NOISE, severity)
    draw = draw_uniform(sources, *x.shape[1:])
    white = (draw < share / 2).float() * 255
    return torch.where(draw < share, white, x)


def speckle_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``noise.speckle_noise`` to a batch."""
    sigma = get_constants(noise.SPECKLE_NOISE, severity)
    return x * (1 + sigma * draw_normal(sources, *x.shape[1:]))
