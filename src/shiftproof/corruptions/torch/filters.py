"""Random draws and filters for the corruptions of batches of tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from shiftproof.compute.held_settings import HeldSettings, Setting
from shiftproof.corruptions.filters import (
    compute_bilinear_resampling,
    compute_center_crop,
    compute_gaussian_weights,
    make_streak,
)

FLOAT_SLACK = 1e-3
"""Gray levels added before truncation, since float32 may fall slightly short of an integer."""


@dataclass(frozen=True)
class Draws:
    """The generators of one image: scalars are drawn on the host, fields on the device."""

    host: np.random.Generator
    fields: torch.Generator


Function = Callable[[Tensor, float, Sequence[Draws]], Tensor]
"""From ``(N, C, H, W)`` float32 in 0..255 to the same, not yet clipped, with one source per image."""


def draw_normal(sources: Sequence[Draws], *shape: int) -> Tensor:
    """Draw ``(N, *shape)`` standard normal values, for each image from its own source."""
    out = _allocate(sources, shape)
    for field, source in zip(out, sources, strict=True):
        field.normal_(generator=source.fields)
    return out


def draw_uniform(sources: Sequence[Draws], *shape: int) -> Tensor:
    """Draw ``(N, *shape)`` values uniform in 0..1, for each image from its own source."""
    out = _allocate(sources, shape)
    for field, source in zip(out, sources, strict=True):
        field.uniform_(generator=source.fields)
    return out


def _allocate(sources: Sequence[Draws], shape: tuple[int, ...]) -> Tensor:
    return torch.empty((len(sources), *shape), dtype=torch.float32, device=sources[0].fields.device)


def copy_to_device(
    values: ArrayLike, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Copy numbers from the host to the device asynchronously."""
    tensor = torch.tensor(np.asarray(values), dtype=dtype)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextlib.contextmanager
def use_float32_products(device: torch.device) -> Iterator[None]:
    """Compute products in float32, regardless of the caller's autocast and TF32."""
    tf32_off = _FULL_PRODUCTS if device.type == "cuda" else contextlib.nullcontext()
    with torch.autocast(device.type, enabled=False), tf32_off:
        yield


def _list_full_products() -> list[Setting]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    settings = []
    for owner, part in ((matmul, matmul), (cudnn, getattr(cudnn, "conv", cudnn))):
        try:
            is_allowed = owner.allow_tf32
        except RuntimeError:
            # The caller used the newer setting of torch 2.9; mixing it with the older one makes torch
            # refuse the product.
            settings.append(Setting(part, "fp32_precision", "ieee"))
        else:
            settings += [Setting(owner, "allow_tf32", False)] if is_allowed else []
    return settings


_FULL_PRODUCTS = HeldSettings(_list_full_products)


def _extend_line(size: int, radius: int, mode: str, device: torch.device) -> Tensor:
    """Return the indices of a line with ``radius`` more on either side, mapped into the line."""
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
    """Pad rows and columns on all sides: nearest, reflect or mirror, as in scipy.ndimage."""
    rows = _extend_line(x.shape[-2], down, mode, x.device)
    columns = _extend_line(x.shape[-1], across, mode, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


@lru_cache(maxsize=64)
def _make_gaussian_kernel(sigma: float, truncate: float, device: torch.device) -> Tensor:
    half = compute_gaussian_weights(sigma, truncate)
    return torch.tensor(np.concatenate([half[:0:-1], half]), dtype=torch.float32, device=device)


def filter_gaussian(
    x: Tensor, down: float, across: float, truncate: float = 4.0, mode: str = "nearest"
) -> Tensor:
    """Filter ``(N, C, H, W)`` with a Gaussian."""
    rows, columns = (_make_gaussian_kernel(sigma, truncate, x.device) for sigma in (down, across))
    n, c = x.shape[:2]
    flat = pad(x, len(rows) // 2, len(columns) // 2, mode).flatten(0, 1)[:, None]
    flat = F.conv2d(F.conv2d(flat, rows[None, None, :, None]), columns[None, None, None])
    return flat.reshape(n, c, *flat.shape[-2:])


def smear(x: Tensor, radius: int, sigma: float, angles: Sequence[float]) -> Tensor:
    """Smear ``(N, C, H, W)`` along a streak, each image at its own angle, the edge repeated."""
    height, width = x.shape[-2:]
    streaks = [make_streak(radius, sigma, angle, height, width) for angle in angles]
    taps = max(len(streak.down) for streak in streaks)
    moves = np.zeros((2, len(streaks), taps), dtype=np.int64)
    shares = np.zeros((len(streaks), taps))
    for n, streak in enumerate(streaks):
        moves[0, n, : len(streak.down)], moves[1, n, : len(streak.right)] = (
            streak.down,
            streak.right,
        )
        shares[n, : len(streak.weights.exact)] = streak.weights.exact
    down, right = copy_to_device(moves, x.device, torch.int64)[..., None]
    weights = copy_to_device(shares, x.device)[..., None, None]
    rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
    flat, total = x.flatten(2), torch.zeros_like(x).flatten(2)
    for tap in range(taps):
        row = (rows - down[:, tap]).clamp(0, height - 1)
        column = (columns - right[:, tap]).clamp(0, width - 1)
        index = (row[:, :, None] * width + column[:, None]).flatten(1)[:, None]
        total.addcmul_(flat.gather(2, index.expand(flat.shape)), weights[:, tap])
    return total.reshape(x.shape)


class Interpolation(NamedTuple):
    """Linear interpolation of a line: two neighbors of each pixel and their weights."""

    first: Tensor
    after: Tensor
    share: Tensor
    next_share: Tensor


@lru_cache(maxsize=1024)
def plan_interpolation(
    start: int, length: int, enlarged: int, size: int, limit: int, device: torch.device
) -> Interpolation:
    """Return the interpolation of a line of ``limit`` pixels; see ``compute_bilinear_resampling``."""
    first, share, next_share = compute_bilinear_resampling(start, length, enlarged, size)
    return Interpolation(
        torch.as_tensor(first, device=device),
        torch.as_tensor(np.minimum(first + 1, limit - 1), device=device),
        torch.tensor(share, dtype=torch.float32, device=device),
        torch.tensor(next_share, dtype=torch.float32, device=device),
    )


def enlarge_center(x: Tensor, factor: float) -> Tensor:
    """Enlarge the center, its corner pixels on the corners, and crop it at the top left."""
    for axis in (-2, -1):
        size = x.shape[axis]
        crop = compute_center_crop(size, factor)
        x = interpolate_line(x, axis, plan_interpolation(*crop, size, size, x.device))
    return x


def interpolate_line(x: Tensor, axis: int, interpolation: Interpolation) -> Tensor:
    """Interpolate along an axis."""
    shape = [1] * x.ndim
    shape[axis] = len(interpolation.first)
    first = x.index_select(axis, interpolation.first) * interpolation.share.reshape(shape)
    return first + x.index_select(axis, interpolation.after) * interpolation.next_share.reshape(
        shape
    )


@lru_cache(maxsize=16)
def _make_luma_weights(device: torch.device) -> Tensor:
    return torch.tensor([0.299, 0.587, 0.114], dtype=torch.float32, device=device)[
        None, :, None, None
    ]


def compute_luma(x: Tensor) -> Tensor:
    """Return the luma ``(N, 1, H, W)``."""
    if x.shape[1] == 1:
        return x
    return (x * _make_luma_weights(x.device)).sum(1, keepdim=True)
