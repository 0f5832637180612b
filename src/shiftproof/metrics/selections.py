"""Compiled sums along the order of decreasing confidence on many resamples.

Imports numba: import this inside functions, or from a file that is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.compiled import compiled
from shiftproof.types import F64, I32, I64, Flags


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
    before = np.zeros(
        resamples, np.int32
    )  # images of earlier stretches, and the wrong ones of them
    missed = np.zeros(resamples, np.int32)
    count = np.zeros(resamples, np.int32)
    errors = np.zeros(resamples, np.int32)
    lower = np.zeros(resamples)
    rate = np.zeros(resamples)
    area = found[2]
    risk = found[3]
    area[:] = 0
    risk[:] = 0
    nearest = first.min()
    # Short loops over few arrays each: one loop over all of them is not vectorized.
    for stretch in range(len(starts) - 1):
        count[:] = 0
        errors[:] = 0
        for place in range(starts[stretch], starts[stretch + 1]):
            drawn = weights[places[place]]
            own = calibration[bins[place]]
            value = off[place]
            for at in range(resamples):
                weight = np.int32(drawn[at])
                count[at] += weight
                own[at] += value * weight
            if wrong[place]:
                for at in range(resamples):
                    errors[at] += np.int32(drawn[at])
        for at in range(resamples):
            rate[at] = np.float64(errors[at]) / np.float64(max(count[at], np.int32(1)))
        furthest = np.int32(0)
        for at in range(resamples):
            furthest = max(furthest, before[at] + count[at])
        for at in range(resamples if furthest >= nearest else 0):
            if before[at] < first[at] <= before[at] + count[at]:
                risk[at] = missed[at] + (first[at] - before[at]) * rate[at]
        for at in range(resamples):
            area[at] += errors[at]
            rate[at] = missed[at] - before[at] * rate[at]
        for at in range(resamples):
            before[at] += count[at]
            missed[at] += errors[at]
        for at in range(resamples):
            upper = harmonic[before[at]]
            area[at] += rate[at] * (upper - lower[at])
            lower[at] = upper
    for at in range(resamples):
        found[0, at] = before[at]
        found[1, at] = missed[at]
        risk[at] /= max(first[at], 1)
