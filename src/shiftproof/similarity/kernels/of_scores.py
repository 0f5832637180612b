"""What becomes of float32 products: which pairs they allow, and those pairs' exact products.

A compiled loop cannot be handed the rest of its body at no cost, so those that walk alike and do
different things at the end are written out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.compiled import compiled
from shiftproof.similarity.kernels.lists import enter
from shiftproof.similarity.kernels.products import exact_product

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]


@compiled
def _largest(scores: F32) -> float:
    """Return the largest of finite values, through whole numbers, for which vectors are used."""
    whole = scores.view(np.int32)
    largest = np.int32(-2147483648)
    for j in range(whole.shape[0]):
        # Negative floats as whole numbers run the other way round.
        turned = np.int32(np.int32(whole[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        largest = max(largest, np.int32(whole[j] ^ turned))
    turned = np.int32(np.int32(largest >> np.int32(31)) & np.int32(0x7FFFFFFF))
    out = np.empty(1, np.int32)
    out[0] = largest ^ turned
    value: float = out.view(np.float32)[0]
    return value


@compiled
def _any_above(scores: F32, low: F32, limit: float) -> bool:
    """Whether a score exceeds its ``low`` by more than ``limit``; counted, as vectors can."""
    found = 0
    for j in range(scores.shape[0]):
        found += np.int32(scores[j] - low[j] > limit)
    return found > 0


@compiled
def nearest_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    chosen: Flags,
    tests: F32,
    first_test: int,
    slack: F64,
    best: F64,
    index: I64,
    counts: I64,
) -> None:
    """Find each chosen row's nearest test row from float32 products that err by ``slack[row]``.

    ``scores`` ``(n, c)`` with the test rows from ``first_test`` on, of which ``columns`` count.
    """
    for i in range(scores.shape[0]):
        if not chosen[i]:
            continue
        row_scores = scores[i][:columns]
        top = np.float64(_largest(row_scores))
        if top + slack[i] < best[i]:
            continue
        # The largest product is at least this.
        limit = max(best[i], top - slack[i]) - slack[i]
        for j in range(row_scores.shape[0]):
            if row_scores[j] >= limit:
                counts[2] += 1
                value = exact_product(rows[i], tests[first_test + j])
                test = first_test + j
                if value > best[i] or (value == best[i] and test < index[i]):
                    best[i], index[i] = value, test


@compiled
def above_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    chosen: Flags,
    tests: F32,
    first_test: int,
    slack: F64,
    thresholds: F64,
    above: Flags,
    counts: I64,
) -> None:
    """Mark each chosen row whose product with some test row is larger than that row's threshold."""
    low = thresholds[first_test : first_test + columns].astype(np.float32)
    for i in range(scores.shape[0]):
        if not chosen[i] or above[i]:
            continue
        row_scores = scores[i][:columns]
        # The threshold itself is rounded to float32, by less than 1e-7.
        limit = np.float32(-slack[i] - 1e-6)
        if not _any_above(row_scores, low, limit):
            continue
        for j in range(row_scores.shape[0]):
            if row_scores[j] - low[j] > limit:
                counts[2] += 1
                test = first_test + j
                if exact_product(rows[i], tests[test]) > thresholds[test]:
                    above[i] = True
                    break


@compiled
def top_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    chosen: Flags,
    tests: F32,
    first_test: int,
    slack: F64,
    first_row: I64,
    values: F64,
    indices: I64,
    counts: I64,
) -> None:
    """Enter each chosen row into the lists of the test rows that it is close enough to."""
    last = values.shape[1] - 1
    low = np.empty(columns, np.float32)
    for j in range(low.shape[0]):
        low[j] = max(values[first_test + j, last], -4.0)
    for i in range(scores.shape[0]):
        if not chosen[i]:
            continue
        row_scores = scores[i][:columns]
        limit = np.float32(-slack[i] - 1e-6)
        if not _any_above(row_scores, low, limit):
            continue
        for j in range(row_scores.shape[0]):
            if row_scores[j] - low[j] > limit:
                counts[2] += 1
                test = first_test + j
                value = exact_product(rows[i], tests[test])
                enter(values[test], indices[test], value, first_row[i])
                low[j] = max(values[test, last], -4.0)


@compiled
def pairs_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    tests: F32,
    start: int,
    slack: float,
    threshold: float,
    row_places: I64,
    first_test: int,
    pairs: I64,
    values: F64,
    found: int,
    counts: I64,
) -> int:
    """Write pairs as :func:`pairs_of_maxima` does, after the ``found`` that are there."""
    limit = np.float32(threshold - slack - 1e-6)
    for i in range(scores.shape[0]):
        row_scores = scores[i][:columns]
        hits = 0
        for j in range(row_scores.shape[0]):
            hits += np.int32(row_scores[j] > limit)
        if hits == 0:
            continue
        for j in range(row_scores.shape[0]):
            test = start + j
            if row_scores[j] > limit and first_test + test < row_places[i]:
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                if value > threshold:
                    if found < pairs.shape[0]:
                        pairs[found, 0], pairs[found, 1] = first_test + test, row_places[i]
                        values[found] = value
                    found += 1
    return found
