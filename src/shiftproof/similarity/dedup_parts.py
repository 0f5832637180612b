"""Near-duplicates in parts: resumable, in processes, by a scheduler, or on Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import RunMismatchError
from shiftproof.io import files
from shiftproof.shards import Arrays, Job, PartFolder, run_shards
from shiftproof.similarity.clusters import ROUNDS, begin_centres, move_centres
from shiftproof.similarity.dedup import (
    PAPER_THRESHOLD,
    Deduplicated,
    KeepingRule,
    check_rule,
    deduplicate_by,
)
from shiftproof.similarity.joined import JoinedSpan, Joins
from shiftproof.similarity.pairs import (
    Enter,
    Sample,
    count_pairs_with,
    enter_pairs,
    enter_pairs_within,
    ranges_of,
)
from shiftproof.similarity.parts import (
    Place,
    Search,
    cut_to_parts,
    nearest_each,
    nearest_of,
    nearest_parts,
    run_search,
    size_of_parts,
)
from shiftproof.similarity.search import How
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings
from shiftproof.types import Settings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def deduplicate_in_parts(
    source: Source,
    place: Place,
    threshold: float = PAPER_THRESHOLD,
    *,
    rule: KeepingRule = "earlier",
    clusters: int | None = None,
    seed: int = 0,
) -> Deduplicated:
    """Find the rows that are nearly copies of others, and choose which stay.

    Args:
        source: embeddings.
        place: where parts are made and kept.
        threshold: see :func:`~shiftproof.similarity.deduplicate`.
        rule: see there.
        clusters: see there.
        seed: see there.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what :func:`~shiftproof.similarity.deduplicate` refuses.
    """
    check_rule(threshold, rule)
    rows = open_embeddings(source)
    return deduplicate_by(_InParts(place), rows, threshold, rule, clusters, seed)


@dataclass(frozen=True)
class _InParts:
    """The searches of a de-duplication, each with a folder of parts."""

    place: Place

    @property
    def how(self) -> How:
        """How to search where all is done here."""
        place = self.place
        return How(place.precision, place.device, place.memory, place.backend.processes())

    def pairs(self, rows: Embeddings, threshold: float, enter: Enter) -> Iterator[Joins]:
        limits = {"rows": np.array([threshold])}
        return _joins_in(
            run_search("pairs", _pairs_part, rows, {"rows": rows}, self.place, 0, limits)
        )

    def clusters(self, rows: Embeddings, clusters: int, seed: int) -> I64:
        settings: Settings = {"rows": rows.fingerprint(), "clusters": clusters, "seed": seed}
        centres = self._centres(rows, clusters, seed, settings)
        place = dataclasses.replace(self.place, folder=self.place.folder / "clusters")
        nearest = nearest_parts(rows, {"centre": centres}, place)
        return _clusters_in(nearest)

    def pairs_within(
        self, rows: Embeddings, cluster: I64, threshold: float, enter: Enter
    ) -> Iterator[Joins]:
        size = size_of_parts(len(rows), self.place.part_rows)
        parts = tuple(ranges_of(np.bincount(cluster[cluster >= 0]), size))
        nearest = self._nearest_of(rows)
        within = _Within(rows, nearest, parts, threshold, self.place.how(len(parts)))
        about: Settings = {
            "rows": rows.fingerprint(),
            "cluster": files.fingerprint([cluster.tobytes()]),
            "threshold": threshold,
            "part_rows": size,
        }
        job = Job("pairs within clusters", _within_part, within, len(parts), about)
        return _joins_in(run_shards(job, self.place.folder / "within", self.place.backend))

    def recall(
        self, rows: Embeddings, sample: Sample, cluster: I64, threshold: float
    ) -> tuple[int, int]:
        tests = {"sample": sample.values}
        limits = {
            "sample": np.array([threshold]),
            "places": sample.places.astype(np.float64),
            "clusters": sample.cluster.astype(np.float64),
        }
        parts = run_search("recall", _sample_part, rows, tests, self.place, 0, limits)
        counts = np.sum([part["counts"] for part in parts.each()], axis=0)
        return int(counts[0]), int(counts[1])

    def _nearest_of(self, rows: Embeddings) -> PartFolder:
        """Return the parts that say which cluster each row is in."""
        count = len(cut_to_parts(rows, self.place.part_rows)[1])
        return _nearest_in(self.place.folder, count)

    def _centres(self, rows: Embeddings, clusters: int, seed: int, settings: Settings) -> F32:
        """Return the centres, kept after each round; every worker may make them, all alike."""
        rounds = PartFolder.create(self.place.folder / "centres", "centres", ROUNDS, settings)
        if not rounds.missing():
            last: F32 = rounds.read(ROUNDS - 1)["centres"]
            return last
        sample, centres = begin_centres(rows, clusters, seed)
        for number in range(ROUNDS):
            if rounds.part_file(number).is_file():
                centres = rounds.read(number)["centres"]
            else:
                centres = move_centres(sample, centres, self.how)
                rounds.write(number, {"centres": centres})
        return centres


@dataclass(frozen=True, eq=False)
class _Within:
    """What a worker needs to compare rows within clusters.

    Attributes:
        rows: all of them.
        nearest: parts that say in which cluster each row is.
        parts: the clusters of each part.
        threshold: pairs are more similar.
        how: how a part is searched.
    """

    rows: Embeddings
    nearest: PartFolder
    parts: tuple[range, ...]
    threshold: float
    how: How


def _nearest_in(folder: Path, count: int) -> PartFolder:
    return PartFolder(folder / "clusters" / "nearest", count)


def _within_part(within: _Within, number: int) -> Arrays:
    cluster = _clusters_in(within.nearest)
    among = within.parts[number]
    places = np.flatnonzero((cluster >= among.start) & (cluster < among.stop))
    # Places rise: what is first among them is first in the source.
    span = JoinedSpan(0, len(places), weigh=True)

    def enter(pairs: I64, similarity: F64) -> None:
        span.enter(np.searchsorted(places, pairs), similarity)

    enter_pairs_within(within.rows, cluster, within.threshold, within.how, among, enter)
    joins = span.joins()
    return _as_arrays(
        dataclasses.replace(
            joins, edges=places[joins.edges], later=places[joins.later], rows=places[joins.rows]
        )
    )


def _pairs_part(search: Search, number: int) -> Arrays:
    [threshold] = search.limits["rows"].tolist()
    shards = search.parts[number]
    starts = search.train.starts
    first = int(starts[shards[0]])
    span = JoinedSpan(first, int(starts[shards[-1] + 1]) - first, weigh=True)
    enter_pairs(search.train, threshold, search.how, span.enter, shards)
    return _as_arrays(span.joins())


def _sample_part(search: Search, number: int) -> Arrays:
    [threshold] = search.limits["sample"].tolist()
    sample = Sample(
        search.limits["places"].astype(np.int64),
        search.tests["sample"].read(),
        search.limits["clusters"].astype(np.int64),
    )
    # Parts of the search for clusters are of the same rows.
    nearest = _nearest_in(search.folder, len(search.parts)).read(number)
    cluster = nearest_of(nearest, ["centre"])["centre"].index
    counts = count_pairs_with(
        search.train, sample, cluster, threshold, search.how, search.parts[number]
    )
    return {"counts": np.array(counts)}


def _as_arrays(joins: Joins) -> Arrays:
    return {name: np.asarray(value) for name, value in vars(joins).items()}


def _joins_in(parts: PartFolder) -> Iterator[Joins]:
    for part in parts.each():
        if "edges" not in part:
            raise RunMismatchError(
                f"{parts.path} holds parts that an earlier version made. Choose another output "
                "folder, or delete this one to start anew."
            )
        count = int(part.pop("count"))
        yield Joins(**part, count=count)


def _clusters_in(nearest: PartFolder) -> I64:
    """Return the cluster of every row."""
    found = nearest_each(nearest, ["centre"])
    return np.concatenate([part["centre"].index for part in found])
