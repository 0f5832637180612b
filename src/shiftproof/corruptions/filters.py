"""Filters that several families share, as pure functions on arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def gaussian_weights(sigma: float, truncate: float) -> F64:
    """Return a Gaussian kernel from its centre outwards, ``(r + 1,)``, whose two sides sum to 1."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * x**2)
    return np.asarray((weights / weights.sum())[radius:])


def gaussian(
    values: NDArray[np.floating],
    sigma: float | tuple[float, float],
    *,
    truncate: float = 4.0,
    reflect: bool = False,
) -> F64:
    """Smooth ``(H, W)`` or ``(H, W, C)`` along its first two axes.

    Args:
        values: any range.
        sigma: in pixels, for both axes or as (down, right).
        truncate: the kernel ends at this many sigmas.
        reflect: mirror at the edges; otherwise the edge is repeated.
    """
    from shiftproof.corruptions import kernels

    down, right = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    height, width = values.shape[:2]
    source = np.ascontiguousarray(values, dtype=np.float64)
    half = np.empty_like(source)
    kernels.filter_rows(
        source.reshape(height, -1), gaussian_weights(down, truncate), reflect,
        half.reshape(height, -1),
    )
    result = np.empty_like(source)
    kernels.filter_columns(
        half.reshape(height, width, -1), gaussian_weights(right, truncate), reflect,
        result.reshape(height, width, -1),
    )
    return result


def streak(radius: int, sigma: float, angle: float, height: int, width: int) -> tuple[I64, I64, F64]:
    """Return the shifts (down, right) and weights of a one-sided Gaussian streak.

    Args:
        radius: the streak is ``2 radius + 1`` pixels long.
        sigma: of the Gaussian, whose peak is at the start.
        angle: in degrees, clockwise from the right.
        height, width: of the image; the streak ends where it would leave it altogether, and
            what is left of the weights then sums to less than 1, as in the published code.
    """
    length = 2 * radius + 1
    weights = np.exp(-np.arange(length) ** 2 / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    weights = weights / weights.sum()
    # With the length kept in the fraction the roundings are those of the published code.
    end_y, end_x = length * np.sin(np.deg2rad(angle)), length * np.cos(np.deg2rad(angle))
    distance = math.hypot(end_y, end_x)
    rows, columns = [], []
    for i in range(length):
        down = -math.ceil(i * end_y / distance - 0.5)
        right = -math.ceil(i * end_x / distance - 0.5)
        if abs(down) >= height or abs(right) >= width:
            break
        rows.append(down)
        columns.append(right)
    return (
        np.array(rows, dtype=np.int64),
        np.array(columns, dtype=np.int64),
        np.asarray(weights[: len(rows)]),
    )


def smear(values: NDArray[np.generic], radius: int, sigma: float, angle: float) -> F64:
    """Smear ``(H, W)`` or ``(H, W, C)`` along a streak, the edge repeated."""
    from shiftproof.corruptions import kernels

    height, width = values.shape[:2]
    out = np.empty(values.shape)
    kernels.sum_of_shifts(
        np.ascontiguousarray(values).reshape(height, width, -1),
        *streak(radius, sigma, angle, height, width),
        out.reshape(height, width, -1),
    )
    return out


def centre_crop(size: int, factor: float) -> tuple[int, int, int]:
    """Return (start, length, enlarged length) of the centre crop that ``factor`` enlarges to ``size``."""
    length = math.ceil(size / float(factor))
    return (size - length) // 2, length, round(length * factor)
