"""What an audit says of one test set: figures with intervals, curves, classes, and whom to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.metrics.intervals import LEVEL, REPLICATES, percentile_interval, weighted_sums
from shiftproof.similarity.gap import SimilarityGap, by_class, cumulative, histogram
from shiftproof.similarity.questions.top_k import TopK
from shiftproof.similarity.search.certificate import Certificate

F64 = NDArray[np.float64]

BINS = 200

SHOWN = 3
"""Training rows beside each test row of the leakage gallery."""

INTERVAL = {
    "level": LEVEL,
    "method": "percentile bootstrap over test rows",
    "replicates": REPLICATES,
    "seed": 0,
}

_Figures = dict[str, "dict[str, float] | None"]


def figures(found: SimilarityGap, duplicates: float) -> _Figures:
    """Return the figures of a test set with their intervals.

    All of them are means over its rows, and all are resampled alike: the gap is a paired difference.
    """
    columns = {
        "similarity": found.similarity,
        "density": found.density,
        "near_duplicates": found.similarity >= duplicates,
    }
    others = ("reference_similarity", "reference_near_duplicates", "gap", "share_closer")
    if found.reference is not None:
        of_reference = (
            found.reference,
            found.reference >= duplicates,
            found.similarity - found.reference,
            found.similarity > found.reference,
        )
        columns.update(zip(others, of_reference, strict=True))
    table = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
    [sums] = weighted_sums([lambda: table], len(table))
    means = sums / len(table)
    intervals = {name: _interval(means[:, place]) for place, name in enumerate(columns)}
    return {**intervals, **{name: None for name in others if name not in columns}}


def _interval(replicates: F64) -> dict[str, float] | None:
    found = percentile_interval(replicates)
    return None if found is None else dataclasses.asdict(found)


def curves(found: SimilarityGap) -> dict[str, Any]:
    """Return how the test rows lie by their similarity to the training set and to the reference."""
    sides = {"train": found.similarity, "reference": found.reference}
    edges = histogram([0.0], BINS)[0]
    return {
        "histogram": {
            side: None if values is None else histogram(values, BINS)[1].tolist()
            for side, values in sides.items()
        },
        "cumulative": {
            # What rounding puts above 1 lies in the last bin, too.
            side: None if values is None else cumulative(np.minimum(values, 1), edges[1:]).tolist()
            for side, values in sides.items()
        },
    }


def classes(
    found: SimilarityGap, labels: Sequence[str | None] | None, duplicates: float
) -> list[dict[str, Any]]:
    """Return the figures of every class, in the order of the labels; none where there are no labels."""
    if labels is None or any(label is None for label in labels):
        return []
    names = sorted({str(label) for label in labels}, key=_natural)
    number = {name: place for place, name in enumerate(names)}
    of_row = np.array([number[str(label)] for label in labels])
    values: dict[str, Any] = {
        "similarity": found.similarity,
        "near_duplicates": found.similarity >= duplicates,
        "reference_similarity": found.reference,
        "gap": None if found.reference is None else found.similarity - found.reference,
        "share_closer": None if found.reference is None else found.similarity > found.reference,
    }
    means = {
        name: None if column is None else by_class(column, of_row)
        for name, column in values.items()
    }
    counts = np.bincount(of_row, minlength=len(names)).tolist()
    return [
        {
            "label": name,
            "rows": counts[place],
            **{key: None if mean is None else mean[place] for key, mean in means.items()},
        }
        for place, name in enumerate(names)
    ]


def _natural(label: str) -> tuple[int, int, str]:
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def leakage(
    near: TopK,
    most: int,
    of_test: Callable[[int], dict[str, Any]],
    of_train: Callable[[int], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return the test rows that have the nearest training rows, each with these, the most similar first.

    Args:
        near: the nearest training rows of each test row.
        most: test rows at most.
        of_test: what is known of a test row.
        of_train: what is known of a training row.
    """
    return [
        {
            **of_test(row),
            "similarity": float(near.similarity[row, 0]),
            "train": [
                {**of_train(int(index)), "similarity": float(similarity)}
                for index, similarity in zip(
                    near.index[row, :SHOWN], near.similarity[row, :SHOWN], strict=True
                )
                if index >= 0
            ],
        }
        for row in most_similar(near, most).tolist()
    ]


def most_similar(near: TopK, most: int) -> NDArray[np.int64]:
    """Return the test rows that have the nearest training rows, of equal ones the first."""
    return np.argsort(-near.similarity[:, 0], kind="stable")[:most]


def spelt(certificate: Certificate | None) -> dict[str, Any] | None:
    """Return a certificate as JSON has it."""
    return None if certificate is None else dataclasses.asdict(certificate)
