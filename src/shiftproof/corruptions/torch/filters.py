"""What the corruptions of tensors share: draws, and filters on a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shiftproof.corruptions.filters import bilinear_places, center_crop, gaussian_weights, streak

FLOAT_SLACK = 1e-3
"""Grey levels added before fractions are cut off: float32 falls that far short of whole numbers."""


@dataclass(frozen=True)
class Draws:
    """Where one image's draws come from: scalars from the host, fields from the device."""

    host: np.random.Generator
    fields: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal values on the device."""
        return torch.randn(shape, generator=self.fields, device=self.fields.device)

    def uniform(self, *shape: int) -> Tensor:
        """Draw values uniform in 0..1 on the device."""
        return torch.rand(shape, generator=self.fields, device=self.fields.device)


Function = Callable[[Tensor, float, Sequence[Draws]], Tensor]
"""``(N, C, H, W)`` float32 in 0..255 to the same, not yet clipped, with one source per image."""


def draw_fields(sources: Sequence[Draws], draw: Callable[[Draws], Tensor]) -> Tensor:
    """Stack one field per image."""
    return torch.stack([draw(source) for source in sources])


def _extend_line(size: int, radius: int, mode: str, device: torch.device) -> Tensor:
    """Return the indices of a line with ``radius`` more on either side, the edge treated."""
    index = torch.arange(-radius, size + radius, device=device)
    if mode == "nearest":
        return index.clamp(0, size - 1)
    if mode == "reflect":  # d c b a | a b c d
        index = index % (2 * size)
        return torch.minimum(index, 2 * size - 1 - index)
    if size == 1:
        return torch.zeros_like(index)
    index = index % (2 * size - 2)  # d c b | a b c d
    return torch.minimum(index, 2 * size - 2 - index)


def pad(x: Tensor, down: int, across: int, mode: str) -> Tensor:
    """Add rows and columns on all sides, the edge treated as ``mode`` says."""
    rows = _extend_line(x.shape[-2], down, mode, x.device)
    columns = _extend_line(x.shape[-1], across, mode, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def _gaussian_kernel(sigma: float, truncate: float, device: torch.device) -> Tensor:
    half = gaussian_weights(sigma, truncate)
    return torch.tensor(np.concatenate([half[:0:-1], half]), dtype=torch.float32, device=device)


def filter_gaussian(
    x: Tensor, down: float, across: float, truncate: float = 4.0, mode: str = "nearest"
) -> Tensor:
    """Filter ``(N, C, H, W)`` with a Gaussian."""
    rows, columns = (_gaussian_kernel(sigma, truncate, x.device) for sigma in (down, across))
    n, c = x.shape[:2]
    flat = pad(x, len(rows) // 2, len(columns) // 2, mode).flatten(0, 1)[:, None]
    flat = F.conv2d(F.conv2d(flat, rows[None, None, :, None]), columns[None, None, None])
    return flat.reshape(n, c, *flat.shape[-2:])


def smear(x: Tensor, radius: int, sigma: float, angle: float) -> Tensor:
    """Smear ``(C, H, W)`` along a streak, the edge repeated."""
    height, width = x.shape[-2:]
    copies = streak(radius, sigma, angle, height, width)
    reach_down, reach_across = int(np.abs(copies.down).max()), copies.margin
    padded = pad(x, reach_down, reach_across, "nearest")
    total = torch.zeros_like(x)
    for down, right, weight in zip(copies.down, copies.right, copies.weights.exact, strict=True):
        if weight:
            top, left = reach_down - int(down), reach_across - int(right)
            total += float(weight) * padded[..., top : top + height, left : left + width]
    return total


def enlarge_center(x: Tensor, factor: float) -> Tensor:
    """Enlarge the centre, its corner pixels on the corners, and cut it at the top left."""
    for axis in (-2, -1):
        size = x.shape[axis]
        places = bilinear_places(*center_crop(size, factor), size)
        x = mix_neighbors(x, axis, places.first, places.share, places.next_share)
    return x


def mix_neighbors(
    x: Tensor,
    axis: int,
    first: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    share: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    next_share: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> Tensor:
    """Mix neighbours along an axis."""
    index = torch.as_tensor(first, device=x.device)
    after = (index + 1).clamp(max=x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = len(first)
    a, b = (
        torch.tensor(s, dtype=torch.float32, device=x.device).reshape(shape)
        for s in (share, next_share)
    )
    return x.index_select(axis, index) * a + x.index_select(axis, after) * b


def luma_of(x: Tensor) -> Tensor:
    """Return ``(N, 1, H, W)``."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device)
    return (x * weights[None, :, None, None]).sum(1, keepdim=True)
