"""Bootstrap confidence intervals over images, paired between all metrics of the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof.types import F32, F64

LEVEL = 0.95
"""Confidence level of the intervals."""

REPLICATES = 1000
"""Number of bootstrap resamples."""

BLOCK_BYTES = 64_000_000
"""Memory of one block of weights; a thousand resamples of a million images are several blocks."""

MIN_IMAGES = 2
"""Number of images from which resamples differ: those of one image say nothing about others."""

_DRAWS_PER_CALL = 1 << 16
"""Draws of one call: with few images, a call for each resample would be slow."""

GROUP_BYTES = 256_000_000
"""Memory of a group of tables that are summed at once; each group draws the weights again."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval, in the value's unit.

    The bounds are None if there was nothing to resample.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval with both of its ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("an interval with its low end below its high end")

    @property
    def bare(self) -> bool:
        """Whether there are no bounds."""
        return self.low is None

    @property
    def lower(self) -> float:
        """The lower bound, or the value itself without one."""
        return self.value if self.low is None else self.low

    @property
    def upper(self) -> float:
        """The upper bound, or the value itself without one."""
        return self.value if self.high is None else self.high

    @property
    def spans_zero(self) -> bool:
        """Whether a difference is not significant: 0 is inside, or there is no interval."""
        return self.bare or self.lower <= 0 <= self.upper

    @property
    def is_zero(self) -> bool:
        """Whether a difference is 0 in all resamples."""
        return self.value == self.low == self.high == 0


def resample_weights(count: int, replicates: int = REPLICATES, *, seed: int = 0) -> Iterator[F32]:
    """Yield blocks ``(r, count)`` of the images' counts in each resample.

    Each row is one resample of ``count`` images with replacement, so it sums to ``count``. All
    blocks together have ``replicates`` rows, which depend only on ``count`` and ``seed``, not on
    the block size. Using the same weights for all models and cells makes differences paired (Efron
    & Tibshirani 1993, chapter 8).

    Raises:
        InputError: no images, or no resamples.
    """
    _check_counts(count, replicates)
    return _draw_weights(count, replicates, seed)


def _check_counts(count: int, replicates: int) -> None:
    if count < 1:
        raise InputError(f"Expected at least one image to resample, got {count}.")
    if replicates < 1:
        raise InputError(f"Expected at least one resample, got {replicates}.")


def _draw_weights(count: int, replicates: int, seed: int) -> Iterator[F32]:
    rows = count_block_rows(count)
    rows_per_call = max(1, _DRAWS_PER_CALL // count)
    random = generator(seed, "bootstrap", str(count))
    for start in range(0, replicates, rows):
        block = np.empty((min(rows, replicates - start), count), dtype=np.float32)
        for first in range(0, len(block), rows_per_call):
            part = block[first : first + rows_per_call]
            indices = random.integers(0, count, part.shape)
            indices += count * np.arange(len(part))[:, None]
            part[:] = np.bincount(indices.ravel(), minlength=part.size).reshape(part.shape)
        yield block


def sum_resamples(
    tables: Sequence[Callable[[], ArrayLike]],
    count: int,
    replicates: int = REPLICATES,
    *,
    seed: int = 0,
    done: Callable[[], None] | None = None,
) -> list[F64]:
    """Return the sums of every table's columns over the images, and over each resample.

    Args:
        tables: functions that return ``(count, columns)``, one row per image. Each is called once,
            and not all tables are in memory at once.
        count: number of images.
        replicates: number of resamples.
        seed: random seed of the resamples.
        done: called after each table of each block, for a progress display.

    Returns:
        For each table ``(1 + replicates, columns)``; the first row is the sum over the original
        images. Results are bit-for-bit independent of threads, processor and block size: integers
        are summed exactly, other values after rounding to about ten digits of the column's maximum.
        A column with a value that is not finite sums to NaN, and so does every resample of a single
        image.

    Raises:
        InputError: no images, no resamples, or a table of another shape.
    """
    sums: list[F64] = []
    _check_counts(count, replicates)
    for group in _group_tables(tables, count):
        # One matrix product for all tables takes half the time of one for each; the sums are exact.
        ends = np.cumsum([values.shape[1] for values in group])[:-1]
        stacked = np.concatenate(group, axis=1)
        table_count = len(group)
        group.clear()
        rows = [stacked.sum(axis=0)[None]]
        for weights in _draw_weights(count, replicates, seed):
            rows.append(weights.astype(np.float64) @ stacked)
            if done is not None:
                for _ in range(table_count):
                    done()
        sums += np.split(blank_resamples(np.concatenate(rows), count), ends, axis=1)
    return sums


def blank_resamples(values: F64, count: int) -> F64:
    """Return ``(1 + R, ...)`` values, with NaN for the resamples of fewer than ``MIN_IMAGES``."""
    if count < MIN_IMAGES:
        values[1:] = np.nan
    return values


def _group_tables(tables: Sequence[Callable[[], ArrayLike]], count: int) -> Iterator[list[F64]]:
    """Yield groups of tables that fit in memory, as computing a table takes longer than summing."""
    group: list[F64] = []
    for table in tables:
        values = make_summable(table(), count)
        if group and sum(held.nbytes for held in group) + values.nbytes > GROUP_BYTES:
            yield group
            group = []
        group.append(values)
    if group:
        yield group


def count_blocks(count: int, replicates: int = REPLICATES) -> int:
    """Return the number of blocks of resamples, which is the number of calls of ``done`` per table."""
    return -(-replicates // count_block_rows(count))


def count_block_rows(count: int) -> int:
    """Return the number of resamples of ``count`` images in a block of weights."""
    return max(1, BLOCK_BYTES // (8 * count))


def make_summable(values: ArrayLike, count: int) -> F64:
    """Return ``(count, columns)`` values, rounded so that their sums over resamples are exact.

    A matrix product adds in an order that depends on the number of threads and on the processor.
    Integers below 2^53 have the same sum in any order, and with weights that sum to N the sums are
    at most N x peak.

    Raises:
        InputError: values of another shape.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != count:
        raise InputError(f"Expected values of shape ({count}, columns), got {table.shape}.")
    peak = np.maximum(table.max(axis=0), -table.min(axis=0))
    return round_to_scale(table, find_exact_scale(peak, count))


def find_exact_scale(peak: F64, count: int) -> F64:
    """Return powers of two such that sums of values rounded to multiples of 1 / scale are exact.

    Args:
        peak: the largest absolute value of each column.
        count: number of images in a resample.

    Returns:
        The scale of each column; NaN for a peak that is not finite.
    """
    finite = np.isfinite(peak)
    exponent = np.frexp(np.where(finite, peak, 1) * count)[1]
    return np.where(finite, np.ldexp(1.0, np.minimum(52 - exponent, 1000)), np.nan)


def round_to_scale(values: F64, scale: F64) -> F64:
    """Round values to integer multiples of 1 / ``scale``."""
    rounded = np.asarray(values * scale)
    np.rint(rounded, out=rounded)
    return np.divide(rounded, scale, out=rounded)


def percentile_interval(replicates: ArrayLike, *, level: float = LEVEL) -> Interval | None:
    """Return a value with its percentile interval from ``(1 + R,)`` replicates.

    The ends are percentiles of the finite resamples (Efron & Tibshirani 1993, chapter 13), and
    there are none without such a resample, as of a single image; the result is None if the value
    itself is not finite. With few images the bounds are rough, and if all images agree (0 errors in
    20) the interval has no width: it says nothing about unseen images.

    Args:
        replicates: ``(1 + R,)``: the observed value, then that of each resample.
        level: confidence level.

    Raises:
        InputError: another shape, or a level outside 0..1.
    """
    values = np.asarray(replicates, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise InputError(f"Expected a figure and its resamples, got shape {values.shape}.")
    if not 0 < level < 1:
        raise InputError(f"Expected a level between 0 and 1, such as 0.95, got {level}.")
    if not np.isfinite(values[0]):
        return None
    resamples = values[1:][np.isfinite(values[1:])]
    if len(resamples) == 0:
        return Interval(float(values[0]))
    tail = (1 - level) / 2
    low, high = np.quantile(resamples, [tail, 1 - tail])
    return Interval(float(values[0]), float(low), float(high))


def correct_bias(replicates: ArrayLike) -> F64:
    """Return ``(1 + R,)`` replicates without the bootstrap estimate of the resamples' bias.

    A sum of absolute values, such as the calibration error, is larger on resamples than on the
    original images, so that a percentile interval may not contain the observed value. The bias is
    the mean of the resamples minus the observed value (Efron & Tibshirani 1993, chapter 10). The
    observed value itself is not changed, so that the interval is around it: where it is biased, as
    the calibration error of few images is, the interval is, too.
    """
    values: F64 = np.array(replicates, dtype=np.float64)
    resamples = values[1:]
    finite = np.isfinite(resamples)
    if finite.any() and np.isfinite(values[0]):
        resamples -= resamples[finite].mean() - values[0]
    return values


def bootstrap_mean(
    values: ArrayLike, *, level: float = LEVEL, replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """Return the mean of ``(N,)`` per-image values with its interval.

    For a paired interval of the difference of two models, pass the per-image differences.

    Args:
        values: ``(N,)``, finite.
        level: confidence level, in 0..1.
        replicates: number of resamples.
        seed: random seed of the resamples.

    Returns:
        Without bounds for a single value.

    Raises:
        InputError: another shape, no values, or one that is not finite.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(value=1.0, low=1.0, high=1.0)
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 1 or len(table) == 0:
        raise InputError(f"Expected one finite value per image, got shape {table.shape}.")
    if unusable := int((~np.isfinite(table)).sum()):
        raise InputError(
            f"Expected one finite value per image, got {unusable} of {len(table)} that are NaN or "
            "infinite. Leave these images out."
        )
    [sums] = sum_resamples([lambda: table[:, None]], len(table), replicates, seed=seed)
    interval = percentile_interval(sums[:, 0] / len(table), level=level)
    assert interval is not None
    return interval
