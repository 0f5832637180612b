"""Blur: light that belongs to one point spreads over others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.corruptions import draws
from shiftproof.corruptions.contract import Random, constants
from shiftproof.corruptions.filters import (
    bilinear_places,
    centre_crop,
    channels_of,
    as_rows,
    gaussian_bytes,
    smear_bytes,
    with_channels,
)
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
    return gaussian_bytes(image, constants(GAUSSIAN_BLUR, severity))


@dataclass(frozen=True)
class _Disk:
    """A smoothed disk in the form that ``kernels.disk_bytes`` takes; see there."""

    widths: NDArray[np.int64]
    smooth: NDArray[np.float32]
    edges: NDArray[np.int64]
    edge_weights: NDArray[np.float32]
    scale: np.float32
    flat: NDArray[np.uint8]


@lru_cache(maxsize=16)
def _disk(radius: int, alias: float, normalised: bool) -> _Disk:
    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    widths = np.array([math.isqrt(radius**2 - k**2) for k in range(radius + 1)])
    smooth = np.array([math.exp(-(k**2) / (2 * alias**2)) if k <= taps else 0.0 for k in range(3)])
    smooth /= smooth[0] + 2 * smooth[1:].sum()
    area = float((2 * widths + 1).sum() * 2 - (2 * widths[0] + 1))

    # The published code smooths the disk on a grid of +-reach, mirrored at the grid's border: what
    # would lie outside is lost, and what lies inside is counted twice.
    edges: dict[tuple[int, int], float] = {}
    for row in range(reach - taps, radius + 1):
        for outside in range(reach + 1, row + taps + 1):
            lost = (outside, int(widths[row]))
            edges[lost] = edges.get(lost, 0.0) - smooth[outside - row]
        for inside in range(reach - taps, reach + 1):
            mirrored = 2 * reach - row
            if row < reach and mirrored - inside <= taps:
                twice = (inside, int(widths[row]))
                edges[twice] = edges.get(twice, 0.0) + smooth[mirrored - inside]
    total = area + 4 * sum(weight * (2 * half + 1) for (_, half), weight in edges.items())
    total_share = 1.0 if normalised else total / area
    scale = total_share / total
    flat = np.arange(256)
    if not normalised and not edges:
        # In float32 the published kernel sums to a little less than 1, by 4e-9 to 3e-8, so that
        # flat areas lose a level.
        flat = np.maximum(flat - 1, 0)
    return _Disk(
        widths=widths,
        smooth=smooth.astype(np.float32),
        edges=np.array(list(edges), dtype=np.int64).reshape(-1, 2),
        edge_weights=np.array(list(edges.values()), dtype=np.float32),
        scale=np.float32(scale),
        flat=flat.astype(np.uint8),
    )


def _defocus(image: Image, disk: _Disk) -> Image:
    import cv2

    from shiftproof.corruptions import kernels

    channels = channels_of(image)
    farthest = max(len(disk.widths) - 1, *disk.edges[:, 0].tolist(), 0) + 2
    padded = cv2.copyMakeBorder(
        image, farthest, farthest, farthest, farthest, cv2.BORDER_REFLECT_101
    )
    out = np.empty_like(image)
    kernels.disk_bytes(
        as_rows(padded),
        channels,
        farthest,
        disk.widths,
        disk.smooth,
        disk.edges,
        disk.edge_weights,
        disk.scale,
        disk.flat,
        as_rows(out),
    )
    return out


def defocus_blur(image: Image, severity: int, rng: Random) -> Image:
    """Spread every pixel over a disk, as a lens does that is out of focus; mirrored at the edges.

    At severities 4 and 5 the disk touches the border of the grid that it is smoothed on, and the
    kernel sums to 1.013 and 1.011: the image gets brighter. So do the published numbers.
    """
    return _defocus(image, _disk(*constants(DEFOCUS_BLUR, severity), False))


def defocus_blur_corrected(image: Image, severity: int, rng: Random) -> Image:
    """Spread every pixel over a disk, at unchanged brightness.

    Differs from ``defocus_blur``: the kernel sums to 1, and flat areas stay as they are.
    """
    return _defocus(image, _disk(*constants(DEFOCUS_BLUR, severity), True))


def _glass(image: Image, severity: int, rng: Random, exchange: bool) -> Image:
    from shiftproof.corruptions import kernels

    sigma, delta, rounds = constants(GLASS_BLUR, severity)
    height, width = image.shape[:2]
    shuffled = gaussian_bytes(image, sigma)
    pixels = max(0, height - 2 * delta) * max(0, width - 2 * delta)
    for _ in range(rounds if pixels else 0):
        offsets = draws.offsets(rng, delta, pixels)
        kernels.shuffle(with_channels(shuffled), delta, offsets, exchange)
    return gaussian_bytes(shuffled, sigma)


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
    """Smear along a direction within 45 degrees of the horizontal, the edge repeated.

    The weights are half a Gaussian, so that the image also moves a little.
    """
    radius, sigma = constants(MOTION_BLUR, severity)
    return smear_bytes(image, radius, sigma, rng.uniform(-45, 45))


Places: TypeAlias = "tuple[NDArray[np.int32], NDArray[np.float32]]"


@lru_cache(maxsize=64)
def _published_places(size: int, factors: tuple[float, ...]) -> Places:
    """Return where each enlargement reads a line, the enlarged centre cut at its start."""
    lines = [bilinear_places(*centre_crop(size, factor), size) for factor in factors]
    return np.stack([left for left, _ in lines]), np.stack([share for _, share in lines])


@lru_cache(maxsize=64)
def _centred_places(size: int, factors: tuple[float, ...]) -> Places:
    """Return where each enlargement reads a line, the line's centre in its place."""
    middle = (size - 1) / 2
    places = middle + (np.arange(size) - middle) / np.array(factors)[:, np.newaxis]
    left = np.clip(np.floor(places), 0, max(size - 2, 0))
    return left.astype(np.int32), (places - left).astype(np.float32)


@lru_cache(maxsize=16)
def _flat_zoom(layers: int) -> NDArray[np.uint8]:
    """Return what the published code makes of flat areas of each grey level, in float32."""
    values = (np.arange(256) / 255.0).astype(np.float32)
    total = np.zeros(256, np.float32)
    for _ in range(layers):
        total = total + values
    mean = (values + total) / np.float32(layers + 1)
    return np.asarray((np.clip(mean, 0, 1) * np.float32(255)).astype(np.uint8))


def _zoom(image: Image, rows: Places, columns: Places, flat: Image) -> Image:
    from shiftproof.corruptions import kernels

    out = np.empty_like(image)
    kernels.mean_of_zooms(with_channels(image), *rows, *columns, flat, with_channels(out))
    return out


def zoom_blur(image: Image, severity: int, rng: Random) -> Image:
    """Average the image with enlargements of its centre, as when zooming during the exposure.

    The centre is enlarged with its corner pixels on the corners, to a little more than the image,
    and cut at the top left, as in the published code, which moves the layers by up to a pixel.
    """
    factors = constants(ZOOM_BLUR, severity)
    height, width = image.shape[:2]
    rows, columns = _published_places(height, factors), _published_places(width, factors)
    return _zoom(image, rows, columns, _flat_zoom(len(factors)))


def zoom_blur_corrected(image: Image, severity: int, rng: Random) -> Image:
    """Average the image with enlargements of its centre, as when zooming during the exposure.

    Differs from ``zoom_blur``: every layer is enlarged about the image's exact centre, and flat
    areas stay as they are.
    """
    factors = constants(ZOOM_BLUR, severity)
    height, width = image.shape[:2]
    rows, columns = _centred_places(height, factors), _centred_places(width, factors)
    return _zoom(image, rows, columns, np.arange(256, dtype=np.uint8))
