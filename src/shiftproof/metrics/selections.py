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
    starts: I64,
    bins: I64,
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
        starts: ``(G + 1,)`` where each stretch begins, then M: images that enter together, or one
            after the other with answers that are all right or all wrong. Both come to the same.
        bins: ``(G,)`` the bin of each stretch.
        harmonic: sums of ``1/1 + ... + 1/n`` from n = 0 on, to the largest number of images.
        first: ``(R,)`` the risk is that of so many images.
        found: is written.
        calibration: ``(B, R)``, zeros; the sums of ``off`` in each bin are added.
    """
    resamples = weights.shape[1]
    before = np.zeros(
        resamples, np.int32
    )  # images of earlier stretches, and the wrong ones of them
    errors_before = np.zeros(resamples, np.int32)
    count = np.zeros(resamples, np.int32)
    errors = np.zeros(resamples, np.int32)
    area = found[2]
    risk = found[3]
    area[:] = 0
    risk[:] = 0
    for stretch in range(len(bins)):
        own = calibration[bins[stretch]]
        count[:] = 0
        errors[:] = 0
        for place in range(starts[stretch], starts[stretch + 1]):
            drawn = weights[places[place]]
            value = off[place]
            counts_as_wrong = np.int32(wrong[place])
            for at in range(resamples):
                weight = np.int32(drawn[at])
                count[at] += weight
                errors[at] += weight * counts_as_wrong
                own[at] += value * weight
        for at in range(resamples):
            earlier, missed = before[at], errors_before[at]
            upto = earlier + count[at]
            rate = errors[at] / max(count[at], 1)
            area[at] += errors[at] + (missed - earlier * rate) * (
                harmonic[upto] - harmonic[earlier]
            )
            if earlier < first[at] <= upto:
                risk[at] = missed + (first[at] - earlier) * rate
            before[at] = upto
            errors_before[at] = missed + errors[at]
    for at in range(resamples):
        found[0, at] = before[at]
        found[1, at] = errors_before[at]
        risk[at] /= max(first[at], 1)
