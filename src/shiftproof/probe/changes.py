"""Image transforms with known parameters: the factors of a probe.

Every function takes an image ``(H, W, 3)`` uint8 RGB and does not modify it. Brightness, contrast,
saturation and hue are those of torchvision's ``ColorJitter``.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from shiftproof.models.preprocess import to_luminosity
from shiftproof.types import U8, Image

MAX_ROTATION = 30.0
"""Maximum rotation to either side, in degrees."""


def crop(image: Image, x: float, y: float, size: float) -> Image:
    """Crop a square from the largest central square of the image.

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
    """Return the image (0), or flip it horizontally (1)."""
    return _copy(image[:, ::-1]) if share else _copy(image)


def rotate(image: Image, degrees: float) -> Image:
    """Rotate the image counterclockwise about its center.

    It is enlarged by the same factor for every angle, so that no corner shows the outside.
    """
    height, width = image.shape[:2]
    largest = np.deg2rad(MAX_ROTATION)
    down, across = max(height - 1, 1), max(width - 1, 1)
    zoom = np.cos(largest) + max(down / across, across / down) * np.sin(largest)
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, degrees, float(zoom))
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def scale_brightness(image: Image, factor: float) -> Image:
    """Multiply every value by the factor."""
    return _round(image * np.float32(factor))


def scale_contrast(image: Image, factor: float) -> Image:
    """Multiply every value's difference from the mean luminosity."""
    mean = np.float32(to_luminosity(image).mean())
    return _round(mean + (image.astype(np.float32) - mean) * np.float32(factor))


def scale_saturation(image: Image, factor: float) -> Image:
    """Multiply every value's difference from its pixel's luminosity."""
    gray = to_luminosity(image)[..., None].astype(np.float32)
    return _round(gray + (image - gray) * np.float32(factor))


def shift_hue(image: Image, turns: float) -> Image:
    """Shift the HSV hue; 1 is a full turn."""
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * turns) % 360
    rgb = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)
    return _round(rgb * np.float32(255))


def drop_color(image: Image, gray: float) -> Image:
    """Return the image (0), or its luminosity in all three channels (1)."""
    return _repeat_channels(to_luminosity(image)) if gray else _copy(image)


def blur(image: Image, deviation: float) -> Image:
    """Blur with a Gaussian whose standard deviation is a share of the shorter side."""
    pixels = deviation * min(image.shape[:2])
    if pixels < 0.05:
        # So narrow a kernel is the identity.
        return _copy(image)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), pixels), np.uint8)


def add_noise(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise whose standard deviation is a share of the range of values."""
    noise = rng.standard_normal(image.shape, np.float32)
    return _round(image + np.float32(255 * deviation) * noise)


def _copy(image: Image) -> Image:
    return np.array(image, np.uint8, order="C")


def _repeat_channels(gray: U8) -> Image:
    return np.stack([gray, gray, gray], axis=2)


def _round(values: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
