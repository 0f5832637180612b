"""Reliability of a classifier's confidences in ``scores.json``, and its fitted calibration."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.shared import Count, Share
from shiftproof.types import CLEAN, Cell

Figures: TypeAlias = "dict[str, Interval | None]"
"""Figures by name; None if unknown."""

FIGURES = {
    "calibration_error": "calibration error",
    "brier": "Brier score",
    "loss": "loss",
    "aurc": "AURC",
    "excess_aurc": "E-AURC",
    "risk80": "risk at 80 % coverage",
}
"""Measures of confidences and probabilities; lower is better."""


class Calibration(msgspec.Struct, frozen=True):
    """Temperature and prediction sets of a model, fitted on held-out labeled images.

    Attributes:
        images: number of these images.
        coverage: target share of images whose sets contain the true class.
        thresholds: the threshold of the scores, by method of the sets.
        floor: lower 2.5 % quantile of the coverage on new images of the same distribution, over
            choices of so many held-out images; a lower coverage is not due to chance.
        temperature: divisor of the logits; None if no fit exists, and 1 is used.
        reason: why no fit exists.
        absent: classes of the model without any of these images.
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
        """The divisor of the logits."""
        return 1.0 if self.temperature is None else self.temperature


class Calibrations(msgspec.Struct, frozen=True):
    """``calibration/fitted.json``: the calibration of each model."""

    models: dict[str, Calibration]


class SetFigures(msgspec.Struct, frozen=True):
    """Prediction sets of one method in one cell: coverage, and mean number of classes."""

    coverage: Interval
    size: Interval


class CellTrust(msgspec.Struct, frozen=True):
    """Reliability in one cell.

    Attributes:
        figures: the measures ``FIGURES`` without temperature; None if unknown.
        scaled: the measures with the temperature; empty without held-out images.
        change: ``scaled`` minus ``figures``, on the same images.
        against: differences from the first model, on the same images; empty for the first model.
        sets: figures of prediction sets by method.
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
        """The cell."""
        return Cell(self.corruption, self.severity)

    def find_lost_sets(self, floor: float) -> list[str]:
        """Return the methods whose coverage is below ``floor`` with its whole interval."""
        return [name for name, one in self.sets.items() if one.coverage.upper < floor]


class Trust(msgspec.Struct, frozen=True):
    """Reliability of a model by cell, the clean cell first if there is one.

    ``mean`` is the mean over the cells that the benchmark averages.
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
        """The corrupted cells."""
        return [one for one in self.cells if one.cell != CLEAN]

    def find_lost(self, method: str) -> list[CellTrust]:
        """Return the corrupted cells in which the coverage of a method is too low."""
        if self.calibration is None:
            return []
        floor = self.calibration.floor
        return [one for one in self.corrupted if method in one.find_lost_sets(floor)]
