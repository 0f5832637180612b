"""Compiled sums along the order of decreasing confidence on many resamples.

Imports numba: import this inside functions, or from a file that is.

Most of the time goes into loading and storing sums, of which there is one for each resample. So rows of
weights are added four at a time: sums of weights, and of the rounded ``off``, are exact in any order.
The sums of risks are not, and are added in the order of the answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.types import F64, I32, I64, Flags


@compile_inner
def _add_to_bin(
    weights: NDArray[Any], places: I32, off: F64, bins: I32, start: int, calibration: F64
) -> int:
    """Add the next four answers of one bin to its sums, or the next one; return how many."""
    own = calibration[bins[start]]
    one, value = weights[places[start]], off[start]
    if start + 4 > len(bins) or bins[start + 3] != bins[start]:
        for at in range(len(own)):
            own[at] += value * np.int32(one[at])
        return 1
    two, second = weights[places[start + 1]], off[start + 1]
    three, third = weights[places[start + 2]], off[start + 2]
    four, fourth = weights[places[start + 3]], off[start + 3]
    for at in range(len(own)):
        own[at] += (
            value * np.int32(one[at]) + second * np.int32(two[at])
            + third * np.int32(three[at]) + fourth * np.int32(four[at])
        )  # fmt: skip
    return 4


@compile_inner
def _add_weights(
    weights: NDArray[Any], places: I32, wrong: Flags, start: int, stop: int, count: I32
) -> int:
    """Fill ``count`` with the sums of a stretch's weights; return how many of its answers are wrong."""
    count[:] = 0
    wrongs = 0
    place = start
    while place < stop:
        one = weights[places[place]]
        if place + 4 <= stop:
            two, three, four = (
                weights[places[place + 1]], weights[places[place + 2]], weights[places[place + 3]],
            )  # fmt: skip
            for at in range(len(count)):
                count[at] += (
                    np.int32(one[at]) + np.int32(two[at]) + np.int32(three[at]) + np.int32(four[at])
                )
            place += 4
        else:
            for at in range(len(count)):
                count[at] += np.int32(one[at])
            place += 1
    for place in range(start, stop):
        wrongs += wrong[place]
    return wrongs


@compile_inner
def _add_errors(
    weights: NDArray[Any], places: I32, wrong: Flags, start: int, stop: int, errors: I32
) -> None:
    """Fill ``errors`` with the sums of the weights of a stretch's wrong answers."""
    errors[:] = 0
    for place in range(start, stop):
        if wrong[place]:
            drawn = weights[places[place]]
            for at in range(len(errors)):
                errors[at] += np.int32(drawn[at])


@compile_inner
def _add_mixed(
    before: I32,
    missed: I32,
    count: I32,
    errors: I32,
    first: I32,
    harmonic: F64,
    lower: F64,
    area: F64,
    risk: F64,
) -> None:
    """Add a stretch of equal confidences, of which some are right and some wrong."""
    for at in range(len(count)):
        rate = np.float64(errors[at]) / np.float64(max(count[at], np.int32(1)))
        if before[at] < first[at] <= before[at] + count[at]:
            risk[at] = missed[at] + (first[at] - before[at]) * rate
        slope = missed[at] - before[at] * rate
        before[at] += count[at]
        missed[at] += errors[at]
        upper = harmonic[before[at]]
        area[at] = (area[at] + errors[at]) + slope * (upper - lower[at])
        lower[at] = upper


@compiled
def sum_in_order(
    weights: NDArray[Any],
    places: I32,
    wrong: Flags,
    off: F64,
    bins: I32,
    starts: I64,
    harmonic: F64,
    first: I32,
    found: F64,
    calibration: F64,
) -> None:
    """Fill ``found`` ``(4, R)``: images, wrong answers, sum of risks, and risk at a coverage.

    Args:
        weights: ``(N, R)`` integers: the number of times that each image is in each resample.
        places: ``(M,)`` indices of the images by decreasing confidence; the next three arrays have
            the same order.
        wrong: ``(M,)`` whether each answer is wrong.
        off: ``(M,)`` confidence minus correctness.
        bins: ``(M,)`` the bin of each confidence.
        starts: ``(G + 1,)`` the start of each stretch, then M: a stretch has equal confidences, or
            answers that are all right or all wrong, which gives the same sums.
        harmonic: the harmonic numbers from n = 0 to the largest number of images.
        first: ``(R,)`` the number of images at the coverage of the risk.
        found: output.
        calibration: ``(B, R)`` output, initially zeros: the sums of ``off`` in each bin.
    """
    resamples = weights.shape[1]
    # Images of earlier stretches, and the wrong ones of them.
    before = np.zeros(resamples, np.int32)
    missed = np.zeros(resamples, np.int32)
    count = np.zeros(resamples, np.int32)
    errors = np.zeros(resamples, np.int32)
    lower = np.zeros(resamples)
    area = found[2]
    risk = found[3]
    area[:] = 0
    risk[:] = 0
    nearest = first.min()
    binned = 0
    # Short loops over few arrays each: one loop over all of them is not vectorized.
    for stretch in range(len(starts) - 1):
        start, stop = starts[stretch], starts[stretch + 1]
        while binned < stop:
            binned += _add_to_bin(weights, places, off, bins, binned, calibration)
        wrongs = _add_weights(weights, places, wrong, start, stop, count)
        if 0 < wrongs < stop - start:
            _add_errors(weights, places, wrong, start, stop, errors)
            _add_mixed(before, missed, count, errors, first, harmonic, lower, area, risk)
            continue
        slope = errors  # of the risk, that all wrong or all right answers have
        share = np.int32(wrongs > 0)
        furthest = np.int32(0)
        for at in range(resamples):
            slope[at] = missed[at] - share * before[at]
            missed[at] += share * count[at]
            before[at] += count[at]
            furthest = max(furthest, before[at])
        for at in range(resamples if furthest >= nearest else 0):
            if before[at] - count[at] < first[at] <= before[at]:
                risk[at] = slope[at] + share * first[at]
        for at in range(resamples):
            upper = harmonic[before[at]]
            area[at] = (area[at] + share * count[at]) + slope[at] * (upper - lower[at])
            lower[at] = upper
    for at in range(resamples):
        found[0, at] = before[at]
        found[1, at] = missed[at]
        risk[at] /= max(first[at], 1)
