"""Near-duplicates within a source: pairs, groups, and which rows to keep."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from shiftproof import rng
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.shards import Arrays, Job, PartFolder, run_shards
from shiftproof.similarity.central import choose_central
from shiftproof.similarity.clusters import ROUNDS, cluster_rows, initialize_centers, update_centers
from shiftproof.similarity.gap import check_threshold
from shiftproof.similarity.joined import JoinedRows, JoinedSpan, Joins
from shiftproof.similarity.questions.nearest import Nearest, NearestQuestion
from shiftproof.similarity.questions.pairs import (
    Enter,
    Sample,
    count_pairs_with,
    enter_pairs,
    enter_pairs_within,
    find_pairs,
    find_usable,
    read_rows,
    sort_pairs,
    split_ranges,
)
from shiftproof.similarity.search.options import Precision, SearchOptions, parse_memory
from shiftproof.similarity.sharded import (
    Parts,
    Search,
    Sharding,
    choose_part_rows,
    make_version_error,
    open_parts,
    run_search,
    search_in_parts,
)
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings
from shiftproof.types import F32, F64, I64, Flags, Settings

KeepingRule: TypeAlias = Literal["earlier", "central"]

PAPER_THRESHOLD = 0.876
"""Threshold that reduced LAION-400M to LAION-200M (Mayilvahanan et al. 2024)."""

SAMPLE = 1000
"""Rows whose duplicates are searched exhaustively, to measure the recall of clusters."""

_MEMORY_SHARE = 16
"""Fraction of the memory for stored pairs, and for compared values."""

_BYTES_OF_PAIR = 24


@dataclass(frozen=True, eq=False)
class Deduplicated:
    """The result of a de-duplication.

    Attributes:
        keep: ``(n,)`` bool, the rows to keep; unusable rows are dropped.
        group: ``(n,)`` int64, for each row the first row of its group, which pairs connect; its own
            index for rows without pairs.
        recall: share of all pairs that was found: 1 for the exact search, measured on a sample with
            clusters, NaN if the sample has no pair.
        count: number of pairs above the threshold.
    """

    keep: Flags
    group: I64
    recall: float
    count: int
    _search: PairSearch

    @property
    def pairs(self) -> I64:
        """``(count, 2)`` int64, the pairs above the threshold, the earlier row first, in order.

        Their number may be quadratic in the number of rows. Few pairs are kept from the search;
        many are searched again at the first access, and then kept regardless of the memory limit.
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
    """Find near-duplicate rows, and choose which to keep.

    Two rows are a pair if their similarity is larger than ``threshold``.

    Args:
        source: embeddings.
        threshold: in -1..1.
        rule: "earlier", as in the paper: a row is dropped if it forms a pair with any earlier row,
            kept or not; the result depends on the order of the rows. "central": from each connected
            group the row with the largest sum of similarities to its pairs is kept, ties by value;
            the order of the rows does not matter.
        clusters: None compares every row with every other. A number first assigns the rows to that
            many clusters and compares within them (SemDeDup, Abbas et al. 2023, arXiv 2303.09540):
            faster, but it misses pairs; see ``recall``.
        seed: random seed of the initial clusters and of the sample.
        precision: see :func:`~shiftproof.similarity.nearest`.
        device: see there.
        memory: see there.
        threads: see there.

    Raises:
        InputError: a threshold outside -1..1, more clusters than rows, or no usable row.

    >>> import numpy
    >>> rows = numpy.eye(3, dtype="float32")
    >>> deduplicate(rows[[0, 1, 0]]).keep.tolist()
    [True, True, False]
    """
    check_rule(threshold, rule)
    searches = _MemorySearches(
        SearchOptions(precision, device, memory, threads), weigh=rule == "central"
    )
    return deduplicate_with(searches, open_embeddings(source), threshold, rule, clusters, seed)


def deduplicate_in_parts(
    source: Source,
    sharding: Sharding,
    threshold: float = PAPER_THRESHOLD,
    *,
    rule: KeepingRule = "earlier",
    clusters: int | None = None,
    seed: int = 0,
) -> Deduplicated:
    """Find near-duplicate rows, and choose which to keep.

    Args:
        source: embeddings.
        sharding: how parts are computed, and the folder that stores them.
        threshold: see :func:`~shiftproof.similarity.deduplicate`.
        rule: see there.
        clusters: see there.
        seed: see there.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: as for :func:`~shiftproof.similarity.deduplicate`.
    """
    check_rule(threshold, rule)
    rows = open_embeddings(source)
    return deduplicate_with(_PartSearches(sharding), rows, threshold, rule, clusters, seed)


class Searches(Protocol):
    """The searches that a de-duplication needs, in memory or in parts."""

    @property
    def options(self) -> SearchOptions:
        """The options of searches in this process."""

    def pairs(self, rows: Embeddings, threshold: float, enter: Enter) -> Iterator[Joins]:
        """Search all pairs above the threshold, and yield their joins.

        ``enter`` is called with the pairs if all of them are available here.
        """

    def clusters(self, rows: Embeddings, clusters: int, seed: int) -> I64:
        """Return each row's cluster."""

    def pairs_within(
        self, rows: Embeddings, cluster: I64, threshold: float, enter: Enter
    ) -> Iterator[Joins]:
        """The same for pairs within clusters."""

    def recall(
        self, rows: Embeddings, sample: Sample, cluster: I64, threshold: float
    ) -> tuple[int, int]:
        """Count the sample's pairs with rows of the same cluster, and all of its pairs."""


@dataclass(frozen=True)
class _MemorySearches:
    """The searches in memory; ``weigh`` if sums of similarities are needed."""

    options: SearchOptions
    weigh: bool

    def pairs(self, rows: Embeddings, threshold: float, enter: Enter) -> Iterator[Joins]:
        span = JoinedSpan(0, len(rows), self.weigh)
        enter_pairs(rows, threshold, self.options, _enter_in_both(span, enter))
        yield span.summarize()

    def clusters(self, rows: Embeddings, clusters: int, seed: int) -> I64:
        return cluster_rows(rows, clusters, seed=seed, options=self.options)

    def pairs_within(
        self, rows: Embeddings, cluster: I64, threshold: float, enter: Enter
    ) -> Iterator[Joins]:
        span = JoinedSpan(0, len(rows), self.weigh)
        among = range(int(cluster.max()) + 1)
        enter_pairs_within(
            rows, cluster, threshold, self.options, among, _enter_in_both(span, enter)
        )
        yield span.summarize()

    def recall(
        self, rows: Embeddings, sample: Sample, cluster: I64, threshold: float
    ) -> tuple[int, int]:
        return count_pairs_with(rows, sample, cluster, threshold, self.options)


def _enter_in_both(span: JoinedSpan, enter: Enter) -> Enter:
    def enter_each(pairs: I64, similarity: F64) -> None:
        span.enter(pairs, similarity)
        enter(pairs, similarity)

    return enter_each


class PairSearch:
    """The pairs of a de-duplication: kept while they are few, otherwise searched again.

    Attributes:
        rows: the source.
        threshold: lower limit of the pairs' similarity, exclusive.
        cluster: ``(n,)``, each row's cluster; None if all rows are compared.
        options: how to search.
    """

    def __init__(
        self, rows: Embeddings, threshold: float, cluster: I64 | None, options: SearchOptions
    ) -> None:
        self.rows, self.threshold, self.cluster, self.options = rows, threshold, cluster, options
        self._kept: list[tuple[I64, F64]] = []
        self._free_pairs = parse_memory(options.memory) // _MEMORY_SHARE // _BYTES_OF_PAIR

    def add(self, pairs: I64, similarity: F64) -> None:
        """Keep some pairs while all of them fit in memory."""
        self._free_pairs -= len(pairs)
        if self._free_pairs < 0:
            self._kept.clear()
        else:
            self._kept.append((pairs.copy(), similarity.copy()))

    def find(self, count: int) -> tuple[I64, F64]:
        """Return all ``count`` pairs in order, with their similarities."""
        if sum(len(pairs) for pairs, _ in self._kept) == count:
            return sort_pairs(self._kept)
        if self.cluster is None:
            return find_pairs(self.rows, self.threshold, self.options)
        found: list[tuple[I64, F64]] = []
        among = range(int(self.cluster.max()) + 1)
        enter_pairs_within(
            self.rows, self.cluster, self.threshold, self.options, among,
            lambda *some: found.append(some),
        )  # fmt: skip
        return sort_pairs(found)


def deduplicate_with(
    searches: Searches,
    rows: Embeddings,
    threshold: float,
    rule: KeepingRule,
    clusters: int | None,
    seed: int,
) -> Deduplicated:
    """De-duplicate with the given searches."""
    usable = find_usable(rows)
    if not usable.any():
        raise InputError("None of the rows can be used.")
    joined = JoinedRows(len(rows), weigh=rule == "central")
    recall = 1.0
    if clusters is None:
        search = PairSearch(rows, threshold, None, searches.options)
        found = searches.pairs(rows, threshold, search.add)
    else:
        check_clusters(clusters, int(usable.sum()))
        cluster = searches.clusters(rows, clusters, seed)
        search = PairSearch(rows, threshold, cluster, searches.options)
        found = searches.pairs_within(rows, cluster, threshold, search.add)
    for joins in found:
        joined.enter(joins)
    if clusters is not None:
        places = _draw_sample(usable, seed)
        sample = Sample(places, read_rows(rows, places), cluster[places])
        same, of = searches.recall(rows, sample, cluster, threshold)
        recall = same / of if of else float("nan")
    group = joined.find_groups()
    keep = usable
    if rule == "earlier":
        keep &= ~joined.later
    else:
        keep &= choose_central(
            rows, joined, group, parse_memory(searches.options.memory) // _MEMORY_SHARE
        )
    return Deduplicated(keep, group, recall, joined.count, search)


def check_rule(threshold: float, rule: str) -> None:
    """Check threshold and rule.

    Raises:
        InputError: it is one of these.
    """
    check_threshold(threshold)
    if rule not in ("earlier", "central"):
        raise UnknownNameError.of("keeping rule", rule, ["earlier", "central"])


def check_clusters(clusters: int, rows: int) -> None:
    """Check the number of clusters.

    Raises:
        InputError: it is one of these.
    """
    if not 1 <= clusters <= rows:
        raise InputError(f"Expected 1 to {pluralize(rows, 'cluster')}, got {clusters}.")


def _draw_sample(usable: Flags, seed: int) -> I64:
    places = np.flatnonzero(usable)
    draws = rng.generator(seed, "recall")
    return np.sort(draws.choice(places, min(SAMPLE, len(places)), replace=False))


# ---------------------------------------------------------------- in parts


@dataclass(frozen=True)
class _PartSearches:
    """The searches of a de-duplication, each with a folder of parts."""

    sharding: Sharding

    @property
    def options(self) -> SearchOptions:
        """The options of searches in this process."""
        how = self.sharding
        return SearchOptions(how.precision, how.device, how.memory, how.backend.processes())

    def pairs(self, rows: Embeddings, threshold: float, enter: Enter) -> Iterator[Joins]:
        parts = run_search(
            "pairs", _make_pairs, threshold, rows, {"rows": rows}, self.sharding,
            settings={"rows": threshold},
        )  # fmt: skip
        return _read_joins(parts)

    def clusters(self, rows: Embeddings, clusters: int, seed: int) -> I64:
        settings: Settings = {"rows": rows.fingerprint(), "clusters": clusters, "seed": seed}
        centers = self._find_centers(rows, clusters, seed, settings)
        nearest = search_in_parts(
            NearestQuestion(), rows, {"centre": centers}, self.sharding.within("clusters")
        )
        return _read_clusters(nearest)

    def pairs_within(
        self, rows: Embeddings, cluster: I64, threshold: float, enter: Enter
    ) -> Iterator[Joins]:
        size = choose_part_rows(len(rows), self.sharding.part_rows)
        parts = tuple(split_ranges(np.bincount(cluster[cluster >= 0]), size))
        within = _Within(
            rows, self._open_nearest(rows), parts, threshold, self.sharding.options(len(parts))
        )
        about: Settings = {
            "rows": rows.fingerprint(),
            "cluster": files.fingerprint([cluster.tobytes()]),
            "threshold": threshold,
            "part_rows": size,
        }
        job = Job("pairs within clusters", _make_within, within, len(parts), about)
        return _read_joins(run_shards(job, self.sharding.folder / "within", self.sharding.backend))

    def recall(
        self, rows: Embeddings, sample: Sample, cluster: I64, threshold: float
    ) -> tuple[int, int]:
        task = _Recall(sample, threshold, self._open_nearest(rows))
        settings = {
            "threshold": threshold,
            "places": files.fingerprint([sample.places.tobytes()]),
            "clusters": files.fingerprint([sample.cluster.tobytes()]),
        }
        parts = run_search(
            "recall", _make_recall, task, rows, {"sample": sample.values}, self.sharding,
            settings=settings,
        )  # fmt: skip
        counts = np.sum([part["counts"] for part in parts.each()], axis=0)
        return int(counts[0]), int(counts[1])

    def _open_nearest(self, rows: Embeddings) -> Parts[Nearest]:
        """Return the finished parts with the cluster of each row."""
        return open_parts(NearestQuestion(), rows, ["centre"], self.sharding.within("clusters"))

    def _find_centers(self, rows: Embeddings, clusters: int, seed: int, settings: Settings) -> F32:
        """Return the centers, saved after each round; all workers compute the same ones."""
        rounds = PartFolder.create(self.sharding.folder / "centres", "centres", ROUNDS, settings)
        if not rounds.missing():
            last: F32 = rounds.read(ROUNDS - 1)["centres"]
            return last
        sample, centers = initialize_centers(rows, clusters, seed)
        for number in range(ROUNDS):
            if rounds.part_file(number).is_file():
                centers = rounds.read(number)["centres"]
            else:
                centers = update_centers(sample, centers, self.options)
                rounds.write(number, {"centres": centers})
        return centers


@dataclass(frozen=True, eq=False)
class _Within:
    """The job of a worker that compares rows within clusters.

    Attributes:
        rows: all rows.
        nearest: parts with the cluster of each row.
        parts: the clusters of each part.
        threshold: lower limit of the pairs' similarity, exclusive.
        options: how a part is searched.
    """

    rows: Embeddings
    nearest: Parts[Nearest]
    parts: tuple[range, ...]
    threshold: float
    options: SearchOptions


def _make_within(within: _Within, number: int) -> Arrays:
    cluster = _read_clusters(within.nearest)
    among = within.parts[number]
    places = np.flatnonzero((cluster >= among.start) & (cluster < among.stop))
    # Indices ascend: the first of them is the first in the source.
    span = JoinedSpan(0, len(places), weigh=True)

    def enter(pairs: I64, similarity: F64) -> None:
        span.enter(np.searchsorted(places, pairs), similarity)

    enter_pairs_within(within.rows, cluster, within.threshold, within.options, among, enter)
    joins = span.summarize()
    return _pack_joins(
        dataclasses.replace(
            joins, edges=places[joins.edges], later=places[joins.later], rows=places[joins.rows]
        )
    )


def _make_pairs(search: Search[float], number: int) -> Arrays:
    shards = search.parts[number]
    starts = search.train.starts
    first = int(starts[shards[0]])
    span = JoinedSpan(first, int(starts[shards[-1] + 1]) - first, weigh=True)
    enter_pairs(search.train, search.task, search.options, span.enter, shards)
    return _pack_joins(span.summarize())


@dataclass(frozen=True, eq=False)
class _Recall:
    """The job of a worker that counts the pairs of a sample.

    Attributes:
        sample: the rows whose pairs are searched exhaustively.
        threshold: lower limit of the pairs' similarity, exclusive.
        nearest: parts with the cluster of each row, for the same rows.
    """

    sample: Sample
    threshold: float
    nearest: Parts[Nearest]


def _make_recall(search: Search[_Recall], number: int) -> Arrays:
    task = search.task
    cluster = task.nearest.read(number)["centre"].index
    counts = count_pairs_with(
        search.train, task.sample, cluster, task.threshold, search.options, search.parts[number]
    )
    return {"counts": np.array(counts)}


def _pack_joins(joins: Joins) -> Arrays:
    return {name: np.asarray(value) for name, value in vars(joins).items()}


def _read_joins(parts: PartFolder) -> Iterator[Joins]:
    for part in parts.each():
        if "edges" not in part:
            raise make_version_error(parts)
        count = int(part.pop("count"))
        yield Joins(**part, count=count)


def _read_clusters(nearest: Parts[Nearest]) -> I64:
    """Return the cluster of every row."""
    return np.concatenate([part["centre"].index for part in nearest])
