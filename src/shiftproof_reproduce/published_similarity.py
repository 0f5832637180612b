"""What Mayilvahanan et al. (ICLR 2024, arXiv 2310.09562) published, from the file beside this one."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

PAPER = "Mayilvahanan et al. 2024"

ROWS = 200_000_000
"""Images of LAION without its near-duplicates, of which rows were removed."""


@dataclass(frozen=True)
class Published:
    """One test set of the paper; fractions are accuracies of CLIP, None where none is known.

    Attributes:
        title: its name.
        removed: rows that gap-matched pruning removes of ``ROWS``.
        all: trained on all rows.
        pruned: on those left after pruning for this set.
        combined: on those left after pruning for all six.
        reference: a model trained on ImageNet alone, about.
    """

    title: str
    removed: int
    all: float | None
    pruned: float | None
    combined: float | None
    reference: float | None

    @property
    def kept_of_the_gain(self) -> float | None:
        """The share of what all rows gain over the reference that stays without the pruned ones."""
        if self.all is None or self.pruned is None or self.reference is None:
            return None
        return (self.pruned - self.reference) / (self.all - self.reference)


def published() -> dict[str, Published]:
    """Return the published figures by test set: val, sketch, a, r, v2, objectnet and combined.

    >>> round(published()["sketch"].kept_of_the_gain, 3)
    0.851
    """
    text = resources.files("shiftproof_reproduce").joinpath("published_similarity.csv")
    return {
        row["test_set"]: Published(
            row["title"],
            int(row["removed"]),
            *(_fraction(row[name]) for name in ("all", "pruned", "combined", "reference")),
        )
        for row in csv.DictReader(text.read_text("utf-8").splitlines())
    }


def _fraction(percent: str) -> float | None:
    return float(percent) / 100 if percent else None
