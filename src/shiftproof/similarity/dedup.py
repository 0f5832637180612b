"""Near-duplicates within a source: the pairs, the groups, and which row stays."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof import rng
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.similarity.clusters import cluster_rows
from shiftproof.similarity.gap import check_threshold
from shiftproof.similarity.joined import JoinedRows, JoinedSpan, Joins
from shiftproof.similarity.pairs import (
    Enter,
    Sample,
    count_pairs_with,
    enter_pairs,
    enter_pairs_within,
    find_pairs,
    in_order,
    take,
    usable_rows,
)
from shiftproof.similarity.search import How, Precision, parse_memory
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

KeepingRule: TypeAlias = Literal["earlier", "central"]

PAPER_THRESHOLD = 0.876
"""With this, LAION-400M became LAION-200M (Mayilvahanan et al. 2024)."""

SAMPLE = 1000
"""Rows whose duplicates are all searched, to measure what the clusters miss."""

COMPARED = 4096
"""Rows whose values are compared at a time, where the rule "central" finds several equal."""

_SHARE = 16
"""This part of the memory is for pairs that are held, and for values that are compared."""

_BYTES_OF_PAIR = 24


@dataclass(frozen=True, eq=False)
class Deduplicated:
    """Which rows stay, and why the others go.

    Attributes:
        keep: ``(n,)`` bool; rows that cannot be used do not stay.
        group: ``(n,)`` int64, the first row that each row is joined to by pairs; its own place for
            rows in no pair.
        recall: the share of all pairs that was found: 1 for the exact search, measured on a sample
            for the clustered one, NaN where the sample has no pair.
        count: how many pairs there are above the threshold.
    """

    keep: Flags
    group: I64
    recall: float
    count: int
    _search: PairSearch

    @property
    def pairs(self) -> I64:
        """``(count, 2)`` int64, the pairs above the threshold, the earlier row first, in order.

        Of copies there are as many as the square of the rows. Few are held from the search; many
        are searched again at the first call, and held then, whatever memory was allowed.
        """
        return self._found[0]

    @property
    def similarity(self) -> F64:
        """``(count,)`` float64, the pairs' similarities."""
        return self._found[1]

    @functools.cached_property
    def _found(self) -> tuple[I64, F64]:
        return self._search.find(self.count)


def deduplicate(
    source: Source,
    threshold: float = PAPER_THRESHOLD,
    *,
    rule: KeepingRule = "earlier",
    clusters: int | None = None,
    seed: int = 0,
    precision: Precision = "auto",
    device: str = "cpu",
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
        device: see there.
        memory: see there.
        threads: see there.

    Raises:
        InputError: a threshold outside -1..1, more clusters than rows, or no row can be used.

    >>> import numpy
    >>> rows = numpy.eye(3, dtype="float32")
    >>> deduplicate(rows[[0, 1, 0]]).keep.tolist()
    [True, True, False]
    """
    check_rule(threshold, rule)
    at_once = _AtOnce(How(precision, device, memory, threads), weigh=rule == "central")
    return deduplicate_by(at_once, open_embeddings(source), threshold, rule, clusters, seed)


class Searches(Protocol):
    """What a de-duplication searches for, wherever that is done."""

    @property
    def how(self) -> How:
        """How to search where all is done here."""

    def pairs(self, rows: Embeddings, threshold: float, enter: Enter) -> Iterator[Joins]:
        """Search all pairs above the threshold, and yield what they say.

        ``enter`` may be given the pairs, if they all pass by.
        """

    def clusters(self, rows: Embeddings, clusters: int, seed: int) -> I64:
        """Return each row's cluster."""

    def pairs_within(
        self, rows: Embeddings, cluster: I64, threshold: float, enter: Enter
    ) -> Iterator[Joins]:
        """Search the pairs of rows of one cluster likewise."""

    def recall(
        self, rows: Embeddings, sample: Sample, cluster: I64, threshold: float
    ) -> tuple[int, int]:
        """Count the sample's pairs with rows of the same cluster, and all of its pairs."""


@dataclass(frozen=True)
class _AtOnce:
    """All of it here and now; ``weigh`` where sums of similarities are needed."""

    how: How
    weigh: bool

    def pairs(self, rows: Embeddings, threshold: float, enter: Enter) -> Iterator[Joins]:
        span = JoinedSpan(0, len(rows), self.weigh)
        enter_pairs(rows, threshold, self.how, _to_both(span, enter))
        yield span.joins()

    def clusters(self, rows: Embeddings, clusters: int, seed: int) -> I64:
        return cluster_rows(rows, clusters, seed=seed, how=self.how)

    def pairs_within(
        self, rows: Embeddings, cluster: I64, threshold: float, enter: Enter
    ) -> Iterator[Joins]:
        span = JoinedSpan(0, len(rows), self.weigh)
        among = range(int(cluster.max()) + 1)
        enter_pairs_within(rows, cluster, threshold, self.how, among, _to_both(span, enter))
        yield span.joins()

    def recall(
        self, rows: Embeddings, sample: Sample, cluster: I64, threshold: float
    ) -> tuple[int, int]:
        return count_pairs_with(rows, sample, cluster, threshold, self.how)


def _to_both(span: JoinedSpan, enter: Enter) -> Enter:
    def take_in(pairs: I64, similarity: F64) -> None:
        span.enter(pairs, similarity)
        enter(pairs, similarity)

    return take_in


class PairSearch:
    """The pairs of a de-duplication: held while they are few, and else searched once more.

    Attributes:
        rows: the source.
        threshold: pairs are more similar.
        cluster: ``(n,)``, each row's; None where all rows are compared.
        how: how to search.
    """

    def __init__(self, rows: Embeddings, threshold: float, cluster: I64 | None, how: How) -> None:
        self.rows, self.threshold, self.cluster, self.how = rows, threshold, cluster, how
        self._held: list[tuple[I64, F64]] = []
        self._room = parse_memory(how.memory) // _SHARE // _BYTES_OF_PAIR

    def hold(self, pairs: I64, similarity: F64) -> None:
        """Hold some pairs as long as there is room for all."""
        self._room -= len(pairs)
        if self._room < 0:
            self._held.clear()
        else:
            self._held.append((pairs.copy(), similarity.copy()))

    def find(self, count: int) -> tuple[I64, F64]:
        """Return all ``count`` pairs in order, with their similarities."""
        if sum(len(pairs) for pairs, _ in self._held) == count:
            return in_order(self._held)
        if self.cluster is None:
            return find_pairs(self.rows, self.threshold, self.how)
        found: list[tuple[I64, F64]] = []
        among = range(int(self.cluster.max()) + 1)
        enter_pairs_within(
            self.rows, self.cluster, self.threshold, self.how, among,
            lambda *some: found.append(some),
        )  # fmt: skip
        return in_order(found)


def deduplicate_by(
    searches: Searches,
    rows: Embeddings,
    threshold: float,
    rule: KeepingRule,
    clusters: int | None,
    seed: int,
) -> Deduplicated:
    """Do what :func:`deduplicate` does, given what searches for pairs."""
    usable = usable_rows(rows)
    if not usable.any():
        raise InputError("None of the rows can be used.")
    joined = JoinedRows(len(rows), weigh=rule == "central")
    recall = 1.0
    if clusters is None:
        search = PairSearch(rows, threshold, None, searches.how)
        found = searches.pairs(rows, threshold, search.hold)
    else:
        check_clusters(clusters, int(usable.sum()))
        cluster = searches.clusters(rows, clusters, seed)
        search = PairSearch(rows, threshold, cluster, searches.how)
        found = searches.pairs_within(rows, cluster, threshold, search.hold)
    for joins in found:
        joined.enter(joins)
    if clusters is not None:
        places = _sample_of(usable, seed)
        sample = Sample(places, take(rows, places), cluster[places])
        same, of = searches.recall(rows, sample, cluster, threshold)
        recall = same / of if of else float("nan")
    group = joined.groups()
    keep = usable
    if rule == "earlier":
        keep &= ~joined.later
    else:
        keep &= _central(rows, joined, group, parse_memory(searches.how.memory) // _SHARE)
    return Deduplicated(keep, group, recall, joined.count, search)


def check_rule(threshold: float, rule: str) -> None:
    """Refuse a threshold outside -1..1 and a rule that is none.

    Raises:
        InputError: it is one of these.
    """
    check_threshold(threshold)
    if rule not in ("earlier", "central"):
        raise UnknownNameError.of("keeping rule", rule, ["earlier", "central"])


def check_clusters(clusters: int, rows: int) -> None:
    """Refuse more clusters than rows, or none.

    Raises:
        InputError: it is one of these.
    """
    if not 1 <= clusters <= rows:
        raise InputError(f"Expected 1 to {rows} clusters, got {clusters}.")


def _sample_of(usable: Flags, seed: int) -> I64:
    places = np.flatnonzero(usable)
    draws = rng.generator(seed, "recall")
    return np.sort(draws.choice(places, min(SAMPLE, len(places)), replace=False))


def _central(rows: Embeddings, joined: JoinedRows, group: I64, memory: int) -> Flags:
    """Return the rows that stay by the rule "central"; ``memory`` is for values that are compared."""
    keep: Flags = group == np.arange(len(group))
    joining = ~keep
    joining[group[joining]] = True
    members = np.flatnonzero(joining)
    if not len(members):
        return keep
    keep[members] = False
    weight = joined.weights(members)
    order = np.lexsort((-weight, group[members]))
    leads = np.r_[True, np.diff(group[members][order]) != 0]
    of_lead = np.cumsum(leads) - 1
    # Of each group those with the largest weight, groups and rows in order.
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
        keep[_smallest(rows, tied[here], number[here] - start)] = True
    return keep


def _smallest(rows: Embeddings, places: I64, group: I64) -> I64:
    """Return of each group of rows the one whose values come first, of equal ones the first row.

    Groups are numbered from 0; one row of each is held.
    """
    count = int(group.max()) + 1
    best, held = np.full(count, -1, dtype=np.int64), np.empty((count, rows.width), np.float32)
    order = np.argsort(places, kind="stable")
    places, group = places[order], group[order]
    for start in range(0, len(places), COMPARED):
        some, of = places[start : start + COMPARED], group[start : start + COMPARED]
        values = take(rows, some)
        by_value = np.lexsort((*values.T[::-1], of))
        leads = by_value[np.r_[True, np.diff(of[by_value]) != 0]]
        values, some, of = values[leads], some[leads], of[leads]
        new = best[of] < 0
        new[~new] = _comes_first(values[~new], held[of[~new]])
        best[of[new]], held[of[new]] = some[new], values[new]
    return best


def _comes_first(values: F32, others: F32) -> Flags:
    """Tell which rows come before the others, by the first value that differs."""
    differs = values != others
    first = differs.argmax(axis=1)
    here = np.arange(len(values))
    before: Flags = differs[here, first] & (values[here, first] < others[here, first])
    return before
