"""Whether what classifiers say of themselves holds, measured from the records of a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from shiftproof.bench.summary import SEED
from shiftproof.compute.progress import progress
from shiftproof.metrics import intervals
from shiftproof.metrics.calibration import BINS, calibration_columns, calibration_error_of
from shiftproof.metrics.conformal import METHODS
from shiftproof.metrics.selective import Selection, select_resamples
from shiftproof.runs.records.classification import CalibratedAnswers, CellRecords
from shiftproof.runs.resamples import Replicates, make_interval
from shiftproof.runs.scores.trust import (
    Calibration,
    CellTrust,
    Figures,
    SetFigures,
    Trust,
)
from shiftproof.types import F32, F64, U8, Cell, Flags

_AVERAGES = ("calibration_error", "brier", "loss")

Found: TypeAlias = dict[tuple[str, str], Replicates]
"""By part of :class:`CellTrust` (of sets the kind of them) and name of the figure."""


@dataclass(frozen=True)
class _Said:
    """What a model says in one cell, as it is or with its temperature, ``(N,)`` each."""

    counts: Flags
    right: Flags
    confidence: F32
    loss: F32
    brier: F32

    @classmethod
    def of(cls, record: CellRecords, scaled: CalibratedAnswers | None = None) -> _Said:
        source = record if scaled is None else scaled
        unknown = np.full(len(record), np.nan, np.float32)
        return cls(
            counts=record.readable,
            right=record.prediction == record.target,
            confidence=source.confidence,
            loss=source.loss,
            brier=unknown if source.brier is None else source.brier,
        )


def measure_trust(
    tables: Mapping[str, Mapping[Cell, CellRecords]],
    averaged: Sequence[Cell],
    calibrations: Mapping[str, Calibration],
    known: Mapping[str, Mapping[Cell, Mapping[str, Replicates]]],
    show_progress: bool | None,
) -> dict[str, Trust]:
    """Return by model whether what it says holds, with intervals that all models and cells share.

    Args:
        tables: of labeled images, by model and cell; the first model is what others are held against.
        averaged: the cells of which the mean is taken.
        calibrations: what was fitted, by model.
        known: calibration error, Brier score and loss of the answers as they are, by model and cell, on
            all images and on each of the same resamples.
        show_progress: None shows it on a terminal only.
    """
    names = list(tables)
    cells = list(tables[names[0]])
    written: dict[str, list[CellTrust]] = {name: [] for name in names}
    sums: dict[str, Found] = {name: {} for name in names}
    with progress("Trust", len(cells), show=show_progress) as advance:
        for cell in cells:
            found = _measure(
                [tables[name][cell] for name in names], [known[name][cell] for name in names]
            )
            for name, one in zip(names, found, strict=True):
                written[name].append(_write(one, cell))
                if cell in averaged:
                    _add(sums[name], one)
            advance(note=str(cell))
    return {
        name: Trust(
            cells=tuple(written[name]),
            mean=_write({key: values / len(averaged) for key, values in sums[name].items()}, None),
            calibration=calibrations.get(name),
        )
        for name in names
    }


def _measure(
    records: Sequence[CellRecords], known: Sequence[Mapping[str, Replicates]]
) -> list[Found]:
    """Return the figures of each model in one cell; all share the same resamples."""
    plain = [
        {**{name: one[name] for name in _AVERAGES}, **selected}
        for one, selected in zip(known, _select([_Said.of(one) for one in records]), strict=True)
    ]
    calibrated = [(at, one.calibrated) for at, one in enumerate(records) if one.calibrated]
    scaled = _replicate([_Said.of(records[at], answers) for at, answers in calibrated])
    found: list[Found] = [
        {("figures", name): values for name, values in one.items()} for one in plain
    ]
    for (at, answers), after in zip(calibrated, scaled, strict=True):
        for name, values in after.items():
            found[at]["scaled", name] = values
            found[at]["change", name] = values - plain[at][name]
        found[at].update(_measure_sets(records[at], answers))
    for at, one in enumerate(plain[1:], 1):
        for name, values in one.items():
            found[at]["against", name] = values - plain[0][name]
    return found


def _add(sums: Found, found: Found) -> None:
    for key, values in found.items():
        sums[key] = values if key not in sums else sums[key] + values


def _write(found: Found, cell: Cell | None) -> CellTrust:
    """Return the figures with their intervals, of a cell or (None) of the mean."""
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


# ---------------------------------------------------------------- confidences and probabilities


def _replicate(said: Sequence[_Said]) -> list[dict[str, Replicates]]:
    """Return the figures of answers to the same images, as they are and on every resample of them."""
    if not said:
        return []
    count = len(said[0].counts)
    columns = [functools.partial(_columns, one) for one in said]
    sums = intervals.sum_resamples(columns, count, seed=SEED)
    return [
        {**_average(values), **selected}
        for values, selected in zip(sums, _select(said), strict=True)
    ]


def _columns(said: _Said) -> F64:
    """``(N, 3 + BINS)``: whether the image counts, Brier score, loss, confidence minus right by bin."""
    columns = np.zeros((len(said.counts), 3 + BINS))
    columns[:, 0] = said.counts
    columns[:, 1] = np.where(said.counts, said.brier, 0)
    columns[:, 2] = np.where(said.counts, said.loss, 0)
    known = said.counts & ~np.isnan(said.confidence)
    if known.any():
        columns[known, 3:] = calibration_columns(said.confidence[known], said.right[known])
    columns[said.counts & ~known, 3:] = np.nan  # an answer that is no number has no calibration
    return columns


def _average(sums: F64) -> dict[str, Replicates]:
    counted = sums[:, 0]
    calibration = _divide(calibration_error_of(sums[:, 3:]), counted)
    return {
        # Moved resamples may leave the range in which the figure lies.
        "calibration_error": np.clip(intervals.without_bias(calibration), 0, 1),
        "brier": _divide(sums[:, 1], counted),
        "loss": _divide(sums[:, 2], counted),
    }


def _select(said: Sequence[_Said]) -> list[dict[str, Replicates]]:
    """Return the figures of selective prediction; NaN where a confidence is not known."""
    count = len(said[0].counts)
    parts: list[list[Selection]] = [
        [_select_rows(one, np.ones((1, count), np.uint8))] for one in said
    ]
    for drawn in intervals.resample_counts(count, seed=SEED):
        for place, one in enumerate(said):
            parts[place].append(_select_rows(one, drawn))
    return [
        {
            "aurc": np.concatenate([part.aurc for part in found]),
            "excess_aurc": np.concatenate([part.excess_aurc for part in found]),
            "risk80": np.concatenate([part.risk for part in found]),
        }
        for found in parts
    ]


def _select_rows(said: _Said, weights: U8) -> Selection:
    places = np.flatnonzero(said.counts)
    confidence = said.confidence[places]
    if len(confidence) == 0 or np.isnan(confidence).any():
        return Selection(*(np.full(len(weights), np.nan) for _ in Selection._fields))
    return select_resamples(confidence, ~said.right[places], weights, places=places)


# ---------------------------------------------------------------- sets


def _measure_sets(record: CellRecords, answers: CalibratedAnswers) -> Found:
    """Return coverage and mean size of the sets; an image without an answer has an empty one."""
    counts = record.readable

    def columns() -> F64:
        sizes = np.maximum(answers.sizes, 0)
        covers = answers.covers & (answers.sizes >= 0)
        return np.concatenate([counts[:, None], covers, sizes], axis=1) * counts[:, None]

    [sums] = intervals.sum_resamples([columns], len(counts), seed=SEED)
    means = [_divide(column, sums[:, 0]) for column in sums.T[1:]]
    return {
        (method, what): means[place + offset]
        for place, method in enumerate(METHODS)
        for what, offset in (("coverage", 0), ("size", len(METHODS)))
    }


def _divide(above: F64, below: F64) -> F64:
    """Divide, NaN where there is nothing to divide by: a resample without a readable image."""
    result = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result
