"""Weather: what is in the air or on the lens between the world and the camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shiftproof.corruptions import textures
from shiftproof.corruptions.contract import (
    CorruptionFunction,
    Random,
    constants,
    integers,
    to_uint8,
)
from shiftproof.corruptions.digital import with_hsv
from shiftproof.corruptions.filters import centre_crop, gaussian, smear
from shiftproof.types import Image

F64 = NDArray[np.float64]

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2 for the any-size forms (Michaelis et al. 2019, arXiv 1907.07484).

SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
"""Mean and deviation of the layer; its zoom; threshold; radius and sigma of the streaks; share of the image."""

FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
"""Weight of the image and of the frost."""

FROST_ENLARGED = 1.1
"""The frost is enlarged by this factor on top of what it takes to cover the image."""

FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
"""Amount of fog; decay of the plasma's roughness from level to level."""

FOG_WIBBLE = 100.0
"""The first level's roughness; it enters squared."""

SPATTER = (
    (0.65, 0.3, 4, 0.69, 0.6, False),
    (0.65, 0.3, 3, 0.68, 0.6, False),
    (0.65, 0.3, 2, 0.68, 0.5, False),
    (0.65, 0.3, 1, 0.65, 1.5, True),
    (0.67, 0.4, 1, 0.65, 1.5, True),
)
"""Mean and deviation of the layer; sigma of its blur; threshold; strength, or sigma of the mud's mask; mud."""

WATER = (175, 238, 238)
"""Pale turquoise, RGB."""

MUD = (63, 42, 20)
"""Mud brown, RGB."""

LUMA = (0.2989, 0.5870, 0.1140)
"""Grey of RGB where the published code adds colour to a grey image."""

BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Added to the HSV value."""


def _grey(image: Image) -> NDArray[np.float32]:
    """Return the luma of an image as ``(H, W)`` float32 in 0..1."""
    if image.ndim == 2:
        return image.astype(np.float32) / np.float32(255)
    import cv2

    return np.asarray(
        cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2GRAY)
    ).reshape(image.shape[:2])


def _over_channels(layer: NDArray[np.floating], image: Image) -> NDArray[np.floating]:
    """Return an ``(H, W)`` layer in the shape that broadcasts over ``image``."""
    return layer if image.ndim == 2 else layer[..., np.newaxis]


def _enlarged(layer: F64, factor: float) -> F64:
    """Enlarge the centre of ``(H, W)`` bilinearly to at least its own size."""
    from shiftproof.corruptions import kernels

    top, height, rows = centre_crop(layer.shape[0], factor)
    left, width, columns = centre_crop(layer.shape[1], factor)
    out = np.empty((rows, columns, 1))
    kernels.zoomed(layer[..., np.newaxis], top, left, height, width, rows, columns, out)
    return out[..., 0]


def _whitened(image: Image, share: float) -> NDArray[np.float32]:
    """Mix the image with a pale version of itself, float32 in 0..1 or a little more."""
    values = image.astype(np.float32) / np.float32(255)
    pale = _over_channels(_grey(image) * np.float32(1.5) + np.float32(0.5), image)
    return np.asarray(
        np.float32(share) * values + np.float32(1 - share) * np.maximum(values, pale)
    )


def snow(image: Image, severity: int, rng: Random) -> Image:
    """Let it snow: streaks of flakes in two directions over a paler image."""
    mean, deviation, zoom, threshold, radius, sigma, share = constants(SNOW, severity)
    height, width = image.shape[:2]
    flakes = _enlarged(rng.normal(size=(height, width), loc=mean, scale=deviation), zoom)
    flakes[flakes < threshold] = 0
    streaks = smear(np.clip(flakes, 0, 1), radius, sigma, rng.uniform(-135, -45))
    layer = np.round(streaks * 255)[:height, :width] / 255.0
    both = _over_channels(layer + layer[::-1, ::-1], image)
    return to_uint8(_whitened(image, share) + both)


def _blend(image: Image, severity: int, texture: Image, row: int, column: int) -> Image:
    """Lay the part of ``texture`` that starts at (row, column) over the image."""
    keep, add = constants(FROST, severity)
    height, width = image.shape[:2]
    part = texture[row : row + height, column : column + width]
    layer = part if image.ndim == 3 else part @ np.array(LUMA)
    return np.asarray(np.clip(keep * image + add * layer, 0, 255).astype(np.uint8))


@lru_cache(maxsize=8)
def _scaled(texture: textures.Texture, height: int, width: int) -> Image:
    import cv2

    return np.asarray(cv2.resize(texture.pixels, (width, height), interpolation=cv2.INTER_CUBIC))


def frost_with(choice: Sequence[textures.Texture]) -> CorruptionFunction:
    """Return ``frost`` with textures of one's own, each drawn equally often."""

    def frost(image: Image, severity: int, rng: Random) -> Image:
        texture = choice[int(integers(rng, 0, len(choice), 1)[0])]
        height, width = texture.pixels.shape[:2]
        cover = max(1.0, image.shape[0] / height, image.shape[1] / width) * FROST_ENLARGED
        scaled = _scaled(texture, math.ceil(height * cover), math.ceil(width * cover))
        row = int(integers(rng, 0, scaled.shape[0] - image.shape[0], 1)[0])
        column = int(integers(rng, 0, scaled.shape[1] - image.shape[1], 1)[0])
        return _blend(image, severity, scaled, row, column)

    return frost


def frost(image: Image, severity: int, rng: Random) -> Image:
    """Lay ice crystals over the image, as on a cold window pane.

    Differs from the published code: the textures are drawn by ``textures.py`` to the statistics
    of the published photographs, whose origin is unknown.
    """
    return frost_with(textures.published_choice())(image, severity, rng)


def plasma(size: int, decay: float, rng: Random) -> F64:
    """Return a diamond-square height map ``(size, size)`` in 0..1 that tiles.

    Args:
        size: a power of two, 2 or more.
        decay: by which the roughness shrinks from level to level.
        rng: per level it is asked for the centres, the upper edges and the left edges.
    """
    heights = np.zeros((size, size))
    step, wibble = size, FOG_WIBBLE

    def rough(sums: F64) -> F64:
        return sums / 4 + wibble * rng.uniform(-wibble, wibble, size=sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        centres = rough(pairs + np.roll(pairs, -1, axis=1))
        heights[half::step, half::step] = centres
        heights[::step, half::step] = rough(
            centres + np.roll(centres, 1, axis=0) + (corners + np.roll(corners, -1, axis=1))
        )
        heights[half::step, ::step] = rough(
            centres + np.roll(centres, 1, axis=1) + (corners + np.roll(corners, -1, axis=0))
        )
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return np.asarray(heights / heights.max())


def _map_size(image: Image) -> int:
    # The published code takes the number of channels for a side, too; a grey image gets the
    # same fog as a colour image of its size.
    return 1 << (max(*image.shape[:2], 3) - 1).bit_length()


def _fog(image: Image, amount: float, layer: F64) -> Image:
    values = image / 255.0
    brightest = values.max()
    fogged = values + amount * _over_channels(layer, image)
    return to_uint8(fogged * brightest / (brightest + amount))


def fog(image: Image, severity: int, rng: Random) -> Image:
    """Add a fractal cloud and scale back to the image's own brightest value.

    The cloud is scaled to 0..1 over a square map that is larger than the image, as in the
    published code.
    """
    amount, decay = constants(FOG, severity)
    height, width = image.shape[:2]
    return _fog(image, amount, plasma(_map_size(image), decay, rng)[:height, :width])


def fog_corrected(image: Image, severity: int, rng: Random) -> Image:
    """Add a fractal cloud and scale back to the image's own brightest value.

    Differs from ``fog``: the cloud is scaled to 0..1 over the part that is seen.
    """
    amount, decay = constants(FOG, severity)
    height, width = image.shape[:2]
    layer = plasma(_map_size(image), decay, rng)[:height, :width]
    spread = layer.max() - layer.min()
    # A single pixel has no spread: half the fog.
    layer = (layer - layer.min()) / spread if spread > 0 else np.full_like(layer, 0.5)
    return _fog(image, amount, layer)


def spatter(image: Image, severity: int, rng: Random) -> Image:
    """Spatter water (severities 1 to 3) or mud (4 and 5) on the lens."""
    mean, deviation, sigma, threshold, strength, mud = constants(SPATTER, severity)
    layer = gaussian(rng.normal(size=image.shape[:2], loc=mean, scale=deviation), sigma)
    if mud:
        return _mud(image, layer > threshold, strength)
    layer[layer < threshold] = 0
    return _water(image, layer, strength)


def _mud(image: Image, covered: NDArray[np.bool_], sigma: float) -> Image:
    mask = gaussian(covered, sigma).astype(np.float32)
    mask[mask < np.float32(0.8)] = 0
    color = np.array(MUD) / 255.0
    values = image.astype(np.float32) / np.float32(255) * (1 - _over_channels(mask, image))
    if image.ndim == 2:
        return to_uint8(values + mask * (color @ np.array(LUMA)))
    return to_uint8(values + mask[..., np.newaxis] * color)


def _water(image: Image, layer: F64, strength: float) -> Image:
    import cv2

    drops = (layer * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    distance = np.minimum(distance, 20)
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relieved = cv2.blur(cv2.filter2D(distance, cv2.CV_8U, relief), (3, 3))
    water = drops * relieved.reshape(drops.shape).astype(np.float32)
    most = water.max()
    if most > 0:
        water = water / most * np.float32(strength)
    color = np.array(WATER, dtype=np.float32) / np.float32(255)
    values = image.astype(np.float32) / np.float32(255)
    if image.ndim == 2:
        return to_uint8(values + np.clip(water[..., np.newaxis] * color, 0, 1) @ np.array(LUMA))
    return to_uint8(values + water[..., np.newaxis] * color)


def brightness(image: Image, severity: int, rng: Random) -> Image:
    """Raise the HSV value, as with too long an exposure; a grey image is raised as it is."""
    offset = constants(BRIGHTNESS, severity)
    if image.ndim == 2:
        return to_uint8(image / 255.0 + offset)
    return with_hsv(image, 1.0, 0.0, offset)
