"""Figures with paired intervals, from the record tables.

All models and cells share the resamples of the images, so that differences have paired intervals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shiftproof.bench.tasks.interface import Grid, Measured, Task
from shiftproof.bench.tasks.ranking import rank
from shiftproof.corruptions import GROUPS
from shiftproof.metrics.intervals import LEVEL, REPLICATES, Interval
from shiftproof.runs.budget import NOTE, has_ended_early
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.resamples import Key, Replicates, find_group, make_interval, subtract
from shiftproof.runs.scores.grid import (
    CellFigures,
    CorruptionFigures,
    GridCell,
    GridScores,
    GroupFigures,
    ModelScores,
    find_headline,
)
from shiftproof.runs.scores.grid import Grid as GridForm
from shiftproof.runs.scores.ranking import Ranking
from shiftproof.runs.scores.reading import FORMAT
from shiftproof.runs.scores.shared import BrokenImage, Resampling
from shiftproof.types import CLEAN, Cell

SEED = 0


def summarize(
    folder: RunFolder,
    task: Task,
    models: Mapping[str, str],
    grid: Grid,
    *,
    workers: int = 0,
    show_progress: bool | None = None,
) -> GridScores:
    """Return the content of ``scores.json``: all figures of a run with their intervals.

    It depends only on the run's files, so an interrupted run gives the same bytes.

    Raises:
        BrokenFileError: a file of the run cannot be read.
    """
    measured = task.measure(
        folder, list(models), grid, workers=workers, show_progress=show_progress
    )
    if has_ended_early(folder.info()):
        method = f"{measured.interval.method}; {NOTE}"
        interval = msgspec.structs.replace(measured.interval, method=method)
        measured = dataclasses.replace(measured, interval=interval)
    return score(task.kind, measured, models, grid)


def score(kind: str, measured: Measured, models: Mapping[str, str], grid: Grid) -> GridScores:
    """Return the content of ``scores.json`` from the measurements of a task."""
    names = list(models)
    replicates = {name: collect_replicates(measured, name, grid) for name in names}
    return GridScores(
        format=FORMAT,
        kind=kind,
        measures=tuple(measured.measures),
        headlines=tuple(measured.headlines),
        interval=measured.interval,
        images=measured.images,
        grid=GridForm(
            corruptions=tuple(grid.corruptions),
            severities=tuple(grid.severities),
            complete=measured.complete,
            claim=measured.claim,
            reason=measured.reason,
            missing=tuple(map(str, grid.missing)),
        ),
        models=tuple(
            _write_model(name, models[name], replicates[name], measured, grid) for name in names
        ),
        differences=tuple(
            _write_model(
                name, "", subtract(replicates[name], replicates[names[0]]), measured, grid,
                against=names[0],
            )
            for name in names[1:]
        ),
        ranking=_rank(measured, replicates),
    )  # fmt: skip


def _rank(measured: Measured, replicates: Mapping[str, Mapping[Key, Replicates]]) -> Ranking | None:
    claimed = measured.claim if measured.reason is None else None
    headline = find_headline(measured.headlines, claimed)
    if headline is None:
        return None
    key = ("summary", headline.name)
    return rank(headline, {name: one[key] for name, one in replicates.items() if key in one})


def describe_resampling(method: str, replicates: int = REPLICATES) -> Resampling:
    """Return how the intervals of a run are drawn, for ``scores.json``."""
    return Resampling(level=LEVEL, method=method, replicates=replicates, seed=SEED)


def list_broken(
    tables: Iterable[tuple[Cell, Sequence[str], Sequence[str | None]]],
) -> tuple[BrokenImage, ...]:
    """Return the unreadable images, with the number of cells in which they are missing."""
    found: dict[str, list[tuple[Cell, str]]] = {}
    for cell, ids, errors in tables:
        if errors.count(None) == len(errors):
            continue
        for name, reason in zip(ids, errors, strict=True):
            if reason is not None:
                found.setdefault(name, []).append((cell, reason))
    return tuple(
        BrokenImage(name, len(cells), str(cells[0][0]), cells[0][1])
        for name, cells in sorted(found.items())
    )


def average(replicates: Sequence[Replicates]) -> Replicates:
    """Return the mean of figures, resample by resample."""
    return np.asarray(np.mean(replicates, axis=0))


# ---------------------------------------------------------------- figures over the resamples


def collect_replicates(measured: Measured, model: str, grid: Grid) -> dict[Key, Replicates]:
    """Return the replicates of all figures of one model: cells, corruptions, complete groups, headlines."""
    cells = measured.cells[model]
    first = measured.measures[0].name
    out: dict[Key, Replicates] = {
        ("cell", cell, name): values
        for cell, found in cells.items()
        for name, values in found.items()
    }

    def mean(chosen: Sequence[Cell]) -> Replicates:
        return average([cells[cell][first] for cell in chosen])

    for corruption in grid.corruptions:
        cells_of_corruption = [cell for cell in grid.corrupted if cell.corruption == corruption]
        out["corruption", corruption, first] = mean(cells_of_corruption)
    for corruption, found in measured.corruptions.get(model, {}).items():
        for name, values in found.items():
            out["corruption", corruption, name] = values
    for group, names in GROUPS.items():
        inside = [cell for cell in grid.averaged if cell.corruption in names]
        if inside and {cell.corruption for cell in inside} == set(names):
            out["group", group, first] = mean(inside)
    if grid.averaged:
        out["summary", "mean"] = mean(grid.averaged)
    if grid.has_clean and any(one.name == "clean" for one in measured.headlines):
        out["summary", "clean"] = cells[CLEAN][first]
    for name, values in measured.summaries.get(model, {}).items():
        out["summary", name] = values
    return out


# ---------------------------------------------------------------- as written to the file


def _write_model(
    name: str,
    title: str,
    replicates: Mapping[Key, Replicates],
    measured: Measured,
    grid: Grid,
    *,
    against: str | None = None,
) -> ModelScores:
    """Return the figures of a model; of a difference without numbers, counts and details."""

    def get_interval(*key: Any) -> Interval | None:
        return make_interval(replicates.get(key))

    def figures(*place: Any) -> dict[str, Interval | None]:
        return {one.name: get_interval("cell", *place, one.name) for one in measured.measures}

    alone = against is None
    numbers = measured.numbers.get(name, {}) if alone else {}
    counts = measured.counts.get(name, {}) if alone else {}
    first = measured.measures[0].name
    return ModelScores(
        name=name,
        title=title,
        against=against,
        summary={one.name: get_interval("summary", one.name) for one in measured.headlines},
        clean=CellFigures(figures(CLEAN), dict(numbers.get(CLEAN, {})), counts.get(CLEAN))
        if grid.has_clean
        else None,
        cells=tuple(
            GridCell(
                figures(cell), dict(numbers.get(cell, {})), counts.get(cell),
                corruption=cell.corruption, severity=cell.severity,
            )
            for cell in grid.corrupted
        ),
        corruptions=tuple(
            CorruptionFigures(
                corruption,
                {
                    key[2]: get_interval(*key)
                    for key in replicates
                    if key[0] == "corruption" and key[1] == corruption
                },
                find_group(corruption),
            )
            for corruption in grid.corruptions
        ),
        groups=tuple(
            GroupFigures(group, {first: get_interval("group", group, first)})
            for group in GROUPS
            if ("group", group, first) in replicates
        ),
        detail=dict(measured.details.get(name, {})) if alone else {},
    )  # fmt: skip
