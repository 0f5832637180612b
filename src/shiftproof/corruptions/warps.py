"""Warps: refraction, waves, twirls and chromatic aberration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random, get_constants
from shiftproof.corruptions.filters import add_channel_axis, compute_luma, filter_gaussian
from shiftproof.corruptions.patterns import get_shorter_side
from shiftproof.types import F64, I64, Image

# All constants for severities 1 to 5: Mintun et al. 2021 (arXiv 2102.11273), from
# imagenet_c_bar/imagenet_c_bar.csv and, for corruptions that are only in CIFAR-10-C-bar,
# imagenet_c_bar/imagenet_new_corruptions.csv or cifar10_c_bar.csv of their repository
# (facebookresearch/augmentation-corruption). They are levels on a scale from 0 to 10; each
# function's docstring says what a level means. ``table`` replaces the levels, for another image
# size. Lengths are shares of the shorter side, as in ``patterns.py``.

CAUSTIC_REFRACTION = (2.35, 3.2, 4.9, 6.6, 9.15)

# Of CIFAR-10-C-bar, defined for 32 x 32 pixels:
RIPPLE = (5.5, 6.0, 6.5, 7.5, 8.0)
PINCH_AND_TWIRL = (5.5, 6.0, 6.5, 8.5, 10.0)
TRANSVERSE_CHROMATIC_ABBERATION = (1.0, 2.0, 5.0, 9.0, 10.0)
CIRCULAR_MOTION_BLUR = (2.8, 3.6, 4.4, 5.2, 6.0)

TURNS = 21
"""Rotated copies that ``circular_motion_blur`` averages."""

TWIRLS_OF_LARGE = 5
TWIRLS_OF_SMALL = 3
"""Twirls along a side, of images of 224 pixels and more, and of smaller ones."""

Levels = Sequence[float]


def warp(image: Image, rows: F64, columns: F64) -> Image:
    """Resample an image at fractional positions ``(H, W)``, bilinearly, black outside."""
    from shiftproof.corruptions.kernels import warps as kernels

    out = np.empty_like(image)
    kernels.warp(add_channel_axis(image), rows, columns, add_channel_axis(out))
    return out


def caustic_refraction(
    image: Image, severity: float, rng: Random, table: Levels = CAUSTIC_REFRACTION
) -> Image:
    """Refract the image at moving water, and add the light that the water focuses.

    A level displaces a ray at a right angle by 0.05 of the shorter side, and brightens a slope of 1
    by 0.2.
    """
    from shiftproof.corruptions.kernels import warps as kernels

    level = get_constants(table, severity)
    side = get_shorter_side(image)
    time = rng.uniform(0.5, 2.0)
    light = np.empty(image.shape[:2])
    kernels.draw_caustics(time, rng.uniform(0.75, 1.25) * side, light)
    softened = filter_gaussian(light.astype(np.float32), 1.0, reflect=True).astype(np.float64)
    out = np.empty_like(image)
    kernels.refract(
        add_channel_axis(image), softened, 0.05 * level * side, 0.2 * level, add_channel_axis(out)
    )
    return out


def ripple(image: Image, severity: float, rng: Random, table: Levels = RIPPLE) -> Image:
    """Shift rows and columns by sine waves; a level is an amplitude of 0.0025 of the side."""
    side = get_shorter_side(image)
    amplitude = get_constants(table, severity) * 0.0025 * side
    lengths = rng.uniform(0.1, 0.3, size=2) * side
    phases = rng.uniform(0, 2 * math.pi, size=2)
    positions = [
        line + amplitude * np.sin(2 * math.pi * line / length + phase)
        for line, length, phase in zip(
            map(np.arange, image.shape[:2]), lengths, phases, strict=True
        )
    ]
    rows, columns = np.broadcast_arrays(positions[0][:, np.newaxis], positions[1])
    return warp(image, rows.copy(), columns.copy())


def _twirl(height: int, width: int, angle: float, amount: float) -> tuple[F64, F64]:
    """Return the source rows and columns of a twirled block, relative to it, ``(height, width)``
    each.

    The block is scaled to a square, so that the circular twirl fills it.
    """
    radius = np.array((height, width)) / 2
    down = np.arange(height)[:, np.newaxis] - radius[0]
    right = np.arange(width) - radius[1]
    distance = np.hypot(down / radius[0], right / radius[1])
    inside = (distance <= 1) & (np.round(distance * radius.min(), 3) > 0)
    distance_inside = np.where(inside, distance, 1.0)
    pinch = np.sin(np.pi / 2 * distance_inside) ** -amount
    rotation = angle * (1 - distance_inside) ** 2
    y, x = down / radius[0] * pinch, right / radius[1] * pinch
    rows = radius[0] * (1 + y * np.cos(rotation) - x * np.sin(rotation))
    columns = radius[1] * (1 + y * np.sin(rotation) + x * np.cos(rotation))
    straight_rows, straight_columns = np.broadcast_arrays(down + radius[0], right + radius[1])
    return np.where(inside, rows, straight_rows), np.where(inside, columns, straight_columns)


def pinch_and_twirl(
    image: Image, severity: float, rng: Random, table: Levels = PINCH_AND_TWIRL
) -> Image:
    """Pinch and twirl the image in blocks, 3 or 5 along each side.

    A level rotates by 9 degrees, to the left or right, and adds 0.04 to the exponent of the pinch,
    0.1 at 0.

    Differs from the published code: a block reads the original image, not the result of the blocks
    before it; only the edges of blocks differ.
    """
    level = get_constants(table, severity)
    large = get_shorter_side(image) >= 224
    count = min(TWIRLS_OF_LARGE if large else TWIRLS_OF_SMALL, *image.shape[:2])
    directions = [(1, -1)[draws.index(rng, 2)] for _ in range(count * count)]
    block_height, block_width = image.shape[0] // count, image.shape[1] // count
    rows, columns = (np.ascontiguousarray(a, np.float64) for a in np.indices(image.shape[:2]))
    for across in range(count):
        for down in range(count):
            angle = directions[across * count + down] * level * math.pi / 20
            block_rows, block_columns = _twirl(block_height, block_width, angle, 0.04 * level + 0.1)
            top, left = down * block_height, across * block_width
            block = slice(top, top + block_height), slice(left, left + block_width)
            rows[block] = block_rows + top
            columns[block] = block_columns + left
    return warp(image, rows, columns)


def _compute_spline_taps(size: int, scale: float) -> tuple[I64, F64]:
    """Return the pixels of a line, and their weights, from which its enlarged center is
    interpolated.

    Cubic B-splines whose coefficients are the pixels, which smooths; the line is mirrored about its
    outermost pixels.

    Returns:
        ``(4, size)`` each.
    """
    enlarged = round(size * scale)
    positions = (np.arange(size) + (enlarged - size) // 2) * ((size - 1) / max(enlarged - 1, 1))
    first = np.floor(positions).astype(np.int64)
    t = positions - first
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3]
    taps = first + np.arange(-1, 3)[:, np.newaxis]
    period = max(2 * size - 2, 1)
    taps %= period
    return np.minimum(taps, period - taps) if size > 1 else taps * 0, np.stack(weights) / 6


def _enlarge_plane(plane: F64, scale: float) -> F64:
    """Enlarge ``(H, W)`` about its center and crop it to its size."""
    rows, row_weights = _compute_spline_taps(plane.shape[0], scale)
    columns, column_weights = _compute_spline_taps(plane.shape[1], scale)
    across = sum(plane[:, c] * w for c, w in zip(columns, column_weights, strict=True))
    down = (across[r] * w[:, np.newaxis] for r, w in zip(rows, row_weights, strict=True))
    return np.asarray(sum(down))


def transverse_chromatic_abberation(
    image: Image, severity: float, rng: Random, table: Levels = TRANSVERSE_CHROMATIC_ABBERATION
) -> Image:
    """Enlarge one channel by the lens's spread and another by half of it; the third stays.

    A level is a spread of 0.05. A gray image gets the gray of its three enlarged copies.
    """
    spread = get_constants(table, severity) * 0.05
    scales = np.array((1.0, 1.0 + spread / 2, 1.0 + spread))[rng.permutation(3)]
    planes = [image] * 3 if image.ndim == 2 else [image[..., c] for c in range(3)]
    layers = [
        _enlarge_plane(plane.astype(np.float64), scale)
        for plane, scale in zip(planes, scales, strict=True)
    ]
    stacked = np.stack(layers, axis=-1)
    result = compute_luma(stacked) if image.ndim == 2 else stacked
    return np.asarray(np.clip(result + (0.5 - 1e-9), 0, 255).astype(np.uint8))


def circular_motion_blur(
    image: Image, severity: float, rng: Random, table: Levels = CIRCULAR_MOTION_BLUR
) -> Image:
    """Rotate the image about its center during the exposure; a level is 1.5 degrees each way."""
    from shiftproof.corruptions.kernels import warps as kernels

    amount = math.radians(get_constants(table, severity) * 1.5)
    steps = np.linspace(-1, 1, TURNS)
    weights = np.exp(-2 * steps**2)
    out = np.empty_like(image)
    kernels.average_rotations(
        add_channel_axis(image), amount * steps, weights / weights.sum(), add_channel_axis(out)
    )
    return out
