"""The corruptions of MNIST-C that share a name with ImageNet-C but differ from it.

All from Mu & Gilmer 2019 (arXiv 1906.02337): corruptions.py of their repository
(google-research/mnist-c). Their constants are those of ImageNet-C; each docstring says what
differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from shiftproof.corruptions import blur, draws, noise, weather
from shiftproof.corruptions.checks import CorruptionFunction, Random, get_constants
from shiftproof.corruptions.filters import add_channel_axis, filter_gaussian
from shiftproof.corruptions.scales import AtScale
from shiftproof.types import I32, Image

MNIST_C = "mnist-c"
"""The name of the variant."""

MAP_SIDE = 256
"""Side of the fog's map in pixels; a digit shows a corner of it."""

MUD_GRAY = 63
"""Value of the mud in every channel."""

PUBLISHED_SEVERITY = {
    "shot_noise": 5,
    "impulse_noise": 4,
    "glass_blur": 1,
    "motion_blur": 1,
    "shear": 2,
    "scale": 3,
    "rotate": 2,
    "brightness": 5,
    "translate": 3,
    "fog": 5,
    "spatter": 4,
}
"""The one severity at which each is in the dataset."""


def _blur_down(image: Image, sigma: float) -> Image:
    """Blur along the columns only: the published code takes a gray image's columns for channels."""
    planes = add_channel_axis(image).astype(np.float32)
    smooth = [filter_gaussian(planes[..., c].copy(), (sigma, 0.0)) for c in range(planes.shape[2])]
    # Raised a little, so that truncation keeps the level of a flat area.
    levels = np.clip(np.stack(smooth, axis=-1) + 1e-3, 0, 255).astype(np.uint8)
    return np.asarray(levels.reshape(image.shape))


def _draw_offsets(rng: Random, delta: int, width: int, count: int) -> I32:
    """Draw the displacement of each pixel; half of them are 0."""
    if not isinstance(rng, np.random.RandomState):
        offsets = draws.offsets(rng, delta, width, count)
        return np.where(rng.random(count) < 0.5, offsets, 0).astype(np.int32)
    offsets = np.zeros(count, np.int32)
    for i in range(count):
        if rng.randint(0, 2, size=1)[0] == 0:
            right, down = rng.randint(-delta, delta, size=2)
            offsets[i] = down * width + right
    return offsets


def glass_blur(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, int, int]]
) -> Image:
    """Swap half of the pixels with nearby ones, between two blurs along the columns."""
    sigma, delta, rounds = get_constants(table, severity)
    smooth = _blur_down(image, sigma)
    blur.shuffle_pixels(smooth, delta, rounds, partial(_draw_offsets, rng), exchange=True)
    return _blur_down(smooth, sigma)


def fog(image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float]]) -> Image:
    """Add the corner of a fractal cloud; its side is 256 pixels, or the image's if that is
    larger.
    """
    amount, decay = get_constants(table, severity)
    side = max(MAP_SIDE, *image.shape[:2])
    layer, low, high = weather.draw_heights(side, side, decay, rng)
    return weather.add_fog(image, amount, layer, low, high)


def spatter(image: Image, severity: float, rng: Random, table: Sequence[weather.Spatter]) -> Image:
    """Spatter dark gray mud on the lens, at every severity."""
    constants = get_constants(table, severity)
    _, _, _, threshold, mask_sigma, _ = constants
    color = np.full(add_channel_axis(image).shape[2], MUD_GRAY, np.float32)
    covered = weather.draw_spatter(image, constants, rng) > np.float32(threshold)
    return weather.add_mud(image, covered, mask_sigma, color)


FUNCTIONS: dict[str, CorruptionFunction] = {
    "shot_noise": AtScale("shot_noise", noise.shot_noise, noise.SHOT_NOISE, MNIST_C),
    "impulse_noise": AtScale("impulse_noise", noise.impulse_noise, noise.IMPULSE_NOISE, MNIST_C),
    "glass_blur": AtScale("glass_blur", glass_blur, blur.GLASS_BLUR, MNIST_C),
    "motion_blur": AtScale("motion_blur", blur.motion_blur_rounded, blur.MOTION_BLUR, MNIST_C),
    "brightness": AtScale("brightness", weather.brightness, weather.BRIGHTNESS, MNIST_C),
    "fog": AtScale("fog", fog, weather.FOG, MNIST_C),
    "spatter": AtScale("spatter", spatter, weather.SPATTER, MNIST_C),
}
"""From a name to its function in MNIST-C."""
