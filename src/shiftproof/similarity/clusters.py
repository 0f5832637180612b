"""Spherical k-means: centres that many rows lie around."""

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

    The centres begin at rows drawn at random and move for :data:`ROUNDS` rounds over a sample of the
    rows.
    """
    rows = open_embeddings(source)
    chosen = options or SearchOptions()
    sample, centres = begin_centres(rows, clusters, seed)
    for _ in range(ROUNDS):
        centres = move_centres(sample, centres, chosen)
    return nearest_centre(rows, centres, chosen)


def begin_centres(rows: Embeddings, clusters: int, seed: int) -> tuple[F32, F32]:
    """Return a sample of the rows, and those of it that the centres begin at."""
    usable = np.flatnonzero(find_usable(rows))
    draws = rng.generator(seed, "clusters")
    size = min(len(usable), _OF_CLUSTER * clusters)
    sample = read_rows(rows, np.sort(draws.choice(usable, size, replace=False)))
    return sample, sample[np.sort(draws.choice(len(sample), clusters, replace=False))]


def move_centres(sample: F32, centres: F32, options: SearchOptions) -> F32:
    """Return the mean directions of the rows that are nearest to each centre."""
    index = nearest_centre(open_embeddings(sample), centres, options)
    order = np.argsort(index, kind="stable")
    members = index[order]
    starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]])
    sums = np.add.reduceat(sample[order], starts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    there = lengths > 0
    # An empty cluster stays where it is.
    moved: F32 = centres.copy()
    moved[members[starts][there]] = sums[there] / lengths[there, None]
    return moved


def nearest_centre(rows: Embeddings, centres: F32, options: SearchOptions) -> I64:
    """Return the centre that is nearest to each row; -1 for rows that cannot be used."""
    return nearest(
        rows,
        centres,
        precision=options.precision,
        device=options.device,
        memory=options.memory,
        threads=options.threads,
    ).index
