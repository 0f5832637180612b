"""Rows joined by pairs of a source, without a list of the pairs, which may be as long as rows squared."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shiftproof.types import F64, I64

_NONE = np.empty(0, dtype=np.int64)


@dataclass(eq=False)
class Joins:
    """What pairs say of the rows that are in some, in the order of the rows.

    Attributes:
        edges: ``(e, 2)`` int64, joined rows: enough to tell which belong together.
        later: ``(l,)`` int64, the rows that an earlier one is a pair of.
        rows: ``(w,)`` int64, the rows that ``high`` and ``low`` are of; one may be there twice.
        high: ``(w,)`` int64, sums of similarities to a row's pairs, in units of 2^-30.
        low: ``(w,)`` int64, what was left of them, in units of 2^-60.
        count: how many pairs there are.
    """

    edges: I64
    later: I64
    rows: I64
    high: I64
    low: I64
    count: int


@dataclass(eq=False)
class JoinedSpan:
    """Takes pairs whose earlier row lies in a span of rows, and keeps some numbers for each row alone.

    Attributes:
        first: the span's first row.
        size: how many rows it has.
        weigh: whether sums of similarities are kept.
    """

    first: int
    size: int
    weigh: bool
    count: int = 0
    _outside: list[tuple[I64, I64, I64, I64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._parent = np.arange(self.size)
        self._later = np.zeros(self.size, dtype=bool)
        self._high, self._low = (np.zeros(self.size * self.weigh, np.int64) for _ in range(2))

    def enter(self, pairs: I64, similarity: F64) -> None:
        """Enter pairs ``(p, 2)``, the earlier row first; their later rows are to lie close together."""
        from shiftproof.similarity.search import kernels

        if not len(pairs):
            return
        self.count += len(pairs)
        end = self.first + self.size
        start = max(int(pairs[:, 1].min()), end)
        room = max(int(pairs[:, 1].max()) + 1 - start, 0)
        partner = np.full(room, -1, dtype=np.int64)
        high, low = (np.zeros(room, dtype=np.int64) for _ in range(2))
        kernels.join_pairs(
            pairs, similarity, self.first, self._parent, self._later, self._high, self._low,
            start, partner, high, low,
        )  # fmt: skip
        there = np.flatnonzero(partner >= 0)
        if len(there):
            self._outside.append((there + start, partner[there], high[there], low[there]))

    def joins(self) -> Joins:
        """Return what came of it."""
        joined = np.flatnonzero(self._parent != np.arange(self.size))
        inside = np.stack([self._parent[joined], joined], axis=1)
        # A row without pairs has no sum; one whose sum is 0 adds nothing.
        weighed = np.flatnonzero((self._high != 0) | (self._low != 0))
        rows, partners, highs, lows = (
            np.concatenate([_NONE, *(part[column] for part in self._outside)])
            for column in range(4)
        )
        outside = np.stack([partners + self.first, rows], axis=1)
        return Joins(
            edges=np.concatenate([inside + self.first, outside]),
            later=np.concatenate([np.flatnonzero(self._later) + self.first, np.unique(rows)]),
            rows=np.concatenate([weighed + self.first, rows]),
            high=np.concatenate([self._high[weighed], highs]),
            low=np.concatenate([self._low[weighed], lows]),
            count=self.count,
        )


class JoinedRows:
    """What all pairs of a source say of its rows.

    Attributes:
        later: ``(n,)`` bool, whether an earlier row is its pair.
        count: how many pairs there are.
    """

    def __init__(self, size: int, *, weigh: bool) -> None:
        self.later = np.zeros(size, dtype=bool)
        self.count = 0
        self._parent = np.arange(size)
        self._high, self._low = (np.zeros(size * weigh, dtype=np.int64) for _ in range(2))

    def enter(self, joins: Joins) -> None:
        """Enter what some of the pairs say."""
        from shiftproof.similarity.search import kernels

        kernels.join_edges(np.ascontiguousarray(joins.edges), self._parent)
        self.later[joins.later] = True
        if len(self._high):
            np.add.at(self._high, joins.rows, joins.high)
            np.add.at(self._low, joins.rows, joins.low)
        self.count += joins.count

    def groups(self) -> I64:
        """Return for each row the first row that pairs join it to, directly or over others."""
        from shiftproof.similarity.search import kernels

        kernels.flatten(self._parent)
        return self._parent

    def weights(self, rows: I64) -> F64:
        """Return each row's sum of similarities to its pairs, the exact sum rounded once."""
        high, low = self._high[rows] + (self._low[rows] >> 30), self._low[rows] & (2**30 - 1)
        weights: F64 = np.ldexp(high * 2.0**30 + low, -60)
        return weights
