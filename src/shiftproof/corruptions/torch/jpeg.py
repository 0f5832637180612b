"""JPEG compression of a batch of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shiftproof.corruptions import digital
from shiftproof.corruptions.checks import get_constants
from shiftproof.corruptions.torch.filters import Draws

# The quantization tables of the JPEG standard (ITU T.81, annex K), by rows.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip


@lru_cache(maxsize=32)
def _compute_steps(table: tuple[int, ...], quality: int, device: torch.device) -> Tensor:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(max((entry * scale + 50) // 100, 1), 255) for entry in table]
    return torch.tensor(steps, dtype=torch.float32, device=device).reshape(8, 8)


@lru_cache(maxsize=16)
def _make_dct_basis(device: torch.device) -> Tensor:
    """Return the basis of the cosine transform of 8 values, one vector a row."""
    k = np.arange(8)
    basis = np.cos((2 * k[np.newaxis] + 1) * k[:, np.newaxis] * np.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return torch.tensor(basis, dtype=torch.float32, device=device)


def _quantize(plane: Tensor, table: tuple[int, ...], quality: int) -> Tensor:
    """Quantize a plane ``(N, H, W)`` in 0..255 in its cosine transform, and transform it back."""
    quantum, cosine = _compute_steps(table, quality, plane.device), _make_dct_basis(plane.device)
    n, height, width = plane.shape
    rows = torch.arange(-(-height // 8) * 8, device=plane.device).clamp(max=height - 1)
    columns = torch.arange(-(-width // 8) * 8, device=plane.device).clamp(max=width - 1)
    padded = plane.index_select(1, rows).index_select(2, columns)
    blocks = padded.reshape(n, len(rows) // 8, 8, len(columns) // 8, 8).transpose(2, 3) - 128
    quantized = (cosine @ blocks @ cosine.T / quantum).round() * quantum
    decoded = (cosine.T @ quantized @ cosine + 128).round().clamp(0, 255)
    return decoded.transpose(2, 3).reshape(n, len(rows), len(columns))[:, :height, :width]


def _downsample(plane: Tensor) -> Tensor:
    """Average 2 x 2 pixels, the edge repeated."""
    _, height, width = plane.shape
    rows = torch.arange(height + height % 2, device=plane.device).clamp(max=height - 1)
    columns = torch.arange(width + width % 2, device=plane.device).clamp(max=width - 1)
    return F.avg_pool2d(plane.index_select(1, rows).index_select(2, columns), 2)


def _upsample(plane: Tensor, height: int, width: int) -> Tensor:
    """Double the sides as libjpeg does: 3/4 of the nearer pixel and 1/4 of the farther."""
    for axis, size in ((1, height), (2, width)):
        index = torch.arange(size, device=plane.device)
        near = index // 2
        far = (near + torch.where(index % 2 == 0, -1, 1)).clamp(0, plane.shape[axis] - 1)
        plane = 0.75 * plane.index_select(axis, near) + 0.25 * plane.index_select(axis, far)
    return plane


def jpeg_compression(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``digital.jpeg_compression`` to a batch."""
    quality = get_constants(digital.JPEG_COMPRESSION, severity)
    if x.shape[1] == 1:
        return _quantize(x[:, 0], _LUMINANCE, quality)[:, None]
    height, width = x.shape[-2:]
    r, g, b = x.unbind(1)
    luma = (0.299 * r + 0.587 * g + 0.114 * b).round()
    blue = (128 - 0.168736 * r - 0.331264 * g + 0.5 * b).round()
    red = (128 + 0.5 * r - 0.418688 * g - 0.081312 * b).round()
    luma = _quantize(luma, _LUMINANCE, quality)
    blue, red = (
        _upsample(_quantize(_downsample(p), _CHROMINANCE, quality), height, width) - 128
        for p in (blue, red)
    )
    channels = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    return torch.stack(channels, dim=1).round()
