"""Blur corruptions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random, get_constants, to_uint8
from shiftproof.corruptions.filters import (
    Resampling,
    blur_gaussian,
    bound_rounding,
    compute_bilinear_resampling,
    compute_center_crop,
    count_channels,
    pack_pixels,
    smear_bytes,
    to_rows,
    unpack_pixels,
)
from shiftproof.types import F32, F64, I32, I64, U8, Image

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2, which agrees with it. ``table`` holds the constants of another scale.

DEFOCUS_BLUR = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
"""Radius of the disk in pixels; sigma of the Gaussian that smooths its edge."""

GLASS_BLUR = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
"""Sigma of the Gaussian before and after; reach of the shuffle in pixels; its rounds."""

MOTION_BLUR = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))
"""Radius (the streak is 2 radius + 1 long) and sigma of its weights, in pixels."""

ZOOM_BLUR = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
"""Zoom factors from 1 in steps of the second number to short of the first, by numpy's arange: in
its arithmetic the first row is twelve factors and ends at 1.11.
"""

GAUSSIAN_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Sigma in pixels."""


def gaussian_blur(
    image: Image, severity: float, rng: Random, table: Sequence[float] = GAUSSIAN_BLUR
) -> Image:
    """Smooth with a Gaussian, the edge repeated."""
    return blur_gaussian(image, get_constants(table, severity))


@dataclass(frozen=True)
class _Disk:
    """A smoothed disk as arguments of ``kernels.blur_by_disk``; see there."""

    widths: I64
    smooth: F32
    edges: I64
    edge_weights: F32
    scale: np.float32
    flat: U8


@lru_cache(maxsize=16)
def _make_disk(radius: int, alias: float, normalized: bool) -> _Disk:
    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    widths = np.array([math.isqrt(radius**2 - k**2) for k in range(radius + 1)])
    smooth = np.array([math.exp(-(k**2) / (2 * alias**2)) if k <= taps else 0.0 for k in range(3)])
    smooth /= smooth[0] + 2 * smooth[1:].sum()
    area = float((2 * widths + 1).sum() * 2 - (2 * widths[0] + 1))

    # The published code smooths the disk on a grid of +-reach, mirrored at the grid's border:
    # values outside are lost, and their mirror images inside are counted twice.
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
    total_share = 1.0 if normalized else total / area
    scale = total_share / total
    flat = np.arange(256)
    if not normalized and not edges:
        # In float32 the published kernel sums to a little less than 1, by 4e-9 to 3e-8, so that
        # flat areas lose a level.
        flat = np.maximum(flat - 1, 0)
    return _Disk(
        widths=widths,
        smooth=np.append(1, smooth).astype(np.float32),
        edges=np.array(list(edges), dtype=np.int64).reshape(-1, 2),
        edge_weights=np.array(list(edges.values()), dtype=np.float32),
        scale=np.float32(scale),
        flat=flat.astype(np.uint8),
    )


def _defocus(image: Image, disk: _Disk) -> Image:
    import cv2

    from shiftproof.corruptions.kernels import blur as kernels
    from shiftproof.corruptions.kernels.lanes import FLOATS

    channels = count_channels(image)
    padding = max(len(disk.widths) - 1, *disk.edges[:, 0].tolist(), 0) + 2
    padded = to_rows(
        np.asarray(
            cv2.copyMakeBorder(image, *(padding,) * 4, cv2.BORDER_REFLECT_101), dtype=np.uint8
        )
    )
    out = np.empty_like(image)
    lines, full, size = 2 * padding + 1, padded.shape[1], to_rows(out).shape[1]
    extended = size + 4 * channels
    words = -(-extended // FLOATS) * FLOATS
    kernels.blur_by_disk(
        padded,
        channels,
        padding,
        disk.widths,
        disk.smooth,
        disk.edges,
        disk.edge_weights,
        disk.scale,
        disk.flat,
        np.zeros((lines, full + channels + kernels.WORDS), np.uint16),
        np.zeros((lines if len(disk.edges) else 0, full), np.uint16),
        np.empty((2, 2 * len(disk.widths)), np.int64),
        np.empty((5, words), np.float32),
        np.zeros((5, size + FLOATS), np.float32),
        np.empty(extended + FLOATS, np.float32),
        np.zeros((2, size + FLOATS), np.float32),
        np.empty(FLOATS, np.float32),
        np.empty(7, np.int64),
        np.empty(FLOATS, np.uint8),
        to_rows(out),
    )
    return out


def defocus_blur(image: Image, severity: float, rng: Random) -> Image:
    """Spread every pixel over a disk, like a lens out of focus; mirrored at the edges.

    At severities 4 and 5 the disk touches the border of the grid of its smoothing, and the kernel
    sums to 1.013 and 1.011, which makes the image brighter, as in the published code.
    """
    return _defocus(image, _make_disk(*get_constants(DEFOCUS_BLUR, severity), False))


def defocus_blur_corrected(image: Image, severity: float, rng: Random) -> Image:
    """Spread every pixel over a disk, at unchanged brightness.

    Differs from ``defocus_blur``: the kernel sums to 1, and flat areas are unchanged.
    """
    return _defocus(image, _make_disk(*get_constants(DEFOCUS_BLUR, severity), True))


@lru_cache(maxsize=16)
def _make_small_disk(radius: float, alias: float) -> F32:
    import cv2

    reach = int(radius) + 1
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, np.newaxis] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    smooth = cv2.GaussianBlur(disk / disk.sum(), (3, 3), alias, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(smooth, dtype=np.float32)


def defocus_blur_small(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float]]
) -> Image:
    """Spread every pixel over a disk of a few pixels, mirrored at the edges.

    Differs from ``defocus_blur``: radii are fractional, and only the nonzero part of the smoothed
    disk is used; in float64, because the mean of five pixels is often an integer.
    """
    import cv2

    kernel = _make_small_disk(*get_constants(table, severity))
    values = np.asarray(cv2.filter2D(image / 255.0, -1, kernel), dtype=np.float64)
    return to_uint8(values.reshape(image.shape))


def shuffle_pixels(
    image: Image,
    delta: int,
    rounds: int,
    draw_offsets: Callable[[int, int, int], I32],
    *,
    exchange: bool,
) -> None:
    """Shuffle the pixels of an image in place, by offsets from (delta, width, count)."""
    from shiftproof.corruptions.kernels import blur as kernels

    height, width = image.shape[:2]
    count = max(0, height - 2 * delta) * max(0, width - 2 * delta)
    if count:
        pixels = pack_pixels(image)
        for _ in range(rounds):
            offsets = draw_offsets(delta, width, count)
            kernels.shuffle_pixels(pixels.reshape(-1), width, delta, offsets, exchange)
        unpack_pixels(pixels, image)


def _apply_glass(
    image: Image, constants: tuple[float, int, int], rng: Random, *, exchange: bool
) -> Image:
    sigma, delta, rounds = constants
    smooth = blur_gaussian(image, sigma)
    shuffle_pixels(smooth, delta, rounds, partial(draws.offsets, rng), exchange=exchange)
    return blur_gaussian(smooth, sigma)


def glass_blur(
    image: Image,
    severity: float,
    rng: Random,
    table: Sequence[tuple[float, int, int]] = GLASS_BLUR,
) -> Image:
    """Shuffle pixels within a few pixels, between two Gaussians, as through frosted glass.

    Intended as an exchange of neighbors; the published code copies the neighbor to the pixel
    instead, and so does this.
    """
    return _apply_glass(image, get_constants(table, severity), rng, exchange=False)


def glass_blur_corrected(image: Image, severity: float, rng: Random) -> Image:
    """Exchange pixels within a few pixels, between two Gaussians, as through frosted glass.

    Differs from ``glass_blur``: pixels are exchanged, so that none is lost.
    """
    return _apply_glass(image, get_constants(GLASS_BLUR, severity), rng, exchange=True)


def motion_blur(image: Image, severity: float, rng: Random) -> Image:
    """Smear along a direction within 45 degrees of the horizontal, the edge repeated.

    The weights are half a Gaussian, so that the image also moves a little.
    """
    radius, sigma = get_constants(MOTION_BLUR, severity)
    return smear_bytes(image, radius, sigma, rng.uniform(-45, 45))


def motion_blur_rounded(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[int, float]] = MOTION_BLUR
) -> Image:
    """Smear along a direction within 45 degrees of the horizontal, the edge repeated.

    Differs from ``motion_blur``: values are rounded, as by ImageMagick, which the original code of
    ImageNet-C and CIFAR-10-C calls.
    """
    radius, sigma = get_constants(table, severity)
    return smear_bytes(image, radius, sigma, rng.uniform(-45, 45), rounded=True)


ResampleLine: TypeAlias = Callable[[int, float], Resampling]
"""From (size, factor) to the resampling of a line of pixels whose center is enlarged."""


def _resample_from_corner(size: int, factor: float) -> Resampling:
    """Crop the enlarged center at its start."""
    return compute_bilinear_resampling(*compute_center_crop(size, factor), size)


def _resample_from_center(size: int, factor: float) -> Resampling:
    """Keep the line's center in its place."""
    center = (size - 1) / 2
    positions = center + (np.arange(size) - center) / factor
    first = np.clip(np.floor(positions), 0, max(size - 2, 0)).astype(np.int64)
    return Resampling(first, 1 - (positions - first), positions - first)


class _ZoomPlan(NamedTuple):
    """Arguments of ``kernels.average_zooms``; see there."""

    rows: I64
    up: F64
    down: F64
    both: F64
    columns: I64
    across: F64
    counts: I64
    targets: I64
    sources: I64
    shares: F32
    tolerance: np.float32
    flat: U8


def _split_runs(columns: I64, channels: int, lanes: int) -> tuple[I64, I64]:
    """Return targets and sources of pieces of ``lanes`` values, from ``columns`` ``(W,)``."""
    positions = np.arange(len(columns) * channels)
    shifts = np.repeat((columns - np.arange(len(columns))) * channels, channels)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(shifts)) + 1])
    position_in_run = positions - np.repeat(starts, np.diff(starts, append=len(positions)))
    targets = positions[position_in_run % lanes == 0]
    return targets, targets + shifts[targets]


def _stack_padded(rows: list[I64]) -> I64:
    """Return ``(len(lists), longest)``, padded with zeros."""
    longest = max(map(len, rows))
    return np.stack([np.pad(values, (0, longest - len(values))) for values in rows])


def _average_flat(layers: int) -> U8:
    """Return the result for each gray level where the image and ``layers`` layers are flat."""
    level = np.arange(256, dtype=np.float32) / np.float32(255)
    total = level
    for _ in range(layers):
        total = total + level
    mean = np.minimum((level + total) / np.float32(layers + 2), np.float32(1))
    means: U8 = (mean * np.float32(255)).astype(np.uint8)
    return means


@lru_cache(maxsize=16)
def _plan_zoom(
    height: int, width: int, channels: int, factors: tuple[float, ...], resample: ResampleLine
) -> _ZoomPlan:
    from shiftproof.corruptions.kernels.blur import LANES

    rows = [resample(height, factor) for factor in factors]
    columns = [resample(width, factor) for factor in factors]
    # A value of 0 is read after the end of the row.
    columns_read = [np.where(c.share + c.next_share > 0, c.first, width + 1) for c in columns]
    runs = [_split_runs(one, channels, LANES) for one in columns_read]
    targets, sources = zip(*runs, strict=True)
    across = np.stack([one.next_share for one in columns])
    shares = np.repeat(across, channels, axis=1).astype(np.float32)
    # Half of the bound is the rounding error of the published sums.
    roundings = len(factors) + 16
    return _ZoomPlan(
        rows=np.stack([one.first for one in rows]),
        up=np.stack([one.share for one in rows]),
        down=np.stack([one.next_share for one in rows]),
        both=np.stack([one.share + one.next_share for one in rows]),
        columns=np.stack(columns_read),
        across=across,
        counts=np.array([len(one) for one in targets], dtype=np.int64),
        targets=_stack_padded(list(targets)),
        sources=_stack_padded(list(sources)),
        shares=np.pad(shares, ((0, 0), (0, LANES))),
        tolerance=bound_rounding(roundings),
        flat=_average_flat(len(factors)),
    )


def _pad_right(rows: U8, channels: int, lanes: int) -> U8:
    """Repeat the last pixel of each row, and append two pixels and ``lanes`` values of 0."""
    height, size = rows.shape
    padded = np.zeros((height, size + 3 * channels + lanes), np.uint8)
    padded[:, :size] = rows
    padded[:, size : size + channels] = rows[:, size - channels :]
    return padded


def _zoom(image: Image, constants: tuple[float, float], resample: ResampleLine) -> Image:
    from shiftproof.corruptions.kernels import blur as kernels
    from shiftproof.corruptions.kernels.lanes import FLOATS

    stop, step = constants
    factors = tuple(np.arange(1, stop, step).tolist())

    height, width = image.shape[:2]
    channels = count_channels(image)
    # The first factor is 1: that layer is the image itself.
    plan = _plan_zoom(height, width, channels, factors[1:], resample)
    out = np.empty_like(image)
    layers, size = plan.shares.shape
    kernels.average_zooms(
        _pad_right(to_rows(image), channels, kernels.LANES),
        channels,
        *plan,
        np.empty((2 * layers, size), np.float32),
        np.full(2 * layers, -1),
        np.empty(width * channels + FLOATS, np.float32),
        np.empty(FLOATS, np.uint8),
        to_rows(out),
    )
    return out


def zoom_blur(
    image: Image, severity: float, rng: Random, table: Sequence[tuple[float, float]] = ZOOM_BLUR
) -> Image:
    """Average the image with enlargements of its center, as when zooming during the exposure.

    The center is enlarged with its corner pixels on the corners, to a little more than the image,
    and cropped at the top left, as in the published code, which shifts the layers by up to a pixel.
    At some sizes the last row or column of a layer is black, because rounding puts it outside.
    """
    return _zoom(image, get_constants(table, severity), _resample_from_corner)


def zoom_blur_corrected(image: Image, severity: float, rng: Random) -> Image:
    """Average the image with enlargements of its center, as when zooming during the exposure.

    Differs from ``zoom_blur``: every layer is enlarged about the image's exact center, and none
    has black edges.
    """
    return _zoom(image, get_constants(ZOOM_BLUR, severity), _resample_from_center)
