"""Per-sample metrics of a classifier's logits; they are averaged later, from the record table.

Logits may be NaN or infinite (an overflow, a damaged checkpoint). Such a row has no prediction: it
counts as wrong, and its confidence and loss are NaN, without a warning and without effect on other
rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.types import F64, I32, Flags, Indices


def log_softmax(logits: ArrayLike) -> F64:
    """Return ``(N, K)`` log-probabilities of ``(N, K)`` logits; no overflow at any finite logit.

    A logit of minus infinity excludes a class. Rows with NaN or plus infinity, or with all classes
    excluded, become NaN.
    """
    values = _check_logits(logits)
    with np.errstate(invalid="ignore"):
        shifted = values - values.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def confidence(logits: ArrayLike) -> F64:
    """Return ``(N,)`` the largest softmax probability of each row of ``logits``, in 1/K..1.

    >>> confidence([[0.0, 0.0]])
    array([0.5])
    """
    return np.asarray(np.exp(log_softmax(logits).max(axis=1)))


def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> F64:
    """Return ``(N,)`` ``-log p(target)`` in nats.

    Args:
        logits: ``(N, K)``.
        targets: ``(N,)`` integers in 0..K-1.

    Raises:
        InputError: shapes that do not match, or a target outside the classes.
    """
    log_probabilities = log_softmax(logits)
    indices = _check_targets(targets, log_probabilities.shape)
    return np.asarray(-log_probabilities[np.arange(len(indices)), indices])


def top_classes(logits: ArrayLike, k: int) -> I32:
    """Return the ``(N, min(k, K))`` top classes of each row, best first; ties go to the lower
    index.

    A row without a prediction is -1 throughout: one with NaN or plus infinity, or with all classes
    excluded, whose probabilities are NaN.

    Args:
        logits: ``(N, K)``.
        k: 1 or more.

    Raises:
        InputError: another shape, or ``k`` below 1.
    """
    values = _check_logits(logits)
    if k < 1:
        raise InputError(f"Expected k of 1 or more, got {k}.")
    order = np.argsort(-values, axis=1, kind="stable")[:, :k].astype(np.int32)
    order[~np.isfinite(values.max(axis=1))] = -1
    return order


def top_k_error(logits: ArrayLike, targets: ArrayLike, k: int = 1) -> Flags:
    """Return ``(N,)`` whether the target is not among the ``k`` classes of highest score.

    Args:
        logits: ``(N, K)``.
        targets: ``(N,)`` integers in 0..K-1.
        k: 1 or more; capped at K, as in ``top_classes``, where only rows without a prediction are
            wrong. Ties go to the lower index, as in ``argmax``.

    Raises:
        InputError: shapes that do not match, a target outside the classes, or k below 1.

    >>> top_k_error([[0.1, 0.7, 0.2]], [2], k=2)
    array([False])
    """
    values = _check_logits(logits)
    indices = _check_targets(targets, values.shape)
    return np.asarray(~(top_classes(values, k) == indices[:, None]).any(axis=1))


def check_classes(what: str, values: F64, classes: NDArray[Any]) -> None:
    """Refuse all but ``(N, K)`` values and ``(N,)`` integers; ``what`` names the values."""
    if values.ndim != 2 or values.shape[1] == 0 or classes.shape != values.shape[:1]:
        raise InputError(
            f"Expected {what} (N, K) and a class for each of the N images, got {values.shape} and "
            f"{classes.shape}."
        )
    if not np.issubdtype(classes.dtype, np.integer):
        raise InputError(f"Expected the numbers of classes, got {classes.dtype}.")


def check_class_range(classes: NDArray[Any], count: int) -> None:
    """Refuse classes outside 0 to ``count`` - 1."""
    if ((classes < 0) | (classes >= count)).any():
        raise InputError(
            f"Expected classes from 0 to {count - 1}, got {classes.min()} to {classes.max()}."
        )


def _check_logits(logits: ArrayLike) -> F64:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected logits of shape (N, K), got {values.shape}.")
    return values


def _check_targets(targets: ArrayLike, shape: tuple[int, ...]) -> Indices:
    indices = np.asarray(targets)
    if indices.shape != shape[:1] or not np.issubdtype(indices.dtype, np.integer):
        raise InputError(
            f"Expected {pluralize(shape[0], 'integer target')}, one per row of the logits, got shape "
            f"{indices.shape}, {indices.dtype}."
        )
    if ((indices < 0) | (indices >= shape[1])).any():
        raise InputError(
            f"Expected targets from 0 to {shape[1] - 1}, got {indices.min()} to {indices.max()}."
        )
    return indices.astype(np.intp)
