"""Spherical k-means."""

from __future__ import annotations

import numpy as np

from shiftproof import rng
from shiftproof.similarity.questions.nearest import search_nearest
from shiftproof.similarity.questions.pairs import find_usable, read_rows
from shiftproof.similarity.search.options import SearchOptions
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings
from shiftproof.types import F32, I64

ROUNDS = 4
"""Iterations of k-means; more hardly change the recall of a de-duplication."""

_ROWS_PER_CLUSTER = 256
"""Maximum number of rows per cluster in the sample."""


def cluster_rows(
    source: Source, clusters: int, *, seed: int = 0, options: SearchOptions | None = None
) -> I64:
    """Assign rows to clusters by spherical k-means; -1 for unusable rows.

    The centers are initialized with random rows and updated for :data:`ROUNDS` rounds on a sample
    of the rows.
    """
    rows = open_embeddings(source)
    chosen = options or SearchOptions()
    sample, centers = initialize_centers(rows, clusters, seed)
    for _ in range(ROUNDS):
        centers = update_centers(sample, centers, chosen)
    return find_nearest_center(rows, centers, chosen)


def initialize_centers(rows: Embeddings, clusters: int, seed: int) -> tuple[F32, F32]:
    """Return a sample of the rows, and the initial centers."""
    usable = np.flatnonzero(find_usable(rows))
    draws = rng.generator(seed, "clusters")
    size = min(len(usable), _ROWS_PER_CLUSTER * clusters)
    sample = read_rows(rows, np.sort(draws.choice(usable, size, replace=False)))
    return sample, sample[np.sort(draws.choice(len(sample), clusters, replace=False))]


def update_centers(sample: F32, centers: F32, options: SearchOptions) -> F32:
    """Return the updated centers: the mean directions of the rows nearest to each."""
    index = find_nearest_center(open_embeddings(sample), centers, options)
    order = np.argsort(index, kind="stable")
    members = index[order]
    starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]])
    sums = np.add.reduceat(sample[order], starts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    nonempty = lengths > 0
    # An empty cluster keeps its center.
    updated: F32 = centers.copy()
    updated[members[starts][nonempty]] = sums[nonempty] / lengths[nonempty, None]
    return updated


def find_nearest_center(rows: Source, centers: F32, options: SearchOptions) -> I64:
    """Return the nearest center of each row; -1 for unusable rows."""
    return search_nearest(rows, {"centers": centers}, options)["centers"].index
