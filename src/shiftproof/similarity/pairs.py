"""Pairs of rows that are more similar than a threshold: in a source, in its clusters, with a sample."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.similarity.neighbours import passes
from shiftproof.similarity.search import (
    How,
    TestSide,
    count_threads,
    each_block,
    parse_memory,
    sample_of,
)
from shiftproof.similarity.sources import Block, Embeddings, open_embeddings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


Enter: TypeAlias = Callable[[I64, F64], None]
"""Takes some pairs ``(p, 2)``, the earlier row first, and their similarities ``(p,)``; one call at a
time, in any order."""


def find_pairs(rows: Embeddings, threshold: float, how: How) -> tuple[I64, F64]:
    """Return all pairs of rows above the threshold ``(p, 2)``, the earlier first, and similarities.

    They are held in memory, whatever ``how`` says.
    """
    found: list[tuple[I64, F64]] = []
    enter_pairs(rows, threshold, how, lambda *some: found.append(some))
    return in_order(found)


def enter_pairs(
    rows: Embeddings,
    threshold: float,
    how: How,
    enter: Enter,
    shards: Sequence[int] | None = None,
    later: Sequence[int] | None = None,
) -> None:
    """Hand over the pairs of rows above the threshold, some at a time.

    Args:
        rows: the source.
        threshold: pairs are more similar.
        how: how to search.
        enter: takes them.
        shards: only pairs whose earlier row lies in these neighbouring shards; by default all pairs.
        later: only pairs whose later row lies in these shards.
    """
    used = count_threads(how.threads)
    earlier = rows if shards is None else rows.only(shards)
    offset = 0 if shards is None else int(rows.starts[shards[0]])
    # Rows that cannot be used are 0 among the test rows.
    usable = usable_rows(earlier) if rows.unusable == "skip" else None
    lock = threading.Lock()

    def take_in(pairs: I64, similarity: F64) -> None:
        if usable is not None:
            both = usable[pairs[:, 0] - offset]
            pairs, similarity = pairs[both], similarity[both]
        with lock:
            enter(pairs, similarity)

    for chunks in passes(
        rows, {"rows": earlier}, how, used, sample_of(rows, None), skip_unusable=True
    ):
        first = offset + chunks[0][1].first
        among = range(len(rows.shards)) if later is None else later
        work = functools.partial(
            _enter_earlier,
            sides=[side for _, side in chunks],
            threshold=threshold,
            offset=offset,
            enter=take_in,
        )
        for _ in each_block(rows, [p for p in among if rows.starts[p + 1] > first], used, work):
            pass


def enter_pairs_within(
    rows: Embeddings, cluster: I64, threshold: float, how: How, among: range, enter: Enter
) -> None:
    """Hand over the pairs of rows of one cluster, for the clusters ``among``, some at a time.

    ``cluster`` ``(n,)`` is each row's, -1 for rows that are in none.
    """
    room = max(parse_memory(how.memory) // (32 * rows.width), 2)
    for some in _that_fit(cluster, among, room):
        places = np.flatnonzero((cluster >= some.start) & (cluster < some.stop))
        if len(places) > room:
            _enter_in_pieces(rows, places, threshold, how, room // 2, enter)
            continue
        values = take(rows, places)
        # Stable, so places rise, and the earlier of two is the earlier in the source.
        order = np.argsort(cluster[places], kind="stable")
        ends = np.searchsorted(cluster[places[order]], np.arange(some.start + 1, some.stop))
        for members in np.split(order, ends):
            if len(members) > 1:
                named = _named(places[members], enter)
                enter_pairs(open_embeddings(values[members]), threshold, how, named)


def _enter_in_pieces(
    rows: Embeddings, places: I64, threshold: float, how: How, piece: int, enter: Enter
) -> None:
    """Hand over the pairs of the rows at some places, of which ``piece`` are held twice at a time."""
    starts = range(0, len(places), piece)
    for start in starts:
        earlier = places[start : start + piece]
        of_earlier = take(rows, earlier)
        enter_pairs(open_embeddings(of_earlier), threshold, how, _named(earlier, enter))
        for other in starts:
            if other <= start:
                continue
            later = places[other : other + piece]
            both = np.concatenate([of_earlier, take(rows, later)])
            named = _named(np.concatenate([earlier, later]), enter)
            enter_pairs(open_embeddings(both).cut(piece), threshold, how, named, [0], [1])


def _named(places: I64, enter: Enter) -> Enter:
    """Return what takes pairs of rows at some places, and hands them over as rows of the source."""
    return lambda pairs, similarity: enter(places[pairs], similarity)


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


class Sample(NamedTuple):
    """Rows whose pairs are all searched: their places in the source, their values and clusters."""

    places: I64
    values: F32
    cluster: I64


def count_pairs_with(
    rows: Embeddings,
    sample: Sample,
    cluster: I64,
    threshold: float,
    how: How,
    shards: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Count the pairs above the threshold of the sample's rows and all others.

    Args:
        rows: the source.
        sample: some of its rows.
        cluster: ``(n,)`` each row's, of the shards alone where there are some.
        threshold: pairs are more similar.
        how: how to search.
        shards: only pairs with rows of these neighbouring shards.

    Returns:
        Pairs whose rows lie in one cluster, and all.
    """
    used = count_threads(how.threads)
    start = 0 if shards is None else int(rows.starts[shards[0]])
    after = len(sample.places)
    lock = threading.Lock()
    counts = np.zeros(2, dtype=np.int64)

    def count(pairs: I64, _: F64) -> None:
        other = pairs[:, 1] - after
        real = sample.places[pairs[:, 0]] != other
        same = sample.cluster[pairs[:, 0]] == cluster[other - start]
        with lock:
            counts[:] += [(real & same).sum(), real.sum()]

    tests = {"sample": open_embeddings(sample.values)}
    for chunks in passes(rows, tests, how, used, sample_of(rows, shards)):
        # Every row counts as later than every row of the sample: all pairs come out.
        work = functools.partial(
            _enter_all,
            sides=[side for _, side in chunks],
            threshold=threshold,
            after=after,
            enter=count,
        )
        for _ in each_block(rows, shards, used, work):
            pass
    found, of = counts.tolist()
    return found, of


def _enter_earlier(
    block: Block, sides: Sequence[TestSide], threshold: float, offset: int, enter: Enter
) -> None:
    """Hand over the pairs of a block's rows with the rows before them, side by side.

    The sides' rows are counted from ``offset`` on.
    """
    end = block.first + len(block.values) - offset
    places = np.arange(end - len(block.values), end)
    for side in sides:
        if end > side.first:
            usable = block.usable & (places > side.first)
            for pairs, similarity in side.pairs(block.values, usable, places, threshold):
                enter(pairs + offset, similarity)


def _enter_all(
    block: Block, sides: Sequence[TestSide], threshold: float, after: int, enter: Enter
) -> None:
    """Hand over the pairs of a block's rows, which are counted from ``after``, with all rows."""
    places = np.arange(block.first, block.first + len(block.values)) + after
    for side in sides:
        for pairs, similarity in side.pairs(block.values, block.usable, places, threshold):
            enter(pairs, similarity)


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
