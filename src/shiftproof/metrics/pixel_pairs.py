"""The loop that counts pairs of labels; ``segmentation.py`` imports this inside its function.

numba takes half a second to import.
"""

from __future__ import annotations

from shiftproof.compute.compiled import compiled
from shiftproof.types import I16, I64


@compiled
def count_pairs(truth: I16, prediction: I16, counts: I64) -> int:
    """Add the pairs of labels to ``counts``; return where the first is that is no class, else -1.

    Neighbors mostly have one label, so pixels are counted by runs: the counter of a pair is written
    once per run.

    Args:
        truth: ``(P,)`` int16, -1 to K - 1.
        prediction: ``(P,)`` int16, -1 to K - 1.
        counts: ``(K + 1, K + 1)`` int64; row and column 0 are for -1.
    """
    classes = counts.shape[0] - 1
    true, said, run = -1, -1, 0
    for place in range(truth.size):
        next_true, next_said = truth[place], prediction[place]
        if next_true == true and next_said == said:
            run += 1
            continue
        counts[true + 1, said + 1] += run
        true, said, run = next_true, next_said, 1
        if true < -1 or true >= classes or said < -1 or said >= classes:
            return place
    counts[true + 1, said + 1] += run
    return -1
