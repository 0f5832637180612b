"""The blurs on a batch of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shiftproof.corruptions import blur
from shiftproof.corruptions.checks import get_constants
from shiftproof.corruptions.torch.filters import (
    FLOAT_SLACK,
    Draws,
    draw_uniform,
    enlarge_center,
    filter_gaussian,
    pad,
    smear,
)


def gaussian_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``blur.gaussian_blur`` to a batch."""
    sigma = get_constants(blur.GAUSSIAN_BLUR, severity)
    return filter_gaussian(x, sigma, sigma)


@lru_cache(maxsize=16)
def make_disk_kernel(
    radius: int, alias: float
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the published defocus kernel: a disk on a grid, smoothed with mirroring at its border."""
    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    size = 2 * reach + 1
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, np.newaxis] ** 2 + offsets**2 <= radius**2).astype(float)
    weights = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * alias**2))
    weights /= weights.sum()
    smooth = np.zeros((size, size))
    for row in range(size):
        for tap, weight in zip(range(-taps, taps + 1), weights, strict=True):
            source = abs(row + tap)
            smooth[row, min(source, 2 * (size - 1) - source)] += weight
    return np.asarray(smooth @ (disk / disk.sum()) @ smooth.T)


@lru_cache(maxsize=16)
def _copy_disk(radius: int, alias: float, device: torch.device) -> Tensor:
    return torch.tensor(make_disk_kernel(radius, alias), dtype=torch.float32, device=device)


def defocus_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``blur.defocus_blur`` to a batch."""
    kernel = _copy_disk(*get_constants(blur.DEFOCUS_BLUR, severity), x.device)
    reach = kernel.shape[0] // 2
    flat = pad(x, reach, reach, "mirror").flatten(0, 1)[:, None]
    return F.conv2d(flat, kernel[None, None]).reshape(x.shape)


def motion_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``blur.motion_blur`` to a batch."""
    radius, sigma = get_constants(blur.MOTION_BLUR, severity)
    return smear(x, radius, sigma, [source.host.uniform(-45, 45) for source in sources])


def glass_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``blur.glass_blur`` to a batch."""
    sigma, delta, rounds = get_constants(blur.GLASS_BLUR, severity)
    height, width = x.shape[-2:]
    smooth = (filter_gaussian(x, sigma, sigma) + FLOAT_SLACK).floor()
    rows, columns = height - 2 * delta, width - 2 * delta
    if rows <= 0 or columns <= 0:
        return filter_gaussian(smooth, sigma, sigma)
    flat = smooth.flatten(2)
    own = torch.arange(height * width, device=x.device).reshape(height, width)
    down, right = slice(delta + 1, height - delta + 1), slice(delta + 1, width - delta + 1)
    visited = torch.zeros_like(own, dtype=torch.bool)
    visited[down, right] = True
    for _ in range(rounds):
        draw = (draw_uniform(sources, 2, rows, columns) * (2 * delta)).long() - delta
        neighbor = own.repeat(len(x), 1, 1)
        neighbor[:, down, right] += draw[:, 0] * width + draw[:, 1]
        source = _follow_copies(neighbor.flatten(1), visited.flatten())
        flat = flat.gather(2, source[:, None].expand(flat.shape))
    return filter_gaussian(flat.reshape(x.shape), sigma, sigma)


def _follow_copies(neighbor: Tensor, visited: Tensor) -> Tensor:
    """Return the source of each pixel when pixels are copied one after the other, the last one first.

    A pixel that copies from one visited earlier gets that one's source: chains are followed by
    doubling.

    Args:
        neighbor: ``(N, H W)``, the pixel that each copies; itself if it copies none.
        visited: ``(H W,)``, whether a pixel copies.
    """
    index = torch.arange(neighbor.shape[1], device=neighbor.device)
    # Pixels are visited from the last to the first: a larger index was visited earlier.
    follows = visited & visited[neighbor] & (neighbor > index)
    following = torch.where(follows, neighbor, index)
    # Chains end at pixels whose neighbor was not yet changed.
    for _ in range(max(1, math.ceil(math.log2(neighbor.shape[1])))):
        following = following.gather(1, following)
    return neighbor.gather(1, following)


def zoom_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``blur.zoom_blur`` to a batch."""
    stop, step = get_constants(blur.ZOOM_BLUR, severity)
    factors = np.arange(1, stop, step).tolist()
    total = x * 2
    for factor in factors[1:]:
        total = total + enlarge_center(x, factor)
    return total / (len(factors) + 1)
