"""Whether what classifiers say of themselves holds, measured from the records of a run."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.bench.summary import SEED
from shiftproof.compute.progress import progress
from shiftproof.metrics import intervals
from shiftproof.metrics.calibration import BINS, calibration_columns, calibration_error_of
from shiftproof.metrics.conformal import METHODS
from shiftproof.metrics.selective import Selection, select_resamples
from shiftproof.runs.records.classification import CalibratedAnswers, CellRecords
from shiftproof.runs.resamples import Replicates, make_interval
from shiftproof.runs.scores.trust import (
    FIGURES,
    Calibration,
    CellTrust,
    SetFigures,
    Trust,
)
from shiftproof.types import F32, F64, Cell, Flags

_WEIGHT_BYTES = 32_000_000
"""Resamples of the images that are sorted at a time: the sorted copies take several times that."""

Found = dict[str, Replicates]


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
    calibrations: Mapping[str, Calibration],
    show_progress: bool | None,
) -> dict[str, Trust]:
    """Return by model whether what it says holds, with intervals that all models and cells share.

    Args:
        tables: of labeled images, by model and cell; the first model is what others are held against.
        calibrations: what was fitted, by model.
        show_progress: None shows it on a terminal only.
    """
    names = list(tables)
    cells = list(tables[names[0]])
    found: dict[str, list[CellTrust]] = {name: [] for name in names}
    with progress("Trust", len(cells), show=show_progress) as advance:
        for cell in cells:
            for name, one in _score_cell(cell, [tables[name][cell] for name in names], names):
                found[name].append(one)
            advance(note=str(cell))
    return {
        name: Trust(cells=tuple(found[name]), calibration=calibrations.get(name)) for name in names
    }


def _score_cell(
    cell: Cell, records: Sequence[CellRecords], names: Sequence[str]
) -> Iterator[tuple[str, CellTrust]]:
    """Yield what holds in one cell, by model; all share the same resamples."""
    said = [_Said.of(record) for record in records]
    scaled = [
        None if record.calibrated is None else _Said.of(record, record.calibrated)
        for record in records
    ]
    # What is not calibrated is measured as it is a second time, and left out below.
    figures = _replicate([*said, *(two or one for one, two in zip(said, scaled, strict=True))])
    first = figures[0]
    for at, (name, record) in enumerate(zip(names, records, strict=True)):
        plain = figures[at]
        after = {} if scaled[at] is None else figures[len(records) + at]
        yield (
            name,
            CellTrust(
                corruption=cell.corruption,
                severity=cell.severity,
                figures=_write(plain),
                scaled=_write(after),
                change=_write({key: values - plain[key] for key, values in after.items()}),
                against=_write({key: plain[key] - first[key] for key in first} if at else {}),
                sets={} if record.calibrated is None else _score_sets(record, record.calibrated),
            ),
        )


def _write(found: Found) -> dict[str, intervals.Interval | None]:
    return {name: make_interval(found[name]) for name in FIGURES if name in found}


# ---------------------------------------------------------------- confidences and probabilities


def _replicate(said: Sequence[_Said]) -> list[Found]:
    """Return the figures of answers to the same images, as they are and on every resample of them."""
    count = len(said[0].counts)
    columns = [functools.partial(_columns, one) for one in said]
    sums = intervals.sum_resamples(columns, count, seed=SEED)
    return [
        {**_average(values), **selected}
        for values, selected in zip(sums, _select(said, count), strict=True)
    ]


def _average(sums: F64) -> Found:
    counted = sums[:, 0]
    calibration = _divide(calibration_error_of(sums[:, 3:]), counted)
    return {
        # Moved resamples may leave the range in which the figure lies.
        "calibration_error": np.clip(intervals.without_bias(calibration), 0, 1),
        "brier": _divide(sums[:, 1], counted),
        "loss": _divide(sums[:, 2], counted),
    }


def _columns(said: _Said) -> F64:
    """``(N, 3 + BINS)``: whether the image counts, Brier score, loss, confidence minus right by bin."""
    columns = np.zeros((len(said.counts), 3 + BINS))
    columns[:, 0] = said.counts
    columns[:, 1] = np.where(said.counts, said.brier, 0)
    columns[:, 2] = np.where(said.counts, said.loss, 0)
    known = said.counts & ~np.isnan(said.confidence)
    if known.any():
        columns[known, 3:] = calibration_columns(said.confidence[known], said.right[known])
    columns[said.counts & ~known, 3:] = np.nan
    return columns


def _select(said: Sequence[_Said], count: int) -> list[Found]:
    """Return the figures of selective prediction; NaN where a confidence is not known."""
    parts: list[list[Selection]] = [[_select_rows(one, np.ones((1, count)))] for one in said]
    rows = max(1, _WEIGHT_BYTES // (8 * count))
    for weights in intervals.resample_weights(count, seed=SEED):
        for start in range(0, len(weights), rows):
            for place, one in enumerate(said):
                parts[place].append(_select_rows(one, weights[start : start + rows]))
    return [
        {
            "aurc": np.concatenate([part.aurc for part in found]),
            "excess_aurc": np.concatenate([part.excess_aurc for part in found]),
            "risk80": np.concatenate([part.risk for part in found]),
        }
        for found in parts
    ]


def _select_rows(said: _Said, weights: ArrayLike) -> Selection:
    drawn = np.asarray(weights)[:, said.counts]
    confidence = said.confidence[said.counts]
    if len(confidence) == 0 or np.isnan(confidence).any():
        return Selection(*(np.full(len(drawn), np.nan) for _ in Selection._fields))
    return select_resamples(confidence, ~said.right[said.counts], drawn)


# ---------------------------------------------------------------- sets


def _score_sets(record: CellRecords, answers: CalibratedAnswers) -> dict[str, SetFigures]:
    """Return coverage and mean size of the sets; an image without an answer has an empty one."""
    counts = record.readable

    def columns() -> F64:
        sizes = np.maximum(answers.sizes, 0)
        covers = answers.covers & (answers.sizes >= 0)
        return np.concatenate([counts[:, None], covers, sizes], axis=1) * counts[:, None]

    [sums] = intervals.sum_resamples([columns], len(counts), seed=SEED)
    means = [_divide(column, sums[:, 0]) for column in sums.T[1:]]
    found = {}
    for place, method in enumerate(METHODS):
        coverage, size = make_interval(means[place]), make_interval(means[place + len(METHODS)])
        if coverage is not None and size is not None:
            found[method] = SetFigures(coverage, size)
    return found


def _divide(above: F64, below: F64) -> F64:
    """Divide, NaN where there is nothing to divide by: a resample without a readable image."""
    result = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result
