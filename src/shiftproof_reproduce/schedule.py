"""How a learning rate rises and falls over a training."""

from __future__ import annotations

import math


def one_cycle(step: int, steps: int, *, peak: float, warm_up: float) -> float:
    """Return the learning rate of a step: up to ``peak`` and down to 0, both along a cosine.

    (Smith & Topin 2017, arXiv 1708.07120.)

    Args:
        step: from 0.
        steps: of the whole training.
        peak: the largest rate.
        warm_up: the share of all steps over which it rises.

    >>> [round(one_cycle(step, 4, peak=1.0, warm_up=0.5), 3) for step in range(4)]
    [0.25, 0.75, 1.0, 0.5]
    """
    turn = warm_up * steps
    if step < turn:
        return peak * (1 - math.cos(math.pi * (step + 1) / (turn + 1))) / 2
    return peak * (1 + math.cos(math.pi * (step - turn) / (steps - turn))) / 2
