"""What the corruptions of tensors share: draws, and filters on a batch."""

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
    compute_bilinear_places,
    compute_center_crop,
    compute_gaussian_weights,
    make_streak,
)

FLOAT_SLACK = 1e-3
"""Gray levels added before fractions are cut off: float32 falls that far short of whole numbers."""


@dataclass(frozen=True)
class Draws:
    """Where one image's draws come from: scalars from the host, fields from the device."""

    host: np.random.Generator
    fields: torch.Generator


Function = Callable[[Tensor, float, Sequence[Draws]], Tensor]
"""``(N, C, H, W)`` float32 in 0..255 to the same, not yet clipped, with one source per image."""


def draw_normal(sources: Sequence[Draws], *shape: int) -> Tensor:
    """Draw ``(N, *shape)`` standard normal values, each image's from its own source."""
    out = _make_room(sources, shape)
    for field, source in zip(out, sources, strict=True):
        field.normal_(generator=source.fields)
    return out


def draw_uniform(sources: Sequence[Draws], *shape: int) -> Tensor:
    """Draw ``(N, *shape)`` values uniform in 0..1, each image's from its own source."""
    out = _make_room(sources, shape)
    for field, source in zip(out, sources, strict=True):
        field.uniform_(generator=source.fields)
    return out


def _make_room(sources: Sequence[Draws], shape: tuple[int, ...]) -> Tensor:
    return torch.empty((len(sources), *shape), device=sources[0].fields.device)


def send(values: ArrayLike, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Copy numbers from the host to the device asynchronously."""
    tensor = torch.tensor(np.asarray(values), dtype=dtype)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextlib.contextmanager
def full_floats(device: torch.device) -> Iterator[None]:
    """Have products made in float32, whatever the caller's autocast and TF32 are."""
    held = _FULL_PRODUCTS if device.type == "cuda" else contextlib.nullcontext()
    with torch.autocast(device.type, enabled=False), held:
        yield


def _list_full_products() -> list[Setting]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    wanted = []
    for owner, part in ((matmul, matmul), (cudnn, getattr(cudnn, "conv", cudnn))):
        try:
            is_allowed = owner.allow_tf32
        except RuntimeError:
            # Set by the newer name of torch 2.9, beside which the older one is not read any more;
            # setting one alone would make torch refuse the product.
            wanted.append(Setting(part, "fp32_precision", "ieee"))
        else:
            wanted += [Setting(owner, "allow_tf32", False)] if is_allowed else []
    return wanted


_FULL_PRODUCTS = HeldSettings(_list_full_products)


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


@lru_cache(maxsize=64)
def _gaussian_kernel(sigma: float, truncate: float, device: torch.device) -> Tensor:
    half = compute_gaussian_weights(sigma, truncate)
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


def smear(x: Tensor, radius: int, sigma: float, angles: Sequence[float]) -> Tensor:
    """Smear ``(N, C, H, W)`` along a streak, each image at its own angle, the edge repeated."""
    height, width = x.shape[-2:]
    streaks = [make_streak(radius, sigma, angle, height, width) for angle in angles]
    taps = max(len(one.down) for one in streaks)
    moves = np.zeros((2, len(streaks), taps), dtype=np.int64)
    shares = np.zeros((len(streaks), taps))
    for place, one in enumerate(streaks):
        moves[0, place, : len(one.down)], moves[1, place, : len(one.right)] = one.down, one.right
        shares[place, : len(one.weights.exact)] = one.weights.exact
    down, right = send(moves, x.device, torch.int64)[..., None]
    weights = send(shares, x.device)[..., None, None]
    rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
    flat, total = x.flatten(2), torch.zeros_like(x).flatten(2)
    for tap in range(taps):
        row = (rows - down[:, tap]).clamp(0, height - 1)
        column = (columns - right[:, tap]).clamp(0, width - 1)
        index = (row[:, :, None] * width + column[:, None]).flatten(1)[:, None]
        total.addcmul_(flat.gather(2, index.expand(flat.shape)), weights[:, tap])
    return total.reshape(x.shape)


class Mixing(NamedTuple):
    """Where each pixel of a line reads: two neighbors and their shares, on the device."""

    first: Tensor
    after: Tensor
    share: Tensor
    next_share: Tensor


@lru_cache(maxsize=1024)
def plan_mixing(
    start: int, length: int, enlarged: int, size: int, limit: int, device: torch.device
) -> Mixing:
    """Return where an enlargement reads a line of ``limit`` pixels; see
    ``compute_bilinear_places``.
    """
    first, share, next_share = compute_bilinear_places(start, length, enlarged, size)
    return Mixing(
        torch.as_tensor(first, device=device),
        torch.as_tensor(np.minimum(first + 1, limit - 1), device=device),
        torch.tensor(share, dtype=torch.float32, device=device),
        torch.tensor(next_share, dtype=torch.float32, device=device),
    )


def enlarge_center(x: Tensor, factor: float) -> Tensor:
    """Enlarge the center, its corner pixels on the corners, and cut it at the top left."""
    for axis in (-2, -1):
        size = x.shape[axis]
        crop = compute_center_crop(size, factor)
        x = mix_neighbors(x, axis, plan_mixing(*crop, size, size, x.device))
    return x


def mix_neighbors(x: Tensor, axis: int, mixing: Mixing) -> Tensor:
    """Mix neighbors along an axis."""
    shape = [1] * x.ndim
    shape[axis] = len(mixing.first)
    near = x.index_select(axis, mixing.first) * mixing.share.reshape(shape)
    return near + x.index_select(axis, mixing.after) * mixing.next_share.reshape(shape)


@lru_cache(maxsize=16)
def _luma_weights(device: torch.device) -> Tensor:
    return torch.tensor([0.299, 0.587, 0.114], device=device)[None, :, None, None]


def compute_luma(x: Tensor) -> Tensor:
    """Return ``(N, 1, H, W)``."""
    if x.shape[1] == 1:
        return x
    return (x * _luma_weights(x.device)).sum(1, keepdim=True)
