"""The compiled loop that counts pairs of labels.

``segmentation.py`` imports this inside its function, as numba takes half a second to import.
"""

from __future__ import annotations

from shiftproof.compute.compiled import compiled
from shiftproof.types import I16, I64


@compiled
def count_pairs(truth: I16, prediction: I16, counts: I64) -> int:
    """Add the pairs of labels to ``counts``; return the index of the first invalid label, else -1.

    Neighboring pixels mostly have the same labels, so the count of a pair is updated once per run.

    Args:
        truth: ``(P,)`` int16, -1 to K - 1.
        prediction: ``(P,)`` int16, -1 to K - 1.
        counts: ``(K + 1, K + 1)`` int64; row and column 0 are for -1.
    """
    classes = counts.shape[0] - 1
    true, predicted, run = -1, -1, 0
    for index in range(truth.size):
        next_true, next_predicted = truth[index], prediction[index]
        if next_true == true and next_predicted == predicted:
            run += 1
            continue
        counts[true + 1, predicted + 1] += run
        true, predicted, run = next_true, next_predicted, 1
        if true < -1 or true >= classes or predicted < -1 or predicted >= classes:
            return index
    counts[true + 1, predicted + 1] += run
    return -1
