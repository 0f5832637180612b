"""Bootstrap intervals over images, paired across everything that is measured on the same images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof.types import F32, F64, U8

LEVEL = 0.95
"""The share of the resamples that an interval holds."""

REPLICATES = 1000
"""Resamples of the images, from which intervals are made."""

BLOCK_BYTES = 64_000_000
"""Memory of one block of weights: a thousand resamples of a million images come in pieces."""

GROUP_BYTES = 256_000_000
"""Memory of the tables that are summed together."""

KEPT_BYTES = 64_000_000
"""Memory of the resamples that are kept from one call to the next: those of 64,000 images. Of more
images they are drawn anew each time."""


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its interval, all in the figure's own unit.

    The ends are None where there was nothing to resample.
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
        """Whether there are no ends."""
        return self.low is None

    @property
    def lower(self) -> float:
        """The low end, or the figure itself where there is none."""
        return self.value if self.low is None else self.low

    @property
    def upper(self) -> float:
        """The high end, or the figure itself where there is none."""
        return self.value if self.high is None else self.high

    @property
    def spans_zero(self) -> bool:
        """Whether it cannot be told from chance, as a difference: 0 inside, or no interval."""
        return self.bare or self.lower <= 0 <= self.upper

    @property
    def is_zero(self) -> bool:
        """Whether nothing changed at all, in any resample."""
        return self.value == self.low == self.high == 0


def resample_weights(count: int, replicates: int = REPLICATES, *, seed: int = 0) -> Iterator[F32]:
    """Return blocks ``(r, count)`` of how often each image is drawn in a resample of the images.

    Each row is one resample of ``count`` images with replacement, so it sums to ``count``. The rows
    of all blocks together are ``replicates``; they depend on ``count`` and ``seed`` alone, not on
    the size of the blocks. The same weights for all models and cells make differences paired
    (Efron & Tibshirani 1993, chapter 8).

    Raises:
        InputError: no images, or no resamples.
    """
    _check_counts(count, replicates)
    return _weights(count, replicates, seed)


def _check_counts(count: int, replicates: int) -> None:
    if count < 1:
        raise InputError(f"Expected at least one image to resample, got {count}.")
    if replicates < 1:
        raise InputError(f"Expected at least one resample, got {replicates}.")


def _weights(count: int, replicates: int, seed: int) -> Iterator[F32]:
    for block in _counts(count, replicates, seed):
        yield block.astype(np.float32)


def resample_counts(count: int, replicates: int = REPLICATES, *, seed: int = 0) -> Iterator[U8]:
    """Return what :func:`resample_weights` does as uint8, which is not to be written to.

    Raises:
        InputError: no images, or no resamples.
    """
    _check_counts(count, replicates)
    return _counts(count, replicates, seed)


def _counts(count: int, replicates: int, seed: int) -> Iterator[U8]:
    if count * replicates > KEPT_BYTES:
        yield from _draw(count, replicates, seed)
        return
    rows = _rows(count)
    kept = _keep(count, replicates, seed)
    for start in range(0, replicates, rows):
        yield kept[start : start + rows]


@functools.lru_cache(maxsize=1)
def _keep(count: int, replicates: int, seed: int) -> U8:
    """Draw all of them: a summary asks for the same ones once for each cell."""
    drawn = np.concatenate(list(_draw(count, replicates, seed)))
    drawn.flags.writeable = False
    return drawn


def _draw(count: int, replicates: int, seed: int) -> Iterator[U8]:
    rows = _rows(count)
    random = generator(seed, "bootstrap", str(count))
    for start in range(0, replicates, rows):
        # No image is drawn 256 times: among 255 it cannot, and among more the chance is 1 in 10^500.
        block = np.empty((min(rows, replicates - start), count), dtype=np.uint8)
        for row in block:
            row[:] = np.bincount(random.integers(0, count, count), minlength=count)
        yield block


def sum_resamples(
    tables: Sequence[Callable[[], ArrayLike]],
    count: int,
    replicates: int = REPLICATES,
    *,
    seed: int = 0,
    done: Callable[[], None] | None = None,
) -> list[F64]:
    """Return the sums of every table's columns over the images, as they are and over each resample.

    Args:
        tables: functions that give ``(count, columns)``, one row per image. Each is called once, and
            not all of what they give is in memory at once.
        count: number of images.
        replicates: number of resamples.
        seed: decides the resamples.
        done: called after each table of each block, for a progress display.

    Returns:
        For each table ``(1 + replicates, columns)``; the first row is on the images as they are.
        They are the same to the last bit whatever the threads, the processor or the blocks: whole
        numbers are summed exactly, others after rounding to about ten digits of the column's
        largest value. A column with a value that is not finite sums to NaN.

    Raises:
        InputError: no images, no resamples, or a table of another shape.
    """
    sums: list[F64] = []
    _check_counts(count, replicates)
    for group in _groups(tables, count):
        # One product for all of them: it takes half of the time of one each, and sums are exact.
        ends = np.cumsum([values.shape[1] for values in group])[:-1]
        side_by_side = np.concatenate(group, axis=1)
        several = len(group)
        group.clear()
        rows = [side_by_side.sum(axis=0)[None]]
        for drawn in _counts(count, replicates, seed):
            rows.append(drawn.astype(np.float64) @ side_by_side)
            if done is not None:
                for _ in range(several):
                    done()
        sums += np.split(np.concatenate(rows), ends, axis=1)
    return sums


def _groups(tables: Sequence[Callable[[], ArrayLike]], count: int) -> Iterator[list[F64]]:
    """Yield the tables, so many at a time as may be held: to make one is longer than to sum it."""
    group: list[F64] = []
    for table in tables:
        values = _table(table(), count)
        if group and sum(held.nbytes for held in group) + values.nbytes > GROUP_BYTES:
            yield group
            group = []
        group.append(values)
    if group:
        yield group


def blocks_of(count: int, replicates: int = REPLICATES) -> int:
    """Return how many blocks of resamples there are: ``done`` is called so often for each table."""
    return -(-replicates // _rows(count))


def _rows(count: int) -> int:
    return max(1, BLOCK_BYTES // (8 * count))


def _table(values: ArrayLike, count: int) -> F64:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != count:
        raise InputError(f"Expected values of shape ({count}, columns), got {table.shape}.")
    return _summable(table)


def _summable(table: F64) -> F64:
    """Round each column to multiples of a power of two so coarse that its weighted sums are exact.

    A matrix product adds in an order that depends on the number of threads and on the processor.
    Integers below 2^53 add up to the same in any order, and weights that sum to N keep the sums of
    values up to the peak below N x peak.
    """
    peak = np.maximum(table.max(axis=0), -table.min(axis=0))
    finite = np.isfinite(peak)
    exponent = np.frexp(np.where(finite, peak, 1) * len(table))[1]
    scale = np.where(finite, np.ldexp(1.0, np.minimum(52 - exponent, 1000)), np.nan)
    steps = np.asarray(table * scale)
    np.rint(steps, out=steps)
    return np.divide(steps, scale, out=steps)


def percentile_interval(replicates: ArrayLike, *, level: float = LEVEL) -> Interval | None:
    """Return a figure with its interval from ``(1 + R,)`` values: as it is, then on each resample.

    The ends are percentiles of the finite resamples (Efron & Tibshirani 1993, chapter 13); None
    where the figure itself is not finite. With few images they are rough, and where all images
    agree (0 errors in 20) the interval has no width: it says nothing about images not seen.

    Args:
        replicates: ``(1 + R,)``; the first value is on the images as they are.
        level: share of the resamples within the ends.

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
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) == 0:
        return Interval(float(values[0]), float(values[0]), float(values[0]))
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(values[0]), float(low), float(high))


def without_bias(replicates: ArrayLike) -> F64:
    """Return ``(1 + R,)`` replicates, the resamples moved by the bootstrap's estimate of their bias.

    A figure that is a sum of absolute values, as the calibration error is, comes out larger on every
    resample than on the images themselves; its percentiles would leave the figure out. The bias is
    the mean of the resamples minus the figure (Efron & Tibshirani 1993, chapter 10). The figure
    itself stays as it is.
    """
    values: F64 = np.array(replicates, dtype=np.float64)
    drawn = values[1:]
    finite = np.isfinite(drawn)
    if finite.any() and np.isfinite(values[0]):
        drawn -= drawn[finite].mean() - values[0]
    return values


def bootstrap_mean(
    values: ArrayLike, *, level: float = LEVEL, replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """Return the mean of ``(N,)`` per-image values with its interval.

    For the difference of two models, hand in the per-image differences: that is the paired
    interval.

    Args:
        values: ``(N,)``, finite.
        level: share of the resamples within the ends, in 0..1.
        replicates: number of resamples.
        seed: decides the resamples.

    Raises:
        InputError: another shape, no values, or one that is not finite.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(value=1.0, low=1.0, high=1.0)
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 1 or len(table) == 0 or not np.isfinite(table).all():
        raise InputError(f"Expected one finite value per image, got shape {table.shape}.")
    [sums] = sum_resamples([lambda: table[:, None]], len(table), replicates, seed=seed)
    interval = percentile_interval(sums[:, 0] / len(table), level=level)
    assert interval is not None
    return interval
