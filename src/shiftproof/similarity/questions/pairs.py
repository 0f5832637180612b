"""Pairs of rows above a similarity threshold: in a source, within its clusters, or with a
sample.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from shiftproof.similarity.search.certificate import Tally
from shiftproof.similarity.search.engine import Engine, Reduction, scan
from shiftproof.similarity.search.engines import prepare_passes
from shiftproof.similarity.search.in_memory import run_pass, sample_rows
from shiftproof.similarity.search.options import SearchOptions, count_threads, parse_memory
from shiftproof.similarity.search.question import Partial
from shiftproof.similarity.sources import Block, Embeddings, open_embeddings
from shiftproof.types import F32, F64, I64, Flags

PAIRS = 1 << 18
"""Maximum number of pairs in a thread's buffer, 6 MB: among copies the number of pairs is
quadratic.
"""

Enter: TypeAlias = Callable[[I64, F64], None]
"""Callback for batches of pairs ``(p, 2)``, the earlier row first, and their similarities ``(p,)``;
one call at a time, in any order.
"""


def find_pairs(rows: Embeddings, threshold: float, options: SearchOptions) -> tuple[I64, F64]:
    """Return all pairs of rows above the threshold ``(p, 2)``, the earlier first, and similarities.

    All are in memory, regardless of the memory limit in ``options``.
    """
    found: list[tuple[I64, F64]] = []
    enter_pairs(rows, threshold, options, lambda *some: found.append(some))
    return sort_pairs(found)


def enter_pairs(
    rows: Embeddings,
    threshold: float,
    options: SearchOptions,
    enter: Enter,
    shards: Sequence[int] | None = None,
    later: Sequence[int] | None = None,
) -> None:
    """Pass the pairs of rows above the threshold to ``enter``, in batches.

    Only pairs whose earlier row lies in the consecutive ``shards`` and whose later row lies in the
    shards ``later``; all by default.
    """
    used = count_threads(options.threads)
    earlier = rows if shards is None else rows.select_shards(shards)
    offset = 0 if shards is None else int(rows.starts[shards[0]])
    # Unusable rows are all zeros among the test rows.
    usable = find_usable(earlier) if rows.unusable == "skip" else None
    lock = threading.Lock()

    def enter_usable(pairs: I64, similarity: F64) -> None:
        if usable is not None:
            both = usable[pairs[:, 0] - offset]
            pairs, similarity = pairs[both], similarity[both]
        with lock:
            enter(pairs, similarity)

    passes = prepare_passes(
        rows, {"rows": earlier}, options, used, sample_rows(rows, None), skip_unusable=True
    )
    among = range(len(rows.shards)) if later is None else later
    pairs = _Pairs(threshold, enter_usable, offset=offset, ahead=0)
    for chunks in passes:
        begun: list[tuple[Engine, Partial]] = [(chunk.engine, pairs) for chunk in chunks]
        first = offset + chunks[0].engine.first
        run_pass(rows, begun, used, [place for place in among if rows.starts[place + 1] > first])


def enter_pairs_within(
    rows: Embeddings,
    cluster: I64,
    threshold: float,
    options: SearchOptions,
    among: range,
    enter: Enter,
) -> None:
    """Pass the pairs of rows within each of the clusters ``among`` to ``enter``, in batches.

    ``cluster`` ``(n,)`` is each row's cluster, or -1.
    """
    room = max(parse_memory(options.memory) // (32 * rows.width), 2)
    for some in _split_clusters(cluster, among, room):
        places = np.flatnonzero((cluster >= some.start) & (cluster < some.stop))
        if len(places) > room:
            _enter_pairs_by_pieces(rows, places, threshold, options, room // 2, enter)
            continue
        values = read_rows(rows, places)
        # Stable, so indices ascend: the earlier of two rows is the earlier one in the source.
        order = np.argsort(cluster[places], kind="stable")
        ends = np.searchsorted(cluster[places[order]], np.arange(some.start + 1, some.stop))
        for members in np.split(order, ends):
            if len(members) > 1:
                renamed = _map_to_source(places[members], enter)
                enter_pairs(open_embeddings(values[members]), threshold, options, renamed)


def _enter_pairs_by_pieces(
    rows: Embeddings,
    places: I64,
    threshold: float,
    options: SearchOptions,
    piece: int,
    enter: Enter,
) -> None:
    """Pass the pairs of some rows to ``enter``, with two pieces of ``piece`` rows in memory at a
    time.
    """
    starts = range(0, len(places), piece)
    for start in starts:
        earlier = places[start : start + piece]
        of_earlier = read_rows(rows, earlier)
        enter_pairs(open_embeddings(of_earlier), threshold, options, _map_to_source(earlier, enter))
        for other in starts:
            if other <= start:
                continue
            later = places[other : other + piece]
            both = np.concatenate([of_earlier, read_rows(rows, later)])
            renamed = _map_to_source(np.concatenate([earlier, later]), enter)
            enter_pairs(
                open_embeddings(both).split_rows(piece), threshold, options, renamed, [0], [1]
            )


def _map_to_source(places: I64, enter: Enter) -> Enter:
    """Return a callback that converts indices into ``places`` to rows of the source."""
    return lambda pairs, similarity: enter(places[pairs], similarity)


def _split_clusters(cluster: I64, among: range, rows: int) -> Iterator[range]:
    """Yield ranges of clusters with at most ``rows`` rows together, or single larger clusters."""
    inside = cluster[(cluster >= among.start) & (cluster < among.stop)]
    return split_ranges(np.bincount(inside, minlength=among.stop)[among.start :], rows, among.start)


def split_ranges(counts: I64, rows: int, start: int = 0) -> Iterator[range]:
    """Split clusters of these sizes into ranges of at most ``rows`` rows together, or one
    cluster.
    """
    first, held = start, 0
    for number, count in enumerate(counts.tolist(), start=start):
        if held and held + count > rows:
            yield range(first, number)
            first, held = number, 0
        held += count
    yield range(first, start + len(counts))


class Sample(NamedTuple):
    """Rows whose pairs are searched exhaustively: their indices in the source, values and
    clusters.
    """

    places: I64
    values: F32
    cluster: I64


def count_pairs_with(
    rows: Embeddings,
    sample: Sample,
    cluster: I64,
    threshold: float,
    options: SearchOptions,
    shards: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Count the pairs above the threshold of a row of the sample and any other row.

    ``cluster`` ``(n,)`` is each row's cluster, only of the consecutive ``shards`` if these are
    given. Returns the number of pairs within a cluster and the number of all pairs.
    """
    used = count_threads(options.threads)
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
    # Every row counts as later than every row of the sample, so that all pairs are found.
    pairs = _Pairs(threshold, count, offset=0, ahead=after)
    chosen = range(len(rows.shards)) if shards is None else shards
    for chunks in prepare_passes(rows, tests, options, used, sample_rows(rows, shards)):
        run_pass(rows, [(chunk.engine, pairs) for chunk in chunks], used, chosen)
    found, of = counts.tolist()
    return found, of


# ---------------------------------------------------------------- one block


class _PairsState(NamedTuple):
    """A buffer for pairs of a block's rows with earlier rows; further pairs are only counted.

    ``places`` are the indices of the block's rows; those of the test rows start at ``first``.
    """

    threshold: float
    places: I64
    first: int
    pairs: I64
    values: F64
    found: I64

    def floor(self, row: int, test: int) -> float:
        return self.threshold

    def stop(self, row: int) -> int:
        earlier: int = self.places[row] - self.first
        return earlier

    def enter(self, row: int, test: int, value: float) -> None:
        if value > self.threshold:
            place = self.found[0]
            if place < self.pairs.shape[0]:
                self.pairs[place, 0] = self.first + test
                self.pairs[place, 1] = self.places[row]
                self.values[place] = value
            self.found[0] += 1


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Passes on the pairs of a block's rows with test rows that are earlier in the same source.

    Attributes:
        threshold: lower limit of the similarity, exclusive.
        enter_pairs: the callback, called from several threads.
        offset: index in the source of the first test row.
        ahead: number added to the index of each row of a block.
    """

    threshold: float
    enter_pairs: Enter
    offset: int
    ahead: int

    def enter(self, engine: Engine, block: Block, here: slice) -> Tally:
        start = block.first - self.offset + self.ahead
        places = np.arange(start, start + len(block.values))
        usable = block.usable & (places > engine.first)
        tally = Tally()
        step = engine.block_rows
        cuts = range(0, len(places) if usable.any() else 0, step)
        waiting = [slice(cut, min(cut + step, len(places))) for cut in cuts][::-1]
        while waiting:
            some = waiting.pop()
            count = some.stop - some.start
            room = min(PAIRS, count * len(engine.rows))
            state, counted = self._scan(engine, block, usable, places, some, room)
            found = int(state.found[0])
            if found > room:
                if count > 1:
                    # Rows with many pairs may cluster: take half of the rows that would fit on
                    # average.
                    step = max(1, count * PAIRS // (2 * found))
                    cuts = range(some.start, some.stop, step)
                    waiting += [slice(cut, min(cut + step, some.stop)) for cut in cuts][::-1]
                    continue
                state, counted = self._scan(engine, block, usable, places, some, found)
            tally.add(counted)
            if found:
                self.enter_pairs(state.pairs[:found] + self.offset, state.values[:found])
        return tally

    def _scan(
        self, engine: Engine, block: Block, usable: Flags, places: I64, some: slice, room: int
    ) -> tuple[_PairsState, Tally]:
        """Find up to ``room`` pairs, and count all of them."""
        pairs, values = np.empty((room, 2), dtype=np.int64), np.empty(room)
        found = np.zeros(1, dtype=np.int64)
        state = _PairsState(self.threshold, places[some], engine.first, pairs, values, found)
        reduction = Reduction(state, self.threshold)
        return state, scan(engine, block.values[some], usable[some], reduction)

    def fork(self) -> Partial:
        return self

    def join(self, others: Sequence[Partial]) -> None:
        pass


# ---------------------------------------------------------------- rows at places


def sort_pairs(found: Sequence[tuple[I64, F64]]) -> tuple[I64, F64]:
    """Join pairs with their similarities, and sort them by their rows."""
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *(part[0] for part in found)])
    similarity = np.concatenate([np.empty(0), *(part[1] for part in found)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], similarity[order]


def read_rows(rows: Embeddings, places: I64) -> F32:
    """Return the rows at ascending indices as one array."""
    values = np.empty((len(places), rows.width), dtype=np.float32)
    shards = np.unique(np.searchsorted(rows.starts, places, side="right") - 1)
    for block in rows.blocks(4096, shards.tolist()):
        first, last = np.searchsorted(places, [block.first, block.first + len(block.values)])
        values[first:last] = block.values[places[first:last] - block.first]
    return values


def find_usable(rows: Embeddings) -> Flags:
    """Return which rows are usable ``(n,)``."""
    if rows.unusable == "refuse":
        # Reading an unusable row raises an error.
        return np.ones(len(rows), dtype=bool)
    usable = np.empty(len(rows), dtype=bool)
    for block in rows.blocks(4096):
        usable[block.first : block.first + len(block.values)] = block.usable
    return usable
