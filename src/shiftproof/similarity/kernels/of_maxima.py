"""What becomes of the maxima of groups: which pairs they allow, and those pairs' exact products.

A compiled loop cannot be handed the rest of its body at no cost, so those that walk alike and do
different things at the end are written out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.compiled import compiled
from shiftproof.similarity.kernels.lists import enter
from shiftproof.similarity.kernels.products import exact_product, whole_product

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]


@compiled
def nearest_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    best: F64,
    index: I64,
    counts: I64,
) -> None:
    """Find each chosen row's nearest test row among the groups whose maximum allows it.

    A product is at most ``scale * sum + reach[row]``. ``maxima`` ``(n, groups)``; ``best`` and
    ``index`` hold the best so far. ``counts`` gets the groups looked at, the sums made again, and the
    exact products.
    """
    size = tests.shape[0]
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        top_group = _largest_group(row_maxima)
        highest, place = best[i], index[i]
        limit = _limit(highest, reach[i], scale)
        for turn in range(-1, row_maxima.shape[0]):
            # The group of the largest sum comes first: it makes the limit high.
            group = top_group if turn < 0 else turn
            if row_maxima[group] < limit or (turn >= 0 and group == top_group):
                continue
            counts[0] += 1
            first = _first_of(group, lanes)
            for member in range(16):
                test = first + member * lanes
                if test >= size:
                    break
                counts[1] += 1
                total = whole_product(whole[i], whole_tests[group, member]) + bias[test]
                if total < limit:
                    continue
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                if value > highest or (value == highest and test < place):
                    highest, place = value, test
                    limit = _limit(highest, reach[i], scale)
        best[i], index[i] = highest, place


@compiled
def _largest_group(row_maxima: I32) -> int:
    """Return the first group whose maximum is the largest."""
    largest = 0
    for group in range(1, row_maxima.shape[0]):
        if row_maxima[group] > row_maxima[largest]:
            largest = group
    return largest


@compiled
def _first_of(group: int, lanes: int) -> int:
    """Return the first test row of a group; the others follow, each ``lanes`` behind the last."""
    return group // lanes * 16 * lanes + group % lanes


@compiled
def _limit(value: float, reach: float, scale: float) -> int:
    """Return the smallest sum that may still belong to a product of ``value`` or more."""
    limit = np.floor((value - reach) / scale) - 1.0
    whole: int = np.int32(max(min(limit, 1073741824.0), -1073741824.0))
    return whole


@compiled
def above_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    thresholds: F64,
    above: Flags,
    counts: I64,
) -> None:
    """Mark each chosen row whose product with some test row is larger than that row's threshold.

    As :func:`nearest_of_maxima`, with the thresholds taken off in ``bias``.
    """
    size = tests.shape[0]
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        limit = _limit(0.0, reach[i], scale)
        top_group = _largest_group(row_maxima)
        if row_maxima[top_group] < limit:
            continue
        for turn in range(-1, row_maxima.shape[0]):
            group = top_group if turn < 0 else turn
            if row_maxima[group] < limit or (turn >= 0 and group == top_group):
                continue
            counts[0] += 1
            first = _first_of(group, lanes)
            for member in range(16):
                test = first + member * lanes
                if test >= size:
                    break
                counts[1] += 1
                if whole_product(whole[i], whole_tests[group, member]) + bias[test] < limit:
                    continue
                counts[2] += 1
                if exact_product(rows[i], tests[test]) > thresholds[test]:
                    above[i] = True
                    break
            if above[i]:
                break


@compiled
def top_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    first_row: int,
    values: F64,
    indices: I64,
    counts: I64,
) -> None:
    """Enter each chosen row into the lists of the test rows that it is close enough to.

    As :func:`nearest_of_maxima`, with each test row's last listed value taken off in ``bias``.
    ``values`` and ``indices`` ``(m, k)``, best first.
    """
    size = tests.shape[0]
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        limit = _limit(0.0, reach[i], scale)
        for group in range(row_maxima.shape[0]):
            if row_maxima[group] < limit:
                continue
            counts[0] += 1
            first = _first_of(group, lanes)
            for member in range(16):
                test = first + member * lanes
                if test >= size:
                    break
                counts[1] += 1
                if whole_product(whole[i], whole_tests[group, member]) + bias[test] < limit:
                    continue
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                enter(values[test], indices[test], value, first_row + i)


@compiled
def pairs_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    threshold: float,
    row_places: I64,
    first_test: int,
    pairs: I64,
    values: F64,
    counts: I64,
) -> int:
    """Write the pairs of a row and an earlier one whose similarity is above the threshold.

    ``pairs`` ``(room, 2)``, the earlier row first. Returns their number; those that find no room are
    counted and not written.
    """
    size, found = tests.shape[0], 0
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        limit = _limit(0.0, reach[i], scale)
        for group in range(row_maxima.shape[0]):
            if row_maxima[group] < limit:
                continue
            counts[0] += 1
            first = _first_of(group, lanes)
            for member in range(16):
                test = first + member * lanes
                if test >= size or first_test + test >= row_places[i]:
                    break
                counts[1] += 1
                if whole_product(whole[i], whole_tests[group, member]) + bias[test] < limit:
                    continue
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                if value > threshold:
                    if found < pairs.shape[0]:
                        pairs[found, 0], pairs[found, 1] = first_test + test, row_places[i]
                        values[found] = value
                    found += 1
    return found
