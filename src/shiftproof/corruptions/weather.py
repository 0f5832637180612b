"""Weather corruptions: snow, frost, fog, rain, and drops or dirt on the lens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np

from shiftproof.corruptions import draws, textures
from shiftproof.corruptions.checks import CorruptionFunction, Random, get_constants, to_uint8
from shiftproof.corruptions.digital import apply_table
from shiftproof.corruptions.filters import (
    add_channel_axis,
    compute_bilinear_resampling,
    compute_center_crop,
    compute_luma,
    count_channels,
    expand_like,
    filter_gaussian,
    make_streak,
    smear_bytes,
    smear_layer,
    to_rows,
)
from shiftproof.errors import InputError
from shiftproof.types import F32, F64, U8, U16, Flags, Image

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2 for the any-size forms (Michaelis et al. 2019, arXiv 1907.07484). ``table``
# replaces the constants, for another image size.

Snow: TypeAlias = tuple[float, float, float, float, int, float, float]
Spatter: TypeAlias = tuple[float, float, float, float, float, bool]

SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
"""Mean and standard deviation of the layer; its zoom; threshold; radius and sigma of the streaks;
weight of the image.
"""

FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
"""Weight of the image and of the frost."""

FROST_ENLARGED = 1.1
"""Factor by which the frost is enlarged after it is scaled to cover the image."""

FROST_SHRUNK = 0.2
"""Scale of the textures for images of 32 x 32 pixels."""

FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
"""Amount of fog; decay of the plasma's roughness from level to level."""

FOG_WIBBLE = 100.0
"""Roughness of the first level; it is squared."""

FOG_FULL_SIDE = 1024
"""Largest side for which the whole square map is computed; finer levels only under the image."""

SPATTER = (
    (0.65, 0.3, 4.0, 0.69, 0.6, False),
    (0.65, 0.3, 3.0, 0.68, 0.6, False),
    (0.65, 0.3, 2.0, 0.68, 0.5, False),
    (0.65, 0.3, 1.0, 0.65, 1.5, True),
    (0.67, 0.4, 1.0, 0.65, 1.5, True),
)
"""Mean and standard deviation of the layer; sigma of its blur; threshold; strength of water, or
sigma of the mud's mask; whether it is mud.
"""

WATER = (175, 238, 238)
"""Pale turquoise, RGB."""

MUD = (63, 42, 20)
"""Mud brown, RGB."""


BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Added to the HSV value."""

# Not in the benchmark:

RAIN = (
    (0.002, 8, 0.5, 0.95),
    (0.004, 10, 0.6, 0.9),
    (0.006, 14, 0.7, 0.85),
    (0.009, 18, 0.8, 0.8),
    (0.013, 22, 0.9, 0.75),
)
"""Share of pixels with a drop; half the length of its streak in pixels; its brightness; remaining
brightness of the scene.
"""

LENS_DIRT = ((0.03, 0.35), (0.05, 0.45), (0.08, 0.55), (0.12, 0.65), (0.18, 0.75))
"""Share of the lens that is dirty; share of the light that dirt absorbs."""

LENS_DIRT_SIZE = 0.03
"""Sigma of the specks, as a share of the longer side."""


def _draw_flake_layer(
    height: int, width: int, mean: float, deviation: float, zoom: float, rng: Random
) -> tuple[F32, int, int]:
    """Draw the center of a layer of noise; return it and the size to enlarge it to."""
    top, crop_height, rows = compute_center_crop(height, zoom)
    left, crop_width, columns = compute_center_crop(width, zoom)
    if isinstance(rng, np.random.RandomState):
        whole = draws.normal(rng, (height, width))
        layer = whole[top : top + crop_height, left : left + crop_width]
    else:
        layer = draws.normal(rng, (crop_height, crop_width))
    return np.float32(mean) + np.float32(deviation) * layer, rows, columns


def _enlarge_layer(layer: F32, rows: int, columns: int, threshold: float, margin: int) -> F32:
    """Enlarge a layer, set values below the threshold to 0, clip to 0..1, and pad on both sides."""
    from shiftproof.corruptions.kernels import weather as kernels

    down = compute_bilinear_resampling(0, layer.shape[0], rows, rows)
    across = compute_bilinear_resampling(0, layer.shape[1], columns, columns)
    out = np.empty((rows, columns + 2 * margin), np.float32)
    mixed = np.empty(layer.shape[1], np.float32)
    kernels.enlarge_flakes(layer, *down, *across, np.float32(threshold), margin, mixed, out)
    return out


def blend_snow(image: Image, layer: Image, other: Image, share: float) -> Image:
    """Blend the image with a paler copy, and add a layer and one rotated by 180 degrees."""
    from shiftproof.corruptions.kernels import weather as kernels

    out = np.empty_like(image)
    rows = to_rows(image)
    pale, flakes = np.empty((2, rows.shape[1]), np.float32)
    kernels.blend_snow(
        rows, count_channels(image), layer, other, np.float32(share), pale, flakes, to_rows(out)
    )
    return out


def snow(image: Image, severity: float, rng: Random) -> Image:
    """Add snow: streaks of flakes in two directions over a paler image."""
    return snow_at(image, severity, rng, 0.0)


def snow_at(image: Image, severity: float, rng: Random, fallen: float) -> Image:
    """Return ``snow`` after its flakes have fallen by a share of the height; they wrap around.

    The flakes move by whole pixels of the layer before it is enlarged.
    """
    mean, deviation, zoom, threshold, radius, sigma, share = get_constants(SNOW, severity)
    height, width = image.shape[:2]
    layer, rows, columns = _draw_flake_layer(height, width, mean, deviation, zoom, rng)
    # The streaks are made on the enlarged layer, before it is cropped to the image.
    copies = make_streak(radius, sigma, rng.uniform(-135, -45), rows, columns)

    def draw_streaks(flakes: F32) -> Image:
        enlarged = _enlarge_layer(flakes, rows, columns, threshold, copies.margin)
        return smear_layer(enlarged, copies, height, width)

    if fallen == 0:
        streaks = draw_streaks(layer)
        return blend_snow(image, streaks, streaks, share)
    step = round(fallen * layer.shape[0])
    # The second layer is rotated by 180 degrees afterwards, so it moves in the opposite direction.
    first, second = (draw_streaks(np.roll(layer, shift, axis=0)) for shift in (step, -step))
    return blend_snow(image, first, second, share)


def draw_flakes(
    height: int,
    width: int,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    rng: Random,
) -> F32:
    """Draw a layer of flakes in 0..1, truncated to 8 bits as in the original ImageNet-C."""
    layer, rows, columns = _draw_flake_layer(height, width, mean, deviation, zoom, rng)
    top, left = (rows - height) // 2, (columns - width) // 2
    cropped = _enlarge_layer(layer, rows, columns, threshold, 0)[
        top : top + height, left : left + width
    ]
    return np.asarray(np.floor(cropped * np.float32(255)) / np.float32(255))


def snow_imagenet_c(
    image: Image, severity: float, rng: Random, table: Sequence[Snow] = SNOW
) -> Image:
    """Add snow: streaks of flakes in two directions over a paler image.

    The version of the original ImageNet-C, whose streaks are ImageMagick's motion blur.

    Differs from ``snow``: the enlarged layer is center-cropped and truncated to bytes before the
    motion blur.
    """
    mean, deviation, zoom, threshold, radius, sigma, share = get_constants(table, severity)
    height, width = image.shape[:2]
    flakes = draw_flakes(height, width, mean, deviation, zoom, threshold, rng)
    copies = make_streak(radius, sigma, rng.uniform(-135, -45), height, width)
    padded = np.pad(flakes, ((0, 0), (copies.margin,) * 2), mode="edge")
    streaks = smear_layer(padded, copies, height, width)
    return blend_snow(image, streaks, streaks, share)


@lru_cache(maxsize=16)
def _make_blend_table(keep: float, add: float) -> U8:
    levels = np.arange(256)
    sums = keep * levels[:, np.newaxis] + add * levels
    return np.asarray(np.clip(sums, 0, 255).astype(np.uint8))


def _blend(
    image: Image,
    severity: float,
    texture: Image,
    row: int,
    column: int,
    table: Sequence[tuple[float, float]] = FROST,
) -> Image:
    """Blend the part of ``texture`` that starts at (row, column) with the image."""
    keep, add = get_constants(table, severity)
    height, width = image.shape[:2]
    if image.ndim == 2:
        part = compute_luma(texture[row : row + height, column : column + width])
        return np.asarray(np.clip(keep * image + add * part, 0, 255).astype(np.uint8))
    from shiftproof.corruptions.kernels import weather as kernels

    out = np.empty_like(image)
    kernels.blend_frost(
        to_rows(image),
        to_rows(texture),
        row,
        3 * column,
        _make_blend_table(keep, add),
        to_rows(out),
    )
    return out


@lru_cache(maxsize=8)
def _scale_texture(texture: textures.Texture, height: int, width: int) -> Image:
    import cv2

    return np.asarray(cv2.resize(texture.pixels, (width, height), interpolation=cv2.INTER_CUBIC))


def _cover(texture: textures.Texture, image: Image, enlarged: float) -> Image:
    """Return the texture scaled to cover the image, and ``enlarged`` on top of that."""
    height, width = texture.pixels.shape[:2]
    factor = max(1.0, image.shape[0] / height, image.shape[1] / width) * enlarged
    if factor == 1:
        return texture.pixels
    return _scale_texture(texture, math.ceil(height * factor), math.ceil(width * factor))


def _blend_frost(
    image: Image,
    severity: float,
    rng: Random,
    count: int,
    get_texture: Callable[[int], textures.Texture],
    enlarged: float,
    table: Sequence[tuple[float, float]] = FROST,
) -> Image:
    """Blend a random part of one of ``count`` textures with the image."""
    texture = get_texture(draws.index(rng, count))
    scaled = _cover(texture, image, enlarged)
    row = draws.index(rng, max(1, scaled.shape[0] - image.shape[0]))
    column = draws.index(rng, max(1, scaled.shape[1] - image.shape[1]))
    return _blend(image, severity, scaled, row, column, table)


@dataclass(frozen=True)
class _FrostWith:
    """``frost`` with given textures: an object, so that records name it and workers unpickle it."""

    choice: tuple[textures.Texture, ...]
    identity: str
    __name__ = "frost"  # keys the random draws, as for the frost of the table

    def __call__(self, image: Image, severity: float, rng: Random) -> Image:
        return _blend_frost(
            image, severity, rng, len(self.choice), self.choice.__getitem__, FROST_ENLARGED
        )


def frost_with(choice: Sequence[textures.Texture]) -> CorruptionFunction:
    """Return ``frost`` with your own textures, each equally likely.

    Its attribute ``identity`` names the textures with a fingerprint of their pixels, for records.

    Args:
        choice: the textures, at least one.

    Raises:
        InputError: there are none.

    >>> from shiftproof.corruptions import corrupt, textures
    >>> frost = frost_with([textures.draw_texture(4)])
    >>> corrupt(np.zeros((8, 8, 3), np.uint8), frost, severity=3).shape
    (8, 8, 3)
    """
    chosen = tuple(choice)
    if not chosen:
        raise InputError("Frost needs at least one texture; got none.")
    return _FrostWith(chosen, f"frost with {textures.describe(chosen)}")


def frost(image: Image, severity: float, rng: Random) -> Image:
    """Lay ice crystals over the image, as on a cold window pane.

    As in the published code, one of the four textures is twice as likely as each of the others.

    The textures are the published photographs where imagecorruptions is installed. Differs from the
    published code where it is not installed: ``textures.py`` draws them to the statistics of the
    photographs, whose origin is unknown. A folder of them:
    ``frost_with(textures.read_photographs(...))``.
    """
    return _blend_frost(image, severity, rng, 5, textures.find_texture, FROST_ENLARGED)


def frost_drawn(image: Image, severity: float, rng: Random) -> Image:
    """Lay ice crystals over the image, as on a cold window pane.

    Differs from ``frost``: always uses drawn textures, whether or not imagecorruptions is
    installed.
    """

    def get_texture(number: int) -> textures.Texture:
        return textures.draw_texture(textures.PUBLISHED_ORDER[number])

    return _blend_frost(image, severity, rng, 5, get_texture, FROST_ENLARGED)


def frost_corrected(image: Image, severity: float, rng: Random) -> Image:
    """Lay ice crystals over the image, as on a cold window pane.

    Differs from ``frost``: drawn textures, all equally likely, with a fifth for the photograph that
    the published code never uses.
    """
    return _blend_frost(image, severity, rng, 5, textures.draw_texture, FROST_ENLARGED)


def frost_photographs(image: Image, severity: float, rng: Random) -> Image:
    """Blend the published frost photographs with the image; needs the package imagecorruptions.

    Raises:
        InputError: imagecorruptions is not installed.
    """
    photographs = textures.read_installed_photographs()
    return _blend_frost(
        image, severity, rng, len(photographs), photographs.__getitem__, FROST_ENLARGED
    )


def frost_imagenet_c(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float]] = FROST
) -> Image:
    """Lay ice crystals over the image at the textures' own scale.

    The version of the original ImageNet-C for images of 224 x 224 pixels.

    Differs from ``frost``: a texture is enlarged only to cover a larger image.
    """
    return _blend_frost(image, severity, rng, 5, textures.find_texture, 1.0, table)


@lru_cache(maxsize=8)
def _shrink(texture: textures.Texture) -> textures.Texture:
    import cv2

    # Without a filter, as in the published code: every fifth pixel is kept.
    pixels = cv2.resize(texture.pixels, None, fx=FROST_SHRUNK, fy=FROST_SHRUNK)
    return textures.Texture(f"{texture.name} shrunk", np.asarray(pixels, dtype=np.uint8))


def frost_shrunk(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float]] = FROST
) -> Image:
    """Lay ice crystals over the image, at a fifth of the textures' own scale.

    The version of CIFAR-10-C for images of 32 x 32 pixels.

    Differs from ``frost``: the textures are shrunk, and enlarged only to cover an image larger than
    that.
    """

    def get_texture(number: int) -> textures.Texture:
        return _shrink(textures.find_texture(number))

    return _blend_frost(image, severity, rng, 5, get_texture, 1.0, table)


def _draw_periodic_heights(size: int, decay: float, rng: np.random.RandomState) -> F64:
    """Return a periodic diamond-square height map ``(size, size)``, drawn with numpy's generator.

    Each level draws the centers, the upper edges and the left edges, in this order.
    """
    heights = np.zeros((size, size))
    step, wibble = size, FOG_WIBBLE

    def displace(sums: F64) -> F64:
        return sums / 4 + wibble * rng.uniform(-wibble, wibble, size=sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        centers = displace(pairs + np.roll(pairs, -1, axis=1))
        heights[half::step, half::step] = centers
        heights[::step, half::step] = displace(
            centers + np.roll(centers, 1, axis=0) + (corners + np.roll(corners, -1, axis=1))
        )
        heights[half::step, ::step] = displace(
            centers + np.roll(centers, 1, axis=1) + (corners + np.roll(corners, -1, axis=0))
        )
        step, wibble = half, wibble / decay
    return heights


def _compute_map_side(height: int, width: int) -> int:
    # The published code counts the number of channels as a side, too; so a gray image gets the same
    # fog as a color image of its size.
    return 1 << (max(height, width, 3) - 1).bit_length()


def draw_heights(height: int, width: int, decay: float, rng: Random) -> tuple[F32, float, float]:
    """Return the top left of a diamond-square height map, and the minimum and maximum of all of it.

    The map is square, its side the next power of two. Above a side of 1,024 only the returned part
    is refined further: by then the roughness is a thousandth, and the rest could change the
    extremes by less than a tenth of a gray level.

    ``decay`` is the factor by which the roughness falls from level to level; it is squared. The map
    is ``(height, width)`` or larger.
    """
    size = _compute_map_side(height, width)
    if isinstance(rng, np.random.RandomState):
        heights = _draw_periodic_heights(size, decay, rng)
        low, high = float(heights.min()), float(heights.max())
        return heights[:height, :width].astype(np.float32), low, high
    from shiftproof.corruptions.kernels import weather as kernels

    first_key, second_key = draws.keys(rng)
    grid = np.zeros((1, 1), np.float32)
    wibble, counter, step = FOG_WIBBLE, 0, size
    low, high = math.inf, -math.inf
    wrap = True
    while step >= 2:
        if wrap and grid.shape[0] >= FOG_FULL_SIDE:
            low, high, wrap = float(grid.min()), float(grid.max()), False
            rows = np.arange(-(-height // step) + 1) % grid.shape[0]
            columns = np.arange(-(-width // step) + 1) % grid.shape[1]
            grid = np.ascontiguousarray(grid[rows][:, columns])
        m, n = grid.shape
        finer = np.empty((2 * m, 2 * n) if wrap else (2 * m - 1, 2 * n - 1), np.float32)
        centers = np.empty((m, n), np.float32)
        amplitude = np.float32(wibble * wibble)
        kernels.subdivide_heights(
            grid, amplitude, wrap, first_key, second_key, counter, centers, finer
        )
        counter += 3 * m * n + m
        step, wibble = step // 2, wibble / decay
        grid = finer
        if not wrap:
            grid = np.ascontiguousarray(grid[: -(-height // step) + 1, : -(-width // step) + 1])
    return grid, min(low, float(grid.min())), max(high, float(grid.max()))


def add_fog(image: Image, amount: float, layer: F32, low: float, high: float) -> Image:
    """Add ``amount`` times the layer scaled to 0..1, and scale back to the brightest value."""
    from shiftproof.corruptions.kernels import weather as kernels

    brightest = int(image.max()) / 255.0
    keep = brightest / (brightest + amount)
    slope = 255 * amount * keep / (high - low)
    out = np.empty_like(image)
    rows = to_rows(image)
    kernels.blend_fog(
        rows,
        count_channels(image),
        layer,
        np.float32(keep),
        np.float32(slope),
        np.float32(-slope * low),
        np.empty(rows.shape[1], np.float32),
        to_rows(out),
    )
    return out


def fog(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float]] = FOG
) -> Image:
    """Add a fractal cloud and scale back to the image's own brightest value.

    The cloud is scaled to 0..1 over a square map that is larger than the image, as in the
    published code.
    """
    amount, decay = get_constants(table, severity)
    layer, low, high = draw_heights(image.shape[0], image.shape[1], decay, rng)
    return add_fog(image, amount, layer, low, high)


def fog_at(image: Image, severity: float, rng: np.random.Generator, drifted: float) -> Image:
    """Return ``fog`` after its cloud has drifted by a share of the width; it wraps around.

    Differs from ``fog``: the whole square map is computed, which is periodic.
    """
    amount, decay = get_constants(FOG, severity)
    height, width = image.shape[:2]
    size = _compute_map_side(height, width)
    layer, low, high = draw_heights(size, size, decay, rng)
    moved = np.roll(layer[:size, :size], round(drifted * width), axis=1)
    return add_fog(image, amount, np.ascontiguousarray(moved), low, high)


def fog_corrected(image: Image, severity: float, rng: Random) -> Image:
    """Add a fractal cloud and scale back to the image's own brightest value.

    Differs from ``fog``: the cloud is scaled to 0..1 over the image only.
    """
    amount, decay = get_constants(FOG, severity)
    height, width = image.shape[:2]
    layer, _, _ = draw_heights(height, width, decay, rng)
    visible = layer[:height, :width]
    low, high = float(visible.min()), float(visible.max())
    if high <= low:
        # A single pixel has no range: use half the fog.
        low, high = low - 0.5, low + 0.5
    return add_fog(image, amount, layer, low, high)


def spatter(
    image: Image, severity: float, rng: Random, table: Sequence[Spatter] = SPATTER
) -> Image:
    """Spatter water (severities 1 to 3) or mud (4 and 5) on the lens."""
    constants = get_constants(table, severity)
    _, _, _, threshold, strength, mud = constants
    layer = draw_spatter(image, constants, rng)
    if mud:
        return add_mud(image, layer > np.float32(threshold), strength, _convert_color(MUD, image))
    layer[layer < np.float32(threshold)] = 0
    return _add_water(image, layer, strength)


def _convert_color(rgb: tuple[int, int, int], image: Image) -> F32:
    """Return a color in 0..255, or its luma for a gray image; ``(C,)``."""
    color = np.array(rgb) if image.ndim == 3 else np.array([compute_luma(np.array(rgb))])
    return color.astype(np.float32)


def draw_spatter(image: Image, constants: Spatter, rng: Random) -> F32:
    """Draw how thick the lens is covered, ``(H, W)``."""
    mean, deviation, sigma, *_ = constants
    layer = filter_gaussian(draws.normal(rng, (image.shape[0], image.shape[1])), sigma)
    thickness: F32 = np.float32(mean) + np.float32(deviation) * layer
    return thickness


def add_mud(image: Image, covered: Flags, sigma: float, color: F32) -> Image:
    """Cover an image with mud of a color ``(C,)``, whose edges are smoothed."""
    from shiftproof.corruptions.kernels import weather as kernels

    mask = filter_gaussian(covered.astype(np.float32), sigma)
    out = np.empty_like(image)
    kernels.blend_mud(add_channel_axis(image), mask, np.float32(0.8), color, add_channel_axis(out))
    return out


def _add_water(image: Image, layer: F32, strength: float) -> Image:
    import cv2

    from shiftproof.corruptions.kernels import weather as kernels

    drops = (layer * np.float32(255)).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    np.minimum(distance, 20, out=distance)
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief_map = cv2.blur(cv2.filter2D(distance, cv2.CV_8U, relief), (3, 3))
    water = drops * relief_map.reshape(drops.shape).astype(np.float32)
    peak = water.max()
    if peak > 0:
        water *= np.float32(strength) / peak
    out = np.empty_like(image)
    kernels.blend_water(
        add_channel_axis(image), water, _convert_color(WATER, image), add_channel_axis(out)
    )
    return out


@lru_cache(maxsize=8)
def _make_value_tables(offset: float) -> tuple[U8, U16]:
    """Return the tables for ``kernels.add_to_value``; see there."""
    levels = np.arange(256) / 255.0
    high, low = levels[:, np.newaxis], levels[np.newaxis, :]
    raised = np.minimum(high + offset, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        saturation = np.where(high > low, (high - low) / high, 0.0)
        lowest = np.clip(raised * (1 - saturation), 0, 1) * 255
        scaled = np.where(high > 0, low * raised / high, 0.0) * 255
    between = np.clip(scaled, 0, 255).astype(np.uint16)
    between[np.abs(scaled - np.round(scaled)) < 1e-9] += 256
    return lowest.astype(np.uint8), between


def brightness(
    image: Image, severity: float, rng: Random, table: Sequence[float] = BRIGHTNESS
) -> Image:
    """Raise the HSV value, as by overexposure; for a gray image the gray value."""
    offset = get_constants(table, severity)
    if image.ndim == 2:
        return apply_table(image, to_uint8(np.arange(256)[np.newaxis] / 255.0 + offset))
    from shiftproof.corruptions.kernels import weather as kernels

    out = np.empty_like(image)
    kernels.add_to_value(image, offset, *_make_value_tables(offset), out)
    return out


def rain(image: Image, severity: float, rng: Random) -> Image:
    """Add rain: thin bright streaks, all slanting the same way, over a darker scene.

    Not in the benchmark.
    """
    share, radius, light, remaining = get_constants(RAIN, severity)
    height, width = image.shape[:2]
    drops = draws.normal(rng, (height, width)) > np.float32(NormalDist().inv_cdf(1 - share))
    angle = 90 + rng.uniform(-15, 15)
    streaks = smear_bytes((drops * np.uint8(255)).astype(np.uint8), radius, float(radius), angle)
    # A streak spreads a drop's brightness over its length; the parameter is the brightness of its
    # middle.
    layer = np.minimum(streaks.astype(np.float32) * np.float32(radius * light), 255 * light)
    values = image.astype(np.float32) * np.float32(remaining)
    rainy = values + expand_like(layer, image) * (1 - values / 255)
    return np.asarray(np.clip(rainy, 0, 255).astype(np.uint8))


def lens_dirt(image: Image, severity: float, rng: Random) -> Image:
    """Add blurred dark specks of dirt on the lens. Not in the benchmark."""
    share, absorbed = get_constants(LENS_DIRT, severity)
    height, width = image.shape[:2]
    size = max(1.0, LENS_DIRT_SIZE * max(height, width))
    field = filter_gaussian(draws.normal(rng, (height, width)), size, truncate=3, reflect=True)
    # The dirty share of the lens is the same for every draw; the edge of a speck is soft.
    limit, spread = np.quantile(field, 1 - share), max(float(field.std()), 1e-6)
    mask = 1 / (1 + np.exp(np.clip(-8 * (field - limit) / spread, -50, 50)))
    return np.asarray((image * (1 - absorbed * expand_like(mask, image))).astype(np.uint8))
