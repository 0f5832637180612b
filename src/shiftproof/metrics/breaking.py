"""The severity at which an answer first breaks, by bisection over continuous severity.

Thirty outcomes (wrong from the start, one of 29 severities, none of them) are told apart by five
questions where an answer that breaks stays broken. Of one that comes back the bisection finds a
severity at which it changes from right to wrong, and not always the first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.types import F64, I64, Flags

LEVELS: tuple[float, ...] = tuple(1 + step / 7 for step in range(29))
"""The severities that are asked, a seventh apart: the five whole ones are among them."""

SURVIVES = len(LEVELS) + 1
"""The place of an image that no severity breaks; that of ``LEVELS[k]`` is k + 1, and 0 is wrong clean."""

STEPS = 5


def begin_search(count: int) -> tuple[I64, I64]:
    """Return ``(N,)`` the highest place known as right and the lowest taken as wrong, at the start."""
    return np.zeros(count, dtype=np.int64), np.full(count, SURVIVES, dtype=np.int64)


def choose_places(right: I64, wrong: I64) -> I64:
    """Return ``(N,)`` the place to ask next of each image; 0 where its search is through."""
    return np.where(wrong - right > 1, (right + wrong) // 2, 0)


def narrow_search(right: I64, wrong: I64, places: I64, is_right: Flags) -> tuple[I64, I64]:
    """Return the ends of each search after the answers at ``places``; 0 was not asked."""
    asked = places > 0
    return (
        np.where(asked & is_right, places, right),
        np.where(asked & ~is_right, places, wrong),
    )


def severities_of(places: ArrayLike) -> F64:
    """Return the severities of places: 0 where it is wrong clean, 5 where no severity breaks it.

    >>> severities_of([0, 1, 8, 29, 30]).tolist()
    [0.0, 1.0, 2.0, 5.0, 5.0]

    Raises:
        InputError: a place that there is none of.
    """
    table = np.array([0.0, *LEVELS, LEVELS[-1]])
    found = np.asarray(places)
    if not np.issubdtype(found.dtype, np.integer) or ((found < 0) | (found > SURVIVES)).any():
        raise InputError(f"Expected places from 0 to {SURVIVES}, got others.")
    return np.asarray(table[found])


def mean_error(mean_severity: float, clean_error: float) -> float:
    """Return the error averaged over severities 1 to 5, evenly, that a mean breaking severity means.

    The mean of a severity that is 0 or within 1 to 5 is the area under the share that is still right:
    E[B] = (1 - clean error) + the integral over 1 to 5 of 1 - error(s). So the mean error is
    1 - (E[B] - 1 + clean error) / 4, where no answer comes back. mCE is such means over AlexNet's.

    >>> mean_error(5.0, 0.0)
    0.0
    >>> mean_error(1.0, 0.0)
    1.0
    """
    return 1 - (mean_severity - 1 + clean_error) / 4
