"""Pairs of rows that are more similar than a threshold: in a source, in its clusters, with a sample."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .neighbours import passes
from .search import How, TestSide, count_threads, each_block, parse_memory, sample_of
from .sources import Block, Embeddings, open_embeddings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


def find_pairs(
    rows: Embeddings, threshold: float, how: How, shards: Sequence[int] | None = None
) -> tuple[I64, F64]:
    """Return pairs of rows above the threshold ``(p, 2)``, the earlier first, and similarities.

    Args:
        rows: the source.
        threshold: pairs are more similar.
        how: how to search.
        shards: only pairs whose earlier row lies in these neighbouring shards; by default all pairs.
    """
    used = count_threads(how.threads)
    found: list[tuple[I64, F64]] = []
    earlier = rows if shards is None else rows.only(shards)
    offset = 0 if shards is None else int(rows.starts[shards[0]])
    for chunks in passes(
        rows, {"rows": earlier}, how, used, sample_of(rows, None), skip_unusable=True
    ):
        first = offset + chunks[0][1].first
        later = [place for place in range(len(rows.shards)) if rows.starts[place + 1] > first]
        work = functools.partial(
            _earlier_pairs,
            sides=[side for _, side in chunks],
            threshold=threshold,
            offset=offset,
        )
        for _, parts in each_block(rows, later, used, work):
            found += [part for part in parts if len(part[0])]
    pairs, similarity = in_order(found)
    if rows.unusable == "skip":
        # Rows that cannot be used are 0 among the test rows.
        both = usable_rows(rows)[pairs].all(axis=1)
        return pairs[both], similarity[both]
    return pairs, similarity


def find_pairs_within(
    rows: Embeddings, cluster: I64, threshold: float, how: How, among: range
) -> tuple[I64, F64]:
    """Return the pairs of rows of one cluster, for the clusters ``among``, as :func:`find_pairs` does.

    ``cluster`` ``(n,)`` is each row's, -1 for rows that are in none.
    """
    found: list[tuple[I64, F64]] = []
    for some in _that_fit(cluster, among, parse_memory(how.memory) // (16 * rows.width)):
        places = np.flatnonzero((cluster >= some.start) & (cluster < some.stop))
        values = take(rows, places)
        # Stable, so places rise, and the earlier of two is the earlier in the source.
        order = np.argsort(cluster[places], kind="stable")
        ends = np.searchsorted(cluster[places[order]], np.arange(some.start + 1, some.stop))
        for members in np.split(order, ends):
            if len(members) > 1:
                pairs, similarity = find_pairs(open_embeddings(values[members]), threshold, how)
                found.append((places[members][pairs], similarity))
    return in_order(found)


def _that_fit(cluster: I64, among: range, rows: int) -> Iterator[range]:
    """Yield neighbouring clusters with so many rows together, or one cluster that has more."""
    inside = cluster[(cluster >= among.start) & (cluster < among.stop)]
    return ranges_of(np.bincount(inside, minlength=among.stop)[among.start :], rows, among.start)


def ranges_of(counts: I64, rows: int, start: int = 0) -> Iterator[range]:
    """Cut clusters of so many rows into ranges that hold at most ``rows`` together, or one cluster."""
    first, held = start, 0
    for number, count in enumerate(counts.tolist(), start=start):
        if held and held + count > rows:
            yield range(first, number)
            first, held = number, 0
        held += count
    yield range(first, start + len(counts))


def find_pairs_with(
    rows: Embeddings,
    sample: F32,
    threshold: float,
    how: How,
    shards: Sequence[int] | None = None,
) -> I64:
    """Return the pairs of a sample ``(s, width)`` and the rows above the threshold.

    Returns:
        ``(p, 2)``: places in the sample and in the source.
    """
    used = count_threads(how.threads)
    found = [np.empty((0, 2), dtype=np.int64)]
    for chunks in passes(
        rows, {"sample": open_embeddings(sample)}, how, used, sample_of(rows, shards)
    ):
        # Every row counts as later than every row of the sample: all pairs come out.
        work = functools.partial(
            _all_pairs, sides=[side for _, side in chunks], threshold=threshold, after=len(sample)
        )
        for _, parts in each_block(rows, shards, used, work):
            found += parts
    pairs = np.concatenate(found) - np.array([0, len(sample)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    ordered: I64 = pairs[order]
    return ordered


def _earlier_pairs(
    block: Block, sides: Sequence[TestSide], threshold: float, offset: int
) -> list[tuple[I64, F64]]:
    """Return the pairs of a block's rows with the rows before them, side by side.

    The sides' rows are counted from ``offset`` on.
    """
    end = block.first + len(block.values) - offset
    places = np.arange(end - len(block.values), end)
    found = [
        side.pairs(block.values, block.usable & (places > side.first), places, threshold)
        for side in sides
        if end > side.first
    ]
    return [(pairs + offset, similarity) for pairs, similarity in found]


def _all_pairs(block: Block, sides: Sequence[TestSide], threshold: float, after: int) -> list[I64]:
    """Return the pairs of a block's rows, which are counted from ``after``, with all rows."""
    places = np.arange(block.first, block.first + len(block.values)) + after
    return [side.pairs(block.values, block.usable, places, threshold)[0] for side in sides]


def in_order(found: Sequence[tuple[I64, F64]]) -> tuple[I64, F64]:
    """Join pairs with their similarities, and sort them by their rows."""
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *(part[0] for part in found)])
    similarity = np.concatenate([np.empty(0), *(part[1] for part in found)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], similarity[order]


def take(rows: Embeddings, places: I64) -> F32:
    """Return the rows at rising places as one array."""
    values = np.empty((len(places), rows.width), dtype=np.float32)
    shards = np.unique(np.searchsorted(rows.starts, places, side="right") - 1)
    for block in rows.blocks(4096, shards.tolist()):
        first, last = np.searchsorted(places, [block.first, block.first + len(block.values)])
        values[first:last] = block.values[places[first:last] - block.first]
    return values


def usable_rows(rows: Embeddings) -> Flags:
    """Tell which rows can be used ``(n,)``."""
    if rows.unusable == "refuse":
        # Whoever reads them ends at the first that cannot be used.
        return np.ones(len(rows), dtype=bool)
    usable = np.empty(len(rows), dtype=bool)
    for block in rows.blocks(4096):
        usable[block.first : block.first + len(block.values)] = block.usable
    return usable
