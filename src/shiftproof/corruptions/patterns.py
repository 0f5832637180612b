"""Patterns overlaid on an image: waves, clouds, stars and holes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random, get_constants
from shiftproof.corruptions.filters import (
    add_channel_axis,
    compute_luma,
    count_channels,
    expand_like,
)
from shiftproof.types import F64, I64, Flags, Image

# All constants for severities 1 to 5: Mintun et al. 2021 (arXiv 2102.11273), ImageNet-C-bar, from
# imagenet_c_bar/imagenet_c_bar.csv of their repository (facebookresearch/augmentation-corruption).
# They are levels on a scale from 0 to 10; each function's docstring says what a level means.
# ``table`` replaces the levels, for another image size.
#
# The published code gives lengths as shares of the image's side, 224 or 32. Here they are the same
# shares of the shorter side; positions are drawn for each axis separately.

SINGLE_FREQUENCY_GREYSCALE = (1.0, 1.5, 2.0, 4.5, 5.0)
COCENTRIC_SINE_WAVES = (3.0, 5.0, 8.0, 9.0, 10.0)
PLASMA_NOISE = (4.75, 7.0, 8.5, 9.25, 10.0)
PERLIN_NOISE = (4.6, 5.2, 5.8, 7.6, 8.8)
BLUE_NOISE_SAMPLE = (0.8, 1.6, 2.4, 4.0, 5.6)
BROWNISH_NOISE = (1.0, 2.0, 3.0, 4.0, 5.0)
CHECKERBOARD_CUTOUT = (2.0, 3.0, 4.0, 5.0, 6.0)
SPARKLES = (1.0, 2.0, 3.0, 5.0, 6.0)
INVERSE_SPARKLES = (1.0, 2.0, 4.0, 9.0, 10.0)

LINES = (0.5, 1.0, 1.5, 2.0, 2.5)
"""Only in CIFAR-10-C-bar: imagenet_c_bar/cifar10_c_bar.csv."""

STARS = 5
"""Number of stars of ``sparkles``."""

RAY_SPREAD = 0.25
"""Standard deviation of a ray's length, as a share of its mean."""

PERLIN_OCTAVES = 5
"""Octaves of the published turbulence: frequencies 1, 2, 4, 8 and 16."""

GRAY = 128
"""Fill value of a hole."""


Levels = Sequence[float]


def get_shorter_side(image: Image) -> int:
    """Return the shorter side in pixels; the published code is for square images."""
    height, width = image.shape[:2]
    return int(min(height, width))


def _add_layer(image: Image, layer: F64, keep: float, add: float) -> Image:
    """Return ``keep * image + add * layer``; for a gray image a color layer is converted to
    gray.
    """
    from shiftproof.corruptions.kernels import patterns as kernels

    if layer.ndim == 3 and image.ndim == 2:
        layer = compute_luma(layer)
    out = np.empty_like(image)
    planes = layer.reshape(*image.shape[:2], -1)
    kernels.add_layer(add_channel_axis(image), planes, keep, add, add_channel_axis(out))
    return out


def single_frequency_greyscale(
    image: Image, severity: float, rng: Random, table: Levels = SINGLE_FREQUENCY_GREYSCALE
) -> Image:
    """Add one plane wave of a random direction and frequency; a level is an amplitude of 19.6."""
    amplitude = get_constants(table, severity) * 19.6
    first = rng.uniform(-math.pi, math.pi)
    frequencies = np.array([first, rng.uniform(-abs(first), abs(first))])
    across, down = frequencies[rng.permutation(2)]
    phase = rng.uniform(0, 2 * math.pi)
    columns = np.arange(image.shape[1]) * across + phase
    rows = (np.arange(image.shape[0]) * down)[:, np.newaxis]
    layer = np.sin(rows) * np.cos(columns) + np.cos(rows) * np.sin(columns)
    return _add_layer(image, layer, 1.0, amplitude)


def cocentric_sine_waves(
    image: Image, severity: float, rng: Random, table: Levels = COCENTRIC_SINE_WAVES
) -> Image:
    """Add wavy concentric rings about a random point; a level is an amplitude of 12.8."""
    from shiftproof.corruptions.kernels import patterns as kernels

    strength = get_constants(table, severity) * 12.8
    left = rng.uniform(0, image.shape[1])
    top = rng.uniform(0, image.shape[0])
    waves = rng.uniform(0, 10)
    amplitude, ring_width = (rng.uniform(0, get_shorter_side(image) / 10) for _ in range(2))
    layer = np.empty(image.shape[:2])
    kernels.draw_rings(top, left, waves, amplitude, max(ring_width, 1e-9), layer)
    return _add_layer(image, layer, 1.0, strength)


def plasma_noise(image: Image, severity: float, rng: Random, table: Levels = PLASMA_NOISE) -> Image:
    """Blend in colored plasma (phase-modulated waves); a level is a weight of 6.4 of 255."""
    from shiftproof.corruptions.kernels import patterns as kernels

    weight = get_constants(table, severity) * 6.4
    time = rng.uniform(0, 6 * math.pi)
    folds = 4 + draws.index(rng, 3)
    sharpness = rng.uniform(0.5, 1.0)
    scale = rng.uniform(0.075, 0.2) * get_shorter_side(image)
    layer = np.empty((*image.shape[:2], 3))
    kernels.draw_plasma(time, folds, sharpness, scale, layer)
    return _add_layer(image, layer, 1 - weight / 255, weight)


def _draw_gradients(rng: Random) -> tuple[I64, F64]:
    """Return a permutation ``(256,)`` and unit vectors ``(256, 2)``."""
    if isinstance(rng, np.random.RandomState):
        gradients = np.stack([rng.randint(0, 2**31, size=2) for _ in range(514)])[:256] % 512 - 256
        permutation = np.arange(256)
        for i in range(255, -1, -1):
            j = rng.randint(0, 2**31) % 256
            permutation[i], permutation[j] = permutation[j], permutation[i]
    else:
        gradients = rng.integers(-256, 256, size=(256, 2))
        permutation = rng.permutation(256)
    lengths = np.hypot(gradients[:, :1], gradients[:, 1:])
    return permutation.astype(np.int64), gradients / np.maximum(lengths, 1)


def perlin_noise(image: Image, severity: float, rng: Random, table: Levels = PERLIN_NOISE) -> Image:
    """Blend in Perlin turbulence; a level is a weight of 0.05.

    The first octave has 7 periods along the shorter side.
    """
    from shiftproof.corruptions.kernels import patterns as kernels

    weight = get_constants(table, severity) * 0.05
    permutation, gradients = _draw_gradients(draws.fork(rng))
    layer = np.empty(image.shape[:2])
    period = 32 * get_shorter_side(image) / 224
    kernels.draw_turbulence(period, PERLIN_OCTAVES, permutation, gradients, layer)
    return _add_layer(image, np.clip(0.5 * layer + 0.5, 0, 1), 1 - weight, 255 * weight)


def _list_frequencies(size: int) -> I64:
    """Return the integer frequencies along an axis, the lowest in the middle."""
    return np.arange(size) - size // 2


def _draw_spectrum_noise(rng: Random, height: int, width: int, power: F64) -> F64:
    """Draw noise ``(H, W)`` of standard deviation 1 with the spectrum ``power``, 0 in the middle.

    As published, opposite frequencies in the array share their phase: the noise is nearly symmetric
    under rotation by 180 degrees.
    """
    half = rng.uniform(0, 2 * math.pi, size=(height, width // 2))
    parts = [half, half[::-1, ::-1]]
    if width % 2:
        upper = rng.uniform(0, 2 * math.pi, size=(height // 2, 1))
        middle = [upper, np.zeros((height % 2, 1)), upper[::-1]]
        parts.insert(1, np.concatenate(middle))
    phases = np.concatenate(parts, axis=1)
    spectrum = np.empty(phases.shape, np.complex128)
    spectrum.real, spectrum.imag = power * np.cos(phases), power * np.sin(phases)
    noise = np.real(np.fft.ifft2(np.fft.ifftshift(spectrum)))
    # A single pixel has a standard deviation of 0.
    return np.asarray(noise / (float(noise.std()) or 1.0))


def _compute_radial_frequencies(image: Image) -> F64:
    """Return the distance from frequency 0, in periods per shorter side, ``(H, W)``."""
    height, width = image.shape[:2]
    side = get_shorter_side(image)
    down = _list_frequencies(height)[:, np.newaxis] * (side / height)
    return np.asarray(np.hypot(down, _list_frequencies(width) * (side / width)))


def blue_noise_sample(
    image: Image, severity: float, rng: Random, table: Levels = BLUE_NOISE_SAMPLE
) -> Image:
    """Turn pixels black where blue noise is low; a level moves the threshold from -2.5 by 0.3."""
    threshold = get_constants(table, severity) * 0.3 - 2.5
    inner = draws.fork(rng)
    height, width = image.shape[:2]
    keep = (
        _draw_spectrum_noise(inner, height, width, _compute_radial_frequencies(image)) > threshold
    )
    return image * expand_like(keep, image)


def brownish_noise(
    image: Image, severity: float, rng: Random, table: Levels = BROWNISH_NOISE
) -> Image:
    """Add noise of low frequencies to each channel; a level is a deviation of 6.4."""
    deviation = get_constants(table, severity) * 6.4
    inner = draws.fork(rng)
    height, width = image.shape[:2]
    power = 1 / (_compute_radial_frequencies(image) ** 2 + 1)
    layers = [
        _draw_spectrum_noise(inner, height, width, power) for _ in range(count_channels(image))
    ]
    return _add_layer(image, np.stack(layers, axis=-1).reshape(image.shape), 1.0, deviation)


def _draw_squares(image: Image, share: float, rng: Random) -> Flags:
    """Mark the pixels ``(H, W)`` of a share of the dark squares of a rotated checkerboard."""
    from shiftproof.corruptions.kernels import patterns as kernels

    angle = rng.uniform(0, 2 * math.pi)
    side = max(rng.uniform(0.1, 0.25) * get_shorter_side(image), 1.0)
    count = int(4 * max(image.shape[:2]) // side)
    grid = draws.fork(rng).uniform(size=(count, count)) < share
    out = np.empty(image.shape[:2], np.bool_)
    kernels.mark_squares(angle, side, grid, out)
    return out


def checkerboard_cutout(
    image: Image, severity: float, rng: Random, table: Levels = CHECKERBOARD_CUTOUT
) -> Image:
    """Fill squares of a rotated checkerboard with gray; a level is a tenth of the dark squares."""
    share = get_constants(table, severity) / 10
    out = image.copy()
    out[_draw_squares(image, share, rng)] = GRAY
    return np.asarray(out)


def _draw_rays(rng: Random, count: int, length: float) -> F64:
    return length * (1 + RAY_SPREAD * rng.standard_normal(count))


def sparkles(image: Image, severity: float, rng: Random, table: Levels = SPARKLES) -> Image:
    """Add five bright stars; a level is a ray length of a hundredth of the shorter side."""
    from shiftproof.corruptions.kernels import patterns as kernels

    length = get_constants(table, severity) * 0.01 * get_shorter_side(image)
    centers = rng.uniform(size=(STARS, 2)) * image.shape[:2]
    inner = draws.fork(rng)
    counts = [50 + draws.index(rng, 150) for _ in range(STARS)]
    pixels = add_channel_axis(image).astype(np.float64)
    for (top, left), count in zip(centers, counts, strict=True):
        rays = np.maximum(1.0, _draw_rays(inner, count, length))
        kernels.add_star(top, left, rays, pixels)
    return pixels.astype(np.uint8).reshape(image.shape)


def inverse_sparkles(
    image: Image, severity: float, rng: Random, table: Levels = INVERSE_SPARKLES
) -> Image:
    """Show the image through a star in a white cover; a level raises the fall-off by 0.13."""
    from shiftproof.corruptions.kernels import patterns as kernels

    power = get_constants(table, severity) * 0.13
    top, left = rng.uniform(0.25, 0.75, size=2) * image.shape[:2]
    inner = draws.fork(rng)
    rays = _draw_rays(inner, 50 + draws.index(rng, 150), 0.25 * get_shorter_side(image))
    out = np.empty_like(image)
    kernels.keep_in_star(add_channel_axis(image), top, left, rays, power, add_channel_axis(out))
    return out


def lines(image: Image, severity: float, rng: Random, table: Levels = LINES) -> Image:
    """Scratch the image with gray lines; a level is a line for every ten pixels of its side."""
    from shiftproof.corruptions.kernels import patterns as kernels

    side = get_shorter_side(image)
    count = int(get_constants(table, severity) / 10 * side)
    angle, spread = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 1.0)
    rows, columns, angle_draws = draws.fork(rng).uniform(size=(count, 3)).T
    angles = angle + 2 * math.pi * spread * (angle_draws - 0.5)
    centers = np.stack([rows * image.shape[0], columns * image.shape[1]])
    reach = max(image.shape[:2]) * np.stack([np.cos(angles), np.sin(angles)])
    # Truncated towards zero, as published.
    starts, ends = (centers - reach).astype(np.int64).T, (centers + reach).astype(np.int64).T
    out = image.copy()
    for (row, column), (last_row, last_column) in zip(starts, ends, strict=True):
        kernels.draw_line(row, column, last_row, last_column, float(GRAY), add_channel_axis(out))
    return np.asarray(out)
