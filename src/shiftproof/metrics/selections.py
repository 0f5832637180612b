"""Selective prediction on many resamples of the same images, compiled.

Imports numba: import this inside functions, or from a file that is.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from shiftproof.compute.compiled import compiled
from shiftproof.types import F64, I64, Flags


@compiled
def sum_weights(weights: NDArray[Any], order: I64, totals: I64) -> None:
    """Fill ``totals`` ``(R,)`` with the sums of the weights ``(R, M)`` at the places of ``order``."""
    for row in range(len(weights)):
        own = weights[row]
        total = 0
        if len(order) == len(own):
            for weight in own:
                total += int(weight)
        else:
            for place in order:
                total += int(own[place])
        totals[row] = total


@compiled
def sum_risks(
    weights: NDArray[Any],
    order: I64,
    wrong: Flags,
    starts: I64,
    harmonic: F64,
    totals: I64,
    coverage: float,
    found: F64,
) -> None:
    """Fill ``found`` ``(R, 3)``: wrong images, the sum of risks, and the risk of the first.

    Args:
        weights: ``(R, M)`` whole numbers.
        order: ``(N,)`` the images' columns of it, in the order in which they enter.
        wrong: ``(N,)`` in the same order.
        starts: ``(G + 1,)`` where each group of images that enter together begins, then N.
        harmonic: sums of ``1/1 + ... + 1/n`` from n = 0 on, to the largest of ``totals``.
        totals: ``(R,)`` the sums of the weights of these images.
        coverage: the risk is that of the first ``ceil(coverage x images)``.
        found: is written.
    """
    for row in range(len(weights)):
        own = weights[row]
        first = int(-(-(coverage * totals[row] - 1e-9) // 1))
        before = 0  # images that came in earlier groups, and how many of them were wrong
        errors_before = 0
        area = 0.0
        risk = 0.0
        for group in range(len(starts) - 1):
            start = starts[group]
            count = int(own[order[start]])
            if starts[group + 1] == start + 1:  # an image alone: nothing to add up, and no division
                rate = 1.0 if wrong[start] else 0.0
                errors = count if wrong[start] else 0
            else:
                errors = count if wrong[start] else 0
                for place in range(start + 1, starts[group + 1]):
                    weight = int(own[order[place]])
                    count += weight
                    if wrong[place]:
                        errors += weight
                rate = errors / max(count, 1)
            upto = before + count
            area += errors + (errors_before - before * rate) * (harmonic[upto] - harmonic[before])
            if before < first <= upto:
                risk = (errors_before + (first - before) * rate) / first
            before = upto
            errors_before += errors
        found[row, 0] = errors_before
        found[row, 1] = area
        found[row, 2] = risk
