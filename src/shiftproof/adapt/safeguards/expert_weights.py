"""Prediction with expert advice: weight updates by losses, and mistake bounds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
"""``(M,)`` float64, 0 or more, summing to 1: the weights of M experts."""


def follow_losses(
    weights: Weights, losses: NDArray[np.float64], start: Weights, *, rate: float, share: float
) -> Weights:
    """Return the weights after a round: Hedge with a fixed share of the initial weights.

    ``(1 - share) w exp(-rate loss) / sum + share start``. Hedge is Freund & Schapire 1997 (J.
    Comput. Syst. Sci. 55); the share, by which the best expert may change, is Fixed Share (Herbster
    & Warmuth 1998, Machine Learning 32), to the first weights in place of equal ones.

    Args:
        weights: before the round.
        losses: ``(M,)``, 0 or more, of the round.
        start: the first weights.
        rate: above 0; with a larger rate, fewer losses decide.
        share: from 0 to below 1.

    >>> equal = np.array([0.5, 0.5])
    >>> follow_losses(equal, np.array([0.0, 1.0]), equal, rate=math.log(3), share=0.0).tolist()
    [0.75, 0.25]
    """
    smallest = losses[weights > 0].min()  # so that the weights do not all underflow
    kept = weights * np.exp(-rate * np.maximum(losses - smallest, 0.0))
    return np.asarray((1 - share) * kept / kept.sum() + share * start)


def weigh_votes(predictions: NDArray[np.integer], weights: Weights) -> NDArray[np.int64]:
    """Return for each image the expert of largest weight among those with the majority prediction.

    Args:
        predictions: ``(M, N)`` the classes that M experts predict for N images.
        weights: of the experts.

    Returns:
        ``(N,)`` index of the expert; the first of equal ones.
    """
    agree = predictions[:, None, :] == predictions[None, :, :]
    support = np.einsum("i,ijn->jn", weights, agree)
    # Among experts with the same prediction the one of largest weight.
    best = support >= support.max(0) - 1e-12
    return np.asarray(np.where(best, weights[:, None], -1.0).argmax(0), dtype=np.int64)


def bound_mistakes(
    mistakes: int,
    starts: list[float],
    rounds: int,
    *,
    rate: float,
    share: float,
) -> float:
    """Return an upper bound of the mistakes of a vote weighted by :func:`follow_losses`.

    For losses of 0 and 1 (right or wrong), any outcomes, and any sequence of experts that changes a
    few times (Littlestone & Warmuth 1994, Inf. Comput. 108, weighted majority; with the share of
    Herbster & Warmuth 1998)::

        (rate mistakes + ln 1 / s_0 + sum_j ln 1 / (share s_j) + (T - 1 - m) ln 1 / (1 - share))
            / ln(2 / (1 + exp(-rate)))

    Proof: if the vote is wrong, experts with half of the weight are wrong, which shrinks by
        ``exp(-rate)``; and the remaining weight is at least that of the sequence.

    Args:
        mistakes: of the sequence.
        starts: the first weights s of its experts, in its order; it changes m = one fewer times.
        rounds: T, 1 or more.
        rate: as in :func:`follow_losses`.
        share: likewise; above 0 where the sequence changes.

    >>> round(bound_mistakes(10, [0.5], 100, rate=1.0, share=0.0), 1)
    28.1
    """
    first, *later = starts
    cost = rate * mistakes - math.log(first)
    cost -= sum(math.log(share * start) for start in later)
    cost -= (rounds - 1 - len(later)) * math.log1p(-share)
    return cost / math.log(2 / (1 + math.exp(-rate)))
