"""Unsupervised performance estimation of detectors and segmenters, from their predictions.

As for classifiers (:mod:`shiftproof.metrics.estimation`) an estimate is fitted on labeled clean
images and applied to unlabeled ones. Two kinds of evidence give a number in 0..1: the confidence of
the predictions, and their agreement with those on the mirrored image. As for classifiers, no
estimate is right under every shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.metrics.curves import RECALLS, average_known
from shiftproof.metrics.matching import Corners, compute_ious, match_by_score
from shiftproof.metrics.segmentation import class_ious, pixel_confusion
from shiftproof.types import F64, Detections, Flags, LabelMap

# ---------------------------------------------------------------- detection: from confidences


class HitRate(NamedTuple):
    """How often boxes of a score are correct: ``rates`` ``(M,)`` increase with ``scores``
    ``(M,)``.
    """

    scores: F64
    rates: F64

    def at(self, scores: ArrayLike) -> F64:
        """Return the rates at ``scores``, interpolated linearly."""
        return np.asarray(np.interp(np.asarray(scores, np.float64), self.scores, self.rates))


def fit_hit_rate(scores: ArrayLike, hits: ArrayLike) -> HitRate:
    """Fit the increasing function from score to the probability that a box is correct.

    Isotonic regression by pooling adjacent violators (Ayer et al. 1955), beginning with the boxes
    of equal scores as pools, so that their order does not matter; the rate of a pool is placed at
    the mean of its scores.

    Args:
        scores: ``(N,)`` finite.
        hits: ``(N,)`` bool: whether the box matches an object of its class.

    Raises:
        InputError: no boxes, shapes that differ, or scores that are not finite.

    >>> fit_hit_rate([0.1, 0.2, 0.3, 0.9], [False, True, False, True]).rates.tolist()
    [0.0, 0.5, 1.0]
    """
    values, is_hit = np.asarray(scores, np.float64), np.asarray(hits)
    if values.ndim != 1 or values.shape != is_hit.shape or len(values) == 0:
        raise InputError(
            "Expected one or more boxes with a score and a hit or miss each, got "
            f"{values.shape} and {is_hit.shape}."
        )
    if not np.isfinite(values).all():
        raise InputError("Expected finite scores of boxes.")
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    hits_of = np.bincount(place, weights=is_hit)
    pools: list[tuple[float, float, int]] = []  # sums of scores and of hits, and the count
    for score, hit_count, count in zip(
        distinct.tolist(), hits_of.tolist(), counts.tolist(), strict=True
    ):
        pools.append((score * count, hit_count, count))
        while len(pools) > 1 and _compute_rate(pools[-2]) >= _compute_rate(pools[-1]):
            last, before = pools.pop(), pools.pop()
            pools.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    centers = np.array([total / count for total, _, count in pools])
    return HitRate(centers, np.array([_compute_rate(pool) for pool in pools]))


def _compute_rate(pool: tuple[float, float, int]) -> float:
    return pool[1] / pool[2]


def expect_average_precision(rates: ArrayLike, objects: float) -> float:
    """Return the expected average precision of boxes with known probabilities of being correct.

    Boxes are ranked by rate. The expected number of correct ones among the first k is the sum of
    their rates; precision at each of COCO's 101 recalls is interpolated. All classes are pooled.

    Args:
        rates: ``(N,)`` in 0..1: probability that each box is correct.
        objects: number of ground-truth objects, above 0.

    Returns:
        In 0..1.

    Raises:
        InputError: rates outside 0..1, or no objects.

    >>> round(expect_average_precision([1.0, 0.5], objects=2), 3)
    0.691
    """
    ranked = np.sort(np.asarray(rates, np.float64))[::-1]
    if len(ranked) and not (ranked[-1] >= 0 and ranked[0] <= 1):
        raise InputError("Expected rates in 0..1.")
    if not objects > 0:
        raise InputError(f"objects: expected a number above 0, got {objects!r}.")
    hits = np.cumsum(ranked)
    recall = np.minimum(hits / objects, 1)
    precision = hits / np.arange(1, len(ranked) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(recall, RECALLS - 1e-12, side="left")
    return float(np.append(envelope, 0)[index].mean())


def find_hits(found: Detections, truth: Detections, overlap: float = 0.5) -> Flags:
    """Return ``(D,)`` bool: which boxes match an object of their class.

    Boxes are matched one to one, greedily by score.

    Args:
        found: the detections of an image.
        truth: its ground-truth objects.
        overlap: threshold of the intersection over union.
    """
    corners = [Corners.from_corners(one.boxes.astype(np.float64)) for one in (found, truth)]
    ious = compute_ious(*corners)
    ious[found.labels[:, None] != truth.labels] = 0
    return match_by_score(ious, found.scores, overlap) >= 0


# ---------------------------------------------------------------- agreement with the mirrored image


def mirror_boxes(found: Detections, width: int) -> Detections:
    """Map the detections of a mirrored image back to the original image.

    >>> mirror_boxes(Detections([[0, 1, 4, 5]], [0.5], [0]), width=10).boxes
    array([[ 6.,  1., 10.,  5.]], dtype=float32)
    """
    boxes = np.array(found.boxes, copy=True)
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return Detections(boxes, found.scores, found.labels)


def box_agreement(
    found: Sequence[Detections], other: Sequence[Detections], overlap: float = 0.5
) -> float:
    """Return the agreement of two sets of detections of the same images, in 0..1.

    Boxes of the same class are matched one to one by overlap, greedily by score. The result is the
    share of the matched boxes in the sum of all scores of both; 1 if neither has any box.

    Args:
        found: the detections of each image.
        other: other detections of the same images, such as those of mirrored images, mapped back.
        overlap: threshold of the intersection over union.

    >>> one = Detections([[0, 0, 4, 4], [5, 5, 9, 9]], [0.9, 0.3], [0, 1])
    >>> two = Detections([[0, 0, 4, 4]], [0.6], [0])
    >>> round(box_agreement([one], [two]), 3)  # (0.9 + 0.6) / (0.9 + 0.3 + 0.6)
    0.833
    """
    matched = total = 0.0
    for one, two in zip(found, other, strict=True):
        matched += float(one.scores[find_hits(one, two, overlap)].sum())
        matched += float(two.scores[find_hits(two, one, overlap)].sum())
        total += float(one.scores.sum() + two.scores.sum())
    return matched / total if total > 0 else 1.0


def label_agreement(found: Sequence[LabelMap], other: Sequence[LabelMap], classes: int) -> float:
    """Return the mean intersection over union of two sets of label maps of the same images, in 0..1.

    Over the pixels of all images together, and the classes that occur in either set; void pixels
    are ignored. NaN if all pixels are void.

    >>> label_agreement([np.array([[0, 0, 1, 1]])], [np.array([[0, 1, 1, 1]])], classes=3)
    0.5833333333333333
    """
    counts = np.zeros((classes, classes + 1), np.int64)
    for one, two in zip(found, other, strict=True):
        counts += pixel_confusion(one, two, classes)
    square = counts[:, :classes]
    return average_known(class_ious(np.diagonal(square), counts.sum(1), square.sum(0)))


def expect_mean_iou(counts: ArrayLike) -> float:
    """Return the expected mean intersection over union of pixels with known probabilities.

    Args:
        counts: ``(3, K)`` per class: the sum of its probability over the pixels predicted as it,
            the sum of its probability over all pixels, and the number of pixels predicted as it.

    Returns:
        In 0..1, over the classes that are predicted or whose probabilities sum to at least one
        pixel; NaN without any.

    Raises:
        InputError: another shape.

    >>> expect_mean_iou([[1.6, 0.9], [1.7, 1.3], [2, 1]])
    0.7023809523809523
    """
    sums = np.asarray(counts, np.float64)
    if sums.ndim != 2 or sums.shape[0] != 3:
        raise InputError(f"Expected counts (3, K), got {sums.shape}.")
    hits, expected, predicted = sums
    occurs = (predicted > 0) | (expected >= 1)
    union = expected + predicted - hits
    ious = np.where(occurs & (union > 0), hits / np.where(union > 0, union, 1), np.nan)
    return average_known(ious)


# ---------------------------------------------------------------- the estimate


def estimate_by_ratio(clean: float, clean_evidence: float, evidence: float) -> float:
    """Estimate the performance on unlabeled images, ``clean * evidence / clean_evidence`` in 0..1.

    The performance is assumed to fall by the same factor as the evidence. For classifiers, the
    difference of confidences assumes the same difference (Guillory et al. 2021, arXiv 2107.03315); a
    ratio is used here because AP and mIoU are not accuracies.

    Args:
        clean: AP or mIoU on labeled clean images.
        clean_evidence: on the same images, above 0.
        evidence: on the unlabeled images.

    Raises:
        InputError: there is no evidence on the clean images.

    >>> estimate_by_ratio(0.5, 0.8, 0.4)
    0.25
    """
    if not clean_evidence > 0:
        raise InputError(
            f"Expected evidence above 0 on the clean images, got {clean_evidence!r}: nothing is found "
            "in them, so there is nothing to compare with."
        )
    return float(np.clip(clean * evidence / clean_evidence, 0, 1))
