"""Strokes over a digit, and its edges: MNIST-C at any image size.

All constants: Mu & Gilmer 2019 (arXiv 1906.02337), from corruptions.py of their repository
(google-research/mnist-c). They are defined on 28 x 28 pixels and have no severities: all five are
the same. At other sizes a stroke is drawn on a canvas of 28 x 28 units that covers the image.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random
from shiftproof.corruptions.filters import compute_luma, expand_like, filter_gaussian
from shiftproof.types import F64, Flags, Image

CANVAS = 28
"""Side of the published images, in pixels."""

REACH = 2.3
"""Distance from a line's center, in units of the canvas, at which it has faded out."""

ZIGZAG = 2.0
"""Half the length and the height of a tooth, in units of the canvas."""

CANNY_SIGMA = 1.0
CANNY_LOW = 0.1
CANNY_HIGH = 0.2
"""Sigma of the Gaussian; lower and upper hysteresis thresholds of the gradient."""


def _make_canvas(image: Image) -> tuple[F64, F64]:
    """Return the rows and columns of an image in units of the canvas, ``(H,)`` and ``(W,)``."""
    height, width = image.shape[:2]
    return np.arange(height) * (CANVAS / height), np.arange(width) * (CANVAS / width)


def _draw_line(
    canvas: tuple[F64, F64], start: tuple[float, float], end: tuple[float, float]
) -> F64:
    """Return the brightness ``(H, W)``, 0..1, of a line from ``start`` to ``end`` (column, row)."""
    rows, columns = canvas
    (first, top), (last, bottom) = start, end
    if first == last:
        return np.zeros((len(rows), len(columns)))
    line_rows = top + (bottom - top) / (last - first) * (columns - first)
    distance = np.clip(np.abs(rows[:, np.newaxis] - line_rows), 0, REACH - 1e-10)
    light = np.clip(np.log(1 - distance / REACH) + 1, 0, 1)
    light[:, (columns < math.floor(first)) | (columns >= math.ceil(last))] = 0
    return np.asarray(light)


def _add_light(image: Image, light: F64) -> Image:
    """Add brightness ``(H, W)`` in 0..1 to all channels."""
    return np.asarray(
        np.clip(image + 255 * expand_like(light, image) + 1e-9, 0, 255).astype(np.uint8)
    )


def stripe(image: Image, severity: float, rng: Random) -> Image:
    """Invert the left and the right quarter of the image."""
    width = image.shape[1]
    columns = np.arange(width)
    outer = (columns < width / 4) | (columns >= width * 3 / 4)
    out = image.copy()
    out[:, outer] = 255 - out[:, outer]
    return np.asarray(out)


def dotted_line(image: Image, severity: float, rng: Random) -> Image:
    """Draw a bright dotted line from the left to the right edge."""
    canvas = _make_canvas(image)
    top, bottom = (draws.index(rng, CANVAS - 1) for _ in range(2))
    light = _draw_line(canvas, (0, top), (CANVAS - 1, bottom))
    light[:, canvas[1] // 2 % 2 == 0] = 0
    return _add_light(image, light)


def _list_zigzag_corners(length: float) -> list[tuple[float, float]]:
    """Return the corners (along, across) of a horizontal zigzag of a given length."""
    corners = [(0.0, 0.0)]
    teeth = int((length - ZIGZAG) // (2 * ZIGZAG)) + 1
    across = 0.0
    for tooth in range(teeth):
        across = (-1) ** tooth * ZIGZAG
        corners.append(((2 * tooth + 1) * ZIGZAG, across))
    full_length = 2 * ZIGZAG * (length // (2 * ZIGZAG))
    if length != full_length:
        corners.append((length, across / (2 * (length - full_length))))
    return corners


def zigzag(image: Image, severity: float, rng: Random) -> Image:
    """Draw a bright zigzag line across the image."""
    first, last = 2, CANVAS - 3
    top = draws.index(rng, CANVAS - 1)
    angle = math.atan((draws.index(rng, 10) - 5) / (last - first))
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = [
        (first + cosine * along - sine * across, top + sine * along + cosine * across)
        for along, across in _list_zigzag_corners((last - first) / cosine)
    ]
    canvas = _make_canvas(image)
    segments = (_draw_line(canvas, *pair) for pair in itertools.pairwise(corners))
    return _add_light(image, sum(segments, np.zeros(image.shape[:2])))


def _shift(values: F64, down: int, right: int) -> F64:
    """Return each pixel's value at an offset (down, right); 0 outside."""
    height, width = values.shape
    padded = np.pad(values, 1)
    return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]


def _suppress_non_maxima(down: F64, right: F64, strength: F64) -> Flags:
    """Mark the local maxima of the gradient along its direction (non-maximum suppression).

    The gradient is interpolated between two neighbors (Canny 1986).
    """
    steep = np.abs(down) >= np.abs(right)
    larger = np.where(steep, np.abs(down), np.abs(right))
    smaller = np.where(steep, np.abs(right), np.abs(down))
    share = smaller / np.maximum(larger, 1e-300)
    has_same_sign = np.sign(down) * np.sign(right) >= 0
    is_maximum = np.ones(strength.shape, bool)
    for side in (1, -1):
        straight = np.where(steep, _shift(strength, side, 0), _shift(strength, 0, side))
        falling, rising = _shift(strength, side, side), _shift(strength, side, -side)
        other_rising = _shift(strength, -side, side)
        slanted = np.where(has_same_sign, falling, np.where(steep, rising, other_rising))
        is_maximum &= share * slanted + (1 - share) * straight <= strength
    return is_maximum


def _keep_connected(strong: Flags, weak: Flags) -> Flags:
    """Return the weak pixels that are 8-connected to a strong one."""
    import cv2

    _, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    is_strong = np.zeros(int(labels.max()) + 1, bool)
    is_strong[labels[strong]] = True
    is_strong[0] = False
    return np.asarray(is_strong[labels])


def canny_edges(image: Image, severity: float, rng: Random) -> Image:
    """Replace the image by its Canny edges, white on black (Canny 1986)."""
    import cv2

    gray = (image if image.ndim == 2 else compute_luma(image)) / 255
    if min(gray.shape) < 3:
        return np.zeros_like(image)
    # Values outside do not count: the Gaussian is renormalized at the border.
    radius = int(4 * CANNY_SIGMA + 0.5)
    padded = [np.pad(a.astype(np.float32), radius) for a in (gray, np.ones(gray.shape))]
    values, weights = (
        filter_gaussian(a, CANNY_SIGMA)[radius:-radius, radius:-radius].astype(np.float64)
        for a in padded
    )
    smooth = values / weights
    right, down = (
        np.asarray(
            cv2.Sobel(smooth, cv2.CV_64F, *order, ksize=3, borderType=cv2.BORDER_REFLECT),
            dtype=np.float64,
        )
        for order in ((1, 0), (0, 1))
    )
    strength = np.hypot(right, down)
    edges = _suppress_non_maxima(down, right, strength) & (strength > 0)
    edges[[0, -1]] = False
    edges[:, [0, -1]] = False
    weak = edges & (strength >= CANNY_LOW)
    connected = _keep_connected(weak & (strength >= CANNY_HIGH), weak)
    light = connected.astype(np.uint8) * 255
    return light if image.ndim == 2 else np.repeat(light[..., np.newaxis], 3, axis=2)
