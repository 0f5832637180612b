"""Semantic segmentation: pixels counted by true and predicted class, and what follows from the counts.

The rule is that of Cityscapes' evaluation (Cordts et al. 2016, section 4.1): the intersection over
union of a class is TP / (TP + FP + FN) over the pixels of all images together, pixels whose truth is
void do not count, and mIoU is the mean over the classes that occur.
"""

from __future__ import annotations

import numpy as np

from shiftproof.errors import InputError
from shiftproof.types import F64, I64, LabelMap

NOT_COUNTED = -1
"""In a truth: a pixel that is left out (void). In a prediction: none of the data's classes."""


def pixel_confusion(truth: LabelMap, prediction: LabelMap, classes: int) -> I64:
    """Count the pixels of an image by their true and their predicted class.

    Args:
        truth: ``(H, W)`` integers, -1 (left out) to ``classes`` - 1; int16 is the fastest.
        prediction: of the same shape, -1 (none of the classes) to ``classes`` - 1.
        classes: K, how many there are.

    Returns:
        ``(K, K + 1)`` int64: row = true class, column = predicted class; the last column counts
        pixels that were predicted to be none of the classes, which are wrong.

    Raises:
        InputError: shapes that differ, or a number that is no class.

    >>> pixel_confusion(np.array([[0, 0, 1, -1]]), np.array([[0, 1, -1, 1]]), 2)
    array([[1, 1, 0],
           [0, 0, 1]])
    """
    from shiftproof.metrics.pixel_pairs import count_pairs

    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise InputError(
            f"Expected a prediction of the truth's shape {truth.shape}, got {prediction.shape}."
        )
    # Row 0 and column 0 are the pixels that are left out, and those of none of the classes.
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    true, said = _as_int16("truth", truth), _as_int16("prediction", prediction)
    place = count_pairs(true, said, counts)
    if place >= 0:
        is_truth = not -1 <= true[place] < classes
        what, wrong = ("truth", true[place]) if is_truth else ("prediction", said[place])
        raise InputError(f"Expected a {what} of -1 to {classes - 1}, got {wrong}.")
    return np.concatenate([counts[1:, 1:], counts[1:, :1]], axis=1)


def _as_int16(what: str, labels: LabelMap) -> LabelMap:
    """Return labels in one row as int16."""
    if labels.dtype == np.int16:
        return np.ascontiguousarray(labels).ravel()
    if labels.dtype.kind not in "iu":
        raise InputError(f"Expected a {what} of integers, got {labels.dtype}.")
    held = np.iinfo(np.int16)
    if labels.size and (labels.max() > held.max or labels.min() < held.min):
        raise InputError(f"Expected a {what} of classes, -1 to {held.max}, got {labels.max()}.")
    return np.ascontiguousarray(labels).astype(np.int16).ravel()


def class_ious(hits: F64 | I64, truth: F64 | I64, predicted: F64 | I64) -> F64:
    """Return the intersection over union of each class.

    Args:
        hits: ``(..., K)`` pixels of a class that were predicted as it (the diagonal).
        truth: ``(..., K)`` pixels of a class.
        predicted: ``(..., K)`` pixels that were predicted as it, of those that count.

    Returns:
        ``(..., K)`` in 0..1, NaN where a class is neither there nor predicted.

    >>> class_ious(np.array([2, 0]), np.array([3, 0]), np.array([3, 0]))
    array([0.5, nan])
    """
    union = np.asarray(truth) + predicted - hits
    return _share(hits, union)


def class_recalls(hits: F64 | I64, truth: F64 | I64) -> F64:
    """Return the share of each class's pixels that were predicted as it.

    Args:
        hits: ``(..., K)`` pixels of a class that were predicted as it.
        truth: ``(..., K)`` pixels of a class.

    Returns:
        ``(..., K)`` in 0..1, NaN where a class has no pixels.
    """
    return _share(hits, truth)


def mean_iou(ious: F64) -> F64:
    """Return mIoU: the mean over the classes that occur.

    Args:
        ious: ``(..., K)`` in 0..1, NaN for classes that do not occur, as ``class_ious`` gives them.

    Returns:
        ``(...)`` in 0..1, NaN where no class occurs.

    A class that no pixel has but some are predicted as occurs, with 0.

    >>> float(mean_iou(np.array([0.5, np.nan, 1.0])))
    0.75
    """
    known = np.isfinite(ious)
    total = np.where(known, ious, 0).sum(axis=-1)
    return _share(total, known.sum(axis=-1))


def pixel_accuracy(hits: F64 | I64, truth: F64 | I64) -> F64:
    """Return the share of the pixels that count whose class is right.

    Args:
        hits: ``(..., K)`` pixels of a class that were predicted as it.
        truth: ``(..., K)`` pixels of a class.

    Returns:
        ``(...)`` in 0..1, NaN where no pixel counts.
    """
    return _share(np.asarray(hits).sum(axis=-1), np.asarray(truth).sum(axis=-1))


def marginals(confusion: I64) -> tuple[I64, I64, I64]:
    """Return hits, truth and predicted, ``(K,)`` each, of a ``(K, K + 1)`` confusion.

    >>> hits, truth, predicted = marginals(np.array([[1, 1, 0], [0, 0, 1]]))
    >>> hits, truth, predicted
    (array([1, 0]), array([2, 1]), array([1, 1]))
    """
    return confusion.diagonal().copy(), confusion.sum(axis=1), confusion[:, :-1].sum(axis=0)


def _share(part: F64 | I64, whole: F64 | I64) -> F64:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    empty = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.asarray(np.divide(part, whole, out=empty, where=whole > 0))
