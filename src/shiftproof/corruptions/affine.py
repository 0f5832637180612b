"""Affine transforms about the image center: shear, rotate, scale, translate; black outside."""

from __future__ import annotations

import math

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random, get_constants
from shiftproof.corruptions.warps import warp
from shiftproof.types import F64, Image

# All constants for severities 1 to 5: Mu & Gilmer 2019 (arXiv 1906.02337), MNIST-C, from
# corruptions.py of their repository (google-research/mnist-c).

SHEAR = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Shear angle, in radians."""

ROTATE = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Angle in radians."""

SCALE = (0.9, 0.8, 0.7, 0.6, 0.5)
"""Scale factor of the image."""

TRANSLATE = (1 / 28, 2 / 28, 3 / 28, 4 / 28, 5 / 28)
"""Shift as a share of each side: 1 to 5 of 28 pixels."""


def warp_affine(image: Image, matrix: F64, shift: tuple[float, float] = (0.0, 0.0)) -> Image:
    """Resample an image by an affine map about its center: bilinear, black outside.

    Args:
        image: ``(H, W, 3)`` or ``(H, W)``.
        matrix: ``(2, 2)``, maps (x, y) of a pixel of the result, relative to the center, to (x, y) of
            its source.
        shift: (x, y) added to the source position.

    Returns:
        uint8 of the same shape; fractions are truncated.
    """
    height, width = image.shape[:2]
    y = (np.arange(height) - (height - 1) / 2)[:, np.newaxis]
    x = np.arange(width) - (width - 1) / 2
    columns = matrix[0, 0] * x + matrix[0, 1] * y + ((width - 1) / 2 + shift[0])
    rows = matrix[1, 0] * x + matrix[1, 1] * y + ((height - 1) / 2 + shift[1])
    return warp(image, rows, columns)


def _draw_sign(rng: Random) -> int:
    return 2 * draws.index(rng, 2) - 1


def shear(image: Image, severity: float, rng: Random) -> Image:
    """Slant the image to the left or right: its rows move, and it grows a little in height."""
    angle = get_constants(SHEAR, severity) * _draw_sign(rng)
    return warp_affine(image, np.array([[1, -math.sin(angle)], [0, math.cos(angle)]]))


def rotate(image: Image, severity: float, rng: Random) -> Image:
    """Turn the image to the left or right about its center."""
    angle = get_constants(ROTATE, severity) * _draw_sign(rng)
    cosine, sine = math.cos(angle), math.sin(angle)
    return warp_affine(image, np.array([[cosine, -sine], [sine, cosine]]))


def scale(image: Image, severity: float, rng: Random) -> Image:
    """Shrink the image about its center."""
    return warp_affine(image, np.eye(2) / get_constants(SCALE, severity))


def translate(image: Image, severity: float, rng: Random) -> Image:
    """Move the image along both axes, each to either side."""
    fraction = get_constants(TRANSLATE, severity)
    right, down = _draw_sign(rng), _draw_sign(rng)
    height, width = image.shape[:2]
    return warp_affine(image, np.eye(2), (fraction * width * right, fraction * height * down))
