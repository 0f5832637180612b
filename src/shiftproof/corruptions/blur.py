"""Blur: light that belongs to one point spreads over others."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shiftproof.corruptions.contract import Random, constants, integers, to_uint8
from shiftproof.corruptions.filters import centre_crop, gaussian, smear
from shiftproof.types import Image

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2, which agrees with it.

DEFOCUS_BLUR = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
"""Radius of the disk in pixels; sigma of the Gaussian that smooths its edge."""

GLASS_BLUR = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
"""Sigma of the Gaussian before and after; reach of the shuffle in pixels; its rounds."""

MOTION_BLUR = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
"""Radius (the streak is 2 radius + 1 long) and sigma of its weights, in pixels."""

ZOOM_BLUR = (
    tuple(np.arange(1, 1.11, 0.01)),
    tuple(np.arange(1, 1.16, 0.01)),
    tuple(np.arange(1, 1.21, 0.02)),
    tuple(np.arange(1, 1.26, 0.02)),
    tuple(np.arange(1, 1.31, 0.03)),
)
"""Zoom factors. Rounding makes the first row end at 1.11: twelve factors, in numpy's arithmetic."""

GAUSSIAN_BLUR = (1, 2, 3, 4, 6)
"""Sigma in pixels."""


def gaussian_blur(image: Image, severity: int, rng: Random) -> Image:
    """Smooth with a Gaussian, the edge repeated."""
    return to_uint8(gaussian(image / 255.0, constants(GAUSSIAN_BLUR, severity)))


@lru_cache(maxsize=16)
def _disk(radius: int, alias: float) -> NDArray[np.float32]:
    import cv2

    reach, size = (8, 3) if radius <= 8 else (radius, 5)
    x, y = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    disk = np.array(x**2 + y**2 <= radius**2, dtype=np.float32)
    disk /= disk.sum()
    return np.asarray(cv2.GaussianBlur(disk, ksize=(size, size), sigmaX=alias))


def _defocus(image: Image, kernel: NDArray[np.float32]) -> Image:
    import cv2

    return to_uint8(cv2.filter2D(image / 255.0, -1, kernel).reshape(image.shape))


def defocus_blur(image: Image, severity: int, rng: Random) -> Image:
    """Spread every pixel over a disk, as a lens does that is out of focus; mirrored at the edges.

    At severities 4 and 5 the disk touches the border of its grid and the kernel sums to a
    little more than 1: the image gets brighter. So do the published numbers.
    """
    return _defocus(image, _disk(*constants(DEFOCUS_BLUR, severity)))


def defocus_blur_corrected(image: Image, severity: int, rng: Random) -> Image:
    """Spread every pixel over a disk, at unchanged brightness.

    Differs from ``defocus_blur``: the kernel is scaled to sum to 1.
    """
    kernel = _disk(*constants(DEFOCUS_BLUR, severity))
    return _defocus(image, kernel / kernel.sum())


def _glass(image: Image, severity: int, rng: Random, exchange: bool) -> Image:
    from shiftproof.corruptions import kernels

    sigma, delta, rounds = constants(GLASS_BLUR, severity)
    height, width = image.shape[:2]
    shuffled = to_uint8(gaussian(image / 255.0, sigma))
    pixels = max(0, height - 2 * delta) * max(0, width - 2 * delta)
    for _ in range(rounds if pixels else 0):
        offsets = integers(rng, -delta, delta, (pixels, 2))
        kernels.shuffle(shuffled.reshape(height, width, -1), delta, offsets, exchange)
    return to_uint8(gaussian(shuffled / 255.0, sigma))


def glass_blur(image: Image, severity: int, rng: Random) -> Image:
    """Shuffle pixels within a few pixels, between two Gaussians, as through frosted glass.

    Meant as an exchange of neighbours; the published code copies the neighbour over the pixel
    instead, and so does this.
    """
    return _glass(image, severity, rng, exchange=False)


def glass_blur_corrected(image: Image, severity: int, rng: Random) -> Image:
    """Exchange pixels within a few pixels, between two Gaussians, as through frosted glass.

    Differs from ``glass_blur``: pixels are exchanged, so that none is lost.
    """
    return _glass(image, severity, rng, exchange=True)


def motion_blur(image: Image, severity: int, rng: Random) -> Image:
    """Smear along a direction within 45 degrees of the horizontal, the edge repeated."""
    radius, sigma = constants(MOTION_BLUR, severity)
    smeared = smear(image, radius, sigma, rng.uniform(-45, 45))
    return np.asarray(np.clip(smeared, 0, 255).astype(np.uint8))


def _zoom(image: Image, severity: int, centred: bool) -> Image:
    from shiftproof.corruptions import kernels

    factors = constants(ZOOM_BLUR, severity)
    height, width = image.shape[:2]
    values = (image / 255.0).astype(np.float32).reshape(height, width, -1)
    total, layer = np.zeros_like(values), np.empty_like(values)
    for factor in factors:
        top, crop_height, rows = centre_crop(height, factor)
        left, crop_width, columns = centre_crop(width, factor)
        kernels.zoomed(values, top, left, crop_height, crop_width, rows, columns, layer)
        total += layer
    return to_uint8((values + total) / np.float32(len(factors) + 1)).reshape(image.shape)


def zoom_blur(image: Image, severity: int, rng: Random) -> Image:
    """Average the image with enlargements of its centre, as when zooming during the exposure.

    The enlarged crop is cut at the top left, as in the published code, which moves its centre
    by up to half a pixel.
    """
    return _zoom(image, severity, centred=False)
