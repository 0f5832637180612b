"""What is done to an image, each by one number or a few that are known: the factors of a probe.

Every function takes an image ``(H, W, 3)`` uint8 RGB and leaves it as it is. Brightness, contrast,
saturation and hue are those of torchvision's ``ColorJitter``.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from shiftproof.models.preprocess import luminosity
from shiftproof.types import Image

MOST_TURNED = 30.0
"""Degrees: so far an image is turned to either side at most."""


def crop(image: Image, x: float, y: float, size: float) -> Image:
    """Return a square part of the largest square in the middle of the image.

    ``size`` is its side as a share of the square's; ``x`` and ``y`` are its center, -1 to 1 from
    edge to edge of the square.
    """
    height, width = image.shape[:2]
    square = min(height, width)
    side = max(1, round(size * square))
    corner = [
        start + min(max(round(square * (1 + place) / 2 - side / 2), 0), square - side)
        for start, place in (((height - square) // 2, y), ((width - square) // 2, x))
    ]
    return _copy(image[corner[0] : corner[0] + side, corner[1] : corner[1] + side])


def flip(image: Image, share: float) -> Image:
    """Return the image as it is (0), or left and right exchanged (1)."""
    return _copy(image[:, ::-1]) if share else _copy(image)


def rotate(image: Image, degrees: float) -> Image:
    """Return the image turned anticlockwise about its middle.

    It is enlarged, by the same for every angle, so that no corner of it shows what lies beyond.
    """
    height, width = image.shape[:2]
    most = np.deg2rad(MOST_TURNED)
    down, across = max(height - 1, 1), max(width - 1, 1)
    zoom = np.cos(most) + max(down / across, across / down) * np.sin(most)
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, degrees, float(zoom))
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def scale_brightness(image: Image, factor: float) -> Image:
    """Return the image with every value multiplied."""
    return _round(image * np.float32(factor))


def scale_contrast(image: Image, factor: float) -> Image:
    """Return the image with every value's distance from the mean luminosity multiplied."""
    mean = np.float32(luminosity(image).mean())
    return _round(mean + (image.astype(np.float32) - mean) * np.float32(factor))


def scale_saturation(image: Image, factor: float) -> Image:
    """Return the image with every value's distance from its pixel's luminosity multiplied."""
    gray = luminosity(image)[..., None].astype(np.float32)
    return _round(gray + (image - gray) * np.float32(factor))


def shift_hue(image: Image, turns: float) -> Image:
    """Return the image with its hue, in HSV, turned: 1 is the whole circle."""
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * turns) % 360
    rgb = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)
    return _round(rgb * np.float32(255))


def drop_color(image: Image, gray: float) -> Image:
    """Return the image as it is (0), or its luminosity in all three channels (1)."""
    return _three(luminosity(image)) if gray else _copy(image)


def blur(image: Image, deviation: float) -> Image:
    """Return the image under a Gaussian whose deviation is a share of the shorter side."""
    pixels = deviation * min(image.shape[:2])
    if pixels < 0.05:
        # A kernel that narrow has one value.
        return _copy(image)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), pixels), np.uint8)


def add_noise(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Return the image under normal noise whose deviation is a share of the range of values."""
    noise = rng.standard_normal(image.shape, np.float32)
    return _round(image + np.float32(255 * deviation) * noise)


def _copy(image: Image) -> Image:
    return np.array(image, np.uint8, order="C")


def _three(gray: NDArray[np.uint8]) -> Image:
    return np.stack([gray, gray, gray], axis=2)


def _round(values: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
