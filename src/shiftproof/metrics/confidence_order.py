"""Answers sorted by decreasing confidence, for calibration and selective prediction.

Bins of confidence and the answers at a given coverage are both consecutive in this order, so one pass
over it gives both measures, on all resamples of the images together.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.errors import InputError
from shiftproof.metrics.calibration import BINS, bin_index
from shiftproof.metrics.intervals import find_exact_scale, round_to
from shiftproof.types import F64, I32, I64, Flags


@dataclass(frozen=True, eq=False)
class ConfidenceOrder:
    """M answers by decreasing confidence.

    Attributes:
        places: ``(M,)`` the index of each answer's image.
        wrong: ``(M,)`` whether each answer is wrong.
        off: ``(M,)`` confidence minus correctness (1 or 0), rounded so that its sums in a bin are
            exact; 0 without bins.
        bins: ``(M,)`` the bin of each confidence.
        starts: ``(G + 1,)`` the start of each stretch, then M; a stretch is a group of equal
            confidences, or several groups that are all right or all wrong.
    """

    places: I32
    wrong: Flags
    off: F64
    bins: I32
    starts: I64

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.places, self.wrong, self.off, self.bins, self.starts)
        return sum(one.nbytes for one in arrays)


class OrderSums(NamedTuple):
    """Sums over the order on each of R resamples.

    ``total`` ``(R,)`` images, ``errors`` ``(R,)`` wrong answers, ``area`` ``(R,)`` the sum of the risks
    at every number of answered images, ``risk`` ``(R,)`` the risk at one coverage, ``calibration``
    ``(R, BINS)`` the sums of confidence minus correctness.
    """

    total: F64
    errors: F64
    area: F64
    risk: F64
    calibration: F64


def order_by_confidence(
    confidence: NDArray[Any],
    wrong: Flags,
    *,
    places: NDArray[Any] | None = None,
    binned_of: int | None = None,
) -> ConfidenceOrder:
    """Sort M answers by decreasing confidence.

    Args:
        confidence: ``(M,)`` without NaN.
        wrong: ``(M,)`` whether each answer is wrong.
        places: ``(M,)`` the index of each answer's image; None for 0 to M - 1.
        binned_of: the number of images of a resample, for bins of confidences in 0..1; None for no
            bins.

    Raises:
        InputError: with bins, a confidence outside 0..1.
    """
    order = np.argsort(-confidence, kind="stable")
    falling, missed = confidence[order], wrong[order]
    bins = np.zeros(len(order), np.int32)
    off = np.zeros(len(order))
    if binned_of is not None:
        if len(falling) and not (falling[0] <= 1 and falling[-1] >= 0):
            raise InputError("Expected confidences in 0..1.")
        bins = bin_index(falling).astype(np.int32)
        off = _round_in_bins(falling.astype(np.float64) - ~missed, bins, binned_of)
    return ConfidenceOrder(
        places=(order if places is None else places[order]).astype(np.int32),
        wrong=missed,
        off=off,
        bins=bins,
        starts=np.append(_find_stretches(falling, missed), len(order)),
    )


def find_ties(falling: NDArray[Any]) -> I64:
    """Return ``(T,)`` the start of each group of equal values in ``(M,)`` sorted values."""
    if not len(falling):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], falling[1:] != falling[:-1]]))


def by_image(weights: ArrayLike) -> NDArray[Any]:
    """Return ``(R, N)`` weights as ``(N, R)``, as uint8 if they are small enough, else as int32."""
    values = np.asarray(weights)
    small = values.max(initial=0) <= np.iinfo(np.uint8).max
    return np.ascontiguousarray(values.astype(np.uint8 if small else np.int32).T)


def walk(
    order: ConfidenceOrder, weights: NDArray[Any], total: F64, *, coverage: float
) -> OrderSums:
    """Sum along the order on R resamples, with the images weighted by their number in each.

    An image of weight w stands for w copies of it. Among g copies of one confidence with e wrong
    ones, of which C came before with E wrong, the j-th has ``(E + j e/g) / (C + j)`` as its risk; their
    sum is ``e + (E - C e/g)(H(C + g) - H(C))`` with harmonic numbers H.

    Args:
        order: the order of answers to some or all of N images.
        weights: ``(N, R)`` from :func:`by_image`.
        total: ``(R,)`` the number of answered images in each resample.
        coverage: the coverage at which the risk is measured.
    """
    from shiftproof.metrics.selections import sum_in_order

    resamples = weights.shape[1]
    found = np.empty((4, resamples))
    calibration = np.zeros((BINS, resamples))
    harmonic = sum_harmonic(int(total.max(initial=0)))
    first = np.ceil(coverage * total - 1e-9).astype(np.int32)
    sum_in_order(
        weights, order.places, order.wrong, order.off, order.bins, order.starts,
        harmonic, first, found, calibration,
    )  # fmt: skip
    total, errors, area, risk = found
    return OrderSums(total, errors, area, risk, calibration.T)


@functools.lru_cache(maxsize=2)
def sum_harmonic(count: int) -> F64:
    """Return ``(count + 1,)`` the harmonic numbers of n = 0 to ``count``, read-only."""
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])
    sums.flags.writeable = False
    return sums


def _round_in_bins(off: F64, bins: I32, count: int) -> F64:
    """Round so that the sums of each bin are exact on resamples of ``count`` images."""
    peak = np.zeros(BINS)
    np.maximum.at(peak, bins, np.abs(off))
    return round_to(off, find_exact_scale(peak, count)[bins])


def _find_stretches(falling: NDArray[Any], wrong: Flags) -> I64:
    """Return ``(G,)`` the start of each stretch."""
    ties = find_ties(falling)
    if not len(ties):
        return ties
    sizes = np.diff(np.append(ties, len(falling)))
    missed = np.add.reduceat(wrong, ties, dtype=np.int64)
    mixed = (missed > 0) & (missed < sizes)
    all_wrong = missed == sizes
    new = mixed | np.roll(mixed, 1) | (all_wrong != np.roll(all_wrong, 1))
    new[0] = True
    return np.asarray(ties[new])
