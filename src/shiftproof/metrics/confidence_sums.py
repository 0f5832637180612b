"""Compiled sums along the order of decreasing confidence on many resamples.

Imports numba, so ``confidence_order.py`` imports this inside its function.

Most of the time is spent on loading and storing sums, one for each resample. So rows of weights are
added four at a time: sums of weights, and of the rounded ``gap``, are exact in any order. The sums
of risks are not, and are added in the order of the answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.types import F64, I32, I64, Flags


@compile_inner
def _add_to_bin(
    weights: NDArray[Any], places: I32, gap: F64, bins: I32, start: int, calibration: F64
) -> int:
    """Add the next four answers of one bin to its sums, or the next one; return how many."""
    sums = calibration[bins[start]]
    row0, gap0 = weights[places[start]], gap[start]
    if start + 4 > len(bins) or bins[start + 3] != bins[start]:
        for r in range(len(sums)):
            sums[r] += gap0 * np.int32(row0[r])
        return 1
    row1, gap1 = weights[places[start + 1]], gap[start + 1]
    row2, gap2 = weights[places[start + 2]], gap[start + 2]
    row3, gap3 = weights[places[start + 3]], gap[start + 3]
    for r in range(len(sums)):
        sums[r] += (
            gap0 * np.int32(row0[r]) + gap1 * np.int32(row1[r])
            + gap2 * np.int32(row2[r]) + gap3 * np.int32(row3[r])
        )  # fmt: skip
    return 4


@compile_inner
def _add_weights(
    weights: NDArray[Any], places: I32, wrong: Flags, start: int, stop: int, count: I32
) -> int:
    """Fill ``count`` with the sums of a stretch's weights; return the number of wrong answers."""
    count[:] = 0
    wrong_count = 0
    m = start
    while m < stop:
        row0 = weights[places[m]]
        if m + 4 <= stop:
            row1, row2, row3 = (
                weights[places[m + 1]], weights[places[m + 2]], weights[places[m + 3]],
            )  # fmt: skip
            for r in range(len(count)):
                count[r] += (
                    np.int32(row0[r]) + np.int32(row1[r]) + np.int32(row2[r]) + np.int32(row3[r])
                )
            m += 4
        else:
            for r in range(len(count)):
                count[r] += np.int32(row0[r])
            m += 1
    for m in range(start, stop):
        wrong_count += wrong[m]
    return wrong_count


@compile_inner
def _add_errors(
    weights: NDArray[Any], places: I32, wrong: Flags, start: int, stop: int, errors: I32
) -> None:
    """Fill ``errors`` with the sums of the weights of a stretch's wrong answers."""
    errors[:] = 0
    for m in range(start, stop):
        if wrong[m]:
            row = weights[places[m]]
            for r in range(len(errors)):
                errors[r] += np.int32(row[r])


@compile_inner
def _add_mixed(
    total: I32,
    total_errors: I32,
    count: I32,
    errors: I32,
    covered: I32,
    harmonic: F64,
    last_harmonic: F64,
    area: F64,
    risk: F64,
) -> None:
    """Add a stretch of equal confidences, of which some are right and some wrong."""
    for r in range(len(count)):
        rate = np.float64(errors[r]) / np.float64(max(count[r], np.int32(1)))
        if total[r] < covered[r] <= total[r] + count[r]:
            risk[r] = total_errors[r] + (covered[r] - total[r]) * rate
        excess = total_errors[r] - total[r] * rate
        total[r] += count[r]
        total_errors[r] += errors[r]
        next_harmonic = harmonic[total[r]]
        area[r] = (area[r] + errors[r]) + excess * (next_harmonic - last_harmonic[r])
        last_harmonic[r] = next_harmonic


@compiled
def fill_sums(
    weights: NDArray[Any],
    places: I32,
    wrong: Flags,
    gap: F64,
    bins: I32,
    starts: I64,
    harmonic: F64,
    covered: I32,
    sums: F64,
    calibration: F64,
) -> None:
    """Fill ``sums`` ``(4, R)``: images, wrong answers, sum of risks, and risk at a coverage.

    Args:
        weights: ``(N, R)`` integers: the number of times that each image is in each resample.
        places: ``(M,)`` indices of the images by decreasing confidence; the next three arrays have
            the same order.
        wrong: ``(M,)`` whether each answer is wrong.
        gap: ``(M,)`` confidence minus correctness.
        bins: ``(M,)`` the bin of each confidence.
        starts: ``(G + 1,)`` the start of each stretch, then M: a stretch has equal confidences, or
            answers that are all right or all wrong, which gives the same sums.
        harmonic: the harmonic numbers from n = 0 to the largest number of images.
        covered: ``(R,)`` the number of images at the coverage of the risk.
        sums: output.
        calibration: ``(B, R)`` output, initially zeros: the sums of ``gap`` in each bin.
    """
    resamples = weights.shape[1]
    # Images of the stretches so far, and wrong answers among them.
    total = np.zeros(resamples, np.int32)
    total_errors = np.zeros(resamples, np.int32)
    count = np.zeros(resamples, np.int32)
    errors = np.zeros(resamples, np.int32)
    last_harmonic = np.zeros(resamples)
    area = sums[2]
    risk = sums[3]
    area[:] = 0
    risk[:] = 0
    min_covered = covered[0]
    for r in range(1, resamples):
        min_covered = min(min_covered, covered[r])
    # Not 0, for whose type the function below would be compiled once more.
    binned = np.int64(0)
    # Short loops over few arrays each: one loop over all of them is not vectorized.
    for stretch in range(len(starts) - 1):
        start, stop = starts[stretch], starts[stretch + 1]
        while binned < stop:
            binned += _add_to_bin(weights, places, gap, bins, binned, calibration)
        wrong_count = _add_weights(weights, places, wrong, start, stop, count)
        if 0 < wrong_count < stop - start:
            _add_errors(weights, places, wrong, start, stop, errors)
            _add_mixed(
                total, total_errors, count, errors, covered, harmonic, last_harmonic, area, risk
            )
            continue
        # All right or all wrong: the rate is an integer, and so is the excess over it.
        excess = errors
        rate = np.int32(wrong_count > 0)
        max_total = np.int32(0)
        for r in range(resamples):
            excess[r] = total_errors[r] - rate * total[r]
            total_errors[r] += rate * count[r]
            total[r] += count[r]
            max_total = max(max_total, total[r])
        for r in range(resamples if max_total >= min_covered else 0):
            if total[r] - count[r] < covered[r] <= total[r]:
                risk[r] = excess[r] + rate * covered[r]
        for r in range(resamples):
            next_harmonic = harmonic[total[r]]
            area[r] = (area[r] + rate * count[r]) + excess[r] * (next_harmonic - last_harmonic[r])
            last_harmonic[r] = next_harmonic
    for r in range(resamples):
        sums[0, r] = total[r]
        sums[1, r] = total_errors[r]
        risk[r] /= max(covered[r], 1)
