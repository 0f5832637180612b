"""The tables that both recipes make of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from shiftproof.corruptions import GROUPS
from shiftproof.report import wording
from shiftproof.runs.scores.classification import Detail
from shiftproof.types import CLEAN, Cell
from shiftproof_reproduce.measured import Measured
from shiftproof_reproduce.result import Table, Value, point, rounded


def groups_of(measured: Measured) -> dict[str, list[Cell]]:
    """Return the cells of a run by what a column shows: clean, each family, all corrupted ones."""
    shown = {"clean": [CLEAN]}
    for group, names in GROUPS.items():
        cells = measured.of(*names)
        if cells:
            shown[group] = cells
    return {**shown, "all corruptions": measured.cells}


def methods_table(
    runs: Sequence[tuple[Measured, Mapping[str, str]]], *, name: str, title: str, note: str = ""
) -> Table:
    """Return the errors by method and family.

    Args:
        runs: each run with those of its models that are shown, and how the table calls them.
        name: of the table's files.
        title: of the table.
        note: what a reader must know.
    """
    columns = groups_of(runs[0][0])
    rows: list[str] = []
    values: list[list[Value]] = []
    for measured, titles in runs:
        for model, shown in titles.items():
            rows.append(shown)
            values.append([rounded(measured.error(model, cells)) for cells in columns.values()])
    return Table(name, title, "error in %", list(columns), rows, values, note=note)


def per_corruption(
    measured: Measured, model: str, against: str, *, name: str, title: str, note: str = ""
) -> Table:
    """Return the change from ``against`` to ``model`` for each corruption, the largest gain first."""
    names = list(dict.fromkeys(cell.corruption for cell in measured.cells))
    changes = {each: measured.change(model, against, measured.of(each)) for each in names}
    order = sorted(names, key=lambda each: changes[each].value)
    return Table(
        name,
        title,
        "corruption",
        ["change"],
        [wording.corruption_title(each) for each in order],
        [[rounded(changes[each])] for each in order],
        unit="change",
        note=note,
        drawing="bars",
    )


def estimates_table(measured: Measured, titles: Mapping[str, str]) -> Table | None:
    """Return how far errors guessed without labels are off, by model and estimator.

    None where the run's scores hold no such guesses.
    """
    quality = {
        model.name: {one.name: one for one in msgspec.convert(model.detail, Detail).estimators}
        for model in measured.scores.models
    }
    named = {key: one.title for found in quality.values() for key, one in found.items()}
    if not named:
        return None
    values: list[list[Value]] = []
    for model in titles:
        found = quality[model]
        values.append(
            [point(found[key].mean_absolute_error) if key in found else None for key in named]
        )
    return Table(
        "estimates",
        "Errors guessed without labels",
        "mean absolute error of the guess, in points",
        list(named.values()),
        list(titles.values()),
        values,
        note="For each corrupted cell the error is guessed from the model's answers alone, and held "
        "against the true one.",
    )
