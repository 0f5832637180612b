"""From the records of breaking points to the figures, with paired intervals."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from shiftproof.bench.cells.batching import list_cells
from shiftproof.bench.tasks.classification.task import why_no_mce
from shiftproof.bench.tasks.interface import Grid
from shiftproof.bench.tasks.published import why_other_corruptions
from shiftproof.bench.tasks.summary import SEED, describe_resampling, list_broken
from shiftproof.metrics import intervals
from shiftproof.metrics.breaking import (
    LEVELS,
    STEPS,
    SURVIVES,
    compute_mean_error,
    look_up_severities,
)
from shiftproof.metrics.corruption import compute_mce_weights
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.parquet import read_same_images
from shiftproof.runs.records.breaking import BreakingRecords, make_breaking_path, read_breaking
from shiftproof.runs.resamples import Replicates, make_interval
from shiftproof.runs.scores.breaking import BreakingScores, CorruptionBreaking, ModelBreaking
from shiftproof.runs.scores.classification import CLASS_NAMES, ClassNames
from shiftproof.runs.scores.grid import Images
from shiftproof.runs.scores.reading import FORMAT, read_form
from shiftproof.types import CLEAN, F64

Tables = Mapping[str, BreakingRecords]

_CHECKS = 0.1
"""Forward passes beside the bisection and the clean image: see ``bench.breaking``."""

_COUNT, _SEVERITY, _RIGHT = 0, 1, 2
"""The columns of a table: whether the image counts, its severity, then whether it is right so far."""


def summarize_breaking(
    folder: RunFolder, titles: Mapping[str, str], corruptions: Sequence[str], labeled: bool
) -> BreakingScores:
    """Return the content of ``scores.json``; depends on the run's files alone.

    Raises:
        BrokenFileError: a table cannot be read, or two are not about the same images.
    """
    tables = {name: read_breaking_tables(folder, name, corruptions) for name in titles}
    first = next(iter(next(iter(tables.values())).values()))
    reason = _explain_missing_mce(folder, corruptions, labeled)
    columns = [
        functools.partial(_stack_columns, table)
        for one in tables.values()
        for table in one.values()
    ]
    sums = intervals.sum_resamples(columns, len(first), seed=SEED)
    figures = {
        name: {
            corruption: _divide(sums[at * len(corruptions) + place])
            for place, corruption in enumerate(corruptions)
        }
        for at, name in enumerate(tables)
    }
    names = list(titles)
    models = [
        _score(name, figures[name], reason, title=titles[name], tables=tables[name])
        for name in names
    ]
    return BreakingScores(
        format=FORMAT,
        kind="breaking",
        interval=describe_resampling("paired percentile bootstrap over images"),
        images=Images(
            total=len(first),
            used=int(first.readable.sum()),
            broken=list_broken([(CLEAN, first.ids, first.error)]),
        ),
        levels=LEVELS,
        models=tuple(models),
        differences=tuple(
            _score(
                name,
                {
                    corruption: figures[name][corruption] - figures[names[0]][corruption]
                    for corruption in corruptions
                },
                reason,
                against=names[0],
            )
            for name in names[1:]
        ),
        labeled=labeled,
        passes=round(STEPS + _CHECKS + 1 / len(corruptions), 3),
        reason=reason,
    )


def read_breaking_tables(
    folder: RunFolder, model: str, corruptions: Sequence[str]
) -> dict[str, BreakingRecords]:
    """Read the tables of a model, one for each corruption.

    Raises:
        BrokenFileError: one cannot be read, or they are not about the same images.
    """
    paths = {name: make_breaking_path(folder.path, model, name) for name in corruptions}
    return read_same_images(paths, read_breaking)


def _explain_missing_mce(
    folder: RunFolder, corruptions: Sequence[str], labeled: bool
) -> str | None:
    classes = read_form(folder.path / CLASS_NAMES, ClassNames)
    grid = Grid(list_cells(list(corruptions), [1, 2, 3, 4, 5], clean=False))
    return why_no_mce(grid, labeled, classes) or why_other_corruptions(folder)


def _stack_columns(records: BreakingRecords) -> F64:
    counts = records.readable
    right = records.place[:, None] > np.arange(SURVIVES)
    severity = look_up_severities(records.place)
    return np.column_stack([counts, severity, right]) * counts[:, None].astype(np.float64)


def _divide(sums: F64) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums / sums[:, :1])


def _score(
    name: str,
    figures: Mapping[str, F64],
    reason: str | None,
    *,
    title: str = "",
    against: str | None = None,
    tables: Tables | None = None,
) -> ModelBreaking:
    """Return the figures of a model, or of a difference: of that nothing is subtracted from 1."""
    whole = 1.0 if against is None else 0.0
    severity = np.mean([one[:, _SEVERITY] for one in figures.values()], axis=0)
    right = np.mean([one[:, _RIGHT] for one in figures.values()], axis=0)
    first = next(iter(figures.values()))
    checked = [] if tables is None else list(tables.values())
    return ModelBreaking(
        name=name,
        severity=_make(severity),
        clean=_make(whole - first[:, _RIGHT]),
        error=_make(compute_mean_error(severity, right, difference=against is not None)),
        corruptions=tuple(
            CorruptionBreaking(
                corruption,
                severity=_make(one[:, _SEVERITY]),
                survived=_make(one[:, -1]),
                error=_make(
                    compute_mean_error(
                        one[:, _SEVERITY], one[:, _RIGHT], difference=against is not None
                    )
                ),
                curve=() if against else tuple(_make(column) for column in one[:, _RIGHT:].T),
            )
            for corruption, one in figures.items()
        ),
        mce=None if reason else _make(_compute_mce(figures, whole)),
        title=title,
        against=against,
        checked=sum(int((table.checked > 0).sum()) for table in checked),
        recovered=sum(int(table.recovered.sum()) for table in checked),
    )


def _compute_mce(figures: Mapping[str, F64], whole: float) -> Replicates:
    """Return mCE from the shares that are right at the five whole severities."""
    places = [1 + LEVELS.index(severity) for severity in (1.0, 2.0, 3.0, 4.0, 5.0)]
    weights = compute_mce_weights([name for name in figures for _ in places])
    errors = np.concatenate(
        [whole - one[:, [_RIGHT + place for place in places]] for one in figures.values()], axis=1
    )
    return np.asarray(errors @ weights)


def _make(values: Replicates) -> Interval:
    made = make_interval(values)
    assert made is not None
    return made
