"""The severity at which an answer first breaks, by bisection over continuous severity.

There are 31 outcomes: wrong on the clean image, broken at one of 29 severities, or never broken.
Five evaluations distinguish them if an answer that breaks stays broken. If it recovers, bisection
finds one severity at which it changes from right to wrong, not necessarily the first.

The *place* of an image is its outcome as an integer: 0 if it is wrong clean, k + 1 if ``LEVELS[k]``
breaks it, ``SURVIVES`` if none does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.types import F64, I64, Flags

LEVELS: tuple[float, ...] = tuple(1 + step / 7 for step in range(29))
"""The severities that are evaluated, a seventh apart; they include the five integers."""

SURVIVES = len(LEVELS) + 1
"""The place of an image that no severity breaks."""

STEPS = 5


def begin_search(count: int) -> tuple[I64, I64]:
    """Return ``(N,)`` the highest place known as right, and the lowest assumed as wrong."""
    return np.zeros(count, dtype=np.int64), np.full(count, SURVIVES, dtype=np.int64)


def choose_places(right: I64, wrong: I64) -> I64:
    """Return ``(N,)`` the next place to evaluate of each image; 0 where its search has ended."""
    return np.where(wrong - right > 1, (right + wrong) // 2, 0)


def narrow_search(right: I64, wrong: I64, places: I64, is_right: Flags) -> tuple[I64, I64]:
    """Return the ends of each search after evaluating ``places``; 0 was not evaluated."""
    evaluated = places > 0
    return (
        np.where(evaluated & is_right, places, right),
        np.where(evaluated & ~is_right, places, wrong),
    )


def look_up_severities(places: ArrayLike) -> F64:
    """Return the severities of places: 0 if wrong clean, 5 if no severity breaks the answer.

    >>> look_up_severities([0, 1, 8, 29, 30]).tolist()
    [0.0, 1.0, 2.0, 5.0, 5.0]

    Raises:
        InputError: a place outside 0 to ``SURVIVES``.
    """
    table = np.array([0.0, *LEVELS, LEVELS[-1]])
    indices = np.asarray(places)
    if not np.issubdtype(indices.dtype, np.integer) or ((indices < 0) | (indices > SURVIVES)).any():
        raise InputError(f"Expected places from 0 to {SURVIVES}, got others.")
    return np.asarray(table[indices])


def compute_mean_error(
    severity: ArrayLike, clean_accuracy: ArrayLike, *, difference: bool = False
) -> F64:
    """Return the mean error over severities 1 to 5 that a mean breaking severity implies.

    A severity B is 0 or in 1 to 5, so its mean is the area under the accuracy:
    E[B] = clean accuracy + the integral over 1 to 5 of 1 - error(s). The mean error is therefore
    1 - (E[B] - clean accuracy) / 4, if no answer recovers.

    Args:
        severity: ``(...)`` mean breaking severity.
        clean_accuracy: ``(...)`` in 0..1.
        difference: whether both are differences of two models, and so is the result.

    >>> float(compute_mean_error(5.0, 1.0)), float(compute_mean_error(1.0, 1.0))
    (0.0, 1.0)
    """
    broken = (np.asarray(severity) - np.asarray(clean_accuracy)) / 4
    return np.asarray((0.0 if difference else 1.0) - broken)
