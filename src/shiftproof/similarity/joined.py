"""Connected groups of rows, accumulated from pairs without storing these."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shiftproof.types import F64, I64

_NONE = np.empty(0, dtype=np.int64)


@dataclass(eq=False)
class Joins:
    """Summary of some pairs by row, in the order of the rows.

    Attributes:
        edges: ``(e, 2)`` int64, connected rows: a spanning forest of the groups.
        later: ``(l,)`` int64, the rows that form a pair with an earlier row.
        rows: ``(w,)`` int64, the rows of ``high`` and ``low``; may repeat.
        high: ``(w,)`` int64, sums of similarities to a row's pairs, in units of 2^-30.
        low: ``(w,)`` int64, their remainders, in units of 2^-60.
        count: number of pairs.
    """

    edges: I64
    later: I64
    rows: I64
    high: I64
    low: I64
    count: int


@dataclass(eq=False)
class JoinedSpan:
    """Accumulates pairs whose earlier row is in a span of rows, with constant memory per row.

    Attributes:
        first: the span's first row.
        size: its number of rows.
        weigh: whether sums of similarities are accumulated.
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
        """Add pairs ``(p, 2)``, the earlier row first; later rows should be close together."""
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

    def summarize(self) -> Joins:
        """Return the accumulated joins."""
        joined = np.flatnonzero(self._parent != np.arange(self.size))
        inside = np.stack([self._parent[joined], joined], axis=1)
        # Rows without pairs have no sum; a sum of 0 may be omitted, too.
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
    """Summary of all pairs of a source by row.

    Attributes:
        later: ``(n,)`` bool, whether it forms a pair with an earlier row.
        count: number of pairs.
    """

    def __init__(self, size: int, *, weigh: bool) -> None:
        self.later = np.zeros(size, dtype=bool)
        self.count = 0
        self._parent = np.arange(size)
        self._high, self._low = (np.zeros(size * weigh, dtype=np.int64) for _ in range(2))

    def enter(self, joins: Joins) -> None:
        """Add the summary of some of the pairs."""
        from shiftproof.similarity.search import kernels

        kernels.join_edges(np.ascontiguousarray(joins.edges), self._parent)
        self.later[joins.later] = True
        if len(self._high):
            np.add.at(self._high, joins.rows, joins.high)
            np.add.at(self._low, joins.rows, joins.low)
        self.count += joins.count

    def find_groups(self) -> I64:
        """Return for each row the first row of its connected group."""
        from shiftproof.similarity.search import kernels

        kernels.flatten(self._parent)
        return self._parent

    def sum_weights(self, rows: I64) -> F64:
        """Return each row's sum of similarities to its pairs, correctly rounded."""
        high, low = self._high[rows] + (self._low[rows] >> 30), self._low[rows] & (2**30 - 1)
        sum_weights: F64 = np.ldexp(high * 2.0**30 + low, -60)
        return sum_weights
