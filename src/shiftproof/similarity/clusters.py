"""Spherical k-means: centers that many rows lie around."""

from __future__ import annotations

import numpy as np

from shiftproof import rng
from shiftproof.similarity.questions.nearest import nearest
from shiftproof.similarity.questions.pairs import find_usable, read_rows
from shiftproof.similarity.search.options import SearchOptions
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings
from shiftproof.types import F32, I64

ROUNDS = 4
"""More hardly move the recall of a de-duplication."""

_OF_CLUSTER = 256
"""Rows for each cluster that its centre is made of, at most."""


def cluster_rows(
    source: Source, clusters: int, *, seed: int = 0, options: SearchOptions | None = None
) -> I64:
    """Sort rows into clusters by spherical k-means; -1 for rows that cannot be used.

    The centers begin at rows drawn at random and move for :data:`ROUNDS` rounds over a sample of the
    rows.
    """
    rows = open_embeddings(source)
    chosen = options or SearchOptions()
    sample, centers = begin_centers(rows, clusters, seed)
    for _ in range(ROUNDS):
        centers = move_centers(sample, centers, chosen)
    return find_nearest_center(rows, centers, chosen)


def begin_centers(rows: Embeddings, clusters: int, seed: int) -> tuple[F32, F32]:
    """Return a sample of the rows, and those of it that the centers begin at."""
    usable = np.flatnonzero(find_usable(rows))
    draws = rng.generator(seed, "clusters")
    size = min(len(usable), _OF_CLUSTER * clusters)
    sample = read_rows(rows, np.sort(draws.choice(usable, size, replace=False)))
    return sample, sample[np.sort(draws.choice(len(sample), clusters, replace=False))]


def move_centers(sample: F32, centers: F32, options: SearchOptions) -> F32:
    """Return the mean directions of the rows that are nearest to each centre."""
    index = find_nearest_center(open_embeddings(sample), centers, options)
    order = np.argsort(index, kind="stable")
    members = index[order]
    starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]])
    sums = np.add.reduceat(sample[order], starts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    there = lengths > 0
    # An empty cluster stays where it is.
    moved: F32 = centers.copy()
    moved[members[starts][there]] = sums[there] / lengths[there, None]
    return moved


def find_nearest_center(rows: Embeddings, centers: F32, options: SearchOptions) -> I64:
    """Return the centre that is nearest to each row; -1 for rows that cannot be used."""
    return nearest(
        rows,
        centers,
        precision=options.precision,
        device=options.device,
        memory=options.memory,
        threads=options.threads,
    ).index
