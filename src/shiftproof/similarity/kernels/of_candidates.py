"""What becomes of pairs that a bound could not rule out: their exact products, and what follows.

A compiled loop cannot be handed the rest of its body at no cost, so those that walk alike and do
different things at the end are written out. In all of them ``row`` ``(p,)`` and ``test`` ``(p,)`` name
the pairs, whose products are ``estimate`` ``(p,)`` up to ``error`` of the row; ``counts`` gets the
products that were computed, and how many of them lie farther off.
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
def _checked(first: F32, second: F32, estimate: float, error: float, counts: I64) -> float:
    """Return the exact product, and count it."""
    value = exact_product(first, second)
    counts[0] += 1
    if np.abs(value - estimate) > error:
        counts[1] += 1
    return value


@compiled
def nearest_of_candidates(
    rows: F32,
    tests: F32,
    row: I64,
    test: I64,
    estimate: F64,
    error: F64,
    best: F64,
    index: I64,
    counts: I64,
) -> None:
    """Find each row's nearest test row among its candidates."""
    for place in range(row.shape[0]):
        i, j = row[place], test[place]
        if estimate[place] + error[i] < best[i]:
            continue
        value = _checked(rows[i], tests[j], estimate[place], error[i], counts)
        if value > best[i] or (value == best[i] and j < index[i]):
            best[i], index[i] = value, j


@compiled
def above_of_candidates(
    rows: F32,
    tests: F32,
    row: I64,
    test: I64,
    estimate: F64,
    error: F64,
    thresholds: F64,
    above: Flags,
    counts: I64,
) -> None:
    """Mark each row whose product with some test row is larger than that row's threshold."""
    for place in range(row.shape[0]):
        i, j = row[place], test[place]
        if above[i]:
            continue
        if _checked(rows[i], tests[j], estimate[place], error[i], counts) > thresholds[j]:
            above[i] = True


@compiled
def top_of_candidates(
    rows: F32,
    tests: F32,
    row: I64,
    test: I64,
    estimate: F64,
    error: F64,
    first_row: int,
    values: F64,
    indices: I64,
    counts: I64,
) -> None:
    """Enter each row into the lists of the test rows that it is close enough to."""
    last = values.shape[1] - 1
    for place in range(row.shape[0]):
        i, j = row[place], test[place]
        if estimate[place] + error[i] < values[j, last]:
            continue
        value = _checked(rows[i], tests[j], estimate[place], error[i], counts)
        enter(values[j], indices[j], value, first_row + i)


@compiled
def pairs_of_candidates(
    rows: F32,
    tests: F32,
    row: I64,
    test: I64,
    estimate: F64,
    error: F64,
    threshold: float,
    row_places: I64,
    first_test: int,
    pairs: I64,
    values: F64,
    counts: I64,
) -> int:
    """Write the pairs above the threshold whose test row is the earlier one; return their number."""
    found = 0
    for place in range(row.shape[0]):
        i, j = row[place], test[place]
        if first_test + j >= row_places[i]:
            continue
        value = _checked(rows[i], tests[j], estimate[place], error[i], counts)
        if value > threshold:
            pairs[found, 0], pairs[found, 1] = first_test + j, row_places[i]
            values[found] = value
            found += 1
    return found
