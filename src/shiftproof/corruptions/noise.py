"""Noise: every value is changed by a draw of its own."""

from __future__ import annotations

import numpy as np

from shiftproof.corruptions.contract import Random, constants, to_uint8
from shiftproof.types import Image

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2, which agrees with it.

GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation, of an image in 0..1."""

SHOT_NOISE = (60, 25, 12, 5, 3)
"""Photons that a white pixel counts on average."""

IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)
"""Share of the values that become black or white."""

SPECKLE_NOISE = (0.15, 0.2, 0.35, 0.45, 0.6)
"""Standard deviation, relative to the value."""


def gaussian_noise(image: Image, severity: int, rng: Random) -> Image:
    """Add normal noise to every value, as from a hot sensor in the dark."""
    sigma = constants(GAUSSIAN_NOISE, severity)
    return to_uint8(image / 255.0 + rng.normal(scale=sigma, size=image.shape))


def shot_noise(image: Image, severity: int, rng: Random) -> Image:
    """Replace every value by a Poisson count with that mean, as when light is scarce."""
    photons = constants(SHOT_NOISE, severity)
    return to_uint8(rng.poisson(image / 255.0 * photons) / float(photons))


def impulse_noise(image: Image, severity: int, rng: Random) -> Image:
    """Turn a share of the values black or white, half each, every channel by itself."""
    share = constants(IMPULSE_NOISE, severity)
    hit = rng.random(image.shape) <= share
    white = rng.random(image.shape) <= 0.5
    result = image.copy()
    result[hit & white] = 255
    result[hit & ~white] = 0
    return result


def speckle_noise(image: Image, severity: int, rng: Random) -> Image:
    """Add normal noise in proportion to the value, as radar and ultrasound have it."""
    sigma = constants(SPECKLE_NOISE, severity)
    values = image / 255.0
    return to_uint8(values + values * rng.normal(scale=sigma, size=image.shape))
