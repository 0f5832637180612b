"""Sums of many tables' columns over resamples of the rows, by as few matrix products as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.types import F32, F64, I64

_EXACT = 2.0**24
"""Sums of integers below this are exact in float32, in any order."""


@dataclass(frozen=True, eq=False)
class StackedTables:
    """The columns of T tables of the same N rows, stacked horizontally.

    Integers are stored as float32, which halves the time of a product. A column that equals the one
    of the previous table, as that of the images that count does, is stored once.

    Attributes:
        integers: ``(N, W)`` columns of integers.
        floats: ``(N, V)`` columns with other numbers, or with too large integers.
        indices: T arrays: the indices of each table's columns in the sums.
    """

    integers: F32
    floats: F64
    indices: Sequence[I64]

    @classmethod
    def stack(cls, tables: Sequence[F64]) -> StackedTables:
        """Stack tables whose sums are exact, see :func:`intervals.make_summable`."""
        columns: tuple[list[F64], list[F64]] = ([], [])
        # For each column of each table the list that has it, and the index in that list.
        positions: list[list[tuple[int, int]]] = []
        for number, table in enumerate(tables):
            previous = tables[number - 1] if number else table[:, :0]
            positions.append([])
            for index, column in enumerate(table.T):
                if index < previous.shape[1] and np.array_equal(column, previous[:, index]):
                    positions[-1].append(positions[-2][index])
                    continue
                kind = 0 if _has_small_integers(column) else 1
                positions[-1].append((kind, len(columns[kind])))
                columns[kind].append(column)
        count, offsets = len(tables[0]), (0, len(columns[0]))
        return cls(
            _join_columns(columns[0], count).astype(np.float32),
            _join_columns(columns[1], count),
            [np.array([offsets[kind] + at for kind, at in row], np.int64) for row in positions],
        )

    def sum_once(self) -> F64:
        """Return ``(1, W + V)`` the sums over all rows."""
        return np.concatenate([self.integers.sum(0, np.float64), self.floats.sum(0)])[None]

    def sum(self, weights: F32, buffer: F64) -> F64:
        """Return ``(r, W + V)`` the sums over the weighted rows.

        Args:
            weights: ``(r, N)`` integers.
            buffer: ``(r, N)``, overwritten.
        """
        np.copyto(buffer, weights)
        return np.concatenate([weights @ self.integers, buffer @ self.floats], axis=1)


def _has_small_integers(column: F64) -> bool:
    """Return whether sums of the column are exact in float32; False with NaN or infinity."""
    with np.errstate(invalid="ignore"):
        is_small = np.abs(column).max(initial=0) * len(column) < _EXACT
        return bool(is_small) and bool((column == np.rint(column)).all())


def _join_columns(columns: Sequence[F64], count: int) -> F64:
    return np.stack(columns).T if columns else np.empty((count, 0))
