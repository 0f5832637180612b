"""From the record tables to the figures: averaged here, in one place, with paired intervals.

All models and cells share the same resamples of the images, so that the interval of a difference
is that of the paired difference.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.classes import Classes
from shiftproof.corruptions import COMMON
from shiftproof.metrics import corruption as corruption_metrics
from shiftproof.metrics import intervals
from shiftproof.metrics.calibration import BINS, calibration_columns, calibration_error_of
from shiftproof.progress import progress
from shiftproof.types import CLEAN, Cell

from . import estimates
from .folder import FORMAT, RunFolder
from .records import CellRecords, read_tables
from .replicates import Key, Replicates, difference, group_of, rounded

SEED = 0

Figure: TypeAlias = dict[str, float] | None
"""``{"value", "low", "high"}``, or None where the figure has no meaning."""


def summarise(
    folder: RunFolder,
    *,
    models: Mapping[str, str],
    cells: Sequence[Cell],
    classes: Classes,
    show_progress: bool | None = None,
) -> dict[str, Any]:
    """Return the content of ``scores.json``: every figure of a run with its interval.

    Depends on the records alone, so an interrupted run ends with the same bytes.

    Args:
        folder: where the records are.
        models: name in the run to title; the first is the one that the others are compared with.
        cells: the cells of the run.
        classes: the model's classes; mCE is claimed on ImageNet's 1,000 only.
        show_progress: None shows it on a terminal only.
    """
    tables = read_tables(folder.path, list(models), cells)
    first = tables[next(iter(models))]
    ids = first[cells[0]].ids
    labelled = bool((first[cells[0]].target >= 0).all())
    corruptions = list(dict.fromkeys(cell.corruption for cell in cells if not cell.is_clean))
    severities = sorted({cell.severity for cell in cells if not cell.is_clean})
    reason = _why_no_mce(corruptions, severities, labelled, classes)
    grid = _Grid(corruptions, severities, CLEAN in cells, labelled, reason is None)
    replicates = _resample(tables, grid, show_progress)
    estimated = estimates.estimate_grid(tables) if labelled else {}
    names = list(models)
    return {
        "format": FORMAT,
        "measure": "error" if labelled else "disagreement",
        "interval": {
            "level": intervals.LEVEL,
            "method": "paired percentile bootstrap over images",
            "replicates": intervals.REPLICATES,
            "seed": SEED,
        },
        "images": {
            "total": len(ids),
            "used": int(sum(first[cells[0]].readable)),
            "broken": _broken(first),
        },
        "grid": {
            "corruptions": corruptions,
            "severities": severities,
            "complete": set(COMMON) <= set(corruptions) and severities == [1, 2, 3, 4, 5],
            "mce_reason": reason,
        },
        "models": [
            {
                "name": name,
                "title": title,
                **_figures(
                    replicates[name],
                    grid,
                    _images_per_cell(tables[name]),
                    estimated.get(name, {}),
                ),
                "estimators": _estimators(estimated.get(name, {}), replicates[name]),
                "classes": _classes(tables[name], classes) if labelled else [],
            }
            for name, title in models.items()
        ],
        "differences": [
            {
                "name": name,
                "against": names[0],
                **_figures(difference(replicates[name], replicates[names[0]]), grid),
            }
            for name in names[1:]
        ],
    }


def _why_no_mce(
    corruptions: Sequence[str], severities: Sequence[int], labelled: bool, classes: Classes
) -> str | None:
    if not labelled:
        return "the images have no labels"
    if classes.title != "imagenet-1k":
        return (
            "mCE is normalised by AlexNet's errors on ImageNet's 1,000 classes, and this model "
            f"has others ({classes.title}, {len(classes)})"
        )
    missing = [name for name in COMMON if name not in corruptions]
    if missing:
        return f"{len(missing)} of the 15 corruptions were not run ({', '.join(missing)})"
    if list(severities) != [1, 2, 3, 4, 5]:
        return f"only the severities {', '.join(map(str, severities))} of 1 to 5 were run"
    return None


# ---------------------------------------------------------------- figures over the resamples


@dataclass(frozen=True)
class _Grid:
    corruptions: list[str]
    severities: list[int]
    has_clean: bool
    labelled: bool
    claims_mce: bool


_PER_CELL = ("error", "top5_error", "calibration_error", "loss")


def _resample(
    tables: Mapping[str, Mapping[Cell, CellRecords]], grid: _Grid, show_progress: bool | None
) -> dict[str, dict[Key, Replicates]]:
    """All figures of all models, on the images as they are and on every resample of them."""
    keys = [(name, cell) for name, table in tables.items() for cell in table]
    count = len(tables[keys[0][0]][keys[0][1]])
    columns = [
        functools.partial(_columns, tables[name][cell], tables[name].get(CLEAN), grid.labelled)
        for name, cell in keys
    ]
    with progress(
        "Intervals", len(keys) * intervals.blocks_of(count), show=show_progress
    ) as advance:
        sums = intervals.weighted_sums(columns, count, seed=SEED, done=advance)
    per_cell: dict[str, dict[Cell, NDArray[np.float64]]] = {name: {} for name in tables}
    for (name, cell), values in zip(keys, sums, strict=True):
        per_cell[name][cell] = values
    return {name: _replicates(per_cell[name], grid) for name in tables}


def _columns(record: CellRecords, clean: CellRecords | None, labelled: bool) -> NDArray[np.float64]:
    """``(N, 2)`` or ``(N, 4 + BINS)``: what is summed over the images to make a cell's figures.

    Whether the image counts, whether the answer is wrong; with labels also whether it is wrong among
    the first five, the loss, and confidence minus right in the bin of the confidence.
    """
    counts = record.readable
    if not labelled:
        assert clean is not None
        counts = counts & clean.readable
        return np.stack([counts, counts & (record.prediction != clean.prediction)], axis=1).astype(
            np.float64
        )
    right = record.prediction == record.target
    in_top = (record.top == record.target[:, None]).any(axis=1)
    columns = np.zeros((len(record), 4 + BINS))
    columns[:, 0] = counts
    columns[:, 1] = counts & ~right
    columns[:, 2] = counts & ~in_top
    columns[:, 3] = np.where(counts, record.loss, 0)
    known = counts & ~np.isnan(record.confidence)
    if known.any():
        columns[known, 4:] = calibration_columns(record.confidence[known], right[known])
    columns[counts & ~known, 4:] = np.nan  # an answer that is no number has no calibration
    return columns


def _replicates(sums: Mapping[Cell, NDArray[np.float64]], grid: _Grid) -> dict[Key, Replicates]:
    """All figures of one model from the sums of its cells."""
    out: dict[Key, Replicates] = {}
    for cell, values in sums.items():
        counted = values[:, 0]
        out["cell", cell, "error"] = _divide(values[:, 1], counted)
        if grid.labelled:
            out["cell", cell, "top5_error"] = _divide(values[:, 2], counted)
            out["cell", cell, "loss"] = _divide(values[:, 3], counted)
            calibration = _divide(calibration_error_of(values[:, 4:]), counted)
            # Moved resamples may leave the range in which the figure lies.
            calibration = np.clip(intervals.without_bias(calibration), 0, 1)
            out["cell", cell, "calibration_error"] = calibration
    clean = out.get(("cell", CLEAN, "error"))
    error = np.stack(
        [
            np.stack([out["cell", Cell(c, s), "error"] for s in grid.severities], axis=-1)
            for c in grid.corruptions
        ],
        axis=-2,
    )  # (replicates, corruptions, severities)
    for position, name in enumerate(grid.corruptions):
        out["corruption", name, "error"] = error[:, position].mean(axis=-1)
    common = [name for name in grid.corruptions if name in COMMON]
    averaged = common or grid.corruptions  # the hold-out never enters the mean of the benchmark
    chosen = error[:, [grid.corruptions.index(name) for name in averaged]]
    out["summary", "mean_error"] = chosen.mean(axis=(-2, -1))
    if grid.has_clean and grid.labelled and clean is not None:
        out["summary", "clean_error"] = clean
        out["summary", "rpc"] = _divide(1 - out["summary", "mean_error"], 1 - clean)
    if grid.labelled:
        out["summary", "calibration_error"] = np.mean(
            [
                out["cell", Cell(c, s), "calibration_error"]
                for c in averaged
                for s in grid.severities
            ],
            axis=0,
        )
    if grid.claims_mce:
        names = list(COMMON)
        ordered = error[:, [grid.corruptions.index(name) for name in names]]
        ce = corruption_metrics.corruption_errors(ordered, names)
        out["summary", "mce"] = ce.mean(axis=-1)
        relative = None
        if clean is not None:
            relative = corruption_metrics.relative_corruption_errors(ordered, clean, names)
            out["summary", "relative_mce"] = relative.mean(axis=-1)
        for position, name in enumerate(names):
            out["corruption", name, "ce"] = ce[:, position]
            if relative is not None:
                out["corruption", name, "relative_ce"] = relative[:, position]
    return out


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, NaN where there is nothing to divide by: a resample without a readable image."""
    result = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


# ---------------------------------------------------------------- as written to the file


def _figures(
    replicates: Mapping[Key, Replicates],
    grid: _Grid,
    images: Mapping[Cell, int] = MappingProxyType({}),
    estimated: Mapping[Cell, Mapping[str, float]] = MappingProxyType({}),
) -> dict[str, Any]:
    def figure(*key: Any) -> Figure:
        values = replicates.get(key)
        interval = None if values is None else intervals.percentile_interval(values)
        if interval is None:
            return None
        return {end: rounded(number) for end, number in interval._asdict().items()}

    def cell_figures(cell: Cell) -> dict[str, Any]:
        counted = {"images": images[cell]} if cell in images else {}
        guessed = (
            {"estimated_error": {name: rounded(value) for name, value in estimated[cell].items()}}
            if cell in estimated
            else {}
        )
        return {**counted, **{name: figure("cell", cell, name) for name in _PER_CELL}, **guessed}

    return {
        "summary": {
            name: figure("summary", name)
            for name in (
                "clean_error", "mean_error", "mce", "relative_mce", "rpc", "calibration_error",
            )
        },
        "clean": cell_figures(CLEAN) if grid.has_clean else None,
        "cells": [
            {"corruption": name, "severity": severity, **cell_figures(Cell(name, severity))}
            for name in grid.corruptions
            for severity in grid.severities
        ],
        "corruptions": [
            {
                "corruption": name,
                "group": group_of(name),
                **{key: figure("corruption", name, key) for key in ("error", "ce", "relative_ce")},
            }
            for name in grid.corruptions
        ],
    }  # fmt: skip


def _estimators(
    estimated: Mapping[Cell, Mapping[str, float]], replicates: Mapping[Key, Replicates]
) -> list[dict[str, Any]]:
    """Per estimator: how far it is off over the corrupted cells, and in which cell it is furthest."""
    errors = {
        cell: float(value)
        for cell in estimated
        if np.isfinite(value := replicates["cell", cell, "error"][0])
    }
    return [
        {
            "name": name,
            "title": estimates.ESTIMATORS[name],
            "cells": quality.cells,
            "mean_absolute_error": rounded(quality.mean_absolute_error),
            "root_mean_square": rounded(quality.root_mean_square),
            "bias": rounded(quality.bias),
            "within": quality.within,
            "worst": {
                "corruption": quality.worst.cell.corruption,
                "severity": quality.worst.cell.severity,
                "estimate": rounded(quality.worst.estimate),
                "error": rounded(quality.worst.error),
            },
        }
        for name, quality in estimates.judge(estimated, errors).items()
    ]


def _images_per_cell(table: Mapping[Cell, CellRecords]) -> dict[Cell, int]:
    return {cell: int(record.readable.sum()) for cell, record in table.items()}


def _broken(table: Mapping[Cell, CellRecords]) -> list[dict[str, Any]]:
    """One entry per image that could not be read, with the number of cells that it is missing in."""
    found: dict[str, dict[str, Any]] = {}
    for cell, record in table.items():
        for name, reason in zip(record.ids, record.error, strict=True):
            if reason is not None:
                entry = found.setdefault(
                    name, {"id": name, "cells": 0, "first_cell": str(cell), "reason": reason}
                )
                entry["cells"] += 1
    return sorted(found.values(), key=lambda entry: str(entry["id"]))


def _classes(table: Mapping[Cell, CellRecords], classes: Classes) -> list[dict[str, Any]]:
    """Per class: the clean error and the mean over the grid, the worst class first."""
    grid_wrong = np.zeros(len(classes))
    grid_seen = np.zeros(len(classes))
    clean_wrong = np.zeros(len(classes))
    clean_seen = np.zeros(len(classes))
    for cell, record in table.items():
        target = record.target[record.readable]
        wrong = (record.prediction != record.target)[record.readable]
        seen_now = np.bincount(target, minlength=len(classes))
        wrong_now = np.bincount(target, weights=wrong, minlength=len(classes))
        if cell.is_clean:
            clean_seen += seen_now
            clean_wrong += wrong_now
        else:
            grid_seen += seen_now
            grid_wrong += wrong_now
    any_record = next(iter(table.values()))
    images = np.bincount(any_record.target, minlength=len(classes))
    rows = [
        {
            "class": classes.names[index],
            "index": int(index),
            "images": int(images[index]),
            "clean_error": rounded(clean_wrong[index] / clean_seen[index])
            if clean_seen[index]
            else None,
            "error": rounded(grid_wrong[index] / grid_seen[index]),
        }
        for index in np.flatnonzero(grid_seen)
    ]
    return sorted(rows, key=lambda row: (-row["error"], row["index"]))
