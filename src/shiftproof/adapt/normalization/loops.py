"""Sums over a table of images, positions and channels, in one pass each, compiled.

They give the statistics of a norm layer's input and the gradient through them. A table is
``(images, positions, channels)`` float32, the memory layout of channels_last. Import this inside
functions: numba takes half a second to import.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shiftproof.compute.compiled import compile_fused, compile_inner, compiled
from shiftproof.types import F32, F64

ROWS = 64
"""Rows summed in float32 before they are added to the float64 sums; a multiple of 4."""

MAX_TERM = 1e4
"""Upper limit of a channel's term in the mean over channels, which dead channels would dominate."""


class ImageSums(NamedTuple):
    """Sums of :func:`sum_images`.

    Attributes:
        start: ``(C,)`` float32, subtracted from all values.
        sums: ``(images + 1, C)`` sums over the positions; the last row is that of all images.
        squares: ``(images + 1, C)`` sums of squares over the positions, the same.
        positions: positions per image.
    """

    start: F32
    sums: F64
    squares: F64
    positions: int


# Scratch arrays are arguments, and arrays are copied in loops: to compile an allocation, an assignment
# of one array to another, or an operation on arrays takes longer than some of these functions.
@compiled
def _sum_images(table: F32, sums: F64, squares: F64, found: F32, parts: F32) -> None:
    images, positions, columns = table.shape
    start, part, part_squared = found[0], parts[0], parts[1]
    for column in range(columns):
        start[column] = table[0, 0, column]
    sums[images] = 0
    squares[images] = 0
    for image in range(images):
        sums[image] = 0
        squares[image] = 0
        for first in range(0, positions, ROWS):
            part[:] = 0
            part_squared[:] = 0
            last = min(first + ROWS, positions)
            row = first
            while row + 4 <= last:
                for column in range(columns):
                    origin = start[column]
                    a = table[image, row, column] - origin
                    b = table[image, row + 1, column] - origin
                    c = table[image, row + 2, column] - origin
                    d = table[image, row + 3, column] - origin
                    part[column] += (a + b) + (c + d)
                    part_squared[column] += (a * a + b * b) + (c * c + d * d)
                row += 4
            while row < last:
                for column in range(columns):
                    step = table[image, row, column] - start[column]
                    part[column] += step
                    part_squared[column] += step * step
                row += 1
            for column in range(columns):
                sums[image, column] += part[column]
                squares[image, column] += part_squared[column]
        for column in range(columns):
            sums[images, column] += sums[image, column]
            squares[images, column] += squares[image, column]
    count = images * positions
    for column in range(columns):
        step = sums[images, column] / count
        found[1, column] = start[column] + step
        found[2, column] = _keep_above_zero(squares[images, column] / count - step * step)


@compile_inner
def _keep_above_zero(value: float) -> float:
    # max could drop a NaN.
    return 0.0 if value < 0 else value


def sum_images(table: F32) -> tuple[ImageSums, F32, F32]:
    """Return the sums of ``(images, positions, C)``, and ``(C,)`` each: mean and biased variance.

    The first row is subtracted from all values, so that a mean far from 0 costs no precision.
    """
    images, positions, columns = table.shape
    sums, squares = np.empty((2, images + 1, columns))
    found, parts = np.empty((3, columns), np.float32), np.empty((2, columns), np.float32)
    _sum_images(table, sums, squares, found, parts)
    start, mean, variance = found
    return ImageSums(start, sums, squares, positions), mean, variance


@compiled
def _measure_distance(
    start: F32,
    sums: F64,
    squares: F64,
    positions: int,
    mean: F32,
    variance: F32,
    single: float,
    scratch: F64,
) -> tuple[float, float]:
    images, columns = len(sums) - 1, sums.shape[1]
    steps, own, of_means, of_moments = scratch[0], scratch[1], scratch[2], scratch[3]
    for column in range(columns):
        step = sums[images, column] / (images * positions)
        steps[column] = step
        own[column] = _keep_above_zero(squares[images, column] / (images * positions) - step * step)
        of_means[column], of_moments[column] = 0.0, 0.0
    # Image by image, in the order of the memory: a channel at a time is five times slower.
    for image in range(images):
        for column in range(columns):
            step = steps[column]
            image_mean = sums[image, column] / positions
            # Second moment about the batch's mean; its average over images is the batch's variance.
            moment = squares[image, column] / positions - 2 * step * image_mean + step * step
            of_means[column] += (image_mean - step) ** 2
            of_moments[column] += (moment - own[column]) ** 2
    difference_total, distance_total = 0.0, 0.0
    for column in range(columns):
        scale = max(float(variance[column]), 1e-12)
        away = start[column] + steps[column] - mean[column]
        spread = np.sqrt(own[column]) - np.sqrt(scale)
        distance_total += _clip((away * away + spread * spread) / scale)
        if images == 1:
            difference_total += _clip(1 / single)
            continue
        difference = of_means[column] + of_moments[column] / (4 * max(own[column], 1e-12))
        difference_total += _clip(difference / (images - 1) / scale)
    return difference_total / columns, distance_total / columns


@compile_inner
def _clip(value: float) -> float:
    return MAX_TERM if value > MAX_TERM else value


def measure_distance(
    found: ImageSums, mean: F32, variance: F32, single: float
) -> tuple[float, float]:
    """Return the variance between images, and the squared distance of batch and source.

    Both in units of the source's variance and averaged over the channels; see
    :func:`~shiftproof.adapt.normalization.statistics.measure_prior`.

    Args:
        found: the batch's sums.
        mean: ``(C,)`` the source's mean.
        variance: ``(C,)`` the source's variance.
        single: divisor of the source's variance for a batch of one image.
    """
    scratch = np.empty((4, len(mean)))
    difference, distance = _measure_distance(*found, mean, variance, single, scratch)
    return float(difference), float(distance)


@compiled
def _blend(
    mean: F32, variance: F32, new_mean: F32, new_variance: F32, weight: float, out: F32
) -> None:
    # In float32, as torch calculates with a number.
    keep, take = np.float32(1 - weight), np.float32(weight)
    for column in range(len(mean)):
        out[0, column] = keep * mean[column] + take * new_mean[column]
        out[1, column] = keep * variance[column] + take * new_variance[column]


def blend_arrays(mean: F32, variance: F32, new_mean: F32, new_variance: F32, weight: float) -> F32:
    """Return ``(2, C)``: mean and variance moved by ``weight`` towards the new ones."""
    out = np.empty((2, len(mean)), np.float32)
    _blend(mean, variance, new_mean, new_variance, weight, out)
    return out


@compile_fused
def _normalize(
    values: F32, mean: F32, variance: F32, weight: F32, shift: F32, eps: float, out: F32
) -> None:
    rows, columns = values.shape
    scale = np.empty(columns, np.float32)
    offset = np.empty(columns, np.float32)
    for column in range(columns):
        spread = np.sqrt(variance[column] + np.float32(eps))
        factor = np.float32(1) / spread * weight[column]
        scale[column] = factor
        offset[column] = shift[column] - mean[column] * factor
    for row in range(rows):
        for column in range(columns):
            out[row, column] = values[row, column] * scale[column] + offset[column]


def normalize(
    values: F32, mean: F32, variance: F32, weight: F32, shift: F32, eps: float, out: F32
) -> None:
    """Write ``weight (x - mean) / sqrt(variance + eps) + shift`` of ``(M, C)`` to ``out``.

    The same operations as torch's batch norm in evaluation, so the same bits where both processors'
    loops round alike.
    """
    _normalize(values, mean, variance, weight, shift, eps, out)


# ---------------------------------------------------------------- the gradient


@compile_inner
def _sum_gradient(
    gradient: F32, values: F32, center: F32, part: F32, part_product: F32, totals: F64
) -> None:
    rows, columns = values.shape
    sums, products = totals[0], totals[1]
    sums[:] = 0
    products[:] = 0
    for first in range(0, rows, ROWS):
        part[:] = 0
        part_product[:] = 0
        last = min(first + ROWS, rows)
        row = first
        while row + 2 <= last:
            for column in range(columns):
                a, b = gradient[row, column], gradient[row + 1, column]
                origin = center[column]
                part[column] += a + b
                part_product[column] += a * (values[row, column] - origin) + b * (
                    values[row + 1, column] - origin
                )
            row += 2
        while row < last:
            for column in range(columns):
                a = gradient[row, column]
                part[column] += a
                part_product[column] += a * (values[row, column] - center[column])
            row += 1
        for column in range(columns):
            sums[column] += part[column]
            products[column] += part_product[column]


@compile_inner
def _subtract_means(
    gradient: F32, values: F32, center: F32, scale: F32, constant: F32, slope: F32, out: F32
) -> None:
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            out[row, column] = (
                scale[column] * gradient[row, column]
                - constant[column]
                - slope[column] * (values[row, column] - center[column])
            )


@compiled
def _differentiate(
    gradient: F32,
    values: F32,
    mean: F32,
    variance: F32,
    batch_mean: F32,
    weight: F32,
    share: float,
    eps: float,
    normalizes: bool,
    parts: F32,
    totals: F64,
    out: F32,
    found: F32,
) -> None:
    rows, columns = values.shape
    _sum_gradient(gradient, values, mean, parts[0], parts[1], totals)
    sums, products = totals[0], totals[1]
    # Not arguments: the compiler then knows that they do not overlap, and the loops are faster.
    scale = np.empty(columns, np.float32)
    constant = np.empty(columns, np.float32)
    slope = np.empty(columns, np.float32)
    for column in range(columns):
        spread = np.sqrt(variance[column] + eps)
        factor = weight[column] / spread if normalizes else 1.0
        scale[column] = factor
        constant[column] = share * factor * sums[column] / rows
        slope[column] = share * factor * products[column] / (rows * spread * spread)
        found[0, column] = products[column] / spread
        found[1, column] = sums[column]
    _subtract_means(gradient, values, batch_mean, scale, constant, slope, out)


def differentiate(
    gradient: F32,
    values: F32,
    mean: F32,
    variance: F32,
    batch_mean: F32,
    weight: F32 | None,
    share: float,
    eps: float,
    out: F32,
) -> F32:
    """Write the gradient in the values of a table to ``out``; return the gradients in scale and
    shift.

    Args:
        gradient: ``(M, C)`` gradient in ``weight (x - mean) / sqrt(variance + eps) + shift``;
            without a weight, the gradient in x with constant statistics.
        values: ``(M, C)``, x.
        mean: ``(C,)`` mean for the normalization.
        variance: ``(C,)`` variance for the normalization.
        batch_mean: ``(C,)`` mean of the values.
        weight: ``(C,)`` scale, or None.
        share: weight of the values' own statistics in mean and variance.
        eps: the layer's epsilon.
        out: ``(M, C)`` output.

    Returns:
        ``(2, C)``; meaningless without a weight.
    """
    found, parts = np.empty((2, 2, len(mean)), np.float32)
    totals = np.empty((2, len(mean)))
    factors = mean if weight is None else weight
    _differentiate(
        gradient, values, mean, variance, batch_mean, factors, share, eps, weight is not None,
        parts, totals, out, found,
    )  # fmt: skip
    return found
