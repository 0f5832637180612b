"""Digital: what cameras, screens and files do to an image."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from shiftproof.corruptions.contract import Random, constants, to_uint8
from shiftproof.corruptions.filters import gaussian
from shiftproof.errors import ImageError
from shiftproof.types import Image

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2 for the any-size form of elastic_transform (Michaelis et al. 2019,
# arXiv 1907.07484).

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
"""What is left of the distance to the mean."""

ELASTIC_TRANSFORM = (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12)
"""Factor on the smoothed displacements."""

ELASTIC_REACH = 0.005
"""Displacements are drawn up to this share of the height, in both directions."""

ELASTIC_SIGMA = 0.01
"""They are smoothed with this share of the height downwards and of the width across."""

ELASTIC_IMAGENET_C = tuple(
    (244 * amplitude, 244 * sigma, 244 * affine)
    for amplitude, sigma, affine in (
        (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
    )
)
"""Factor and sigma of the displacements, and jitter of the corner points, in pixels of 224."""

PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
"""Share of the side that is left."""

JPEG_COMPRESSION = (25, 18, 15, 10, 7)
"""Quality, 1 to 100."""

JPEG_LONGEST_SIDE = 65_500
"""The JPEG library takes no longer side."""

SATURATE = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))
"""Factor on the saturation, and what is added to it."""


def contrast(image: Image, severity: int, rng: Random) -> Image:
    """Pull every value towards the mean of its channel."""
    values = image / 255.0
    means = values.mean(axis=(0, 1), keepdims=True)
    return to_uint8((values - means) * constants(CONTRAST, severity) + means)


def _displace(image: Image, down: NDArray[np.float64], right: NDArray[np.float64]) -> Image:
    from shiftproof.corruptions import kernels

    height, width = image.shape[:2]
    values = (image.astype(np.float32) / np.float32(255)).reshape(height, width, -1)
    out = np.empty(values.shape)
    kernels.displaced(values, down.astype(np.float32), right.astype(np.float32), out)
    # The published code interpolates into a float32 array.
    return to_uint8(out.astype(np.float32)).reshape(image.shape)


def _elastic(image: Image, severity: int, rng: Random, reach: tuple[float, float]) -> Image:
    height, width = image.shape[:2]
    sigma = (ELASTIC_SIGMA * height, ELASTIC_SIGMA * width)
    alpha = constants(ELASTIC_TRANSFORM, severity)
    right, down = (
        gaussian(rng.uniform(-r, r, size=(height, width)), sigma, truncate=3, reflect=True) * alpha
        for r in reach
    )
    return _displace(image, down, right)


def elastic_transform(image: Image, severity: int, rng: Random) -> Image:
    """Move pixels along smooth random displacements, as if the image were on rubber.

    The displacements of both directions are in proportion to the height, as in the published code.
    """
    reach = ELASTIC_REACH * image.shape[0]
    return _elastic(image, severity, rng, (reach, reach))


def elastic_transform_corrected(image: Image, severity: int, rng: Random) -> Image:
    """Move pixels along smooth random displacements, as if the image were on rubber.

    Differs from ``elastic_transform``: displacements across are in proportion to the width.
    """
    height, width = image.shape[:2]
    return _elastic(image, severity, rng, (ELASTIC_REACH * width, ELASTIC_REACH * height))


def pixelate(image: Image, severity: int, rng: Random) -> Image:
    """Shrink by averaging and enlarge again by repetition.

    Differs from the published code: at least one pixel is left along each side.
    """
    share = constants(PIXELATE, severity)
    height, width = image.shape[:2]
    small = (max(1, int(width * share)), max(1, int(height * share)))
    shrunk = PillowImage.fromarray(image).resize(small, PillowImage.Resampling.BOX)
    return np.array(shrunk.resize((width, height), PillowImage.Resampling.NEAREST))


def jpeg_compression(image: Image, severity: int, rng: Random) -> Image:
    """Save as JPEG of low quality and load again.

    Raises:
        ImageError: a side is longer than JPEG allows.
    """
    if max(image.shape) > JPEG_LONGEST_SIDE:
        raise ImageError(
            f"JPEG holds at most {JPEG_LONGEST_SIDE} pixels along a side; "
            f"got shape {image.shape}. Cut the image into pieces."
        )
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, "JPEG", quality=constants(JPEG_COMPRESSION, severity))
    return np.array(PillowImage.open(file))


def saturate(image: Image, severity: int, rng: Random) -> Image:
    """Change the saturation (HSV); a grey image stays as it is."""
    if image.ndim == 2:
        return image.copy()
    scale, offset = constants(SATURATE, severity)
    return with_hsv(image, scale, offset, 0.0)


def with_hsv(image: Image, scale: float, offset: float, value_offset: float) -> Image:
    """Return an RGB image with its HSV saturation scaled and offset and its value offset."""
    from shiftproof.corruptions import kernels

    out = np.empty(image.shape)
    kernels.change_hsv(image, float(scale), float(offset), float(value_offset), out)
    return to_uint8(out)
