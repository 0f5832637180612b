"""Scores of one test set in an audit: means with intervals, curves, classes, and the closest
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shiftproof.metrics.intervals import (
    LEVEL,
    REPLICATES,
    Interval,
    percentile_interval,
    sum_resamples,
)
from shiftproof.runs.scores.audit import ClassFigures, Curves, Histograms, Leak, Neighbor
from shiftproof.runs.scores.shared import Resampling
from shiftproof.similarity.gap import SimilarityGap, by_class, cumulative, histogram
from shiftproof.similarity.questions.top_k import TopK
from shiftproof.types import F64, I64

BINS = 200

NEIGHBORS_SHOWN = 3
"""Training rows shown beside each test row of the leakage gallery."""

INTERVAL = Resampling(LEVEL, "percentile bootstrap over test rows", REPLICATES, 0)


def compute_intervals(found: SimilarityGap, duplicates: float) -> dict[str, Interval]:
    """Return confidence intervals of a test set's means.

    All means use the same resamples, so the gap is a paired difference.
    """
    columns = {
        "similarity": found.similarity,
        "density": found.density,
        "near_duplicates": found.similarity >= duplicates,
    }
    if found.reference is not None:
        columns |= {
            "reference_similarity": found.reference,
            "reference_near_duplicates": found.reference >= duplicates,
            "gap": found.similarity - found.reference,
            "share_closer": found.similarity > found.reference,
        }
    table = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
    [sums] = sum_resamples([lambda: table], len(table))
    means = sums / len(table)
    intervals = ((name, percentile_interval(means[:, place])) for place, name in enumerate(columns))
    return {name: interval for name, interval in intervals if interval is not None}


def count_histograms(found: SimilarityGap) -> Histograms:
    """Count the test rows by their similarity to the training set and to the reference."""

    def bins(values: F64) -> tuple[int, ...]:
        return tuple(histogram(values, BINS)[1].tolist())

    return Histograms(
        bins(found.similarity), None if found.reference is None else bins(found.reference)
    )


def make_curves(found: SimilarityGap) -> Curves:
    """Return the cumulative shares of test rows by similarity to the training set and the
    reference.
    """
    edges = histogram([0.0], BINS)[0][1:]

    def shares(values: F64) -> tuple[float, ...]:
        # Rounding may give values above 1; they belong to the last bin.
        return tuple(cumulative(np.minimum(values, 1), edges).tolist())

    return Curves(
        shares(found.similarity), None if found.reference is None else shares(found.reference)
    )


def measure_classes(
    found: SimilarityGap, labels: Sequence[str | None] | None, duplicates: float
) -> tuple[ClassFigures, ...]:
    """Return the means of every class, in the order of the labels; empty without labels."""
    if labels is None or any(label is None for label in labels):
        return ()
    names = sorted({str(label) for label in labels}, key=_make_sort_key)
    number = {name: place for place, name in enumerate(names)}
    of_row = np.array([number[str(label)] for label in labels])
    means = {
        "similarity": by_class(found.similarity, of_row),
        "near_duplicates": by_class(found.similarity >= duplicates, of_row),
    }
    if found.reference is not None:
        means["reference_similarity"] = by_class(found.reference, of_row)
        means["gap"] = by_class(found.similarity - found.reference, of_row)
        means["share_closer"] = by_class(found.similarity > found.reference, of_row)
    counts = np.bincount(of_row, minlength=len(names)).tolist()
    return tuple(
        ClassFigures(name, counts[place], **{key: mean[place] for key, mean in means.items()})
        for place, name in enumerate(names)
    )


def _make_sort_key(label: str) -> tuple[int, int, str]:
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def list_leakage(
    near: TopK,
    max_rows: int,
    describe: Callable[[int, float, tuple[Neighbor, ...]], Leak],
    describe_neighbor: Callable[[int, float], Neighbor],
) -> tuple[Leak, ...]:
    """Return the test rows most similar to a training row, with their nearest training rows.

    ``describe`` makes the entry of a test row from its similarity and neighbors, and
    ``describe_neighbor`` that of a training row from its similarity.
    """
    return tuple(
        describe(
            row,
            float(near.similarity[row, 0]),
            tuple(
                describe_neighbor(int(index), float(similarity))
                for index, similarity in zip(
                    near.index[row, :NEIGHBORS_SHOWN],
                    near.similarity[row, :NEIGHBORS_SHOWN],
                    strict=True,
                )
                if index >= 0
            ),
        )
        for row in find_most_similar(near, max_rows).tolist()
    )


def find_most_similar(near: TopK, max_rows: int) -> I64:
    """Return the test rows most similar to a training row, ties to the first."""
    return np.argsort(-near.similarity[:, 0], kind="stable")[:max_rows]
