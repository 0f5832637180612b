"""Procedurally drawn styles, as a substitute for paintings: brush strokes, hatching, marbling, ...

Every number gives another image: a technique, a palette and a composition, all drawn from the
number, so it is the same in every process. No image files are read or shipped.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.rng import generator
from shiftproof.types import F32, Image

Random = np.random.Generator

SIZE = 384
"""Height and width in pixels. A style is scaled to the content anyway."""


@lru_cache(maxsize=64)
def draw_style(number: int) -> Image:
    """Draw the style ``number``, 0 or more: ``(384, 384, 3)`` uint8 RGB, read-only."""
    rng = generator(0, "drawn style", str(number))
    # Techniques alternate, so that consecutive numbers cover all of them.
    paint = TECHNIQUES[number % len(TECHNIQUES)]
    picture = np.clip(paint(rng, _draw_palette(rng)), 0, 1)
    pixels = np.asarray((picture * 255 + 0.5).astype(np.uint8))
    pixels.setflags(write=False)
    return pixels


def name_technique(number: int) -> str:
    """Return the name of the technique of style ``number``."""
    return TECHNIQUES[number % len(TECHNIQUES)].__name__.removeprefix("_").replace("_", " ")


# ---------------------------------------------------------------- shared parts


def _draw_palette(rng: Random) -> F32:
    """Return six to nine RGB colors in 0..1 from dark to light, in a classical color harmony."""
    first = rng.random()
    # Analogous, complementary, split complementary, triadic, and all hues.
    harmony = ((0.0, 0.05, -0.05, 0.1), (0.0, 0.5, 0.04), (0.0, 0.42, 0.58), (0.0, 0.33, 0.66),
               (0.0, 0.2, 0.4, 0.6, 0.8))[int(rng.integers(5))]  # fmt: skip
    count = int(rng.integers(6, 10))
    depth, height = 0.06 + 0.2 * rng.random(), 0.8 + 0.2 * rng.random()
    vivid = 0.25 + 0.65 * rng.random()
    colors = []
    for place in range(count):
        hue = (first + harmony[int(rng.integers(len(harmony)))] + 0.03 * rng.standard_normal()) % 1
        light = depth + (height - depth) * place / (count - 1)
        saturation = vivid * (0.5 + 0.5 * rng.random()) * (1 - 0.6 * light**3)
        colors.append(colorsys.hls_to_rgb(hue, light, saturation))
    return np.array(colors, np.float32)


def _draw_field(rng: Random, cells: float, count: int = 1) -> F32:
    """Return ``(SIZE, SIZE, count)`` smooth noise in 0..1 with ``cells`` cells per side."""
    smooth = _draw_smooth_noise(rng, cells, SIZE, count)
    low, high = smooth.min((0, 1)), smooth.max((0, 1))
    return np.asarray((smooth - low) / np.maximum(high - low, 1e-6), np.float32)


def _draw_smooth_noise(rng: Random, cells: float, size: int, count: int) -> F32:
    import cv2

    side = max(int(cells) + 3, 4)
    coarse = rng.random((side, side, count), np.float32)
    scale = size / cells
    moved = np.array([[scale, 0, -scale * rng.random()], [0, scale, -scale * rng.random()]])
    smooth = cv2.warpAffine(
        coarse, moved, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(smooth.reshape(size, size, count), np.float32)


def _draw_clouds(rng: Random, cells: float, fall: float = 0.5) -> F32:
    """Return ``(SIZE, SIZE)`` multi-octave noise in 0..1; ``fall`` is the factor between
    octaves.
    """
    import cv2

    # Computed at half the size, a quarter of the time: no finer detail is needed.
    size = SIZE // 2
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    while cells < size / 2:
        total += weight * _draw_smooth_noise(rng, cells, size, 1)[..., 0]
        cells, weight = 2 * cells, fall * weight
    large = np.asarray(cv2.resize(total, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR), np.float32)
    large -= large.min()
    return np.asarray(large / large.max(), np.float32)


def _look_up_colors(values: F32, palette: F32) -> F32:
    """Interpolate the palette's colors at ``values`` in 0..1."""
    at = np.linspace(0, 1, len(palette))
    channels = [np.interp(values, at, palette[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _blur(picture: ArrayLike, sigma: float) -> F32:
    import cv2

    values = np.asarray(picture, np.float32)
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)


def _shade_relief(picture: F32, height: F32, strength: float) -> F32:
    """Shade a relief lit from the upper left, like thick paint."""
    import cv2

    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) + cv2.Sobel(
        height, cv2.CV_32F, 0, 1, ksize=3
    )
    return np.asarray(picture + strength * slope[..., np.newaxis], np.float32)


# ---------------------------------------------------------------- techniques


def _draw_strokes(rng: Random, palette: F32, *, width: float, length: float, swirl: float) -> F32:
    """Cover the canvas with strokes along a field of directions, each of several bristles."""
    import cv2

    tone = _draw_clouds(rng, 2 + 2 * rng.random(), 0.45)
    angle = (
        swirl * np.pi * _draw_field(rng, 1.5 + 2 * rng.random())[..., 0]
    ) + np.pi * rng.random()
    canvas = _look_up_colors(tone, palette)
    height = np.zeros((SIZE, SIZE), np.float32)
    count = int(2.2 * SIZE * SIZE / (width * length))
    x, y = rng.random((2, count)) * SIZE
    column, row = x.astype(int), y.astype(int)
    turn = angle[row, column] + 0.12 * rng.standard_normal(count)
    reach = length * (0.5 + rng.random(count))
    color = _look_up_colors(
        np.clip(tone[row, column] + 0.1 * rng.standard_normal(count), 0, 1).astype(np.float32),
        palette,
    )
    bristles = max(int(width / 1.7), 2)
    shades = 0.07 * rng.standard_normal((count, bristles))
    offsets = np.linspace(-0.5, 0.5, bristles) * width
    bend = 0.25 * swirl * rng.standard_normal(count)
    steps = np.array([-0.5, 0.0, 0.5])
    bits = 3
    for stroke in range(count):
        turns = turn[stroke] + bend[stroke] * steps
        along = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
        across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
        middle = np.array([x[stroke], y[stroke]]) + (steps * reach[stroke])[:, np.newaxis] * along
        for bristle in range(bristles):
            line = np.round((middle + offsets[bristle] * across) * 2**bits).astype(np.int32)
            shade = float(shades[stroke, bristle])
            red, green, blue = (float(value) + shade for value in color[stroke])
            thick = max(int(width / bristles + 1), 1)
            cv2.polylines(canvas, [line], False, (red, green, blue), thick, cv2.LINE_8, bits)
            level = 0.5 + 4 * shade
            cv2.polylines(height, [line], False, level, thick, cv2.LINE_8, bits)
    canvas = _blur(canvas, 0.7)
    height = _blur(height, 0.8)
    return _shade_relief(canvas, height, 0.06 + 0.06 * float(rng.random()))


def _broad_strokes(rng: Random, palette: F32) -> F32:
    return _draw_strokes(rng, palette, width=9 + 6 * rng.random(), length=45 + 30 * rng.random(),
                    swirl=0.6 + rng.random())  # fmt: skip


def _short_strokes(rng: Random, palette: F32) -> F32:
    return _draw_strokes(rng, palette, width=5 + 3 * rng.random(), length=18 + 10 * rng.random(),
                    swirl=0.8 + 2 * rng.random())  # fmt: skip


def _dots(rng: Random, palette: F32) -> F32:
    """Set round dots of pure colors beside each other, as the pointillists did."""
    import cv2

    tone = _draw_clouds(rng, 2.5, 0.4)
    canvas = _look_up_colors(0.4 + 0.6 * tone, palette)
    radius = 2.2 + 2.5 * rng.random()
    count = int(1.3 * SIZE * SIZE / (np.pi * radius**2))
    x, y = rng.random((2, count)) * SIZE
    place = tone[y.astype(int), x.astype(int)] + 0.16 * rng.standard_normal(count)
    color = palette[np.clip(place * len(palette), 0, len(palette) - 1).astype(int)]
    sizes = radius * (0.6 + 0.7 * rng.random(count))
    for dot in range(count):
        center = (round(x[dot] * 8), round(y[dot] * 8))
        shade = tuple(float(value) for value in color[dot])
        cv2.circle(canvas, center, round(sizes[dot] * 8), shade, -1, cv2.LINE_8, 3)
    return _blur(canvas, 0.6)


def _dead_leaves(rng: Random, palette: F32) -> F32:
    """Draw the dead-leaves model: overlapping shapes with the power spectrum of photographs."""
    import cv2

    canvas = _look_up_colors(_draw_clouds(rng, 2), palette)
    count = 900
    # Radii by the inverse cube, between 4 pixels and a quarter of the canvas.
    low, high = 4.0, SIZE / 4
    radius = 1 / np.sqrt(1 / high**2 + rng.random(count) * (1 / low**2 - 1 / high**2))
    radius = np.sort(radius)[::-1] * np.exp(0.25 * rng.standard_normal(count))
    x, y = rng.random((2, count)) * SIZE
    flat, turn = 0.35 + 0.65 * rng.random(count), 180 * rng.random(count)
    color = palette[rng.integers(0, len(palette), count)] + 0.05 * rng.standard_normal(
        (count, 1)
    ).astype(np.float32)
    for leaf in range(count):
        axes = (round(8 * radius[leaf]), round(8 * radius[leaf] * flat[leaf]))
        center = (round(8 * x[leaf]), round(8 * y[leaf]))
        shade = tuple(float(value) for value in color[leaf])
        cv2.ellipse(canvas, center, axes, turn[leaf], 0, 360, shade, -1, cv2.LINE_8, 3)
    grain = _draw_clouds(rng, 24, 0.8)[..., np.newaxis]
    return np.asarray(_blur(canvas, 0.7) + 0.2 * (grain - 0.5), np.float32)


def _hatching(rng: Random, palette: F32) -> F32:
    """Hatch in ink: darker where more layers of lines cross."""
    tone = _draw_clouds(rng, 2.5, 0.45)
    paper = np.broadcast_to(palette[-1], (SIZE, SIZE, 3)).astype(np.float32)
    wash = _look_up_colors(0.55 + 0.45 * _draw_field(rng, 3)[..., 0], palette)
    canvas = np.asarray(0.5 * paper + 0.5 * wash, np.float32)
    gap = 4 + 3 * rng.random()
    first = np.pi * rng.random()
    down, right = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    wobble = 5 * _draw_field(rng, 6, 3)
    for layer, limit in enumerate((0.85, 0.6, 0.4)):
        turn = first + layer * (0.9 + 0.5 * rng.random())
        across = right * np.cos(turn) + down * np.sin(turn) + wobble[..., layer]
        wave = 0.5 + 0.5 * np.cos(2 * np.pi * across / gap)
        depth = np.clip(3 * (limit - tone), 0, 1)
        ink = np.clip(6 * (wave - 1 + 0.55 * depth), 0, 1)[..., np.newaxis]
        canvas = canvas + 0.85 * ink * (palette[layer % 2] - canvas)
    return _blur(canvas, 0.6)


def _marbling(rng: Random, palette: F32) -> F32:
    """Fold noise with noise, as inks on water are."""
    down, right = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    bend = _draw_field(rng, 3, 2) + 0.5 * _draw_field(rng, 7, 2)
    strength = 0.4 + 0.8 * rng.random()
    folded = 6 * (1 + rng.random()) * (right + strength * bend[..., 0])
    folded = folded + 2 * (down + strength * bend[..., 1])
    bands = 0.5 + 0.5 * np.sin(2 * np.pi * folded)
    thin = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * (folded + 0.4 * _draw_clouds(rng, 8)))
    return _look_up_colors(np.clip(0.75 * bands + 0.35 * thin - 0.05, 0, 1), palette)


def _watercolor(rng: Random, palette: F32) -> F32:
    """Lay transparent washes over paper, each darker along its edge."""
    canvas = np.broadcast_to(0.3 * palette[-1] + 0.7, (SIZE, SIZE, 3)).astype(np.float32)
    for _ in range(9):
        shape = _draw_clouds(rng, 2 + 3 * rng.random(), 0.5)
        border = np.quantile(shape, 0.35 + 0.4 * rng.random())
        inside = np.clip((shape - border) * 60, 0, 1)
        rim = np.clip(1 - np.abs(shape - border - 0.008) * 70, 0, 1)
        flow = 0.25 + 0.35 * _draw_clouds(rng, 5, 0.6)
        amount = np.clip(inside * flow + 0.35 * rim, 0, 1)[..., np.newaxis]
        color = palette[int(rng.integers(len(palette)))]
        canvas = canvas * (1 - amount * (1 - color))
    grain = _blur(rng.standard_normal((SIZE, SIZE), np.float32), 0.9)
    return np.asarray(canvas + 0.045 * grain[..., np.newaxis], np.float32)


def _mosaic(rng: Random, palette: F32) -> F32:
    """Lay stones beside each other, with joints between them."""
    import cv2

    gap = 9 + 9 * rng.random()
    side = int(SIZE / gap) + 1
    row, column = np.divmod(np.arange(side * side), side)
    jitter = 0.7 * (rng.random((2, side * side)) - 0.5)
    y = np.clip((row + 0.5 + jitter[0]) * gap, 0, SIZE - 1).astype(int)
    x = np.clip((column + 0.5 + jitter[1]) * gap, 0, SIZE - 1).astype(int)
    seeds = np.full((SIZE, SIZE), 255, np.uint8)
    seeds[y, x] = 0
    away, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    tone = _draw_clouds(rng, 2, 0.5)
    owner = np.zeros(int(labels.max()) + 1, np.float32)
    owner[labels[y, x]] = np.clip(tone[y, x] + 0.08 * rng.standard_normal(len(x)), 0, 1)
    canvas = _look_up_colors(owner[labels], palette)
    joint = cv2.Laplacian(_blur(away, 1.0), cv2.CV_32F)
    dark = np.clip(-joint * 2.2 - 0.25, 0, 1)[..., np.newaxis]
    canvas = canvas * (1 - 0.75 * dark)
    return _shade_relief(canvas, _blur(-away / gap, 1.0), 0.12)


def _weave(rng: Random, palette: F32) -> F32:
    """Weave threads of changing colors."""
    gap = 5 + 4 * rng.random()
    down, right = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    sway = 4 * _draw_field(rng, 4, 2)
    across, along = (right + sway[..., 0]) / gap, (down + sway[..., 1]) / gap
    over = (np.floor(across) + np.floor(along)) % 2
    tone = _draw_clouds(rng, 2, 0.5)
    column = np.clip(tone + 0.25 * np.sin(np.floor(across) * 1.7), 0, 1).astype(np.float32)
    row = np.clip(1 - tone + 0.25 * np.sin(np.floor(along) * 2.3), 0, 1).astype(np.float32)
    chosen = np.where(over > 0, column, row).astype(np.float32)
    round_ = np.where(over > 0, across % 1, along % 1).astype(np.float32)
    light = 0.65 + 0.35 * np.sin(np.pi * round_)
    picture = _look_up_colors(chosen, palette) * light[..., np.newaxis]
    return np.asarray(_blur(picture, 0.6), np.float32)


def _impasto(rng: Random, palette: F32) -> F32:
    """Spread thick paint with a knife: flat facets with ridges between them."""
    import cv2

    canvas = _look_up_colors(_draw_clouds(rng, 2.5, 0.5), palette)
    height = np.zeros((SIZE, SIZE), np.float32)
    tone = _draw_clouds(rng, 2, 0.5)
    angle = 2 * np.pi * _draw_field(rng, 2.5)[..., 0]
    count = 750
    x, y = rng.random((2, count)) * SIZE
    row, column = y.astype(int), x.astype(int)
    turn = np.degrees(angle[row, column]) + 20 * rng.standard_normal(count)
    size = 10 + 26 * rng.random(count) ** 2
    color = _look_up_colors(
        np.clip(tone[row, column] + 0.12 * rng.standard_normal(count), 0, 1).astype(np.float32),
        palette,
    )
    level = rng.random(count)
    for dab in range(count):
        box = ((float(x[dab]), float(y[dab])), (2.2 * size[dab], size[dab]), float(turn[dab]))
        corners = np.round(cv2.boxPoints(box) * 8).astype(np.int32)
        shade = tuple(float(value) for value in color[dab])
        cv2.fillConvexPoly(canvas, corners, shade, cv2.LINE_8, 3)
        cv2.fillConvexPoly(height, corners, float(level[dab]), cv2.LINE_8, 3)
    height = _blur(height, 0.9) + 0.25 * _draw_clouds(rng, 40, 0.9)
    return _shade_relief(_blur(canvas, 0.8), height, 0.1)


TECHNIQUES: tuple[Callable[[Random, F32], F32], ...] = (
    _broad_strokes,
    _dead_leaves,
    _watercolor,
    _short_strokes,
    _hatching,
    _impasto,
    _marbling,
    _dots,
    _mosaic,
    _weave,
)
"""The techniques: ``(rng, palette) -> (SIZE, SIZE, 3)`` float32 about 0..1."""
