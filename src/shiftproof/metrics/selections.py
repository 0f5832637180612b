"""Answers in the order of falling confidence, summed on many resamples of the images, compiled.

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
    """Fill ``found`` ``(4, R)``: images, wrong ones, the sum of risks, and the risk of the first.

    Args:
        weights: ``(N, R)`` whole numbers: how often each image is in each of the R resamples.
        places: ``(M,)`` the images in the order in which they enter.
        wrong: ``(M,)`` in this order.
        off: ``(M,)`` confidence minus right, in this order.
        bins: ``(M,)`` the bin of each confidence, in this order.
        starts: ``(G + 1,)`` where each stretch begins, then M: images that enter together, or one
            after the other with answers that are all right or all wrong. Both come to the same.
        harmonic: sums of ``1/1 + ... + 1/n`` from n = 0 on, to the largest number of images.
        first: ``(R,)`` the risk is that of so many images.
        found: is written.
        calibration: ``(B, R)``, zeros; the sums of ``off`` in each bin are added.
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
