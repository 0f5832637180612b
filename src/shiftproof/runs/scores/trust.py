"""Whether what a classifier says of itself holds: in ``scores.json``, and what was fitted before."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.shared import Count, Share
from shiftproof.types import CLEAN, Cell

SayFigure = Literal["calibration_error", "brier", "loss", "aurc", "excess_aurc", "risk80"]

FIGURES: dict[SayFigure, str] = {
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
        temperature: by which the logits are divided; None where none fits, and 1 is taken.
        reason: why none fits.
        absent: classes of the model that none of these images has.
    """

    images: Count
    coverage: Share
    thresholds: dict[str, float]
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
    figures: dict[str, Interval | None]
    scaled: dict[str, Interval | None] = {}
    change: dict[str, Interval | None] = {}
    against: dict[str, Interval | None] = {}
    sets: dict[str, SetFigures] = {}

    @property
    def cell(self) -> Cell:
        """Its place."""
        return Cell(self.corruption, self.severity)

    def broken_sets(self, promised: float) -> list[str]:
        """Return the kinds of sets whose coverage is below what was promised, interval and all."""
        return [name for name, one in self.sets.items() if one.coverage.upper < promised]


class Trust(msgspec.Struct, frozen=True):
    """Whether what a model says of itself holds, cell by cell, the clean one first if there is one."""

    cells: tuple[CellTrust, ...] = ()
    calibration: Calibration | None = None

    @property
    def clean(self) -> CellTrust | None:
        """The clean cell."""
        return next((one for one in self.cells if one.cell == CLEAN), None)

    @property
    def corrupted(self) -> list[CellTrust]:
        """All but the clean cell."""
        return [one for one in self.cells if one.cell != CLEAN]

    def lost(self, method: str) -> list[CellTrust]:
        """Return the corrupted cells in which sets of a kind hold the right class too rarely."""
        if self.calibration is None:
            return []
        promised = self.calibration.coverage
        return [one for one in self.corrupted if method in one.broken_sets(promised)]
