"""Significance of differences: bootstrap p-values, corrected for multiple comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError


def bootstrap_p_value(differences: ArrayLike) -> float:
    """Return the two-sided p-value of a difference of 0, from its resamples.

    Twice the share of the resamples on the rarer side of 0, with one added to numerator and
    denominator (Davison & Hinkley 1997, Bootstrap Methods and their Application, section 4.2; the
    interval that it inverts is the percentile interval of Efron & Tibshirani 1993, chapter 13). If
    no resample is on that side, the share is only known to be small. Then the tail of a normal
    distribution with the standard deviation of the resamples (Efron & Tibshirani 1993, section
    13.2) is used, so that p-values stay informative after a correction for many pairs.

    Args:
        differences: ``(1 + R,)`` the observed difference, then that of each resample.

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
    resamples = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or len(resamples) == 0:
        return math.nan
    rarer = min(int((resamples <= 0).sum()), int((resamples >= 0).sum()))
    p = min(1.0, 2 * (1 + rarer) / (1 + len(resamples)))
    deviation = float(resamples.std())
    if rarer or not deviation:
        return p
    return min(p, math.erfc(abs(float(values[0])) / deviation / math.sqrt(2)))


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons by Holm's step-down procedure.

    This controls the family-wise error rate: rejecting all p-values below a level is wrong in at
    least one case with at most that probability, for any dependence of the tests (Holm 1979, A
    simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6,
    65-70).

    >>> adjust_by_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
