"""One temperature for all logits, fitted on labeled images, so that confidences mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.metrics.classification import log_softmax
from shiftproof.types import F64

COLDEST, HOTTEST = 1e-2, 1e2
"""The temperatures between which the best one is looked for; a model beyond needs no such repair."""

_STEPS = 60
"""Halvings of the interval of inverse temperatures: more than a float can tell apart."""


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """Return the temperature T by which ``softmax(logits / T)`` has the least loss on these images.

    Guo et al. 2017 (arXiv 1706.04599), section 4.2 and eq. 9: T minimizes the negative log
    likelihood of held-out images. Above 1 it makes a model less sure, below 1 more; no answer
    changes. The loss is convex in 1/T, so its slope is brought to zero by bisection.

    Args:
        logits: ``(N, K)``; rows that are no numbers are left out.
        targets: ``(N,)`` integers in 0..K-1.

    Raises:
        InputError: no images, shapes that differ, a target that is no class; or no temperature from
            0.01 to 100 is best, as where all N answers are right: the surer, the better.

    >>> round(fit_temperature([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]], [0, 0, 0, 1]), 4)
    1.8205
    """
    shifted, missed = _margins(logits, targets)
    low, high = 1 / HOTTEST, 1 / COLDEST
    if _slope(low, shifted, missed) >= 0:
        raise InputError(
            f"No temperature fits: on {len(missed):,} images the answers are no better than a guess, "
            f"so that the best is above {HOTTEST:g}; see whether labels and classes belong together."
        )
    # A slope that no float tells from zero is one of a loss that falls for ever.
    if _slope(high, shifted, missed) <= 1e-12:
        raise InputError(
            f"No temperature fits: {len(missed):,} images are too few, or all are answered right, so "
            f"that the best is below {COLDEST:g}; give more held-out images."
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        below = _slope(middle, shifted, missed) < 0
        low, high = (middle, high) if below else (low, middle)
    return float(2 / (low + high))


def scale_logits(logits: ArrayLike, temperature: float) -> F64:
    """Return ``(N, K)`` logits divided by a temperature above 0.

    Raises:
        InputError: a temperature that is not above 0, or not finite.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"Expected a finite temperature above 0, got {temperature}.")
    return np.asarray(logits, dtype=np.float64) / temperature


def _margins(logits: ArrayLike, targets: ArrayLike) -> tuple[F64, F64]:
    """Return ``(N, K)`` logits below the largest of their row, and ``(N,)`` those of the targets."""
    values, classes = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    if values.ndim != 2 or values.shape[1] == 0 or classes.shape != values.shape[:1]:
        raise InputError(
            f"Expected logits (N, K) and a class for each of the N images, got {values.shape} and "
            f"{classes.shape}."
        )
    if not np.issubdtype(classes.dtype, np.integer):
        raise InputError(f"Expected the numbers of classes, got {classes.dtype}.")
    finite = np.isfinite(log_softmax(values)).any(axis=1)
    values, classes = values[finite], classes[finite]
    if len(classes) == 0:
        raise InputError("Expected at least one image to fit a temperature on, got none.")
    if classes.min() < 0 or classes.max() >= values.shape[1]:
        raise InputError(
            f"Expected classes from 0 to {values.shape[1] - 1}, got {classes.min()} to "
            f"{classes.max()}."
        )
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted, shifted[np.arange(len(classes)), classes]


def _slope(inverse: float, shifted: F64, missed: F64) -> float:
    """Return the derivative of the mean loss by the inverse temperature: E over softmax - target's."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(inverse * shifted)
        # A class that is ruled out has weight zero, and zero times infinity is none.
        pulled = np.where(weights > 0, weights * shifted, 0.0).sum(axis=1) / weights.sum(axis=1)
    return float((pulled - missed).mean())
