"""The 3D common corruptions that need no depth map: a camera's noise and bits (Kar et al. 2022).

All constants: arXiv 2203.01441, from create_3dcc/create_non3d.py of their repository
(EPFL-VILAB/3DCommonCorruptions).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftproof.corruptions import draws, noise
from shiftproof.corruptions.checks import CorruptionFunction, Random, get_constants, to_uint8
from shiftproof.corruptions.scales import AtScale
from shiftproof.types import F64, Image

THREE_D = "3dcc"
"""The name of the scale."""

ISO_PHOTONS = 25
ISO_NOISE = (0.056, 0.084, 0.126, 0.182, 0.266)
"""Photons that white counts, and the deviation of the read-out, of white: 0.7 of that of
gaussian_noise.
"""

LOW_LIGHT = (0.6, 0.5, 0.4, 0.3, 0.2)
"""Light of the brightest value."""

LOW_LIGHT_GAMMA = 2.0
LOW_LIGHT_PHOTONS = 120
LOW_LIGHT_READOUT = 0.018
"""The noise of low light is the same at every severity."""

COLOR_QUANT = (5, 4, 3, 2, 1)
"""Remaining bits of a value."""


def iso_noise(image: Image, severity: float, rng: Random, table: tuple[float, ...]) -> Image:
    """Count photons, and add the read-out noise of a high ISO number."""
    light = image / 255.0
    return _expose(light, ISO_PHOTONS, get_constants(table, severity), rng)


def low_light(image: Image, severity: float, rng: Random, table: tuple[float, ...]) -> Image:
    """Darken an image, its darkest value to black, and add a sensor's noise.

    Differs from the published code: before photons are counted, values are rounded to whole levels;
    an image of one value becomes black, where that divides by zero.
    """
    low, high = int(image.min()), int(image.max())
    share = (image - float(low)) / max(high - low, 1)
    light = share**LOW_LIGHT_GAMMA * get_constants(table, severity)
    return _expose(light, LOW_LIGHT_PHOTONS, LOW_LIGHT_READOUT, rng)


def color_quant(image: Image, severity: float, rng: Random, table: tuple[int, ...]) -> Image:
    """Keep the first bits of every value."""
    return np.asarray(image & np.uint8(256 - 2 ** (8 - get_constants(table, severity))))


def _expose(light: F64, photons: int, readout: float, rng: Random) -> Image:
    """Add photon noise, then read-out noise, to light in 0..1."""
    counted = _count(light, photons, rng)
    rows = (light.shape[0], light.size // light.shape[0])
    return to_uint8(counted + readout * draws.normal(rng, rows).reshape(light.shape))


def _count(light: F64, photons: int, rng: Random) -> F64:
    """Return the share of photons that are counted, in 0..1."""
    if isinstance(rng, np.random.RandomState):
        return np.asarray(np.clip(rng.poisson(light * photons) / photons, 0, 1))
    levels = np.round(light * 255).astype(np.uint8)
    # shot_noise gives the level below a count; every count has a level of its own.
    counts = np.round(noise.shot_noise(levels, 1, rng, (photons,)) * (photons / 255))
    return np.asarray(counts / photons)


FUNCTIONS: Mapping[str, CorruptionFunction] = {
    "iso_noise": AtScale("iso_noise", iso_noise, ISO_NOISE, THREE_D),
    "low_light": AtScale("low_light", low_light, LOW_LIGHT, THREE_D),
    "color_quant": AtScale("color_quant", color_quant, COLOR_QUANT, THREE_D),
}
"""The corruptions that need no depth map, by name."""
