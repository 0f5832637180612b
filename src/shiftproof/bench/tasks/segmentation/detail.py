"""IoU and confusions of each class, and mIoU by condition, from the records of a segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.bench.tasks.interface import Grid
from shiftproof.metrics.intervals import Interval, correct_bias, percentile_interval
from shiftproof.metrics.segmentation import class_ious, class_recalls, compute_marginals, mean_iou
from shiftproof.runs.records.segmentation import SegmentationRecords
from shiftproof.runs.resamples import round_figure
from shiftproof.runs.scores.detection import Drop
from shiftproof.runs.scores.segmentation import (
    ClassDrop,
    ConfusedClass,
    Confusion,
    Detail,
    DropWithIntervals,
    Ranges,
    Truth,
)
from shiftproof.types import CLEAN, F64, I64, Cell, Flags

TAKERS = 5
"""Number of the classes taking a class's pixels that are listed."""

DENSE = 32
"""Largest number of classes for which the whole table of confusions is written."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The records of one model in all cells, and ``(N,)`` bool which images count.

    Attributes:
        classes: the IoU of each class on the resamples of the images.
        conditions: mIoU on the resamples of the images of each condition.
    """

    tables: Mapping[Cell, SegmentationRecords]
    used: Flags
    classes: Resamples
    conditions: Mapping[str, Resamples]


@dataclass(frozen=True, eq=False)
class Resamples:
    """Figures on the images and on each resample of them, ``(1 + R,)`` or ``(1 + R, K)``.

    ``clean`` is on clean images and ``mean`` the mean over the grid; None where there is no such cell.
    """

    clean: F64 | None
    mean: F64 | None

    @classmethod
    def of(cls, cells: Mapping[Cell, F64], grid: Grid) -> Resamples:
        """Gather the cells of a grid; what is NaN in a cell is left out of the mean."""
        corrupted = [cells[cell] for cell in grid.averaged]
        return cls(cells.get(CLEAN), mean_iou(np.stack(corrupted, -1)) if corrupted else None)

    def ranges(self, index: int | None = None) -> Ranges:
        """Return the intervals, of one of K figures where there are K."""

        def pick(values: F64 | None) -> F64 | None:
            return values if values is None or index is None else values[:, index]

        clean, mean = pick(self.clean), pick(self.mean)
        lost = None if clean is None or mean is None else clean - mean
        return Ranges(_make_interval(clean, 0), _make_interval(mean, 0), _make_interval(lost, -1))


def _make_interval(values: F64 | None, least: int) -> Interval | None:
    """Return the interval moved by its bias, as that of mIoU is, within ``least`` to 1."""
    found = None if values is None else percentile_interval(correct_bias(values))
    if found is None or found.bare:
        return found if found is None else Interval(round_figure(found.value))
    ends = (min(max(round_figure(end), least), 1.0) for end in (found.lower, found.upper))
    return Interval(round_figure(found.value), *ends)


def detail_of(cells: Cells, grid: Grid, truth: Truth) -> Detail:
    """Return the figures of a model that are specific to segmentation."""
    classes = len(truth.classes)
    confusions = {
        cell: table.compute_confusion(classes, cells.used) for cell, table in cells.tables.items()
    }
    clean = confusions.get(CLEAN)
    corrupted = [confusions[cell] for cell in grid.averaged]
    shares = _Shares(
        None if clean is None else _compute_row_shares(clean),
        _mean([_compute_row_shares(one) for one in corrupted]),
    )
    some = next(iter(cells.tables.values()))
    there = some.compute_marginals(classes)[cells.used][:, classes : 2 * classes]
    return Detail(
        classes=_score_classes(truth.classes, there, clean, corrupted, shares, cells.classes),
        conditions=_score_conditions(cells, grid, truth),
        confusion=_sum_confusion(truth.classes, there, shares),
    )


@dataclass(frozen=True, eq=False)
class _Shares:
    """``(K, K + 1)`` of each class's pixels the share that goes to each class; NaN without pixels."""

    clean: F64 | None
    mean: F64 | None


def _compute_row_shares(confusion: I64) -> F64:
    return class_recalls(confusion, confusion.sum(axis=1, keepdims=True))


def _mean(tables: Sequence[F64]) -> F64 | None:
    return np.mean(tables, axis=0) if tables else None


def _compute_ious(confusion: I64) -> F64:
    return class_ious(*compute_marginals(confusion))


def _score_classes(
    names: Sequence[str],
    there: F64,
    clean: I64 | None,
    corrupted: Sequence[I64],
    shares: _Shares,
    drawn: Resamples,
) -> tuple[ClassDrop, ...]:
    """Return the classes that have pixels or are predicted, the largest loss first."""
    clean_iou = np.full(len(names), np.nan) if clean is None else _compute_ious(clean)
    mean_ious = _average_known([_compute_ious(one) for one in corrupted], len(names))
    rows = [
        ClassDrop(
            name=name,
            index=index,
            pixels=int(there[:, index].sum()),
            images=int(np.count_nonzero(there[:, index])),
            clean=_number(clean_iou[index]),
            mean=_number(mean_ious[index]),
            ranges=drawn.ranges(index),
            recall=Drop(
                clean=None if shares.clean is None else _number(shares.clean[index, index]),
                mean=None if shares.mean is None else _number(shares.mean[index, index]),
            ),
            takers=_list_takers(names, index, shares),
        )
        for index, name in enumerate(names)
        if there[:, index].any() or np.isfinite(mean_ious[index])
    ]
    return tuple(sorted(rows, key=lambda row: (-((row.clean or 0) - (row.mean or 0)), row.index)))


def _average_known(values: Sequence[F64], count: int) -> F64:
    if not values:
        return np.full(count, np.nan)
    return mean_iou(np.stack(values, axis=-1))


def _list_takers(names: Sequence[str], index: int, shares: _Shares) -> tuple[ConfusedClass, ...]:
    """Return the classes that a class's pixels are taken for, the most frequent under corruption first."""
    told = shares.clean if shares.mean is None else shares.mean
    if told is None or not np.isfinite(told[index]).all():
        return ()
    ranked = [at for at in np.argsort(-told[index], kind="stable").tolist() if at != index]
    return tuple(
        ConfusedClass(
            name=names[at] if at < len(names) else None,
            clean=None if shares.clean is None else _number(shares.clean[index, at]),
            mean=None if shares.mean is None else _number(shares.mean[index, at]),
        )
        for at in ranked[:TAKERS]
        if told[index, at] > 0
    )


def _sum_confusion(names: Sequence[str], there: F64, shares: _Shares) -> Confusion | None:
    """Return the whole table of confusions of few classes; None of many, or without corrupted cells."""
    kept = np.flatnonzero(there.any(axis=0))
    if shares.mean is None or len(kept) > DENSE:
        return None
    return Confusion(
        classes=tuple(names[index] for index in kept.tolist()),
        mean=_make_table(shares.mean, kept),
        clean=None if shares.clean is None else _make_table(shares.clean, kept),
    )


def _make_table(shares: F64, kept: I64) -> tuple[tuple[float, ...], ...]:
    inside = shares[np.ix_(kept, kept)]
    rest = np.clip(1 - inside.sum(axis=1, keepdims=True), 0, 1)
    return tuple(
        tuple(round(float(value), 5) for value in row) for row in np.concatenate([inside, rest], 1)
    )


def group_by_condition(truth: Truth, ids: Sequence[str]) -> dict[str, Flags]:
    """Return for each condition ``(N,)`` bool which images were taken under it; none where one is."""
    of_image = np.array([truth.conditions.get(name, "") for name in ids])
    return {name: of_image == name for name in dict.fromkeys(truth.conditions.values())}


def _score_conditions(cells: Cells, grid: Grid, truth: Truth) -> dict[str, DropWithIntervals]:
    """Return mIoU by the condition under which images were taken; empty where there is one only."""
    if not truth.conditions:
        return {}
    ids = next(iter(cells.tables.values())).ids
    classes = len(truth.classes)

    def iou(cell: Cell, among: Flags) -> float:
        return float(mean_iou(_compute_ious(cells.tables[cell].compute_confusion(classes, among))))

    found = {}
    for name, taken in group_by_condition(truth, ids).items():
        among = cells.used & taken
        if among.any():
            corrupted = [iou(cell, among) for cell in grid.averaged]
            found[name] = DropWithIntervals(
                clean=_number(iou(CLEAN, among)) if grid.has_clean else None,
                mean=_number(float(np.mean(corrupted))) if corrupted else None,
                ranges=cells.conditions[name].ranges(),
            )
    return found


def _number(value: float) -> float | None:
    return round_figure(float(value)) if np.isfinite(value) else None
