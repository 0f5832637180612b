"""Near-duplicates in parts: resumable, in processes, by a scheduler, or on Ray."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftproof.shards import Arrays, Job, PartFolder, run_shards
from shiftproof.types import Settings

from .clusters import ROUNDS, begin_centres, move_centres
from .dedup import PAPER_THRESHOLD, Deduplicated, KeepingRule, check_rule, deduplicate_by
from .pairs import find_pairs, find_pairs_with, find_pairs_within, in_order, ranges_of, take
from .parts import Place, Search, nearest_each, nearest_parts, run_search, size_of_parts
from .search import How
from .sources import Embeddings, Source, open_embeddings

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

    def pairs(self, rows: Embeddings, threshold: float) -> tuple[I64, F64]:
        limits = {"rows": np.array([threshold])}
        return _joined(
            run_search("pairs", _pairs_part, rows, {"rows": rows}, self.place, 0, limits)
        )

    def pairs_within(
        self, rows: Embeddings, clusters: int, seed: int, threshold: float
    ) -> tuple[I64, F64, I64]:
        settings: Settings = {"rows": rows.fingerprint(), "clusters": clusters, "seed": seed}
        centres = self._centres(rows, clusters, seed, settings)
        place = dataclasses.replace(self.place, folder=self.place.folder / "clusters")
        nearest = nearest_parts(rows, {"centre": centres}, place)
        cluster = _clusters_in(nearest)
        size = size_of_parts(len(rows), place.part_rows)
        parts = tuple(ranges_of(np.bincount(cluster[cluster >= 0], minlength=clusters), size))
        within = _Within(rows, nearest, parts, threshold, place.how(len(parts)))
        about = {**settings, "threshold": threshold, "part_rows": size}
        job = Job("pairs within clusters", _within_part, within, len(parts), about)
        done = run_shards(job, self.place.folder / "within", self.place.backend)
        return (*_joined(done), cluster)

    def pairs_with(self, rows: Embeddings, sample: I64, threshold: float) -> I64:
        tests = {"sample": take(rows, sample)}
        limits = {"sample": np.array([threshold])}
        parts = run_search("recall", _sample_part, rows, tests, self.place, 0, limits)
        pairs: I64 = np.concatenate([part["pairs"] for part in parts.each()])
        return pairs

    def _centres(self, rows: Embeddings, clusters: int, seed: int, settings: Settings) -> F32:
        """Return the centres, kept after each round; every worker may make them, all alike."""
        rounds = PartFolder.create(self.place.folder / "centres", "centres", ROUNDS, settings)
        if not rounds.missing():
            last: F32 = rounds.read(ROUNDS - 1)["centres"]
            return last
        place = self.place
        how = How(place.precision, place.device, place.memory, place.backend.processes())
        sample, centres = begin_centres(rows, clusters, seed)
        for number in range(ROUNDS):
            if rounds.part_file(number).is_file():
                centres = rounds.read(number)["centres"]
            else:
                centres = move_centres(sample, centres, how)
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


def _within_part(within: _Within, number: int) -> Arrays:
    cluster = _clusters_in(within.nearest)
    pairs, similarity = find_pairs_within(
        within.rows, cluster, within.threshold, within.how, within.parts[number]
    )
    return {"pairs": pairs, "similarity": similarity}


def _pairs_part(search: Search, number: int) -> Arrays:
    [threshold] = search.limits["rows"].tolist()
    pairs, similarity = find_pairs(search.train, threshold, search.how, search.parts[number])
    return {"pairs": pairs, "similarity": similarity}


def _sample_part(search: Search, number: int) -> Arrays:
    [threshold] = search.limits["sample"].tolist()
    sample = search.tests["sample"].read()
    pairs = find_pairs_with(search.train, sample, threshold, search.how, search.parts[number])
    return {"pairs": pairs}


def _joined(parts: PartFolder) -> tuple[I64, F64]:
    return in_order([(part["pairs"], part["similarity"]) for part in parts.each()])


def _clusters_in(nearest: PartFolder) -> I64:
    """Return the cluster of every row."""
    found = nearest_each(nearest, ["centre"])
    return np.concatenate([part["centre"].index for part in found])
