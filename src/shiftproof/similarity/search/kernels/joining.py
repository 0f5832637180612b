"""Union-find over pairs of rows, with sums of similarities per row."""

from __future__ import annotations

import math

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.types import F64, I64, Flags

UNIT = 2.0**30
"""Similarities are summed as integers in units of 2^-30 and remainders in units of 2^-60, so that
sums do not depend on the order and are exact for similarities above 1/128.
"""


@compiled
def root_of(parent: I64, row: int) -> int:
    """Return the root of a row's set, with path halving."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@compiled
def join(parent: I64, one: int, other: int) -> None:
    """Merge the sets of two rows; the earlier root remains."""
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
    """Add pairs whose earlier row, the first of each, lies in a span of rows from ``first`` on; in
    place.

    Args:
        pairs: ``(p, 2)``.
        values: ``(p,)``, their similarities.
        first: the span's first row.
        parent: ``(s,)``, parents of the span's rows, relative to ``first``.
        later: ``(s,)``, whether a row forms a pair with an earlier one.
        high: ``(s,)``, sums of similarities, see :data:`UNIT`; empty without sums.
        low: their remainders.
        outside: the first of the later rows outside the span.
        partner: for these rows the root of a row in the span, or -1.
        outside_high: sums of these rows.
        outside_low: their remainders.
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
    """Set the parent of every row to its root; in place."""
    for row in range(parent.shape[0]):
        # Parents are earlier rows, which have been processed already.
        parent[row] = parent[parent[row]]
