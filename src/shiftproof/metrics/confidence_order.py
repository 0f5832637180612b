"""Answers sorted by decreasing confidence, for calibration and selective prediction.

The answers in a bin of confidence, and those within a coverage, are consecutive in this order, so
one pass over it gives both metrics on all resamples of the images.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.errors import InputError
from shiftproof.metrics.calibration import BINS, find_bins
from shiftproof.metrics.intervals import find_exact_scale, round_to_scale
from shiftproof.types import F64, I32, I64, Flags


@dataclass(frozen=True, eq=False)
class ConfidenceOrder:
    """M answers by decreasing confidence.

    Attributes:
        places: ``(M,)`` the index of each answer's image.
        wrong: ``(M,)`` whether each answer is wrong.
        gap: ``(M,)`` confidence minus correctness (1 or 0), rounded so that its sums in a bin are
            exact; 0 without bins.
        bins: ``(M,)`` the bin of each confidence.
        starts: ``(G + 1,)`` the start of each stretch, then M; a stretch is a group of equal
            confidences, or several groups that are all right or all wrong.
    """

    places: I32
    wrong: Flags
    gap: F64
    bins: I32
    starts: I64

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.places, self.wrong, self.gap, self.bins, self.starts)
        return sum(array.nbytes for array in arrays)


class OrderSums(NamedTuple):
    """Sums over the order on each of R resamples.

    ``total`` ``(R,)`` images, ``errors`` ``(R,)`` wrong answers, ``area`` ``(R,)`` the sum of the
    risks at every number of answered images, ``risk`` ``(R,)`` the risk at one coverage,
    ``calibration`` ``(R, BINS)`` the sums of confidence minus correctness.
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
    resample_size: int | None = None,
) -> ConfidenceOrder:
    """Sort M answers by decreasing confidence.

    Args:
        confidence: ``(M,)`` without NaN.
        wrong: ``(M,)`` whether each answer is wrong.
        places: ``(M,)`` the index of each answer's image; None for 0 to M - 1.
        resample_size: number of images in a resample, for bins of confidences in 0..1; None for
            no bins.

    Raises:
        InputError: with bins, a confidence outside 0..1.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, sorted_wrong = confidence[order], wrong[order]
    bins = np.zeros(len(order), np.int32)
    gap = np.zeros(len(order))
    if resample_size is not None:
        if len(order) and not (sorted_confidence[0] <= 1 and sorted_confidence[-1] >= 0):
            raise InputError("Expected confidences in 0..1.")
        bins = find_bins(sorted_confidence).astype(np.int32)
        gap = sorted_confidence.astype(np.float64) - ~sorted_wrong
        gap = _round_in_bins(gap, bins, resample_size)
    return ConfidenceOrder(
        places=(order if places is None else places[order]).astype(np.int32),
        wrong=sorted_wrong,
        gap=gap,
        bins=bins,
        starts=np.append(_find_stretches(sorted_confidence, sorted_wrong), len(order)),
    )


def find_ties(values: NDArray[Any]) -> I64:
    """Return ``(T,)`` the start of each group of equal values in ``(M,)`` sorted values."""
    if not len(values):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))


def transpose_weights(weights: ArrayLike) -> NDArray[Any]:
    """Return ``(R, N)`` weights as ``(N, R)``, as uint8 if they are small enough, else as int32."""
    values = np.asarray(weights)
    is_small = values.max(initial=0) <= np.iinfo(np.uint8).max
    return np.ascontiguousarray(values.astype(np.uint8 if is_small else np.int32).T)


def sum_along_order(
    order: ConfidenceOrder, weights: NDArray[Any], total: F64, *, coverage: float
) -> OrderSums:
    """Sum along the order on R resamples, with the images weighted by their number in each.

    An image of weight w is equivalent to w copies. Let g copies share a confidence, e of them wrong,
    and let C copies, E of them wrong, have a higher one. Then the risk up to the j-th of the g is
    ``(E + j e/g) / (C + j)`` on average over their orders, and the sum of these risks is
    ``e + (E - C e/g)(H(C + g) - H(C))`` with harmonic numbers H.

    Args:
        order: the order of answers to some or all of N images.
        weights: ``(N, R)`` from :func:`transpose_weights`.
        total: ``(R,)`` the number of answered images in each resample.
        coverage: the coverage at which the risk is measured.
    """
    from shiftproof.metrics.confidence_sums import fill_sums

    resamples = weights.shape[1]
    sums = np.empty((4, resamples))
    calibration = np.zeros((BINS, resamples))
    harmonic = sum_harmonic(int(total.max(initial=0)))
    covered = np.ceil(coverage * total - 1e-9).astype(np.int32)
    fill_sums(
        weights, order.places, order.wrong, order.gap, order.bins, order.starts,
        harmonic, covered, sums, calibration,
    )  # fmt: skip
    images, errors, area, risk = sums
    return OrderSums(images, errors, area, risk, calibration.T)


@functools.lru_cache(maxsize=2)
def sum_harmonic(count: int) -> F64:
    """Return ``(count + 1,)`` the harmonic numbers of n = 0 to ``count``, read-only."""
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])
    sums.flags.writeable = False
    return sums


def _round_in_bins(gap: F64, bins: I32, resample_size: int) -> F64:
    """Round gaps so that their sums in each bin are exact on resamples of this size."""
    peak = np.zeros(BINS)
    np.maximum.at(peak, bins, np.abs(gap))
    return round_to_scale(gap, find_exact_scale(peak, resample_size)[bins])


def _find_stretches(confidence: NDArray[Any], wrong: Flags) -> I64:
    """Return ``(G,)`` the start of each stretch of sorted answers."""
    ties = find_ties(confidence)
    if not len(ties):
        return ties
    sizes = np.diff(np.append(ties, len(confidence)))
    errors = np.add.reduceat(wrong, ties, dtype=np.int64)
    is_mixed = (errors > 0) & (errors < sizes)
    all_wrong = errors == sizes
    is_start = is_mixed | np.roll(is_mixed, 1) | (all_wrong != np.roll(all_wrong, 1))
    is_start[0] = True
    return np.asarray(ties[is_start])
