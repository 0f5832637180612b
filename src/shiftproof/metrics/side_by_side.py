"""The columns of many tables, summed over resamples of their rows by as few products as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.types import F32, F64, I64

_EXACT = 2.0**24
"""Whole numbers below it have exact sums in float32, in any order."""


@dataclass(frozen=True, eq=False)
class SideBySide:
    """The columns of T tables of the same N rows, for one product; the sums are those of each alone.

    Whole numbers are held as float32, in which a product takes half the time, and a column that is
    the same as in the table before is held once: so is that of the rows that count.

    Attributes:
        whole: ``(N, W)`` whole numbers.
        others: ``(N, V)`` what is no whole number, or too large.
        places: T arrays, where the columns of each table are in the sums.
    """

    whole: F32
    others: F64
    places: Sequence[I64]

    @classmethod
    def of(cls, tables: Sequence[F64]) -> SideBySide:
        """Put tables side by side whose sums are exact, as :func:`intervals.make_summable` makes them."""
        whole: list[F64] = []
        others: list[F64] = []
        places: list[list[int]] = []
        for number, table in enumerate(tables):
            before = tables[number - 1] if number else table[:, :0]
            places.append([])
            for at, column in enumerate(table.T):
                if at < before.shape[1] and np.array_equal(column, before[:, at]):
                    places[-1].append(places[-2][at])
                elif _is_whole(column):
                    whole.append(column)
                    places[-1].append(len(whole))
                else:
                    others.append(column)
                    places[-1].append(-len(others))
        count = len(tables[0])
        return cls(
            _stack(whole, count).astype(np.float32),
            _stack(others, count),
            [np.array([_find_index(one, len(whole)) for one in each], np.int64) for each in places],
        )

    def sum_once(self) -> F64:
        """Return ``(1, W + V)`` the sums over all rows."""
        return np.concatenate([self.whole.sum(0, np.float64), self.others.sum(0)])[None]

    def sum(self, weights: F32, buffer: F64) -> F64:
        """Return ``(r, W + V)`` the sums over the rows, each as often as ``weights`` say.

        Args:
            weights: ``(r, N)`` whole numbers.
            buffer: ``(r, N)``, overwritten.
        """
        np.copyto(buffer, weights)
        return np.concatenate([weights @ self.whole, buffer @ self.others], axis=1)


def _is_whole(column: F64) -> bool:
    # NaN and infinity are neither.
    with np.errstate(invalid="ignore"):
        small = np.abs(column).max(initial=0) * len(column) < _EXACT
        return bool(small) and bool((column == np.rint(column)).all())


def _stack(columns: Sequence[F64], count: int) -> F64:
    return np.stack(columns).T if columns else np.empty((count, 0))


def _find_index(place: int, whole: int) -> int:
    """Return the index of a column in the sums: the whole ones stand first."""
    return place - 1 if place > 0 else whole - place - 1
