"""Selective prediction: the risk of a model on its most confident predictions.

Images are ordered by decreasing confidence. Results are averaged over all orders of tied images, so
they do not depend on the order of the data.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.metrics.confidence_order import (
    OrderSums,
    find_ties,
    order_by_confidence,
    sum_along_order,
    sum_harmonic,
    transpose_weights,
)
from shiftproof.types import F64, Flags

COVERAGE = 0.8
"""Default coverage at which the risk is reported."""


class RiskCurve(NamedTuple):
    """The risk at each coverage.

    ``coverage`` ``(N,)`` is the share of images that are predicted, 1/N to 1, ``risk`` ``(N,)`` the
    error among these.
    """

    coverage: F64
    risk: F64


class SelectiveMetrics(NamedTuple):
    """Selective metrics on each of R weightings of the images, ``(R,)`` each; NaN without images.

    ``aurc`` is the area under the curve of risk over coverage, ``excess_aurc`` its excess over that
    of the ideal order, with all correct predictions first, ``risk`` the risk at one coverage.
    """

    aurc: F64
    excess_aurc: F64
    risk: F64


def risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> RiskCurve:
    """Return the risk at every coverage (Geifman & El-Yaniv 2017, arXiv 1705.08500, section 2).

    Args:
        confidence: ``(N,)`` no NaN, larger for more confident predictions; minus infinity comes
            last.
        wrong: ``(N,)`` bool.

    Raises:
        InputError: no images, shapes that differ, NaN, or ``wrong`` that is not bool.

    >>> risk_coverage([0.9, 0.8, 0.7, 0.6], [False, False, True, False]).risk
    array([0.        , 0.        , 0.33333333, 0.25      ])
    """
    values, is_wrong = _check(confidence, wrong)
    order = np.argsort(-values, kind="stable")
    starts = find_ties(values[order])
    sizes = np.diff(np.append(starts, len(values)))
    error_rate = np.add.reduceat(is_wrong[order].astype(np.float64), starts) / sizes
    errors = np.cumsum(np.repeat(error_rate, sizes))
    answered = np.arange(1, len(values) + 1)
    return RiskCurve(answered / len(values), errors / answered)


def area_under_risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> float:
    """Return AURC in 0..1: the mean risk over the coverages 1/N to 1 (Geifman et al. 2019, eq. 2).

    arXiv 1805.08206. Arguments and errors are those of :func:`risk_coverage`.

    >>> area_under_risk_coverage([0.9, 0.8], [False, True])
    0.25
    """
    return float(risk_coverage(confidence, wrong).risk.mean())


def excess_area_under_risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> float:
    """Return E-AURC in 0..1: the excess of AURC over that of the ideal order.

    Geifman et al. 2019 (arXiv 1805.08206), section 3. The ideal order has all correct predictions
    first.

    Differs from the paper, which approximates the ideal area by ``r + (1 - r) log(1 - r)`` for
    error r: this is the exact sum, which converges to that as N grows.

    Arguments and errors are those of :func:`risk_coverage`.

    >>> excess_area_under_risk_coverage([0.9, 0.8], [True, False])
    0.5
    """
    values, is_wrong = _check(confidence, wrong)
    return float(
        compute_selective_metrics(values, is_wrong, np.ones((1, len(values)))).excess_aurc[0]
    )


def risk_at_coverage(confidence: ArrayLike, wrong: ArrayLike, coverage: float = COVERAGE) -> float:
    """Return the error among the ``ceil(coverage N)`` most confident images.

    Args:
        confidence: as in :func:`risk_coverage`.
        wrong: as in :func:`risk_coverage`.
        coverage: above 0, up to 1.

    Raises:
        InputError: as for :func:`risk_coverage`, or a coverage outside its range.

    >>> risk_at_coverage([0.9, 0.8, 0.7, 0.6], [False, False, True, False], 0.5)
    0.0
    """
    values, is_wrong = _check(confidence, wrong)
    weights = np.ones((1, len(values)))
    return float(compute_selective_metrics(values, is_wrong, weights, coverage=coverage).risk[0])


def compute_selective_metrics(
    confidence: ArrayLike, wrong: ArrayLike, weights: ArrayLike, *, coverage: float = COVERAGE
) -> SelectiveMetrics:
    """Return AURC, E-AURC and the risk at a coverage, on each of R weightings of the images.

    Args:
        confidence: ``(N,)`` as in :func:`risk_coverage`.
        wrong: ``(N,)`` bool.
        weights: ``(R, N)`` non-negative integers.
        coverage: above 0, up to 1.

    Raises:
        InputError: as for :func:`risk_coverage`; weights of another shape; a coverage outside its
            range.
    """
    values, is_wrong = _check(confidence, wrong)
    weighted = np.asarray(weights)
    if weighted.ndim != 2 or weighted.shape[1] != len(values):
        raise InputError(f"Expected weights of shape (R, {len(values)}), got {weighted.shape}.")
    if not 0 < coverage <= 1:
        raise InputError(f"Expected a coverage above 0, up to 1, got {coverage}.")
    order = order_by_confidence(values, is_wrong)
    total = weighted.sum(axis=1, dtype=np.float64)
    return average_sums(
        sum_along_order(order, transpose_weights(weighted), total, coverage=coverage)
    )


def average_sums(sums: OrderSums) -> SelectiveMetrics:
    """Return the metrics that follow from the sums along an order."""
    total, errors, area, risk, _ = sums
    right = total - errors
    harmonic = sum_harmonic(int(total.max(initial=0)))
    best = errors - right * (harmonic[total.astype(np.int64)] - harmonic[right.astype(np.int64)])
    images = np.where(total > 0, total, np.nan)
    # Clipped at zero: for the ideal order rounding may give less.
    return SelectiveMetrics(area / images, np.maximum((area - best) / images, 0), risk + 0 * images)


def _check(confidence: ArrayLike, wrong: ArrayLike) -> tuple[F64, Flags]:
    values, is_wrong = np.asarray(confidence, dtype=np.float64), np.asarray(wrong)
    if values.ndim != 1 or values.shape != is_wrong.shape or len(values) == 0:
        raise InputError(
            f"Expected one confidence and one answer per image, got {values.shape} and "
            f"{is_wrong.shape}."
        )
    if is_wrong.dtype != np.bool_:
        raise InputError(f"Expected True or False for each answer, got {is_wrong.dtype}.")
    if np.isnan(values).any():
        raise InputError("Expected confidences that are numbers, got NaN.")
    return values, is_wrong
