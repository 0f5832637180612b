"""Errors and paired changes of a finished run, image by image, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.bench import SOURCE
from shiftproof.corruptions import GROUPS
from shiftproof.metrics import Interval, bootstrap_mean
from shiftproof.report import corruption_title
from shiftproof.runs import Run
from shiftproof.types import CLEAN, Cell
from shiftproof_reproduce.formatting import list_corruptions
from shiftproof_reproduce.result import Finding, Table, Value, Verdict, point

Shares: TypeAlias = NDArray[np.float64]
"""``(N,)``: for each image the share of cells with a wrong prediction."""


class Measured:
    """The errors of a run's models.

    Errors are means over cells, by default all corrupted ones. Intervals are bootstraps over the
    images, with the same resamples for all models, so that changes are paired.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.scores = run.scores
        grid = self.scores.grid
        self.cells = [Cell(name, s) for name in grid.corruptions for s in grid.severities]
        self._wrong: dict[str, dict[Cell, NDArray[np.bool_]]] = {}

    @property
    def models(self) -> list[str]:
        """All models of the run, the source first."""
        return [model.name for model in self.scores.models]

    @property
    def corruptions(self) -> list[str]:
        """The corruptions of the run, in its order."""
        return list(self.scores.grid.corruptions)

    def wrong(self, model: str, cells: Iterable[Cell] | None = None) -> Shares:
        """Return for each image the share of ``cells`` with a wrong prediction of ``model``."""
        if model not in self._wrong:
            self._wrong[model] = self._read(model)
        chosen = self.cells if cells is None else list(cells)
        shares: Shares = np.mean([self._wrong[model][cell] for cell in chosen], axis=0)
        return shares

    def error(self, model: str, cells: Iterable[Cell] | None = None) -> Interval:
        """Return the mean error of a model, as a fraction."""
        return bootstrap_mean(self.wrong(model, cells))

    def clean_error(self, model: str) -> Interval:
        """Return the error on clean images."""
        return self.error(model, [CLEAN])

    def change(
        self, model: str, against: str = SOURCE, cells: Iterable[Cell] | None = None
    ) -> Interval:
        """Return the error of ``model`` minus that of ``against``, on the same images."""
        chosen = self.cells if cells is None else list(cells)
        return bootstrap_mean(self.wrong(model, chosen) - self.wrong(against, chosen))

    def select_cells(self, *corruptions: str) -> list[Cell]:
        """Return the cells of these corruptions."""
        return [cell for cell in self.cells if cell.corruption in corruptions]

    def _read(self, model: str) -> dict[Cell, NDArray[np.bool_]]:
        """Read the records of all cells at once, which follow one another in the file."""
        table = self.run.records([model])
        names, severities = (table[name].to_numpy() for name in ("corruption", "severity"))
        wrong = table["prediction"].to_numpy() != table["target"].to_numpy()
        turns = np.flatnonzero((names[1:] != names[:-1]) | (severities[1:] != severities[:-1])) + 1
        starts = [0, *turns]
        parts = zip(starts, np.split(wrong, turns), strict=True)
        return {Cell(names[at], int(severities[at])): part for at, part in parts}


# ---------------------------------------------------------------- tables and findings


def list_groups(measured: Measured) -> dict[str, list[Cell]]:
    """Return the cells of a run by column: clean, each corruption group, and all corrupted
    cells.
    """
    families = {group: measured.select_cells(*names) for group, names in GROUPS.items()}
    available = {group: cells for group, cells in families.items() if cells}
    return {"clean": [CLEAN], **available, "all corruptions": measured.cells}


def compare_methods(runs: Sequence[tuple[Measured, Mapping[str, str]]], *, note: str = "") -> Table:
    """Return the errors of the titled models of each run, by method and corruption group."""
    columns = list_groups(runs[0][0])
    rows = [shown for _, titles in runs for shown in titles.values()]
    values: list[list[Value]] = [
        [measured.error(model, cells) for cells in columns.values()]
        for measured, titles in runs
        for model in titles
    ]
    title = "Error by method"
    return Table("methods", title, "error in %", list(columns), rows, values, note=note)


def compare_corruptions(
    measured: Measured, model: str, against: str, *, title: str, note: str = ""
) -> Table:
    """Return the change from ``against`` to ``model`` for each corruption, the largest gain first."""
    changes = {
        each: measured.change(model, against, measured.select_cells(each))
        for each in measured.corruptions
    }
    order = sorted(changes, key=lambda each: changes[each].value)
    return Table(
        "corruptions",
        title,
        "corruption",
        ["change"],
        [corruption_title(each) for each in order],
        [[changes[each]] for each in order],
        unit="change",
        note=note,
        drawing="bars",
    )


def compare_estimates(measured: Measured, titles: Mapping[str, str]) -> list[Table]:
    """Return the mean absolute error of label-free accuracy estimates, by model and estimator.

    Empty if the run's scores have no estimates.
    """
    quality: dict[str, dict[str, Any]] = {
        model.name: {one["name"]: one for one in model.detail.get("estimators", ())}
        for model in measured.scores.models
    }
    names = {key: one["title"] for found in quality.values() for key, one in found.items()}
    if not names:
        return []
    values: list[list[Value]] = [
        [point(quality[model].get(key, {}).get("mean_absolute_error")) for key in names]
        for model in titles
    ]
    return [
        Table(
            "estimates",
            "Errors guessed without labels",
            "mean absolute error of the guess, in points",
            list(names.values()),
            list(titles.values()),
            values,
            note="For each corrupted cell the error is guessed from the model's answers alone, and "
            "held against the true one.",
        )
    ]


def find_gains(measured: Measured, model: str, against: str, *, claim: str, source: str) -> Finding:
    """Return the finding on which corruptions ``model`` improves."""
    names = measured.corruptions
    changes = {name: measured.change(model, against, measured.select_cells(name)) for name in names}
    worse = [name for name in names if changes[name].lower > 0]
    same = [name for name in names if changes[name].lower <= 0 <= changes[name].upper]
    parts = [f"{len(names) - len(worse) - len(same)} of {len(names)} gain"]
    if same:
        parts.append(f"{list_corruptions(same)} cannot be told from no change")
    if worse:
        parts.append(f"{list_corruptions(worse)} {'loses' if len(worse) == 1 else 'lose'}")
    holds: Verdict = "no" if worse else "undecided" if same else "yes"
    return Finding("every-corruption", claim, source, "; ".join(parts), holds)
