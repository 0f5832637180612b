"""Filters that several families share, as pure functions on arrays."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shiftproof.types import Image

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

UNROLLED = 4
"""The kernels add this many terms at a time."""


def channels_of(image: Image) -> int:
    """Return 3 for a colour image, 1 for a grey one."""
    return 3 if image.ndim == 3 else 1


def with_channels(image: U8) -> U8:
    """Return ``(H, W, C)`` of ``(H, W, 3)`` or ``(H, W)``, sharing its memory."""
    return image.reshape(image.shape[0], image.shape[1], -1)


def as_rows(image: U8) -> U8:
    """Return ``(H, W * C)``, sharing its memory."""
    return image.reshape(image.shape[0], -1)


@lru_cache(maxsize=256)
def gaussian_weights(sigma: float, truncate: float = 4.0) -> F64:
    """Return a Gaussian kernel from its centre outwards, whose two sides sum to 1.

    It ends at ``truncate`` sigmas and is filled up with zeros to one more than a multiple of 4.
    """
    radius = int(truncate * sigma + 0.5)
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * x**2) if radius else np.ones(1)
    half = (weights / weights.sum())[radius:]
    return np.pad(half, (0, -radius % UNROLLED))


@lru_cache(maxsize=32)
def _flat_gaussian(sigma: float) -> U8:
    """Return what a Gaussian in float64 makes of flat areas of each grey level, cut off to bytes."""
    half = gaussian_weights(sigma)
    values = np.arange(256) / 255.0
    for _ in range(2):
        # The order of the sums in scipy.ndimage.correlate1d: the centre, then from outside in.
        total = values * half[0]
        for weight in half[:0:-1]:
            total = total + (values + values) * weight
        values = total
    return np.asarray((np.clip(values, 0, 1) * 255).astype(np.uint8))


def gaussian_bytes(image: Image, sigma: float) -> Image:
    """Smooth an image with a Gaussian cut at 4 sigmas, the edge repeated; fractions are cut off."""
    from shiftproof.corruptions import kernels

    out = np.empty_like(image)
    kernels.gaussian_bytes(
        with_channels(image),
        gaussian_weights(sigma).astype(np.float32),
        _flat_gaussian(sigma),
        with_channels(out),
    )
    return out


def gaussian(
    values: F32, sigma: float | tuple[float, float], *, truncate: float = 4.0, reflect: bool = False
) -> F32:
    """Smooth ``(H, W)``.

    Args:
        values: any range.
        sigma: in pixels, for both axes or as (down, across).
        truncate: the kernel ends at this many sigmas.
        reflect: mirror at the edges; otherwise the edge is repeated.
    """
    from shiftproof.corruptions import kernels

    down, across = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    out = np.empty_like(values)
    kernels.gaussian_floats(
        values,
        gaussian_weights(down, truncate).astype(np.float32),
        gaussian_weights(across, truncate).astype(np.float32),
        reflect,
        out,
    )
    return out


@lru_cache(maxsize=32)
def _streak_weights(radius: int, sigma: float) -> F64:
    length = 2 * radius + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    return np.asarray(weights / weights.sum())


@lru_cache(maxsize=32)
def flat_streak(radius: int, sigma: float, count: int) -> U8:
    """Return what a streak in float64 makes of flat areas of each grey level, cut off to bytes."""
    values = np.arange(256)
    total = np.zeros(256)
    for weight in _streak_weights(radius, sigma)[:count]:
        total = total + weight * values
    return np.asarray(np.clip(total, 0, 255).astype(np.uint8))


def streak(
    radius: int, sigma: float, angle: float, height: int, width: int
) -> tuple[I64, I64, F64]:
    """Return the shifts (down, right) and weights of a one-sided Gaussian streak.

    Args:
        radius: the streak is ``2 radius + 1`` pixels long.
        sigma: of the Gaussian, whose peak is at the start.
        angle: in degrees, clockwise from the right.
        height, width: of the image. The streak ends where it would leave it altogether, and
            what is left of the weights then sums to less than 1, as in the published code.
    """
    length = 2 * radius + 1
    # With the length kept in the fraction the roundings are those of the published code.
    end_y, end_x = length * math.sin(math.radians(angle)), length * math.cos(math.radians(angle))
    distance = math.hypot(end_y, end_x)
    shifts = []
    for i in range(length):
        down = -math.ceil(i * end_y / distance - 0.5)
        right = -math.ceil(i * end_x / distance - 0.5)
        if abs(down) >= height or abs(right) >= width:
            break
        shifts.append((down, right))
    both = np.array(shifts, dtype=np.int64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy(), _streak_weights(radius, sigma)[: len(shifts)]


def unrolled(down: I64, right: I64, weights: F64) -> tuple[I64, I64, F32]:
    """Fill a streak up with weights of zero to a multiple of 4."""
    more = (0, -len(weights) % UNROLLED)
    return np.pad(down, more), np.pad(right, more), np.pad(weights.astype(np.float32), more)


def smear_bytes(image: Image, radius: int, sigma: float, angle: float) -> Image:
    """Smear an image along a streak, the edge repeated; fractions are cut off."""
    import cv2

    from shiftproof.corruptions import kernels

    height, width = image.shape[:2]
    channels = channels_of(image)
    down, right, weights = streak(radius, sigma, angle, height, width)
    margin = int(np.abs(right).max(initial=0))
    padded = as_rows(cv2.copyMakeBorder(image, 0, 0, margin, margin, cv2.BORDER_REPLICATE))
    out = np.empty_like(image)
    shifts_down, shifts_right, weights32 = unrolled(down, right * channels, weights)
    kernels.smear_bytes(
        padded,
        margin * channels,
        shifts_down,
        shifts_right,
        weights32,
        flat_streak(radius, sigma, len(weights)),
        as_rows(out),
    )
    return out


def centre_crop(size: int, factor: float) -> tuple[int, int, int]:
    """Return (start, length, enlarged length) of the centre that ``factor`` enlarges to ``size``."""
    length = math.ceil(size / float(factor))
    return (size - length) // 2, length, round(length * factor)


def bilinear_places(start: int, length: int, enlarged: int, size: int) -> tuple[I32, F32]:
    """Return where the first ``size`` pixels of an enlargement read a line of pixels.

    The first and last pixels of the part (start, length) fall on the first and last of
    ``enlarged`` pixels.

    Returns:
        The left of two neighbours, and the share of the right one; both ``(size,)``.
    """
    step = (length - 1) / (enlarged - 1) if enlarged > 1 else 1.0
    places = np.arange(size) * step
    left = np.minimum(places.astype(np.int64), length - 1)
    return (start + left).astype(np.int32), (places - left).astype(np.float32)
