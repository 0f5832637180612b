"""Filters for several families, as pure functions of arrays."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from shiftproof.types import F32, F64, I64, U8, U32, Image

Number = TypeVar("Number", bound=np.generic)

LUMA = (0.2989, 0.5870, 0.1140)
"""Weights of RGB in gray."""

COPIES = 8
"""Number of shifted copies that the kernels sum at a time."""

READ_AHEAD = 132
"""Bytes that the kernels may read beyond the filtered ones: two times 64 and a pixel's channels."""


def count_channels(image: Image) -> int:
    """Return 3 for a color image, 1 for a gray one."""
    return 3 if image.ndim == 3 else 1


def compute_luma(values: NDArray[Any]) -> F64:
    """Return the gray of RGB, ``(..., 3)`` to ``(...)``."""
    return np.asarray(values @ np.array(LUMA))


def expand_like(layer: NDArray[Number], image: Image) -> NDArray[Number]:
    """Return a layer ``(H, W)`` that broadcasts to an image: ``(H, W, 1)`` for a color image."""
    return layer if image.ndim == 2 else layer[..., np.newaxis]


def add_channel_axis(image: U8) -> U8:
    """Return ``(H, W, C)`` of ``(H, W, 3)`` or ``(H, W)``, sharing its memory."""
    return image.reshape(image.shape[0], image.shape[1], -1)


def to_rows(image: U8) -> U8:
    """Return ``(H, W * C)``, sharing its memory."""
    return image.reshape(image.shape[0], -1)


def pack_pixels(image: U8) -> U32:
    """Pack the channels of each pixel into a 32-bit word, from the lowest byte on; ``(H, W)``."""
    import cv2

    if image.ndim == 2:
        return image.astype(np.uint32)
    packed = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    return np.asarray(packed, dtype=np.uint8).view("<u4")[..., 0]


def round_exp(values: NDArray[np.floating]) -> F64:
    """Return the exponentials of a few numbers, correctly rounded on every machine.

    The last bit of ``np.exp`` depends on the processor and on NumPy's version, and in a flat area
    the last bit of a kernel's weights decides whether a gray level is lost.
    """
    return np.array([float(Decimal(value).exp()) for value in values.tolist()])


def bound_rounding(partial: float) -> np.float32:
    """Return a bound of the error of a weighted sum of bytes in float32, in gray levels.

    ``partial`` is the sum of all rounded intermediate values if every byte is 1.
    """
    bound: np.float32 = np.float32(1.01 * 255 * 2.0**-24 * partial)
    return bound


@lru_cache(maxsize=256)
def compute_gaussian_weights(sigma: float, truncate: float = 4.0) -> F64:
    """Return a Gaussian kernel from its center outwards, whose two sides sum to 1.

    It ends at ``truncate`` sigmas.
    """
    radius = int(truncate * sigma + 0.5)
    x = np.arange(-radius, radius + 1)
    weights = round_exp(-0.5 / (sigma * sigma) * x**2) if radius else np.ones(1)
    half: F64 = (weights / weights.sum())[radius:]
    return half


def _order_from_outside(half: F64) -> F32:
    """Return a kernel's center and then its weights from the outside inwards, the loops' order."""
    return np.concatenate([half[:1], half[:0:-1]]).astype(np.float32)


def add_margin(image: Image, margin: int) -> U8:
    """Return an image with ``margin`` columns repeated on either side, and a few more on the right.

    The loops read ``READ_AHEAD`` values beyond the last.
    """
    import cv2

    right = margin - (-READ_AHEAD // count_channels(image))
    padded = cv2.copyMakeBorder(image, 0, 0, margin, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, dtype=np.uint8)


@lru_cache(maxsize=64)
def _extend_indices(size: int, radius: int, *, reflect: bool) -> I64:
    """Return the pixel of a line for each index from ``-radius`` to ``size + radius - 1``."""
    indices = np.arange(-radius, size + radius)
    if not reflect:
        return np.clip(indices, 0, size - 1)
    indices %= 2 * size
    return np.minimum(indices, 2 * size - 1 - indices)


class _Float32Kernel(NamedTuple):
    """A kernel in float32, and its exact results in flat areas."""

    single: F32
    tolerance: np.float32
    """Bound of the error of sums in float32, in gray levels."""
    flat: U8
    """``(256,)``, the result for each gray level where all are equal."""


@lru_cache(maxsize=64)
def _prepare_gaussian(sigma: float) -> _Float32Kernel:
    half = compute_gaussian_weights(sigma)
    levels = np.arange(256) / 255.0
    for _ in range(2):
        total = levels * half[0]
        for weight in half[:0:-1]:
            total = total + (levels + levels) * weight
        levels = total
    # In both passes the weights, pairs, products and all intermediate sums are rounded.
    order = np.concatenate([half[:1], 2 * half[:0:-1]])
    partial = 2 * (3 * order.sum() + np.cumsum(order).sum())
    flat = (np.minimum(levels, 1) * 255).astype(np.uint8)
    return _Float32Kernel(_order_from_outside(half), bound_rounding(partial), flat)


def blur_gaussian(image: Image, sigma: float) -> Image:
    """Smooth an image with a Gaussian truncated at 4 sigmas, the edge repeated; truncates to
    bytes.
    """
    from shiftproof.corruptions.kernels import filters as kernels
    from shiftproof.corruptions.kernels.lanes import FLOATS

    half, kernel = compute_gaussian_weights(sigma), _prepare_gaussian(sigma)
    radius, channels = len(half) - 1, count_channels(image)
    padded = to_rows(add_margin(image, radius))
    out = np.empty_like(image)
    strip = min(to_rows(out).shape[1], kernels.STRIP)
    margin = 2 * radius * channels
    kernels.filter_bytes(
        padded,
        channels,
        half,
        *(kernel.single, kernel.tolerance, np.arange(256) / 255.0, kernel.flat),
        _extend_indices(len(image), radius, reflect=False) % (2 * radius + 1),
        np.empty((2 * radius + 2, strip + margin + FLOATS), np.float32),
        np.empty((3, 2 * radius + 2), np.int64),
        np.empty(FLOATS, np.float32),
        np.empty(FLOATS + margin),
        np.zeros(4 * FLOATS + margin, np.uint8),
        to_rows(out),
    )
    return out


def filter_gaussian(
    values: F32, sigma: float | tuple[float, float], *, truncate: float = 4.0, reflect: bool = False
) -> F32:
    """Smooth ``(H, W)``.

    Args:
        values: any range.
        sigma: in pixels, for both axes or as (down, across).
        truncate: the kernel ends at this many sigmas.
        reflect: mirror at the edges; otherwise the edge is repeated.
    """
    from shiftproof.corruptions.kernels import filters as kernels
    from shiftproof.corruptions.kernels.lanes import FLOATS

    down, across = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    row_kernel, column_kernel = (
        compute_gaussian_weights(axis_sigma, truncate) for axis_sigma in (down, across)
    )
    radius, margin = len(row_kernel) - 1, len(column_kernel) - 1
    size, width = values.size, values.shape[1]
    source, out = np.empty((2, size + FLOATS), np.float32)
    source[:size] = values.reshape(-1)
    kernels.filter_floats(
        source,
        width,
        _order_from_outside(row_kernel),
        _order_from_outside(column_kernel),
        _extend_indices(values.shape[0], radius, reflect=reflect),
        _extend_indices(width, margin, reflect=reflect),
        np.empty(2 * max(radius, margin) + 1, np.int64),
        np.empty(width + 2 * margin + FLOATS, np.float32),
        out,
    )
    return out[:size].reshape(values.shape)


class Weights(NamedTuple):
    """The weights of copies, padded with zeros to a multiple of 8."""

    exact: F64
    single: F32
    """The same in float32."""
    tolerance: np.float32
    """Bound of the error of sums in float32, in gray levels."""
    flat_sums: F64
    """``(256,)``, the sums where all copies have the same gray level, in float64 in their order."""


@lru_cache(maxsize=64)
def _compute_streak_weights(radius: int, sigma: float, count: int) -> Weights:
    length = 2 * radius + 1
    exponents = -(np.arange(length) ** 2) / (2 * sigma**2)
    shares = round_exp(exponents) / (np.sqrt(2 * np.pi) * sigma)
    exact = np.pad((shares / shares.sum())[:count], (0, -count % COPIES))
    flat_sums = np.add.accumulate(np.arange(256) * exact[:, np.newaxis])[-1]
    # Weights, products, three levels of sums of eight, and the total are rounded.
    partial = 5 * exact.sum() + np.cumsum(exact.reshape(-1, COPIES).sum(axis=1)).sum()
    return Weights(exact, exact.astype(np.float32), bound_rounding(partial), flat_sums)


class Streak(NamedTuple):
    """The copies of an image whose sum is a streak, padded to a multiple of 8 with weights of 0."""

    down: I64
    """``(8 m,)``, rows by which each copy moves down."""
    right: I64
    """``(8 m,)``, columns by which it moves to the right."""
    weights: Weights
    """``(8 m,)``."""
    margin: int
    """The farthest move to the left or right."""


def make_streak(radius: int, sigma: float, angle: float, height: int, width: int) -> Streak:
    """Return a one-sided Gaussian streak.

    Args:
        radius: the streak is ``2 radius + 1`` pixels long.
        sigma: of the Gaussian, whose peak is at the start.
        angle: in degrees, clockwise from the right.
        height: of the image. The streak ends where a copy would lie completely outside, and the
            remaining weights then sum to less than 1, as in the published code.
        width: see ``height``.
    """
    length = 2 * radius + 1
    # The length stays in the fraction, for the rounding of the published code.
    end_y, end_x = length * math.sin(math.radians(angle)), length * math.cos(math.radians(angle))
    distance = math.hypot(end_y, end_x)
    down, right = [], []
    for i in range(length):
        dy = -math.ceil(i * end_y / distance - 0.5)
        dx = -math.ceil(i * end_x / distance - 0.5)
        if abs(dy) >= height or abs(dx) >= width:
            break
        down.append(dy)
        right.append(dx)
    padding = [0] * (-len(down) % COPIES)
    return Streak(
        np.array(down + padding, dtype=np.int64),
        np.array(right + padding, dtype=np.int64),
        _compute_streak_weights(radius, sigma, len(down)),
        max(map(abs, right)),
    )


def smear_bytes(
    image: Image, radius: int, sigma: float, angle: float, *, rounded: bool = False
) -> Image:
    """Smear an image along a streak, the edge repeated; rounds or truncates to bytes."""
    from shiftproof.corruptions.kernels import filters as kernels
    from shiftproof.corruptions.kernels.lanes import FLOATS

    channels, rounding = count_channels(image), 0.5 if rounded else 0.0
    copies = make_streak(radius, sigma, angle, image.shape[0], image.shape[1])
    margin = copies.margin * channels
    exact, single, tolerance, flat_sums = copies.weights
    out = np.empty_like(image)
    strip = min(to_rows(out).shape[1], kernels.STRIP)
    kernels.smear_bytes(
        to_rows(add_margin(image, copies.margin)),
        margin,
        copies.down,
        margin - copies.right * channels,
        *(exact, single, tolerance, np.minimum(flat_sums + rounding, 255).astype(np.uint8)),
        rounding,
        np.empty((int(np.ptp(copies.down)) + 1, strip + 2 * margin + FLOATS), np.float32),
        np.empty_like(copies.down),
        np.empty(FLOATS, np.float32),
        np.empty(FLOATS),
        np.empty_like(copies.down),
        np.empty(FLOATS, np.uint8),
        to_rows(out),
    )
    return out


def smear_layer(padded: F32, copies: Streak, height: int, width: int) -> Image:
    """Smear a layer in 0..1 along a streak, and round the top left of it to bytes.

    Args:
        padded: ``(rows, columns + 2 copies.margin)``, the edge repeated.
        copies: of the layer's size.
        height: of the part, at most ``rows``.
        width: of the part, at most ``columns``.
    """
    from shiftproof.corruptions.kernels import weather as kernels
    from shiftproof.corruptions.kernels.lanes import FLOATS

    exact, single, tolerance, _ = copies.weights
    out = np.empty((height, width), np.uint8)
    kernels.smear_to_bytes(
        padded,
        copies.down,
        copies.margin - copies.right,
        *(exact, single, tolerance),
        np.empty((int(np.ptp(copies.down)) + 1, padded.shape[1] + FLOATS), np.float32),
        np.empty_like(copies.down),
        np.empty(FLOATS, np.float32),
        np.empty(FLOATS),
        np.empty(FLOATS, np.uint8),
        out,
    )
    return out


def compute_center_crop(size: int, factor: float) -> tuple[int, int, int]:
    """Return (start, length, enlarged length) of the center to enlarge by ``factor``."""
    length = math.ceil(size / float(factor))
    return (size - length) // 2, length, round(length * factor)


class Resampling(NamedTuple):
    """Linear resampling of a line of pixels; every array ``(size,)``."""

    first: I64
    """The first of two neighbors."""
    share: F64
    """Weight of the first."""
    next_share: F64
    """Weight of the second."""


def compute_bilinear_resampling(start: int, length: int, enlarged: int, size: int) -> Resampling:
    """Return the resampling for the first ``size`` pixels of an enlargement.

    The first and last pixels of the part (start, length) of the line fall on the first and last of
    ``enlarged`` pixels. If rounding puts the last position beyond the part, both weights are 0, as
    in scipy.ndimage.zoom.
    """
    step = (length - 1) / (enlarged - 1) if enlarged > 1 else 1.0
    positions = np.arange(size) * step
    first = np.minimum(positions.astype(np.int64), length - 1)
    inside = positions <= length - 1
    next_share = np.where(inside, positions - first, 0.0)
    return Resampling(start + first, np.where(inside, 1.0 - next_share, 0.0), next_share)


def unpack_pixels(packed: U32, out: Image) -> None:
    """Unpack words ``(H, W)``, one per pixel, to the channels of an image."""
    import cv2

    if out.ndim == 2:
        np.copyto(out, packed, casting="unsafe")
    else:
        cv2.cvtColor(packed.view(np.uint8).reshape(*packed.shape, 4), cv2.COLOR_RGBA2RGB, dst=out)
