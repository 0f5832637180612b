"""A batch's statistics in a layer and their share, as plain operators.

The formulas are those of :mod:`shiftproof.adapt.statistics` and :mod:`shiftproof.adapt.shares`.
Values are counted from the source's mean: the variance as the mean of squares less the squared mean
is then as exact as in two passes, unless the shift is many times the spread.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shiftproof.adapt.graphs.operators import Operators, Value
from shiftproof.adapt.priors import MARGIN, SMALL_BATCH_FACTOR, Prior

_TINY = 1e-12
_MOST = 1e4
SINGLE_IMAGE = 2.0
"""As in :data:`shiftproof.adapt.statistics.SINGLE_IMAGE`, which needs torch to be read."""


@dataclass(frozen=True)
class Batch:
    """What all layers share, computed once from the graph's input.

    Attributes:
        images: n, one number.
        share: ``n / (N + n)`` with a prior that is a number, else None.
        is_finite: whether no pixel is NaN or infinite; None where the input is of whole numbers.
        margin: how many times chance the distance must be, where the prior is measured.
        totals: after each layer that has measured its share, the sum of all shares so far.
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
    """Compute what all layers share.

    Args:
        ops: takes the nodes.
        image: the graph's input, images along its first axis.
        count: how many, where that is fixed.
        prior: N, ``"measured"`` or ``"layerwise"``.
        floating: whether the input may hold NaN.
    """
    images = ops.constant(float(count)) if count else _count_images(ops, image)
    share = margin = None
    if isinstance(prior, str):
        margin = _find_margin(ops, images) if prior == "measured" else ops.constant(1.0)
    else:
        share = ops.calculate("Div", images, ops.calculate("Add", images, float(prior)))
    return Batch(images, share, _find_finite(ops, image) if floating else None, margin)


def measure_moments(
    ops: Operators, values: Value, axes: int, *, images: Value | None, channels: int
) -> Moments:
    """Return the moments of ``(N, C, ...)``, which is counted from the source's mean.

    Args:
        ops: takes the nodes.
        values: the layer's input less the source's mean.
        axes: how many it has.
        images: how many images the N rows are of, where that may be fewer than N; each has rows
            that follow each other, and they count as positions.
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
    """Return mean and variance over all but the channels, where single images do not matter."""
    others = [axis for axis in range(axes) if axis != 1]
    mean = ops.mean(values, others)
    square = ops.mean(ops.square(values), others)
    return mean, _subtract_square(ops, square, mean)


def measure_share(
    ops: Operators, moments: Moments, variance: NDArray[np.float64], batch: Batch, prior: Prior
) -> Value:
    """Return the share of a batch in a layer, measured on itself, and note it in ``batch``.

    With V, how much images differ, and D, the squared distance from the source, it is
    ``n D / (V + n D)``, which is n / (N + n) at N = V / D; 0 where D is not above 0.
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


def _find_margin(ops: Operators, images: Value) -> Value:
    others = ops.calculate("Max", ops.calculate("Sub", images, 1.0), 1.0)
    return ops.calculate("Add", ops.calculate("Div", MARGIN * SMALL_BATCH_FACTOR, others), MARGIN)


def _find_finite(ops: Operators, image: Value) -> Value:
    """Whether all pixels are: 0 times anything else is NaN."""
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
    """Return how much images differ, per channel: means, and spreads by the delta method."""
    others = ops.calculate("Sub", images, 1.0)
    twice = ops.calculate("Mul", ops.calculate("Mul", moments.mean, 2.0), moments.image_means)
    about = ops.calculate("Add", moments.image_squares, ops.square(moments.mean))
    own = ops.calculate("Sub", about, twice)
    of_means = _vary(ops, moments.image_means, others)
    bounded = ops.calculate("Mul", ops.calculate("Max", moments.variance, _TINY), 4.0)
    of_spreads = ops.calculate("Div", _vary(ops, own, others), bounded)
    several = ops.calculate("Greater", others, 0.5)
    single = ops.calculate("Div", scale, SINGLE_IMAGE)
    return ops.add("Where", [several, ops.calculate("Add", of_means, of_spreads), single])


def _vary(ops: Operators, values: Value, others: Value) -> Value:
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
    bounded = ops.calculate("Min", ops.calculate("Div", value, scale), _MOST)
    return ops.mean(bounded, None, keep=False)
