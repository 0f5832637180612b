"""Selective prediction on many resamples of the same images, compiled.

Imports numba: import this inside functions, or from a file that is.
"""

from __future__ import annotations

from shiftproof.compute.compiled import compiled
from shiftproof.types import F32, F64, I64, Flags


@compiled
def sum_risks(
    weights: F32, wrong: Flags, starts: I64, harmonic: F64, coverage: float, found: F64
) -> None:
    """Fill ``found`` ``(R, 4)``: images, wrong ones, the sum of risks, and the risk at the
    coverage.

    Args:
        weights: ``(R, N)`` integers, the images in the order of decreasing confidence.
        wrong: ``(N,)`` in the same order.
        starts: ``(G + 1,)`` start of each group of images with tied confidence, then N.
        harmonic: sums of ``1/1 + ... + 1/n`` from n = 0 on, to the largest sum of a row.
        coverage: the coverage of the last risk, that of the first ``ceil(coverage x images)``.
        found: output.
    """
    for row in range(len(weights)):
        own = weights[row]
        total = 0
        for weight in own:
            total += int(weight)
        first = int(-(-(coverage * total - 1e-9) // 1))
        before = 0  # images that came in earlier groups, and how many of them were wrong
        errors_before = 0
        area = 0.0
        risk = 0.0
        for group in range(len(starts) - 1):
            count = 0
            errors = 0
            for place in range(starts[group], starts[group + 1]):
                weight = int(own[place])
                count += weight
                if wrong[place]:
                    errors += weight
            if count == 0:
                continue
            rate = errors / count
            upto = before + count
            area += errors + (errors_before - before * rate) * (harmonic[upto] - harmonic[before])
            if before < first <= upto:
                risk = (errors_before + (first - before) * rate) / first
            before = upto
            errors_before += errors
        found[row, 0] = total
        found[row, 1] = errors_before
        found[row, 2] = area
        found[row, 3] = risk
