"""How often a model is wrong on images without labels, guessed from its own confidence.

Each guess is learnt on labeled images of the source and made on unlabeled images of the target.
None can be right whatever the shift: without an assumption on it, the target's error cannot be
known (Garg et al. 2022). How far each is off is measured where labels are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.types import F64, Flags


class Threshold(NamedTuple):
    """The score below which an answer counts as wrong.

    ``share`` in 0..1 is how much of an answer counts as wrong whose score is exactly ``score``.
    """

    score: float
    share: float


def confidence_threshold(source_score: ArrayLike, source_right: ArrayLike) -> Threshold:
    """Return the threshold below which lie as many source scores as source answers are wrong.

    Garg et al. 2022 (arXiv 2201.04234), section 4: ``P_source(score < t) = source error``.
    Every t from above the k-th to the (k+1)-th smallest score does that where k of N are wrong; it
    is the (k+1)-th here, and infinity where all are wrong. Where scores are equal at that place (a
    network that is sure of much gives 1.0 many times), no t has the right share below it: of the
    scores that equal t, such a share counts as wrong that the source error comes out exactly.

    Differs from the authors' code, which takes the k-th smallest score and counts what equals it as
    right: one source answer fewer is wrong, or with equal scores many fewer.

    Args:
        source_score: ``(N,)`` finite, larger where the model is surer: the confidence, or the
            negative entropy in nats.
        source_right: ``(N,)`` bool.

    Raises:
        InputError: no samples, shapes that differ, scores that are not finite.

    >>> confidence_threshold([0.9, 0.6, 0.8, 0.7], [True, False, True, True])
    Threshold(score=0.7, share=0.0)
    """
    scores, right = _source(source_score, source_right)
    wrong = int(len(right) - np.count_nonzero(right))
    if wrong == len(scores):
        return Threshold(np.inf, 0.0)
    ordered = np.sort(scores)
    score = float(ordered[wrong])
    below = int(np.searchsorted(ordered, score, "left"))
    up_to = int(np.searchsorted(ordered, score, "right"))
    return Threshold(score, (wrong - below) / (up_to - below))


def error_shares(target_score: ArrayLike, threshold: Threshold) -> F64:
    """Return ``(N,)`` in 0..1: how much each answer counts as wrong; the mean is the estimate.

    Args:
        target_score: ``(N,)`` finite, the score of which the threshold is.
        threshold: from :func:`confidence_threshold`.

    Raises:
        InputError: no samples, or scores that are not finite.
    """
    scores = _finite(target_score, "target")
    wrong = (scores < threshold.score).astype(np.float64)
    if threshold.share:
        wrong[scores == threshold.score] = threshold.share
    return wrong


def average_thresholded_confidence(
    source_confidence: ArrayLike, source_right: ArrayLike, target_confidence: ArrayLike
) -> float:
    """Return the target error in 0..1 by average thresholded confidence (ATC).

    Garg et al. 2022 (arXiv 2201.04234), section 4: ``P_target(score < t)`` for the t at which
    ``P_source(score < t)`` is the source error. On the source itself the estimate is the error. See
    :func:`confidence_threshold` for scores that are equal.

    Args:
        source_confidence: ``(N,)`` finite, larger where the model is surer: the confidence (the
            paper's maximum confidence), or the negative entropy.
        source_right: ``(N,)`` bool.
        target_confidence: ``(M,)``, the same score on the target.

    Raises:
        InputError: no samples, shapes that differ, scores that are not finite.

    >>> average_thresholded_confidence([0.9, 0.5], [True, False], [0.95, 0.6, 0.4, 0.3])
    0.75
    """
    threshold = confidence_threshold(source_confidence, source_right)
    return float(error_shares(target_confidence, threshold).mean())


def difference_of_confidences(
    source_confidence: ArrayLike, source_right: ArrayLike, target_confidence: ArrayLike
) -> float:
    """Return the target error in 0..1 by the difference of confidences (DoC).

    Guillory et al. 2021 (arXiv 2107.03315): the accuracy falls by what the mean confidence falls by,
    so ``error = source error + mean source confidence - mean target confidence``. A result outside
    0..1 is brought to the nearer end.

    Differs from the paper's regression on the difference, which needs labeled shifts to learn from:
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
    source, right = _source(source_confidence, source_right)
    target = _finite(target_confidence, "target")
    for values in (source, target):
        if values.min() < 0 or values.max() > 1:
            raise InputError("Expected confidences in 0..1.")
    error = 1 - right.mean() + source.mean() - target.mean()
    return float(np.clip(error, 0, 1))


def agreement(predictions: ArrayLike, other_predictions: ArrayLike) -> float:
    """Return the share of images on which two models give the same answer, in 0..1.

    What is missing to 1, the disagreement, was found to be about the error of either where one
    network was trained twice (Jiang et al. 2022, arXiv 2106.13799); over many networks, agreement
    and accuracy move along the same line (Baek et al. 2022, arXiv 2206.13089). A model and its
    adapted form were trained once and share mistakes: nothing promises that between them.

    Args:
        predictions: ``(N,)`` integers, the class that each image is given; -1 is no answer and
            agrees with nothing.
        other_predictions: ``(N,)``, of the other model on the same images.

    Raises:
        InputError: no samples, shapes that differ, or answers that are not integers.

    >>> agreement([0, 2, 1, 1], [0, 2, 2, 1])
    0.75
    """
    these, those = np.asarray(predictions), np.asarray(other_predictions)
    if these.ndim != 1 or these.shape != those.shape or len(these) == 0:
        raise InputError(
            f"Expected the answers of two models to the same images, got {these.shape} and "
            f"{those.shape}."
        )
    for answers in (these, those):
        if not np.issubdtype(answers.dtype, np.integer):
            raise InputError(f"Expected the numbers of classes, got {answers.dtype}.")
    return float(((these == those) & (these >= 0)).mean())


def _source(score: ArrayLike, right: ArrayLike) -> tuple[F64, Flags]:
    scores, answers = _finite(score, "source"), np.asarray(right)
    if scores.shape != answers.shape:
        raise InputError(
            f"Expected one score and one answer per source sample, got {scores.shape} and "
            f"{answers.shape}."
        )
    if answers.dtype != np.bool_:
        raise InputError(f"Expected True or False for each answer, got {answers.dtype}.")
    return scores, answers


def _finite(score: ArrayLike, which: str) -> F64:
    scores = np.asarray(score, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise InputError(f"Expected one finite {which} score per sample, got shape {scores.shape}.")
    return scores
