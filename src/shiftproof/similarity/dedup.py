"""Near-duplicates within a source: the pairs, the groups, and which row stays."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof import rng
from shiftproof.errors import InputError, UnknownNameError

from .gap import check_threshold
from .neighbours import nearest, passes
from .search import Precision, TestRows, count_threads, each_block
from .sources import Block, Embeddings, Source, open_embeddings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

KeepingRule: TypeAlias = Literal["earlier", "central"]

PAPER_THRESHOLD = 0.876
"""With this, LAION-400M became LAION-200M (Mayilvahanan et al. 2024)."""

ROUNDS = 4
"""Of k-means; more hardly move the recall."""

SAMPLE = 1000
"""Rows whose duplicates are all searched, to measure what the clusters miss."""


@dataclass(frozen=True, eq=False)
class Deduplicated:
    """Which rows stay, and why the others go.

    Attributes:
        keep: ``(n,)`` bool; rows that cannot be used do not stay.
        pairs: ``(p, 2)`` int64, the pairs above the threshold, the earlier row first, in order.
        similarity: ``(p,)`` float64, theirs.
        group: ``(n,)`` int64, the first row that each row is joined to by pairs; its own place for
            rows in no pair.
        recall: the share of all pairs that was found: 1 for the exact search, measured on a sample
            for the clustered one, NaN where the sample has no pair.
    """

    keep: Flags
    pairs: I64
    similarity: F64
    group: I64
    recall: float


def deduplicate(
    source: Source,
    threshold: float = PAPER_THRESHOLD,
    *,
    rule: KeepingRule = "earlier",
    clusters: int | None = None,
    seed: int = 0,
    precision: Precision = "auto",
    memory: int | str | None = None,
    threads: int | None = None,
) -> Deduplicated:
    """Find the rows that are nearly copies of others, and choose which stay.

    Two rows are a pair if their similarity is larger than ``threshold``.

    Args:
        source: embeddings.
        threshold: in -1..1.
        rule: "earlier", the paper's: a row goes if any earlier row, whether that one stays or not, is
            its pair; what stays depends on the order of the rows. "central": of all rows that pairs
            join, directly or over others, the one with the largest sum of similarities to its pairs
            stays, of equal ones the one whose values come first; the order of the rows does not
            matter.
        clusters: None compares every row with every other. A number sorts the rows into so many
            clusters first and compares within them (SemDeDup, Abbas et al. 2023, arXiv 2303.09540):
            faster, and it misses pairs; ``recall`` says how many.
        seed: of the clusters' beginnings and of the sample.
        precision: see :func:`~shiftproof.similarity.nearest`.
        memory: see there.
        threads: see there.

    Raises:
        InputError: a threshold outside -1..1, or more clusters than rows.

    >>> import numpy
    >>> rows = numpy.eye(3, dtype="float32")
    >>> deduplicate(rows[[0, 1, 0]]).keep.tolist()
    [True, True, False]
    """
    check_threshold(threshold)
    if rule not in ("earlier", "central"):
        raise UnknownNameError.of("keeping rule", rule, ["earlier", "central"])
    rows = open_embeddings(source)
    usable = _usable(rows)
    if clusters is None:
        pairs, similarity = find_pairs(
            rows, threshold, precision=precision, memory=memory, threads=threads
        )
        recall = 1.0
    else:
        if not 1 <= clusters <= int(usable.sum()):
            raise InputError(f"Expected 1 to {int(usable.sum())} clusters, got {clusters}.")
        cluster = cluster_rows(
            rows, clusters, seed=seed, precision=precision, memory=memory, threads=threads
        )
        pairs, similarity = _pairs_within(rows, cluster, threshold, precision, memory, threads)
        recall = _recall(rows, cluster, usable, threshold, seed, precision, memory, threads)
    group = _groups(len(rows), pairs)
    keep = usable.copy()
    if rule == "earlier":
        keep[pairs[:, 1]] = False
    else:
        keep &= _central(rows, pairs, similarity, group)
    return Deduplicated(keep, pairs, similarity, group, recall)


def find_pairs(
    source: Source,
    threshold: float,
    *,
    precision: Precision = "auto",
    memory: int | str | None = None,
    threads: int | None = None,
) -> tuple[I64, F64]:
    """Return all pairs of rows above the threshold ``(p, 2)``, the earlier first, and similarities."""
    rows = open_embeddings(source)
    used = count_threads(threads)
    found: list[tuple[I64, F64]] = []
    for chunks in passes(rows, {"rows": rows}, precision, memory, used, None, skip_unusable=True):
        first = chunks[0][1].first
        shards = [place for place in range(len(rows.shards)) if rows.starts[place + 1] > first]
        work = functools.partial(
            _earlier_pairs, sides=[side for _, side in chunks], threshold=threshold
        )
        for _, parts in each_block(rows, shards, used, work):
            found += [part for part in parts if len(part[0])]
    pairs, similarity = _in_order(found)
    if rows.unusable == "skip":
        # Rows that cannot be used are 0 among the test rows.
        both = _usable(rows)[pairs].all(axis=1)
        return pairs[both], similarity[both]
    return pairs, similarity


def cluster_rows(
    source: Source,
    clusters: int,
    *,
    seed: int = 0,
    precision: Precision = "auto",
    memory: int | str | None = None,
    threads: int | None = None,
) -> I64:
    """Sort rows into clusters by spherical k-means; -1 for rows that cannot be used.

    The centres begin at rows drawn at random and move for :data:`ROUNDS` rounds over a sample of at
    most 256 rows a cluster.
    """
    rows = open_embeddings(source)
    usable = np.flatnonzero(_usable(rows))
    draws = rng.generator(seed, "clusters")
    chosen = np.sort(draws.choice(usable, min(len(usable), 256 * clusters), replace=False))
    sample = _take(rows, chosen)
    centres = sample[np.sort(draws.choice(len(sample), clusters, replace=False))]
    for _ in range(ROUNDS):
        found = nearest(sample, centres, precision=precision, memory=memory, threads=threads)
        order = np.argsort(found.index, kind="stable")
        members = found.index[order]
        starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]])
        sums = np.add.reduceat(sample[order], starts, axis=0, dtype=np.float64)
        lengths = np.linalg.norm(sums, axis=1)
        moved = lengths > 0
        # An empty cluster stays where it is.
        centres[members[starts][moved]] = sums[moved] / lengths[moved, None]
    return nearest(rows, centres, precision=precision, memory=memory, threads=threads).index


def _pairs_within(
    rows: Embeddings,
    cluster: I64,
    threshold: float,
    precision: Precision,
    memory: int | str | None,
    threads: int | None,
) -> tuple[I64, F64]:
    found: list[tuple[I64, F64]] = []
    order = np.argsort(cluster, kind="stable")
    order = order[cluster[order] >= 0]
    starts = np.flatnonzero(np.r_[True, np.diff(cluster[order]) != 0])
    for places in np.split(order, starts[1:]):
        # Stable, so places rise, and the earlier of two is the earlier in the source.
        pairs, similarity = find_pairs(
            _take(rows, places), threshold, precision=precision, memory=memory, threads=threads
        )
        if len(pairs):
            found.append((places[pairs], similarity))
    return _in_order(found)


def _recall(
    rows: Embeddings,
    cluster: I64,
    usable: Flags,
    threshold: float,
    seed: int,
    precision: Precision,
    memory: int | str | None,
    threads: int | None,
) -> float:
    """Return the share of a sample's pairs whose rows lie in one cluster."""
    places = np.flatnonzero(usable)
    draws = rng.generator(seed, "recall")
    sample = np.sort(draws.choice(places, min(SAMPLE, len(places)), replace=False))
    used = count_threads(threads)
    together = total = 0
    chosen = {"rows": open_embeddings(_take(rows, sample))}
    for chunks in passes(rows, chosen, precision, memory, used, None):
        # Every row counts as later than every row of the sample: all pairs come out.
        work = functools.partial(
            _all_pairs, sides=[side for _, side in chunks], threshold=threshold, after=len(sample)
        )
        for _, parts in each_block(rows, None, used, work):
            for pairs in parts:
                first, second = sample[pairs[:, 0]], pairs[:, 1] - len(sample)
                other = first != second
                total += int(other.sum())
                together += int((cluster[first[other]] == cluster[second[other]]).sum())
    return together / total if total else float("nan")


def _earlier_pairs(
    block: Block, sides: Sequence[TestRows], threshold: float
) -> list[tuple[I64, F64]]:
    """Return the pairs of a block's rows with the rows before them, side by side."""
    end = block.first + len(block.values)
    places = np.arange(block.first, end)
    return [
        side.pairs(block.values, block.usable & (places > side.first), places, threshold)
        for side in sides
        if end > side.first
    ]


def _all_pairs(block: Block, sides: Sequence[TestRows], threshold: float, after: int) -> list[I64]:
    """Return the pairs of a block's rows, which are counted from ``after``, with all rows."""
    places = np.arange(block.first, block.first + len(block.values)) + after
    return [side.pairs(block.values, block.usable, places, threshold)[0] for side in sides]


def _in_order(found: list[tuple[I64, F64]]) -> tuple[I64, F64]:
    if not found:
        return np.empty((0, 2), dtype=np.int64), np.empty(0)
    pairs = np.concatenate([part[0] for part in found])
    similarity = np.concatenate([part[1] for part in found])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], similarity[order]


def _groups(count: int, pairs: I64) -> I64:
    """Return for each row the first row that pairs join it to, directly or over others."""
    group = np.arange(count)
    first, second = pairs[:, 0], pairs[:, 1]
    while True:
        lowest = np.minimum(group[first], group[second])
        before = group.copy()
        np.minimum.at(group, first, lowest)
        np.minimum.at(group, second, lowest)
        # What its first row is joined to is joined to it, too.
        group = group[group]
        if (group == before).all():
            return group


def _central(rows: Embeddings, pairs: I64, similarity: F64, group: I64) -> Flags:
    """Return the rows that stay by the rule "central"."""
    keep = np.ones(len(group), dtype=bool)
    members = np.unique(pairs)
    if not len(members):
        return keep
    keep[members] = False
    weight = np.zeros(len(group))
    # Sorted by value, the sum does not depend on the order of the rows.
    ends = np.concatenate([pairs, pairs[:, ::-1]])[:, 0]
    both = np.concatenate([similarity, similarity])
    order = np.lexsort((both, ends))
    np.add.at(weight, ends[order], both[order])
    values = _take(rows, members)
    by_value = np.lexsort(values.T[::-1])
    rank = np.empty(len(members), dtype=np.int64)
    rank[by_value] = np.arange(len(members))
    order = np.lexsort((rank, -weight[members], group[members]))
    leads = np.r_[True, np.diff(group[members][order]) != 0]
    keep[members[order[leads]]] = True
    return keep


def _take(rows: Embeddings, places: I64) -> F32:
    """Return the rows at rising places as one array."""
    values = np.empty((len(places), rows.width), dtype=np.float32)
    shards = np.unique(np.searchsorted(rows.starts, places, side="right") - 1)
    for block in rows.blocks(4096, shards.tolist()):
        first, last = np.searchsorted(places, [block.first, block.first + len(block.values)])
        values[first:last] = block.values[places[first:last] - block.first]
    return values


def _usable(rows: Embeddings) -> Flags:
    if rows.unusable == "refuse":
        # Whoever reads them ends at the first that cannot be used.
        return np.ones(len(rows), dtype=bool)
    usable = np.empty(len(rows), dtype=bool)
    for block in rows.blocks(4096):
        usable[block.first : block.first + len(block.values)] = block.usable
    return usable
