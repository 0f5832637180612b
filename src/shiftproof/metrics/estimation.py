"""Unsupervised estimation of a classifier's error from its own confidence.

Each estimate is fitted on labeled source images and applied to unlabeled target images. None is
right under every shift: without an assumption on the shift, the target error is not identifiable
(Garg et al. 2022). Where labels exist, the error of each estimate is measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.errors import InputError
from shiftproof.types import F64, Flags


class Threshold(NamedTuple):
    """The score below which a prediction counts as wrong.

    A prediction whose score equals ``score`` counts as wrong by the fraction ``share`` in 0..1.
    """

    score: float
    share: float


def fit_confidence_threshold(source_score: ArrayLike, source_right: ArrayLike) -> Threshold:
    """Return the threshold at which the share of source scores below it equals the source error.

    Garg et al. 2022 (arXiv 2201.04234), section 4: ``P_source(score < t) = source error``. If k of
    N are wrong, any t above the k-th and up to the (k+1)-th smallest score satisfies it; here it is
    the (k+1)-th, or infinity if all are wrong. With tied scores (a confident network often gives
    1.0) no t may have the right share below it: then a fraction of the scores that equal t counts
    as wrong, such that the source error is exact.

    Differs from the authors' code, which takes the k-th smallest score and counts ties as right:
    one source prediction fewer is wrong, or many fewer with ties.

    Args:
        source_score: ``(N,)`` finite, larger for more confident predictions: the confidence, or the
            negative entropy in nats.
        source_right: ``(N,)`` bool.

    Raises:
        InputError: no samples, shapes that differ, scores that are not finite.

    >>> fit_confidence_threshold([0.9, 0.6, 0.8, 0.7], [True, False, True, True])
    Threshold(score=0.7, share=0.0)
    """
    scores, right = _check_source(source_score, source_right)
    wrong = int(len(right) - np.count_nonzero(right))
    if wrong == len(scores):
        return Threshold(np.inf, 0.0)
    ordered = np.sort(scores)
    score = float(ordered[wrong])
    below = int(np.searchsorted(ordered, score, "left"))
    up_to = int(np.searchsorted(ordered, score, "right"))
    return Threshold(score, (wrong - below) / (up_to - below))


def compute_error_shares(target_score: ArrayLike, threshold: Threshold) -> F64:
    """Return ``(N,)`` in 0..1: the fraction by which each prediction counts as wrong; their mean is
    the estimate.

    Args:
        target_score: ``(N,)`` finite, the same kind of score as for the threshold.
        threshold: from :func:`fit_confidence_threshold`.

    Raises:
        InputError: no samples, or scores that are not finite.
    """
    scores = _check_finite(target_score, "target")
    wrong = (scores < threshold.score).astype(np.float64)
    if threshold.share:
        wrong[scores == threshold.score] = threshold.share
    return wrong


def average_thresholded_confidence(
    source_confidence: ArrayLike, source_right: ArrayLike, target_confidence: ArrayLike
) -> float:
    """Return the target error in 0..1 by average thresholded confidence (ATC).

    Garg et al. 2022 (arXiv 2201.04234), section 4: ``P_target(score < t)`` for the t at which
    ``P_source(score < t)`` is the source error. On the source itself the estimate equals the error.
    See :func:`fit_confidence_threshold` for ties.

    Args:
        source_confidence: ``(N,)`` finite, larger for more confident predictions: the confidence
            (the paper's maximum confidence), or the negative entropy.
        source_right: ``(N,)`` bool.
        target_confidence: ``(M,)``, the same score on the target.

    Raises:
        InputError: no samples, shapes that differ, scores that are not finite.

    >>> average_thresholded_confidence([0.9, 0.5], [True, False], [0.95, 0.6, 0.4, 0.3])
    0.75
    """
    threshold = fit_confidence_threshold(source_confidence, source_right)
    return float(compute_error_shares(target_confidence, threshold).mean())


def difference_of_confidences(
    source_confidence: ArrayLike, source_right: ArrayLike, target_confidence: ArrayLike
) -> float:
    """Return the target error in 0..1 by the difference of confidences (DoC).

    Guillory et al. 2021 (arXiv 2107.03315): the accuracy is assumed to fall by as much as the mean
    confidence, so ``error = source error + mean source confidence - mean target confidence``. The
    result is clipped to 0..1.

    Differs from the paper's regression on the difference, which has to be fitted on labeled shifts:
    this is the difference itself, without a slope.

    Args:
        source_confidence: ``(N,)`` in 0..1.
        source_right: ``(N,)`` bool.
        target_confidence: ``(M,)`` in 0..1.

    Raises:
        InputError: no samples, shapes that differ, confidences outside 0..1.

    >>> difference_of_confidences([1.0, 0.5], [True, False], [0.5, 0.5])
    0.75
    """
    source, right = _check_source(source_confidence, source_right)
    target = _check_finite(target_confidence, "target")
    for values in (source, target):
        if values.min() < 0 or values.max() > 1:
            raise InputError("Expected confidences in 0..1.")
    error = 1 - right.mean() + source.mean() - target.mean()
    return float(np.clip(error, 0, 1))


def agreement(predictions: ArrayLike, other_predictions: ArrayLike) -> float:
    """Return the share of images on which two models make the same prediction, in 0..1.

    The disagreement, 1 minus this, is about the error of either of two networks that differ by the
    seed of their training (Jiang et al. 2022, arXiv 2106.13799); over many networks agreement and
    accuracy are linearly related (Baek et al. 2022, arXiv 2206.13089). A model and its adapted form
    come from the same training and share mistakes, so neither result applies to them.

    Args:
        predictions: ``(N,)`` integers, the predicted classes; -1 is no prediction and agrees with
            nothing.
        other_predictions: ``(N,)``, of the other model on the same images.

    Raises:
        InputError: no samples, shapes that differ, or answers that are not integers.

    >>> agreement([0, 2, 1, 1], [0, 2, 2, 1])
    0.75
    """
    one, other = np.asarray(predictions), np.asarray(other_predictions)
    if one.ndim != 1 or one.shape != other.shape or len(one) == 0:
        raise InputError(
            f"Expected the answers of two models to the same images, got {one.shape} and "
            f"{other.shape}."
        )
    for values in (one, other):
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"Expected the numbers of classes, got {values.dtype}.")
    return float(1 - find_differences(one, other).mean())


def find_differences(predictions: NDArray[Any], other_predictions: NDArray[Any]) -> Flags:
    """Return ``(N,)`` bool: which predictions differ.

    -1 is no prediction and differs from everything, also from another one.

    Args:
        predictions: ``(N,)`` integers, the predicted classes.
        other_predictions: ``(N,)``, others for the same images.

    >>> find_differences(np.array([1, 1, -1, -1]), np.array([1, 2, 0, -1]))
    array([False,  True,  True,  True])
    """
    return np.asarray((predictions != other_predictions) | (predictions < 0))


def _check_source(score: ArrayLike, right: ArrayLike) -> tuple[F64, Flags]:
    scores, answers = _check_finite(score, "source"), np.asarray(right)
    if scores.shape != answers.shape:
        raise InputError(
            f"Expected one score and one answer per source sample, got {scores.shape} and "
            f"{answers.shape}."
        )
    if answers.dtype != np.bool_:
        raise InputError(f"Expected True or False for each answer, got {answers.dtype}.")
    return scores, answers


def _check_finite(score: ArrayLike, which: str) -> F64:
    scores = np.asarray(score, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise InputError(f"Expected one finite {which} score per sample, got shape {scores.shape}.")
    return scores
