"""Whether what a classifier says of itself holds: in ``scores.json``, and what was fitted before."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.shared import Count, Share
from shiftproof.types import CLEAN, Cell

Figures: TypeAlias = "dict[str, Interval | None]"
"""By name; None where the figure is not known."""

FIGURES = {
    "calibration_error": "calibration error",
    "brier": "Brier score",
    "loss": "loss",
    "aurc": "AURC",
    "excess_aurc": "E-AURC",
    "risk80": "risk at 80 % coverage",
}
"""What is measured of confidences and probabilities, each lower where it is better."""


class Calibration(msgspec.Struct, frozen=True):
    """What was fitted for a model on labeled images that were held out.

    Attributes:
        images: so many of them were read and answered.
        coverage: the share of images whose sets are to hold the right class.
        thresholds: kind of sets to the threshold of its scores.
        floor: what the coverage of new images of the same kind stays above in 97.5 of 100 choices of so
            many held-out images: what is below it, chance does not explain.
        temperature: by which the logits are divided; None where none fits, and 1 is taken.
        reason: why none fits.
        absent: classes of the model that none of these images has.
    """

    images: Count
    coverage: Share
    thresholds: dict[str, float]
    floor: Share
    temperature: Annotated[float, Meta(gt=0)] | None = None
    reason: str | None = None
    absent: Count = 0

    @property
    def divisor(self) -> float:
        """What the logits are divided by."""
        return 1.0 if self.temperature is None else self.temperature


class Calibrations(msgspec.Struct, frozen=True):
    """``calibration/fitted.json``: what was fitted, by model."""

    models: dict[str, Calibration]


class SetFigures(msgspec.Struct, frozen=True):
    """Sets of one kind in one cell: how many hold the right class, and the mean number of classes."""

    coverage: Interval
    size: Interval


class CellTrust(msgspec.Struct, frozen=True):
    """What holds in one cell.

    Attributes:
        figures: of ``FIGURES``, of what the model says; None where it is not known.
        scaled: the same with the temperature; empty in runs that held no images out.
        change: scaled minus as the model says it, on the same images.
        against: minus the first model's figures, on the same images; empty of the first.
        sets: kind of sets to its figures.
    """

    corruption: str
    severity: Count
    figures: Figures
    scaled: Figures = {}
    change: Figures = {}
    against: Figures = {}
    sets: dict[str, SetFigures] = {}

    @property
    def cell(self) -> Cell:
        """Its place."""
        return Cell(self.corruption, self.severity)

    def find_lost_sets(self, floor: float) -> list[str]:
        """Return the kinds of sets whose coverage is below ``floor``, interval and all."""
        return [name for name, one in self.sets.items() if one.coverage.upper < floor]


class Trust(msgspec.Struct, frozen=True):
    """Whether what a model says of itself holds, cell by cell, the clean one first if there is one.

    ``mean`` is over the cells that the benchmark averages.
    """

    cells: tuple[CellTrust, ...] = ()
    mean: CellTrust | None = None
    calibration: Calibration | None = None

    @property
    def clean(self) -> CellTrust | None:
        """The clean cell."""
        return next((one for one in self.cells if one.cell == CLEAN), None)

    @property
    def corrupted(self) -> list[CellTrust]:
        """All but the clean cell."""
        return [one for one in self.cells if one.cell != CLEAN]

    def find_lost(self, method: str) -> list[CellTrust]:
        """Return the corrupted cells in which sets of a kind hold the right class too rarely."""
        if self.calibration is None:
            return []
        floor = self.calibration.floor
        return [one for one in self.corrupted if method in one.find_lost_sets(floor)]
