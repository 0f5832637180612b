"""Prediction sets that contain the true class with a given probability (split conformal
prediction).

A threshold is calibrated on labeled images that the model was not trained on. New images of the
same distribution then have the true class in their set with the nominal probability, for any model.
Under a shift this guarantee fails; the loss of coverage is what is measured.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.types import F64, Flags

METHODS = ("lac", "aps", "raps")
"""Least ambiguous sets (LAC), adaptive prediction sets (APS), and regularized ones (RAPS)."""

PENALTY = 0.01
"""Weight lambda of the penalty of RAPS."""

FREE_CLASSES = 5
"""k_reg of RAPS: number of the most probable classes without a penalty."""


def nonconformity(
    probabilities: ArrayLike,
    *,
    method: str = "lac",
    uniforms: ArrayLike | None = None,
    penalty: float = PENALTY,
    free_classes: int = FREE_CLASSES,
) -> F64:
    """Return ``(N, K)`` nonconformity scores; a prediction set has the classes up to a threshold.

    - ``lac``: ``1 - p(class)`` (Sadinle et al. 2019, arXiv 1609.00451).
    - ``aps``: the sum of all probabilities above the class's own, plus ``uniform`` times its own
      (Romano et al. 2020, arXiv 2006.02544, eq. 5 to 7).
    - ``raps``: the same plus ``penalty x max(0, rank - free_classes)`` with rank 1 for the first
      (Angelopoulos et al. 2021, arXiv 2009.14193, eq. 4). With up to ``free_classes`` classes it is
      ``aps``.

    Ties go to the lower class. Sets may be empty, which makes the coverage exact.

    Differs from RAPS' authors, who tune penalty and k_reg on a second set of labeled images: here
    they are constants.

    Args:
        probabilities: ``(N, K)``, rows that sum to one.
        method: one of ``METHODS``.
        uniforms: ``(N,)`` in 0..1, one draw per image, which randomizes aps and raps; None uses 1,
            whose coverage is slightly above the nominal one.
        penalty: lambda of raps, 0 or more.
        free_classes: k_reg of raps, 0 or more.

    Raises:
        UnknownNameError: no such method.
        InputError: shapes that do not match, uniforms outside 0..1, a penalty below 0.

    >>> nonconformity([[0.7, 0.2, 0.1]], method="aps").round(3)
    array([[0.7, 0.9, 1. ]])
    """
    if method not in METHODS:
        raise UnknownNameError.of("kind of prediction sets", method, METHODS)
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected probabilities of shape (N, K), got {values.shape}.")
    if method == "lac":
        return 1 - values
    if not (penalty >= 0 and free_classes >= 0):
        raise InputError(
            f"Expected a penalty and free classes of 0 or more, got {penalty} and {free_classes}."
        )
    order = np.argsort(-values, axis=1, kind="stable")
    sorted_values = np.take_along_axis(values, order, axis=1)
    cut = _find_cuts(uniforms, len(values))[:, None] * sorted_values
    scores = np.cumsum(sorted_values, axis=1) - sorted_values + cut
    if method == "raps":
        ranks = np.arange(1, values.shape[1] + 1)
        scores += penalty * np.maximum(0, ranks - free_classes)
    unsorted = np.empty_like(scores)
    np.put_along_axis(unsorted, order, scores, axis=1)
    return unsorted


def compute_minimum_images(coverage: float) -> int:
    """Return the minimum number of labeled images for which sets are not always all classes.

    Raises:
        InputError: a coverage that is not between 0 and 1.

    >>> compute_minimum_images(0.9)
    9
    """
    _check_coverage(coverage)
    return max(1, math.ceil(coverage / (1 - coverage) - 1e-9))


def conformal_threshold(scores: ArrayLike, coverage: float = 0.9) -> float:
    """Return the threshold that the true class's score of a new image does not exceed with this
    probability.

    The ``ceil((N + 1) coverage)``-th smallest of the N scores (Vovk et al. 2005; Angelopoulos &
    Bates 2021, arXiv 2107.07511, section 1); infinity if that is more than N.

    Args:
        scores: ``(N,)`` :func:`nonconformity` of the true classes of labeled images.
        coverage: between 0 and 1.

    Raises:
        InputError: no scores, one that is not finite, or a coverage that is not between 0 and 1.

    >>> conformal_threshold([0.1, 0.2, 0.3, 0.4], 0.6)
    0.3
    """
    values = np.asarray(scores, dtype=np.float64)
    _check_coverage(coverage)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise InputError(f"Expected one finite score per held-out image, got shape {values.shape}.")
    rank = _find_rank(len(values), coverage)
    return math.inf if rank > len(values) else float(np.sort(values)[rank - 1])


def compute_coverage_floor(images: int, coverage: float = 0.9, level: float = 0.95) -> float:
    """Return a lower bound of the coverage, for any draw of the held-out images.

    Given the held-out images, the coverage on images of the same distribution is not exactly
    ``coverage`` but a draw from Beta(k, N + 1 - k) with ``k = ceil((N + 1) coverage)`` (Vovk 2012;
    Angelopoulos & Bates 2021, arXiv 2107.07511, section 3.2); this is its lower quantile, 2.5 % of
    95.

    Args:
        images: N, at least :func:`compute_minimum_images`.
        coverage: between 0 and 1.
        level: between 0 and 1.

    Raises:
        InputError: a coverage that is not between 0 and 1.

    >>> round(compute_coverage_floor(1000, 0.9), 3)
    0.881
    """
    from scipy.stats import beta

    _check_coverage(coverage)
    rank = _find_rank(images, coverage)
    if rank > images:
        return 1.0
    return float(beta.ppf((1 - level) / 2, rank, images + 1 - rank))


def prediction_sets(scores: ArrayLike, threshold: float) -> Flags:
    """Return ``(N, K)`` which classes are in each image's set; a class with a NaN score is in none.

    Args:
        scores: ``(N, K)`` :func:`nonconformity` of every class.
        threshold: from :func:`conformal_threshold`, of the same method.
    """
    return np.asarray(np.asarray(scores, dtype=np.float64) <= threshold)


def _find_rank(count: int, coverage: float) -> int:
    """Return the rank of the threshold among the sorted scores, from 1 to ``count`` + 1."""
    return max(1, math.ceil((count + 1) * coverage - 1e-9))


def _check_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:
        raise InputError(f"Expected a coverage between 0 and 1, such as 0.9, got {coverage}.")


def _find_cuts(uniforms: ArrayLike | None, count: int) -> F64:
    if uniforms is None:
        return np.ones(count)
    values = np.asarray(uniforms, dtype=np.float64)
    if values.shape != (count,) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"Expected {count} uniform numbers in 0..1, got shape {values.shape}.")
    return values
