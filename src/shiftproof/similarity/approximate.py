"""Approximate nearest training rows by clusters, with the recall measured against exact search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from shiftproof import rng
from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.similarity.clusters import cluster_rows, find_nearest_center
from shiftproof.similarity.questions.pairs import read_rows
from shiftproof.similarity.questions.top_k import TopK, merge_lists, search_top_k, top_k
from shiftproof.similarity.search.options import Precision, SearchOptions
from shiftproof.similarity.sources import Embeddings, Source, open_sources
from shiftproof.types import F32, F64, I64

SAMPLE = 256
"""Number of test rows that are also searched exactly, to measure the recall."""

_ROWS_PER_CLUSTER = 64
"""Training rows per cluster in the sample for k-means."""

_BLOCK = 65_536

_RECALL_ROWS = 16_384
"""Training rows that are in memory at a time to measure the recall."""


@dataclass(frozen=True, eq=False)
class ApproximateTopK:
    """The nearest training rows of every test row that were found.

    Attributes:
        similarity: ``(m, k)`` float64 of float32 products, best first; minus infinity for missing
            entries.
        index: ``(m, k)`` int64, rows of the training source; -1 for missing entries.
        recall: share of the exact nearest rows that were found (or equally near ones), on a sample
            of test rows.
        sampled: number of test rows in that sample.
    """

    similarity: F64
    index: I64
    recall: float
    sampled: int

    def __len__(self) -> int:
        return len(self.similarity)


def approximate_top_k(
    train: Source,
    tests: Mapping[str, Source],
    k: int = 1,
    *,
    clusters: int | None = None,
    probes: int = 8,
    seed: int = 0,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
) -> dict[str, ApproximateTopK]:
    """Find approximate nearest training rows of every test row, searching only nearby clusters.

    Training rows are assigned to clusters by spherical k-means on a sample; a test row is compared
    with the rows of the ``probes`` clusters whose centers are nearest to it. Faster than
    :func:`~shiftproof.similarity.top_k` for very many rows, but it misses some: ``recall`` is
    measured by an exact search for :data:`SAMPLE` test rows.

    Args:
        train: embeddings.
        tests: test sets by name; their rows are loaded into memory.
        k: how many.
        clusters: number of clusters; None uses the square root of the number of training rows.
        probes: number of clusters searched for each test row; with all clusters the search is
            exact.
        seed: random seed of the clusters and of the sample.
        precision: precision of the searches among centers and in the sample.
        device: device of the same searches, see :func:`~shiftproof.similarity.nearest`.
        memory: see :func:`~shiftproof.similarity.nearest`.
        threads: see there.

    Raises:
        InputError: more clusters than rows, or more probes than clusters.
    """
    rows, sets = open_sources(train, tests)
    count = clusters if clusters is not None else max(1, math.isqrt(len(rows)))
    if k < 1 or not 1 <= probes <= count <= len(rows):
        raise InputError(
            f"Expected k of 1 or more and 1 to {pluralize(count, 'probe')} in 1 to "
            f"{pluralize(len(rows), 'cluster')}, got k {k} and {pluralize(probes, 'probe')} in "
            f"{pluralize(count, 'cluster')}."
        )
    centers = _find_centers(rows, count, seed)
    test_values = {name: of_set.read() for name, of_set in sets.items()}
    searchers = {
        name: _group_by_cluster(
            top_k(centers, values, min(probes, len(centers)), threads=threads).index, len(centers)
        )
        for name, values in test_values.items()
    }
    options = SearchOptions(precision, device, memory, threads)
    lists = _search_clusters(
        rows,
        test_values,
        searchers,
        k,
        partial(find_nearest_center, centers=centers, options=options),
    )
    sampled_rows = _draw_samples(test_values, seed)
    samples = {name: test_values[name][places] for name, places in sampled_rows.items()}
    exact = search_top_k(rows, samples, k, options)
    return {
        name: ApproximateTopK(
            values,
            index,
            _measure_recall(
                rows, test_values[name][sampled_rows[name]], index[sampled_rows[name]], exact[name]
            ),
            len(sampled_rows[name]),
        )
        for name, (values, index) in lists.items()
    }


def _find_centers(rows: Embeddings, count: int, seed: int) -> F32:
    """Return the cluster centers of a sample of the rows, without empty clusters."""
    draws = rng.generator(seed, "rows for clusters")
    size = min(len(rows), _ROWS_PER_CLUSTER * count)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[draws.choice(len(rows), size, replace=False)] = True
    parts = []
    for block in rows.blocks(4096):
        here = chosen[block.first : block.first + len(block.values)] & block.usable
        parts.append(block.values[here])
    sample = np.concatenate(parts)
    if len(sample) < count:
        raise InputError(
            f"Expected at least {pluralize(count, 'row')} that can be used, a cluster each."
        )
    cluster = cluster_rows(sample, count, seed=seed)
    sums = np.zeros((count, rows.width))
    np.add.at(sums, cluster, sample)
    lengths = np.linalg.norm(sums, axis=1)
    centers: F32 = (sums[lengths > 0] / lengths[lengths > 0, None]).astype(np.float32)
    return centers


def _search_clusters(
    rows: Embeddings,
    test_values: Mapping[str, F32],
    searchers: Mapping[str, list[I64]],
    k: int,
    find_cluster: Callable[[F32], I64],
) -> dict[str, tuple[F64, I64]]:
    """Compare each training row with the test rows that search its cluster. ``searchers`` has for
    each set the test rows that search each cluster, and ``find_cluster`` gives the nearest center
    of training rows. Returns for each set similarities and indexes, as in :class:`ApproximateTopK`.
    """
    lists = {
        name: (np.full((len(values), k), -np.inf), np.full((len(values), k), -1, dtype=np.int64))
        for name, values in test_values.items()
    }
    for block in rows.blocks(_BLOCK):
        usable = np.flatnonzero(block.usable)
        if not len(usable):
            continue
        cluster_of = find_cluster(block.values[usable])
        order = np.argsort(cluster_of, kind="stable")
        members = cluster_of[order]
        starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]])
        for places, cluster in zip(
            np.split(usable[order], starts[1:]), members[starts].tolist(), strict=True
        ):
            for name, values in test_values.items():
                some = searchers[name][cluster]
                if len(some):
                    _merge_cluster(
                        lists[name], some, values[some], block.values[places], places + block.first
                    )
    return lists


def _group_by_cluster(nearest_centers: I64, count: int) -> list[I64]:
    """Return for each cluster the test rows that search it."""
    test_rows = np.repeat(np.arange(len(nearest_centers)), nearest_centers.shape[1])
    order = np.argsort(nearest_centers.ravel(), kind="stable")
    ends = np.searchsorted(nearest_centers.ravel()[order], np.arange(1, count))
    return np.split(test_rows[order], ends)


def _merge_cluster(lists: tuple[F64, I64], some: I64, tests: F32, rows: F32, places: I64) -> None:
    """Merge the training rows of a cluster into the lists of some test rows, in place."""
    values, index = lists
    scores = (tests @ rows.T).astype(np.float64)
    if (best := scores.max(axis=1) > values[some, -1]).any():
        some = some[best]
        new = np.broadcast_to(places, (len(some), len(places)))
        merged = merge_lists([(values[some], index[some]), (scores[best], new)], values.shape[1])
        values[some], index[some] = merged


def _draw_samples(test_values: Mapping[str, F32], seed: int) -> dict[str, I64]:
    draws = rng.generator(seed, "recall of top-k")
    return {
        name: np.sort(draws.choice(len(values), min(SAMPLE, len(values)), replace=False))
        for name, values in test_values.items()
    }


def _measure_recall(rows: Embeddings, tests: F32, found: I64, exact: TopK) -> float:
    """Return the share of the exact lists that was found; equally near rows count."""
    from shiftproof.similarity.search.kernels import exact_product

    there = exact.index >= 0
    if not there.any():
        return float("nan")
    least = np.where(there, exact.similarity, np.inf).min(axis=1)
    hits = 0
    step = max(1, _RECALL_ROWS // found.shape[1])
    for start in range(0, len(tests), step):
        some = found[start : start + step]
        places = np.unique(some[some >= 0])
        values = read_rows(rows, places)
        for number, row in enumerate(some, start):
            near = values[np.searchsorted(places, row[row >= 0])]
            hits += sum(exact_product(value, tests[number]) >= least[number] for value in near)
    return float(hits / there.sum())
