"""Selective prediction: how often a model is wrong on the images of which it is surest.

Images enter in the order of falling confidence. Equal confidences enter in a random order, of which
the mean is taken, so that no figure depends on the order of the data.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.compute.tuning import usable_cores
from shiftproof.errors import InputError
from shiftproof.types import F64, I64, Flags

COVERAGE = 0.8
"""The share of images at which a single figure of risk is given."""

_FEW_WEIGHTS = 1 << 20
"""So few are added up before threads have started."""


class RiskCurve(NamedTuple):
    """The risk of the surest images.

    ``coverage`` ``(N,)`` is the share that is answered, 1/N to 1, ``risk`` ``(N,)`` the share of
    these that is wrong.
    """

    coverage: F64
    risk: F64


class Selection(NamedTuple):
    """Selective figures on each of R weightings of the images, ``(R,)`` each; NaN without images.

    ``aurc`` is the area under the curve of risk over coverage, ``excess_aurc`` what it is above that
    of an order that has all right answers first, ``risk`` the risk at one coverage.
    """

    aurc: F64
    excess_aurc: F64
    risk: F64


def risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> RiskCurve:
    """Return the risk at every coverage (Geifman & El-Yaniv 2017, arXiv 1705.08500, section 2).

    Args:
        confidence: ``(N,)`` no NaN, larger where the model is surer; minus infinity comes last.
        wrong: ``(N,)`` bool.

    Raises:
        InputError: no images, shapes that differ, NaN, or answers that are not bool.

    >>> risk_coverage([0.9, 0.8, 0.7, 0.6], [False, False, True, False]).risk
    array([0.        , 0.        , 0.33333333, 0.25      ])
    """
    values, missed = _check(confidence, wrong)
    order = np.argsort(-values, kind="stable")
    starts, sizes = _ties(values[order])
    share = np.add.reduceat(missed[order].astype(np.float64), starts) / sizes
    errors = np.cumsum(np.repeat(share, sizes))
    places = np.arange(1, len(values) + 1)
    return RiskCurve(places / len(values), errors / places)


def area_under_risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> float:
    """Return AURC in 0..1: the mean risk over the coverages 1/N to 1 (Geifman et al. 2019, eq. 2).

    arXiv 1805.08206. Arguments and errors are those of :func:`risk_coverage`.

    >>> area_under_risk_coverage([0.9, 0.8], [False, True])
    0.25
    """
    return float(risk_coverage(confidence, wrong).risk.mean())


def excess_area_under_risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> float:
    """Return E-AURC in 0..1: AURC above that of the best order of the same answers.

    Geifman et al. 2019 (arXiv 1805.08206), section 3. The best order has all right answers first.

    Differs from the paper, which writes the best area as ``r + (1 - r) log(1 - r)`` for error r: this
    is the sum itself, which comes to that as N grows.

    Arguments and errors are those of :func:`risk_coverage`.

    >>> excess_area_under_risk_coverage([0.9, 0.8], [True, False])
    0.5
    """
    values, missed = _check(confidence, wrong)
    return float(select_resamples(values, missed, np.ones((1, len(values)))).excess_aurc[0])


def risk_at_coverage(confidence: ArrayLike, wrong: ArrayLike, coverage: float = COVERAGE) -> float:
    """Return the share of wrong answers among the ``ceil(coverage N)`` images of most confidence.

    Args:
        confidence: as in :func:`risk_coverage`.
        wrong: as in :func:`risk_coverage`.
        coverage: above 0, up to 1.

    Raises:
        InputError: as of :func:`risk_coverage`, or another coverage.

    >>> risk_at_coverage([0.9, 0.8, 0.7, 0.6], [False, False, True, False], 0.5)
    0.0
    """
    values, missed = _check(confidence, wrong)
    weights = np.ones((1, len(values)))
    return float(select_resamples(values, missed, weights, coverage=coverage).risk[0])


def select_resamples(
    confidence: ArrayLike,
    wrong: ArrayLike,
    weights: ArrayLike,
    *,
    coverage: float = COVERAGE,
    places: I64 | None = None,
) -> Selection:
    """Return AURC, E-AURC and the risk at a coverage, on each of R weightings of the images.

    An image of weight w stands for w copies of it. Among g copies of one confidence with e wrong
    ones, of which C came before with E wrong, the j-th has ``(E + j e/g) / (C + j)`` as its risk; their
    sum is ``e + (E - C e/g)(H(C + g) - H(C))`` with harmonic numbers H.

    Args:
        confidence: ``(N,)`` as in :func:`risk_coverage`.
        wrong: ``(N,)`` bool.
        weights: ``(R, N)`` whole numbers, 0 or more.
        coverage: above 0, up to 1.
        places: ``(N,)`` which column of ``weights`` is whose, where it has others, too.

    Raises:
        InputError: as of :func:`risk_coverage`; weights of another shape; another coverage.
    """
    values, missed = _check(confidence, wrong)
    weighted = np.asarray(weights)
    if weighted.ndim != 2 or (places is None and weighted.shape[1] != len(values)):
        raise InputError(f"Expected weights of shape (R, {len(values)}), got {weighted.shape}.")
    if not 0 < coverage <= 1:
        raise InputError(f"Expected a coverage above 0, up to 1, got {coverage}.")
    order = np.argsort(-values, kind="stable")
    if weighted.dtype != np.uint8:
        weighted = np.ascontiguousarray(weighted, dtype=np.float32)
    total, errors, area, risk = _sum_in_threads(
        weighted, order if places is None else places[order], missed[order],
        np.append(_ties(values[order])[0], len(values)), coverage,
    )  # fmt: skip
    right = total - errors
    harmonic = _harmonic(int(total.max(initial=0)))
    best = errors - right * (harmonic[total.astype(np.int64)] - harmonic[right.astype(np.int64)])
    there = np.where(total > 0, total, np.nan)
    # Zero from above: of an order that is the best one, rounding may leave less.
    return Selection(area / there, np.maximum((area - best) / there, 0), risk + 0 * there)


def _sum_in_threads(
    weights: NDArray[Any], order: I64, wrong: Flags, starts: I64, coverage: float
) -> F64:
    """Return ``(4, R)``: images, wrong ones, the sum of risks, and the risk of the first."""
    from shiftproof.metrics.selections import sum_risks, sum_weights

    totals = np.empty(len(weights), dtype=np.int64)
    sum_weights(weights, order, totals)
    harmonic = _harmonic(int(totals.max(initial=0)))
    sums = np.empty((len(weights), 3))

    def work(here: slice) -> None:
        sum_risks(weights[here], order, wrong, starts, harmonic, totals[here], coverage, sums[here])

    cores = usable_cores() if weights.size > _FEW_WEIGHTS else 1
    step = max(1, -(-len(weights) // cores))
    parts = [slice(start, start + step) for start in range(0, len(weights), step)]
    if len(parts) < 2:
        work(slice(None))
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(work, parts))
    return np.concatenate([totals[None], sums.T])


def _harmonic(count: int) -> F64:
    """Return ``(count + 1,)`` the sums ``1/1 + ... + 1/n`` of n = 0 to ``count``."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])


def _ties(falling: F64) -> tuple[I64, I64]:
    """Return where each group of equal values begins, and how many it has."""
    starts = np.flatnonzero(np.concatenate([[True], falling[1:] != falling[:-1]]))
    return starts, np.diff(np.concatenate([starts, [len(falling)]]))


def _check(confidence: ArrayLike, wrong: ArrayLike) -> tuple[F64, Flags]:
    values, missed = np.asarray(confidence, dtype=np.float64), np.asarray(wrong)
    if values.ndim != 1 or values.shape != missed.shape or len(values) == 0:
        raise InputError(
            f"Expected one confidence and one answer per image, got {values.shape} and "
            f"{missed.shape}."
        )
    if missed.dtype != np.bool_:
        raise InputError(f"Expected True or False for each answer, got {missed.dtype}.")
    if np.isnan(values).any():
        raise InputError("Expected confidences that are numbers, got NaN.")
    return values, missed
