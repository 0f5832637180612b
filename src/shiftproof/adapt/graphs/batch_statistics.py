"""Batch statistics of a layer and their share, as plain operators.

The formulas are those of :mod:`shiftproof.adapt.normalization.statistics` and
:mod:`shiftproof.adapt.normalization.shares`. The
source's mean is subtracted from the values first: then the mean of squares minus the squared mean
is as exact as a two-pass variance, unless the shift is many times the standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shiftproof.adapt.graphs.operators import Operators, Value
from shiftproof.adapt.normalization.priors import MARGIN, SMALL_BATCH_FACTOR, Prior

_TINY = 1e-12
_MAX_RATIO = 1e4
SINGLE_IMAGE = 2.0
"""As :data:`shiftproof.adapt.normalization.statistics.SINGLE_IMAGE`, whose module imports torch."""


@dataclass(frozen=True)
class Batch:
    """Values common to all layers, computed once from the graph's input.

    Attributes:
        images: n, a scalar.
        share: ``n / (N + n)`` for a numeric prior, else None.
        is_finite: whether all pixels are finite; None for an integer input.
        margin: for a measured prior, the factor by which the distance must exceed chance.
        totals: the sum of all shares so far, after each layer that measures its share.
    """

    images: Value
    share: Value | None
    is_finite: Value | None
    margin: Value | None
    totals: list[Value] = field(default_factory=list)


@dataclass(frozen=True)
class Moments:
    """Means over positions per image ``(n, C, 1, ...)``, and over all ``(1, C, 1, ...)``."""

    image_means: Value
    image_squares: Value
    mean: Value
    variance: Value


def describe_batch(
    ops: Operators, image: Value, count: int | None, *, prior: Prior, floating: bool
) -> Batch:
    """Compute the values common to all layers.

    Args:
        ops: collects the nodes.
        image: the graph's input, images along its first axis.
        count: the fixed batch size, if any.
        prior: N, ``"measured"`` or ``"layerwise"``.
        floating: whether the input may hold NaN.
    """
    images = ops.constant(float(count)) if count else _count_images(ops, image)
    share = margin = None
    if isinstance(prior, str):
        margin = _compute_margin(ops, images) if prior == "measured" else ops.constant(1.0)
    else:
        share = ops.calculate("Div", images, ops.calculate("Add", images, float(prior)))
    return Batch(images, share, _check_finite(ops, image) if floating else None, margin)


def measure_moments(
    ops: Operators, values: Value, axes: int, *, images: Value | None, channels: int
) -> Moments:
    """Return the moments of ``(N, C, ...)``.

    Args:
        ops: collects the nodes.
        values: the layer's input minus the source's mean.
        axes: number of axes.
        images: number of images, if it may be fewer than N; each image has consecutive rows, which
            count as positions.
        channels: C.
    """
    positions = list(range(2, axes))
    squares = ops.square(values)
    means = ops.mean(values, positions) if positions else values
    seconds = ops.mean(squares, positions) if positions else squares
    if images is not None:
        means, seconds = (
            _gather_rows(ops, part, images, axes, channels) for part in (means, seconds)
        )
    return _pool_images(ops, means, seconds)


def measure_pooled_moments(ops: Operators, values: Value, axes: int) -> tuple[Value, Value]:
    """Return mean and variance per channel, without moments of single images."""
    others = [axis for axis in range(axes) if axis != 1]
    mean = ops.mean(values, others)
    square = ops.mean(ops.square(values), others)
    return mean, _subtract_square(ops, square, mean)


def measure_share(
    ops: Operators, moments: Moments, variance: NDArray[np.float64], batch: Batch, prior: Prior
) -> Value:
    """Return the measured share of a batch in a layer, and add it to ``batch.totals``.

    With the variation V between images and the squared distance D from the source it is
    ``n D / (V + n D)``, which is n / (N + n) at N = V / D; 0 unless D is positive.
    """
    scale = ops.constant(np.maximum(variance, _TINY))
    difference = _compare_images(ops, moments, scale, batch.images)
    V = _average_in_units(ops, difference, scale)
    distance = _measure_distance(ops, moments, variance)
    chance = ops.calculate("Div", ops.calculate("Mul", str(batch.margin), V), batch.images)
    D = ops.calculate("Sub", _average_in_units(ops, distance, scale), chance)
    weight = ops.calculate("Mul", batch.images, D)
    share = ops.calculate("Div", weight, ops.calculate("Add", V, weight))
    measurable = ops.add(
        "And", [ops.calculate("Greater", D, 0.0), ops.calculate("Greater", V, 0.0)]
    )
    share = ops.calculate("Where", measurable, share, 0.0)
    if prior == "layerwise":
        return share
    total = ops.add("Add", [batch.totals[-1], share]) if batch.totals else share
    batch.totals.append(total)
    return ops.calculate("Mul", share, ops.calculate("Div", total, float(len(batch.totals))))


# ---------------------------------------------------------------- the batch


def _count_images(ops: Operators, image: Value) -> Value:
    first = ops.add("Gather", [ops.add("Shape", [image]), ops.constant(0, np.int64)], axis=0)
    return ops.cast_to_numbers(first)


def _compute_margin(ops: Operators, images: Value) -> Value:
    others = ops.calculate("Max", ops.calculate("Sub", images, 1.0), 1.0)
    return ops.calculate("Add", ops.calculate("Div", MARGIN * SMALL_BATCH_FACTOR, others), MARGIN)


def _check_finite(ops: Operators, image: Value) -> Value:
    """Return whether all pixels are finite: 0 times any other value is NaN."""
    values = ops.cast_to_numbers(image)
    total = ops.sum(ops.calculate("Mul", values, 0.0), None, keep=False)
    return ops.add("Not", [ops.add("IsNaN", [total])])


# ---------------------------------------------------------------- one layer


def _gather_rows(ops: Operators, value: Value, images: Value, axes: int, channels: int) -> Value:
    """Average the rows of each image: ``(N, C, 1, ...)`` to ``(n, C, 1, ...)``."""
    count = ops.reshape(ops.cast(images, 7), [1])
    tail = ops.constant([-1, channels, *[1] * (axes - 2)], np.int64)
    shape = ops.add("Concat", [count, tail], axis=0)
    return ops.mean(ops.reshape(value, shape), [1], keep=False)


def _pool_images(ops: Operators, means: Value, seconds: Value) -> Moments:
    mean, second = ops.mean(means, [0]), ops.mean(seconds, [0])
    return Moments(means, seconds, mean, _subtract_square(ops, second, mean))


def _subtract_square(ops: Operators, second: Value, mean: Value) -> Value:
    return ops.calculate("Max", ops.calculate("Sub", second, ops.square(mean)), 0.0)


def _compare_images(ops: Operators, moments: Moments, scale: Value, images: Value) -> Value:
    """Return the variation between images per channel: of means, and of standard deviations by the
    delta method.
    """
    others = ops.calculate("Sub", images, 1.0)
    twice = ops.calculate("Mul", ops.calculate("Mul", moments.mean, 2.0), moments.image_means)
    about = ops.calculate("Add", moments.image_squares, ops.square(moments.mean))
    own = ops.calculate("Sub", about, twice)
    of_means = _compute_variance(ops, moments.image_means, others)
    bounded = ops.calculate("Mul", ops.calculate("Max", moments.variance, _TINY), 4.0)
    of_spreads = ops.calculate("Div", _compute_variance(ops, own, others), bounded)
    several = ops.calculate("Greater", others, 0.5)
    single = ops.calculate("Div", scale, SINGLE_IMAGE)
    return ops.add("Where", [several, ops.calculate("Add", of_means, of_spreads), single])


def _compute_variance(ops: Operators, values: Value, others: Value) -> Value:
    """Return the unbiased variance over the first axis."""
    away = ops.calculate("Sub", values, ops.mean(values, [0]))
    total = ops.sum(ops.square(away), [0])
    return ops.calculate("Div", total, ops.calculate("Max", others, 1.0))


def _measure_distance(ops: Operators, moments: Moments, variance: NDArray[np.float64]) -> Value:
    """Return the squared 2-Wasserstein distance of two normal distributions, per channel."""
    spread = ops.add("Sqrt", [moments.variance])
    wider = ops.calculate("Sub", spread, np.sqrt(np.maximum(variance, _TINY)))
    return ops.calculate("Add", ops.square(moments.mean), ops.square(wider))


def _average_in_units(ops: Operators, value: Value, scale: Value) -> Value:
    bounded = ops.calculate("Min", ops.calculate("Div", value, scale), _MAX_RATIO)
    return ops.mean(bounded, None, keep=False)
