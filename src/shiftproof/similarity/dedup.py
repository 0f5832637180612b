"""Near-duplicates within a source: the pairs, the groups, and which row stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof import rng
from shiftproof.errors import InputError, UnknownNameError

from .clusters import cluster_rows
from .gap import check_threshold
from .pairs import find_pairs, find_pairs_with, find_pairs_within, take, usable_rows
from .search import How, Precision
from .sources import Embeddings, Source, open_embeddings

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

KeepingRule: TypeAlias = Literal["earlier", "central"]

PAPER_THRESHOLD = 0.876
"""With this, LAION-400M became LAION-200M (Mayilvahanan et al. 2024)."""

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
        InputError: a threshold outside -1..1, or more clusters than rows.

    >>> import numpy
    >>> rows = numpy.eye(3, dtype="float32")
    >>> deduplicate(rows[[0, 1, 0]]).keep.tolist()
    [True, True, False]
    """
    check_rule(threshold, rule)
    at_once = _AtOnce(How(precision, device, memory, threads))
    return deduplicate_by(at_once, open_embeddings(source), threshold, rule, clusters, seed)


class Searches(Protocol):
    """What a de-duplication searches for, wherever that is done."""

    def pairs(self, rows: Embeddings, threshold: float) -> tuple[I64, F64]:
        """Return all pairs above the threshold, in order."""

    def pairs_within(
        self, rows: Embeddings, clusters: int, seed: int, threshold: float
    ) -> tuple[I64, F64, I64]:
        """Return the pairs of rows of one cluster, in order, and each row's cluster."""

    def pairs_with(self, rows: Embeddings, sample: I64, threshold: float) -> I64:
        """Return the pairs of rows at places ``sample`` and all rows, as places in both."""


@dataclass(frozen=True)
class _AtOnce:
    """All of it here and now."""

    how: How

    def pairs(self, rows: Embeddings, threshold: float) -> tuple[I64, F64]:
        return find_pairs(rows, threshold, self.how)

    def pairs_within(
        self, rows: Embeddings, clusters: int, seed: int, threshold: float
    ) -> tuple[I64, F64, I64]:
        cluster = cluster_rows(rows, clusters, seed=seed, how=self.how)
        return (
            *find_pairs_within(rows, cluster, threshold, self.how, range(clusters)),
            cluster,
        )

    def pairs_with(self, rows: Embeddings, sample: I64, threshold: float) -> I64:
        return find_pairs_with(rows, take(rows, sample), threshold, self.how)


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
    if clusters is None:
        pairs, similarity = searches.pairs(rows, threshold)
        recall = 1.0
    else:
        check_clusters(clusters, int(usable.sum()))
        pairs, similarity, cluster = searches.pairs_within(rows, clusters, seed, threshold)
        sample = _sample_of(usable, seed)
        recall = _recall(sample, searches.pairs_with(rows, sample, threshold), cluster)
    group = _groups(len(rows), pairs)
    keep = usable.copy()
    if rule == "earlier":
        keep[pairs[:, 1]] = False
    else:
        keep &= _central(rows, pairs, similarity, group)
    return Deduplicated(keep, pairs, similarity, group, recall)


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


def _recall(sample: I64, pairs: I64, cluster: I64) -> float:
    """Return the share of a sample's pairs whose rows lie in one cluster."""
    first, second = sample[pairs[:, 0]], pairs[:, 1]
    other = first != second
    if not other.any():
        return float("nan")
    return float((cluster[first[other]] == cluster[second[other]]).mean())


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
    values = take(rows, members)
    by_value = np.lexsort(values.T[::-1])
    rank = np.empty(len(members), dtype=np.int64)
    rank[by_value] = np.arange(len(members))
    order = np.lexsort((rank, -weight[members], group[members]))
    leads = np.r_[True, np.diff(group[members][order]) != 0]
    keep[members[order[leads]]] = True
    return keep
