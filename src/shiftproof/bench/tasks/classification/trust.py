"""Reliability of classifiers' confidences and prediction sets, from the records of a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from shiftproof.bench.tasks.classification.confidence_figures import replicate_figures
from shiftproof.bench.tasks.summary import SEED
from shiftproof.metrics import intervals
from shiftproof.metrics.conformal import METHODS
from shiftproof.runs.records.classification import CalibratedPredictions, CellRecords
from shiftproof.runs.resamples import Replicates, divide, make_interval
from shiftproof.runs.scores.trust import (
    FIGURES,
    Calibration,
    CellTrust,
    Figures,
    SetFigures,
    Trust,
)
from shiftproof.types import F64, Cell

Found: TypeAlias = dict[tuple[str, str], Replicates]
"""Replicates by field of :class:`CellTrust` (for prediction sets, their method) and figure."""


def measure_trust(
    tables: Mapping[str, Mapping[Cell, CellRecords]],
    plain: Mapping[str, Mapping[Cell, Mapping[str, Replicates]]],
    averaged: Sequence[Cell],
    calibrations: Mapping[str, Calibration],
    *,
    classes: int,
    show_progress: bool | None,
) -> dict[str, Trust]:
    """Measure calibration and selective prediction by model; all intervals share the resamples.

    Args:
        tables: records of labeled images, by model and cell; the first model is the baseline.
        plain: figures without temperature scaling, from ``replicate_figures``.
        averaged: the cells in the mean.
        calibrations: fitted temperatures and prediction sets, by model.
        classes: number of classes.
        show_progress: None shows progress on a terminal only.
    """
    first = next(iter(tables))
    at_temperature = _measure_calibrated(tables, classes, show_progress)
    found = {}
    for name, table in tables.items():
        sums: Found = {}
        written = []
        for cell in table:
            one = _compare(plain[name][cell], None if name == first else plain[first][cell])
            one |= _scale(one, at_temperature.get((name, cell), {}))
            written.append(_write(one, cell))
            if cell in averaged:
                _add(sums, one)
        mean: Found = {key: values / len(averaged) for key, values in sums.items()}
        found[name] = Trust(
            cells=tuple(written), mean=_write(mean, None), calibration=calibrations.get(name)
        )
    return found


def _compare(own: Mapping[str, Replicates], first: Mapping[str, Replicates] | None) -> Found:
    """Return the figures of a model in a cell, and the differences from the baseline."""
    found: Found = {("figures", name): own[name] for name in FIGURES}
    if first is not None:
        found.update({("against", name): own[name] - first[name] for name in FIGURES})
    return found


def _scale(found: Found, at_temperature: Found) -> Found:
    """Return the figures with a temperature, the changes due to it, and those of the sets."""
    changes: Found = {
        ("change", name): values - found["figures", name]
        for (of, name), values in at_temperature.items()
        if of == "scaled"
    }
    return {**at_temperature, **changes}


def _add(sums: Found, found: Found) -> None:
    for key, values in found.items():
        sums[key] = values if key not in sums else sums[key] + values


def _write(found: Found, cell: Cell | None) -> CellTrust:
    """Return the figures with intervals for a cell, or for the mean (None)."""
    place = Cell("mean", 0) if cell is None else cell

    def part(of: str) -> Figures:
        return {name: make_interval(values) for (one, name), values in found.items() if one == of}

    sets = {}
    for method in METHODS:
        coverage, size = (make_interval(found.get((method, one))) for one in ("coverage", "size"))
        if coverage is not None and size is not None:
            sets[method] = SetFigures(coverage, size)
    return CellTrust(
        corruption=place.corruption,
        severity=place.severity,
        figures=part("figures"),
        scaled=part("scaled"),
        change=part("change"),
        against=part("against"),
        sets=sets,
    )


# ---------------------------------------------------------------- at a temperature


def _measure_calibrated(
    tables: Mapping[str, Mapping[Cell, CellRecords]], classes: int, show_progress: bool | None
) -> dict[tuple[str, Cell], Found]:
    """Return the figures with a temperature and of prediction sets, by model and cell."""
    there = [
        (name, cell, record, record.calibrated)
        for name, table in tables.items()
        for cell, record in table.items()
        if record.calibrated is not None
    ]
    figures = replicate_figures(
        [(record, answers) for *_, record, answers in there],
        classes,
        title="Trust",
        show_progress=show_progress,
    )
    sets = _measure_sets([(record, answers) for *_, record, answers in there])
    return {
        (name, cell): {**{("scaled", key): one[key] for key in FIGURES}, **of_sets}
        for (name, cell, *_), one, of_sets in zip(there, figures, sets, strict=True)
    }


def _measure_sets(records: Sequence[tuple[CellRecords, CalibratedPredictions]]) -> list[Found]:
    """Return coverage and mean size of prediction sets; images without an answer have empty sets."""
    if not records:
        return []
    columns = [functools.partial(_set_columns, record, answers) for record, answers in records]
    return [
        _name_sets(sums) for sums in intervals.sum_resamples(columns, len(records[0][0]), seed=SEED)
    ]


def _set_columns(record: CellRecords, answers: CalibratedPredictions) -> F64:
    counts = record.readable[:, None]
    sizes = np.maximum(answers.sizes, 0)
    covers = answers.covers & (answers.sizes >= 0)
    return np.asarray(np.concatenate([counts, covers, sizes], axis=1) * counts, dtype=np.float64)


def _name_sets(sums: F64) -> Found:
    means = [divide(column, sums[:, 0]) for column in sums.T[1:]]
    return {
        (method, what): means[place + offset]
        for place, method in enumerate(METHODS)
        for what, offset in (("coverage", 0), ("size", len(METHODS)))
    }
