"""Temperature scaling: one temperature for all logits, fitted on labeled images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.metrics.classification import check_class_range, check_classes, log_softmax
from shiftproof.types import F64

MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-2, 1e2
"""Range of temperatures that is searched; beyond it scaling does not help."""

_STEPS = 60
"""Bisection steps: more than the precision of a float."""


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """Return the temperature T that minimizes the loss of ``softmax(logits / T)`` on these images.

    Guo et al. 2017 (arXiv 1706.04599), section 4.2 and eq. 9: T minimizes the negative log
    likelihood of held-out images. Above 1 it lowers confidence, below 1 it raises it; predictions
    do not change. The loss is convex in 1/T, so the root of its slope is found by bisection.

    Args:
        logits: ``(N, K)``; rows with NaN or infinity are ignored.
        targets: ``(N,)`` integers in 0..K-1.

    Raises:
        InputError: no images, shapes that differ, a target outside the classes; or no optimum
            between 0.01 and 100, for example if all N predictions are right.

    >>> round(fit_temperature([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]], [0, 0, 0, 1]), 4)
    1.8205
    """
    shifted, target_logits = _shift_logits(logits, targets)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if _compute_slope(low, shifted, target_logits) >= 0:
        raise InputError(
            f"No temperature fits: on {pluralize(len(shifted), 'image')} the answers are no better than a "
            f"guess, so that the best is above {MAX_TEMPERATURE:g}; see whether labels and classes belong "
            "together."
        )
    # A slope that underflows means that the loss decreases without a minimum.
    if _compute_slope(high, shifted, target_logits) <= 1e-12:
        raise InputError(
            f"No temperature fits: {pluralize(len(shifted), 'image is', 'images are')} too few, or all are "
            f"answered right, so that the best is below {MIN_TEMPERATURE:g}; give more held-out images."
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        is_below = _compute_slope(middle, shifted, target_logits) < 0
        low, high = (middle, high) if is_below else (low, middle)
    return float(2 / (low + high))


def scale_logits(logits: ArrayLike, temperature: float) -> F64:
    """Return ``(N, K)`` logits divided by a temperature above 0.

    Raises:
        InputError: a temperature that is not above 0, or not finite.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"Expected a finite temperature above 0, got {temperature}.")
    return np.asarray(logits, dtype=np.float64) / temperature


def _shift_logits(logits: ArrayLike, targets: ArrayLike) -> tuple[F64, F64]:
    """Return ``(N, K)`` logits minus their row's maximum, and ``(N,)`` those of the targets."""
    values, classes = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    check_classes("logits", values, classes)
    finite = np.isfinite(log_softmax(values)).any(axis=1)
    values, classes = values[finite], classes[finite]
    if len(classes) == 0:
        raise InputError("Expected at least one image to fit a temperature on, got none.")
    check_class_range(classes, values.shape[1])
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted, shifted[np.arange(len(classes)), classes]


def _compute_slope(inverse: float, shifted: F64, target_logits: F64) -> float:
    """Return the derivative of the mean loss with respect to the inverse temperature."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(inverse * shifted)
        # An excluded class has weight zero, and zero times infinity is NaN.
        expected = np.where(weights > 0, weights * shifted, 0.0).sum(axis=1) / weights.sum(axis=1)
    return float((expected - target_logits).mean())
