"""Calibration error of confidences, and the Brier score of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.metrics.classification import check_class_range, check_classes
from shiftproof.types import F64, Indices

BINS = 15
"""Bins of equal width over 0..1, as in Guo et al. 2017."""


def find_bins(confidence: ArrayLike, bins: int = BINS) -> Indices:
    """Return ``(N,)`` the bin of each confidence: bin m of 0..bins-1 is ``(m/bins, (m+1)/bins]``.

    0 falls into the first bin, NaN into the last.
    """
    # Compared with the rounded bounds: ceil(confidence * bins) would put 7/15 into bin 7.
    upper = np.arange(1, bins) / bins
    return np.searchsorted(upper, np.asarray(confidence, dtype=np.float64), side="left")


def stack_calibration_columns(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> F64:
    """Return ``(N, bins)``: confidence minus correctness in the column of the bin, else 0.

    From their means over any weighting of the samples, such as a bootstrap's,
    :func:`compute_calibration_error` gives the expected calibration error of that weighting.

    Args:
        confidence: ``(N,)`` in 0..1.
        correct: ``(N,)`` bool.
        bins: bins of equal width, closed on the right.

    Raises:
        InputError: no samples, shapes that differ, a confidence outside 0..1, or no bins.
    """
    values = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(correct)
    if bins < 1:
        raise InputError(f"Expected at least one bin, got {bins}.")
    if values.ndim != 1 or values.shape != right.shape or len(values) == 0:
        raise InputError(
            f"Expected one confidence and one answer per sample, got {values.shape} and "
            f"{right.shape}."
        )
    if right.dtype != np.bool_:
        raise InputError(f"Expected True or False for each answer, got {right.dtype}.")
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("Expected confidences in 0..1.")
    columns = np.zeros((len(values), bins))
    columns[np.arange(len(values)), find_bins(values, bins)] = values - right
    return columns


def compute_calibration_error(means: ArrayLike) -> F64:
    """Return ``(...)`` the calibration errors of ``(..., bins)`` means of calibration columns."""
    return np.asarray(np.abs(np.asarray(means, dtype=np.float64)).sum(axis=-1))


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = BINS
) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3), in 0..1.

    The mean over samples of ``|accuracy - mean confidence|`` of the sample's bin. A bin of n_m of N
    samples adds ``n_m/N |accuracy - mean confidence| = |sum of (confidence - right)| / N``.

    On few samples it is biased upwards, as chance alone makes differences in the bins (Roelofs et al.
    2022, arXiv 2012.08668): compare it on the same samples only.

    Differs from torchmetrics, whose bins are closed on the left: a confidence equal to a bound, such
    as 1/3 with 15 bins, falls one bin lower here, as in the paper.

    Args:
        confidence: ``(N,)`` in 0..1.
        correct: ``(N,)`` bool.
        bins: bins of equal width, closed on the right.

    Raises:
        InputError: no samples, shapes that differ, a confidence outside 0..1, or no bins.

    >>> expected_calibration_error([0.75, 0.75], [True, False])
    0.25
    """
    return float(
        compute_calibration_error(stack_calibration_columns(confidence, correct, bins).mean(axis=0))
    )


def brier_scores(probabilities: ArrayLike, targets: ArrayLike) -> F64:
    """Return ``(N,)`` in 0..2: the squared distance of the probabilities from the truth.

    Brier 1950, eq. 2: ``sum over classes of (p - [class is the target])^2``; the mean over the
    images is the Brier score. It is proper: the true probabilities have the lowest mean.

    Differs from the usual definition for two classes, which counts one of them and is half of this.

    Args:
        probabilities: ``(N, K)``, rows that sum to one; rows with NaN have a score of NaN.
        targets: ``(N,)`` integers in 0..K-1.

    Raises:
        InputError: shapes that differ, or a target outside the classes.

    >>> brier_scores([[0.75, 0.25], [0.5, 0.5]], [0, 1])
    array([0.125, 0.5  ])
    """
    values, classes = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    check_classes("probabilities", values, classes)
    check_class_range(classes, values.shape[1])
    target_values = values[np.arange(len(classes)), classes]
    return np.asarray(np.maximum((values**2).sum(axis=1) - 2 * target_values + 1, 0))
