"""Semantic segmentation: confusion matrices of pixels, IoU, recall and accuracy.

The rule is that of Cityscapes' evaluation (Cordts et al. 2016, section 4.1): the intersection over
union of a class is TP / (TP + FP + FN) over the pixels of all images together, void pixels are
ignored, and mIoU is the mean over the classes that occur.
"""

from __future__ import annotations

import numpy as np

from shiftproof.errors import InputError
from shiftproof.types import F64, I64, LabelMap


def pixel_confusion(truth: LabelMap, prediction: LabelMap, classes: int) -> I64:
    """Count the pixels of an image by their true and their predicted class.

    Args:
        truth: ``(H, W)`` integers, -1 (void) to ``classes`` - 1; int16 is fastest.
        prediction: of the same shape, -1 (none of the classes) to ``classes`` - 1.
        classes: K, the number of classes.

    Returns:
        ``(K, K + 1)`` int64: row = true class, column = predicted class; the last column counts
        pixels predicted as none of the classes, which are wrong.

    Raises:
        InputError: shapes that differ, or a number outside the classes.

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
    # Row 0 is void, and column 0 is none of the classes.
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    true, predicted = _to_int16("truth", truth), _to_int16("prediction", prediction)
    invalid = count_pairs(true, predicted, counts)
    if invalid >= 0:
        is_truth = not -1 <= true[invalid] < classes
        what, values = ("truth", true) if is_truth else ("prediction", predicted)
        raise InputError(f"Expected a {what} of -1 to {classes - 1}, got {values[invalid]}.")
    return np.concatenate([counts[1:, 1:], counts[1:, :1]], axis=1)


def _to_int16(what: str, labels: LabelMap) -> LabelMap:
    """Return flattened labels as int16."""
    if labels.dtype == np.int16:
        return np.ascontiguousarray(labels).ravel()
    if labels.dtype.kind not in "iu":
        raise InputError(f"Expected a {what} of integers, got {labels.dtype}.")
    limits = np.iinfo(np.int16)
    if labels.size and (labels.max() > limits.max or labels.min() < limits.min):
        raise InputError(f"Expected a {what} of classes, -1 to {limits.max}, got {labels.max()}.")
    return np.ascontiguousarray(labels).astype(np.int16).ravel()


def class_ious(hits: F64 | I64, truth: F64 | I64, predicted: F64 | I64) -> F64:
    """Return the intersection over union of each class.

    Args:
        hits: ``(..., K)`` correctly predicted pixels of each class (the diagonal).
        truth: ``(..., K)`` ground-truth pixels of each class.
        predicted: ``(..., K)`` pixels predicted as each class, without void ones.

    Returns:
        ``(..., K)`` in 0..1, NaN for classes that are neither present nor predicted.

    >>> class_ious(np.array([2, 0]), np.array([3, 0]), np.array([3, 0]))
    array([0.5, nan])
    """
    union = np.asarray(truth) + predicted - hits
    return _divide_counts(hits, union)


def class_recalls(hits: F64 | I64, truth: F64 | I64) -> F64:
    """Return the recall of each class: the share of its pixels that are predicted as it.

    Args:
        hits: ``(..., K)`` correctly predicted pixels of each class.
        truth: ``(..., K)`` ground-truth pixels of each class.

    Returns:
        ``(..., K)`` in 0..1, NaN for classes without pixels.
    """
    return _divide_counts(hits, truth)


def mean_iou(ious: F64) -> F64:
    """Return mIoU: the mean over the classes that occur.

    Args:
        ious: ``(..., K)`` in 0..1, NaN for classes that do not occur, as returned by
            ``class_ious``.

    Returns:
        ``(...)`` in 0..1, NaN if no class occurs.

    A class that is predicted but has no pixels counts, with an IoU of 0.

    >>> float(mean_iou(np.array([0.5, np.nan, 1.0])))
    0.75
    """
    known = np.isfinite(ious)
    total = np.where(known, ious, 0).sum(axis=-1)
    return _divide_counts(total, known.sum(axis=-1))


def pixel_accuracy(hits: F64 | I64, truth: F64 | I64) -> F64:
    """Return the share of correctly predicted pixels, ignoring void ones.

    Args:
        hits: ``(..., K)`` correctly predicted pixels of each class.
        truth: ``(..., K)`` ground-truth pixels of each class.

    Returns:
        ``(...)`` in 0..1, NaN if all pixels are void.
    """
    return _divide_counts(np.asarray(hits).sum(axis=-1), np.asarray(truth).sum(axis=-1))


def compute_marginals(confusion: I64) -> tuple[I64, I64, I64]:
    """Return hits, truth and predicted, ``(K,)`` each, of a ``(K, K + 1)`` confusion.

    >>> hits, truth, predicted = compute_marginals(np.array([[1, 1, 0], [0, 0, 1]]))
    >>> hits, truth, predicted
    (array([1, 0]), array([2, 1]), array([1, 1]))
    """
    return confusion.diagonal().copy(), confusion.sum(axis=1), confusion[:, :-1].sum(axis=0)


def _divide_counts(part: F64 | I64, whole: F64 | I64) -> F64:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    empty = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.asarray(np.divide(part, whole, out=empty, where=whole > 0))
