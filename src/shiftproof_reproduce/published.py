"""The papers' published results, from the CSV files of this package."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

ROWS = 200_000_000
"""Number of images of the de-duplicated LAION that Mayilvahanan et al. 2024 pruned."""

DETECTION = ("P", "mPC", "rPC")


def read_errors(recipe: str) -> dict[str, dict[str, float]]:
    """Return the mCE in % by model and method (Schneider et al. 2020; Rusak et al. 2022)."""
    rows: dict[str, dict[str, float]] = {}
    for line in _read_lines("published.csv"):
        if line["recipe"] == recipe:
            rows.setdefault(line["model"], {})[line["method"]] = float(line["value"])
    return rows


def read_detectors(benchmark: str) -> dict[str, dict[str, float]]:
    """Return P, mPC and rPC in % by detector (Michaelis et al. 2019, tables 1 to 3)."""
    return {
        line["detector"]: {column: float(line[column]) for column in DETECTION}
        for line in _read_lines("published_detection.csv")
        if line["benchmark"] == benchmark
    }


@dataclass(frozen=True)
class PublishedSet:
    """A test set of Mayilvahanan et al. 2024 (arXiv 2310.09562).

    Fractions are accuracies of CLIP; None if unknown.

    Attributes:
        title: its name.
        removed: number of the ``ROWS`` rows that gap-matched pruning removes.
        all: accuracy after training on all rows.
        pruned: after training on the rows kept by pruning for this set.
        combined: after training on the rows kept by pruning for all six.
        reference: approximate accuracy of a model trained on ImageNet alone.
    """

    title: str
    removed: int
    all: float | None
    pruned: float | None
    combined: float | None
    reference: float | None

    @property
    def kept_gain(self) -> float | None:
        """The share of the gain over the reference that remains without the pruned rows."""
        if self.all is None or self.pruned is None or self.reference is None:
            return None
        return (self.pruned - self.reference) / (self.all - self.reference)


def read_test_sets() -> dict[str, PublishedSet]:
    """Return the test sets by name: val, sketch, a, r, v2, objectnet and combined.

    >>> round(read_test_sets()["sketch"].kept_gain, 3)
    0.851
    """
    figures = ("all", "pruned", "combined", "reference")
    return {
        line["test_set"]: PublishedSet(
            line["title"],
            int(line["removed"]),
            *(float(line[name]) / 100 if line[name] else None for name in figures),
        )
        for line in _read_lines("published_similarity.csv")
    }


def _read_lines(name: str) -> Iterator[dict[str, str]]:
    text = resources.files("shiftproof_reproduce").joinpath(name).read_text("utf-8")
    return csv.DictReader(text.splitlines())
