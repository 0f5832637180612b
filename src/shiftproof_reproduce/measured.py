"""A finished run, seen image by image: errors and paired changes with their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.bench import SOURCE
from shiftproof.metrics.intervals import Interval, bootstrap_mean
from shiftproof.runs import Run
from shiftproof.runs.records.classification import CellRecords
from shiftproof.types import CLEAN, Cell

Shares: TypeAlias = NDArray[np.float64]
"""``(N,)``: for each image the share of the cells in which it is wrong."""


class Measured:
    """What a run of labelled images says of its models.

    Errors are means over cells, corrupted ones unless others are named. Intervals are bootstraps
    over the images, with the same resamples for all models, so that changes are paired.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.scores = run.scores
        grid = self.scores.grid
        self.cells = [Cell(name, s) for name in grid.corruptions for s in grid.severities]
        self._wrong: dict[tuple[str, Cell], NDArray[np.bool_]] = {}

    @property
    def models(self) -> list[str]:
        """All models of the run, the source first."""
        return [model.name for model in self.scores.models]

    def wrong(self, model: str, cells: Iterable[Cell] | None = None) -> Shares:
        """Return for each image the share of ``cells`` in which ``model`` is wrong."""
        chosen = self.cells if cells is None else list(cells)
        shares: Shares = np.mean([self._wrong_in(model, cell) for cell in chosen], axis=0)
        return shares

    def error(self, model: str, cells: Iterable[Cell] | None = None) -> Interval:
        """Return the mean error of a model, as a fraction."""
        return bootstrap_mean(self.wrong(model, cells))

    def clean_error(self, model: str) -> Interval:
        """Return the error on the images as they are."""
        return self.error(model, [CLEAN])

    def change(
        self, model: str, against: str = SOURCE, cells: Iterable[Cell] | None = None
    ) -> Interval:
        """Return the error of ``model`` minus that of ``against``, on the same images."""
        chosen = self.cells if cells is None else list(cells)
        return bootstrap_mean(self.wrong(model, chosen) - self.wrong(against, chosen))

    def of(self, *corruptions: str) -> list[Cell]:
        """Return the cells of these corruptions."""
        return [cell for cell in self.cells if cell.corruption in corruptions]

    def _wrong_in(self, model: str, cell: Cell) -> NDArray[np.bool_]:
        key = (model, cell)
        if key not in self._wrong:
            records = self.run.cell(model, cell.corruption, cell.severity)
            assert isinstance(records, CellRecords)
            self._wrong[key] = records.prediction != records.target
        return self._wrong[key]
