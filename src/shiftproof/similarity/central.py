"""The de-duplication rule "central": the row of each group with the largest sum of similarities."""

from __future__ import annotations

import numpy as np

from shiftproof.similarity.joined import JoinedRows
from shiftproof.similarity.questions.pairs import read_rows
from shiftproof.similarity.sources import Embeddings
from shiftproof.types import F32, I64, Flags

ROWS_AT_ONCE = 4096
"""Number of rows whose values are compared at a time to break ties."""


def choose_central(rows: Embeddings, joined: JoinedRows, group: I64, memory: int) -> Flags:
    """Return the rows to keep; ``memory`` is the limit in bytes for compared values."""
    keep: Flags = group == np.arange(len(group))
    joining = ~keep
    joining[group[joining]] = True
    members = np.flatnonzero(joining)
    if not len(members):
        return keep
    keep[members] = False
    weight = joined.sum_weights(members)
    order = np.lexsort((-weight, group[members]))
    leads = np.r_[True, np.diff(group[members][order]) != 0]
    of_lead = np.cumsum(leads) - 1
    # The rows with the largest weight of each group, in order of group and row.
    first = order[weight[order] == weight[order][leads][of_lead]]
    rivals = members[first][np.lexsort((members[first], group[members][first]))]
    starts = np.flatnonzero(np.r_[True, np.diff(group[rivals]) != 0])
    counts = np.diff(np.r_[starts, len(rivals)])
    keep[rivals[starts[counts == 1]]] = True
    tied = rivals[np.repeat(counts > 1, counts)]
    number = np.repeat(np.arange((counts > 1).sum()), counts[counts > 1])
    step = max(1, memory // (4 * rows.width))
    for start in range(0, int(number[-1]) + 1 if len(number) else 0, step):
        here = (number >= start) & (number < start + step)
        keep[_find_smallest(rows, tied[here], number[here] - start)] = True
    return keep


def _find_smallest(rows: Embeddings, places: I64, group: I64) -> I64:
    """Return for each group the row with the lexicographically smallest values, ties to the first.

    Groups are numbered from 0; one row of each is in memory.
    """
    count = int(group.max()) + 1
    best, held = np.full(count, -1, dtype=np.int64), np.empty((count, rows.width), np.float32)
    order = np.argsort(places, kind="stable")
    places, group = places[order], group[order]
    for start in range(0, len(places), ROWS_AT_ONCE):
        some, of = places[start : start + ROWS_AT_ONCE], group[start : start + ROWS_AT_ONCE]
        values = read_rows(rows, some)
        by_value = np.lexsort((*values.T[::-1], of))
        leads = by_value[np.r_[True, np.diff(of[by_value]) != 0]]
        values, some, of = values[leads], some[leads], of[leads]
        new = best[of] < 0
        new[~new] = find_preceding(values[~new], held[of[~new]])
        best[of[new]], held[of[new]] = some[new], values[new]
    return best


def find_preceding(values: F32, others: F32) -> Flags:
    """Return which rows are lexicographically smaller than the others."""
    differs = values != others
    first = differs.argmax(axis=1)
    here = np.arange(len(values))
    before: Flags = differs[here, first] & (values[here, first] < others[here, first])
    return before
