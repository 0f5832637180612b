"""Whether differences are more than chance: p-values from resamples, and many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError


def bootstrap_p_value(differences: ArrayLike) -> float:
    """Return the two-sided p-value of a difference of 0, from its resamples.

    Twice the share of the resamples on the rarer side of 0, with one added above and below the line
    (Davison & Hinkley 1997, Bootstrap Methods and their Application, section 4.2; the interval that
    it inverts is the percentile interval of Efron & Tibshirani 1993, chapter 13). Where no resample
    is on that side the share can only be said to be small. The tail of a normal distribution with
    the standard deviation of the resamples (Efron & Tibshirani 1993, section 13.2) then says how
    small, so that a correction for many pairs has something to work on.

    Args:
        differences: ``(1 + R,)`` the difference as it is, then on each resample.

    Returns:
        From 0 to 1; NaN where the difference or all of its resamples are not finite.

    Raises:
        InputError: another shape.

    >>> bootstrap_p_value([0.5, 1.0, 1.0, -1.0])
    1.0
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise InputError(f"Expected a difference and its resamples, got shape {values.shape}.")
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or len(drawn) == 0:
        return math.nan
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (1 + rarer) / (1 + len(drawn)))
    spread = float(drawn.std())
    if rarer or not spread:
        return p
    return min(p, math.erfc(abs(float(values[0])) / spread / math.sqrt(2)))


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being many, by the step-down rule of Holm.

    Those below a level hold together at that level: the chance that one or more of them is wrong is
    no more than it, however the tests depend on each other (Holm 1979, A simple sequentially
    rejective multiple test procedure, Scandinavian Journal of Statistics 6, 65-70).

    >>> adjust_by_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, at in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[at]))
        adjusted[at] = highest
    return adjusted
