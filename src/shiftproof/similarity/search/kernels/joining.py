"""What pairs of rows say, one pair after the other: which rows belong together, go, and lie
centrally.
"""

from __future__ import annotations

import math

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.types import F64, I64, Flags

UNIT = 2.0**30
"""Similarities are added up in whole numbers, the high ones of 2^-30 and the low ones of 2^-60:
then the sum does not depend on the order, and loses nothing of a similarity above 1/128.
"""


@compiled
def root_of(parent: I64, row: int) -> int:
    """Return the first row that a row is joined to; ways there are made shorter."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@compiled
def join(parent: I64, one: int, other: int) -> None:
    """Join two rows: the earlier root stays one."""
    first, second = root_of(parent, one), root_of(parent, other)
    if first < second:
        parent[second] = first
    else:
        parent[first] = second


@compiled
def join_pairs(
    pairs: I64,
    values: F64,
    first: int,
    parent: I64,
    later: Flags,
    high: I64,
    low: I64,
    outside: int,
    partner: I64,
    outside_high: I64,
    outside_low: I64,
) -> None:
    """Enter pairs, the earlier row first, which lies in a span of rows from ``first`` on; in place.

    Args:
        pairs: ``(p, 2)``.
        values: ``(p,)``, their similarities.
        first: the span's first row.
        parent: ``(s,)``, of the span's rows: what each is joined to, from ``first`` on.
        later: ``(s,)``: whether an earlier row is its pair.
        high: ``(s,)`` the sums of similarities, see :data:`UNIT`; empty where none are asked for.
        low: the same.
        outside: the first of the later rows that do not lie in the span.
        partner: for these a row of the span that they are joined to, -1 where there is none.
        outside_high: their sums.
        outside_low: the same.
    """
    end, weigh = first + parent.shape[0], high.shape[0] > 0
    for i in range(pairs.shape[0]):
        one, other = pairs[i, 0] - first, pairs[i, 1]
        whole = math.floor(values[i] * UNIT)
        rest = int(np.rint((values[i] * UNIT - whole) * UNIT))
        if weigh:
            high[one] += whole
            low[one] += rest
        if other < end:
            join(parent, one, other - first)
            later[other - first] = True
            if weigh:
                high[other - first] += whole
                low[other - first] += rest
            continue
        place = other - outside
        if partner[place] < 0:
            partner[place] = root_of(parent, one)
        else:
            join(parent, one, partner[place])
        if weigh:
            outside_high[place] += whole
            outside_low[place] += rest


@compiled
def join_edges(edges: I64, parent: I64) -> None:
    """Join the two rows of each edge ``(e, 2)``; in place."""
    for i in range(edges.shape[0]):
        join(parent, edges[i, 0], edges[i, 1])


@compiled
def flatten(parent: I64) -> None:
    """Have every row name the first row that it is joined to; in place."""
    for row in range(parent.shape[0]):
        # Roots are earlier, so what this row names has been here before.
        parent[row] = parent[parent[row]]
