"""From the record tables to the figures: averaged here, in one place, with paired intervals.

All models and cells share the same resamples of the images, so that the interval of a difference
is that of the paired difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.classes import Classes
from shiftproof.corruptions import COMMON, GROUPS
from shiftproof.errors import BrokenFileError
from shiftproof.metrics import corruption as corruption_metrics
from shiftproof.metrics import intervals
from shiftproof.metrics.calibration import BINS, bin_index
from shiftproof.types import CLEAN, Cell

from .folder import FORMAT, RunFolder
from .records import CellRecords, read_cell

REPLICATES = 1000
LEVEL = 0.95
SEED = 0

Replicates: TypeAlias = NDArray[np.float64]
"""``(1 + REPLICATES,)``: the figure on the images as they are, then on each resample of them."""

Figure: TypeAlias = dict[str, float] | None
"""``{"value", "low", "high"}``, or None where the figure has no meaning."""


def summarise(
    folder: RunFolder,
    *,
    models: Mapping[str, str],
    cells: Sequence[Cell],
    classes: Classes,
) -> dict[str, Any]:
    """Return the content of ``scores.json``: every figure of a run with its interval.

    Depends on the records alone, so an interrupted run ends with the same bytes.

    Args:
        folder: where the records are.
        models: name in the run to title; the first is the one that the others are compared with.
        cells: the cells of the run.
        classes: the model's classes; mCE is claimed on ImageNet's 1,000 only.
    """
    tables = {
        name: {cell: read_cell(folder.records_file(name, cell)) for cell in cells}
        for name in models
    }
    first = tables[next(iter(models))]
    ids = first[cells[0]].ids
    for name, table in tables.items():
        for cell, record in table.items():
            if record.ids != ids:
                raise BrokenFileError(
                    f"{folder.records_file(name, cell)}: its images are not those of the other "
                    "cells. Delete it and start the run again: only this cell is done anew."
                )
    labelled = bool((first[cells[0]].target >= 0).all())
    corruptions = list(dict.fromkeys(cell.corruption for cell in cells if not cell.is_clean))
    severities = sorted({cell.severity for cell in cells if not cell.is_clean})
    reason = _why_no_mce(corruptions, severities, labelled, classes)
    counts = intervals.resample_counts(len(ids), REPLICATES, seed=SEED)
    grid = _Grid(corruptions, severities, CLEAN in cells, labelled, reason is None)
    replicates = {name: _replicates(table, grid, counts) for name, table in tables.items()}
    names = list(models)
    return {
        "format": FORMAT,
        "measure": "error" if labelled else "disagreement",
        "interval": {
            "level": LEVEL,
            "method": "paired percentile bootstrap over images",
            "replicates": REPLICATES,
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
                **_figures(replicates[name], grid, _images_per_cell(tables[name])),
                "classes": _classes(tables[name], classes) if labelled else [],
            }
            for name, title in models.items()
        ],
        "differences": [
            {
                "name": name,
                "against": names[0],
                **_figures(_difference(replicates[name], replicates[names[0]]), grid, {}),
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

_Key: TypeAlias = tuple[Any, ...]
"""("cell", Cell, figure), ("corruption", name, figure) or ("summary", figure)."""


def _replicates(
    table: Mapping[Cell, CellRecords], grid: _Grid, counts: NDArray[Any]
) -> dict[_Key, Replicates]:
    """All figures of one model, each on the images as they are and on every resample."""
    out: dict[_Key, Replicates] = {}
    for cell, record in table.items():
        for figure, values in _cell_figures(record, table.get(CLEAN), grid, counts):
            out["cell", cell, figure] = values
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
            [out["cell", Cell(c, s), "calibration_error"] for c in averaged for s in grid.severities],
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


def _cell_figures(
    record: CellRecords, clean: CellRecords | None, grid: _Grid, counts: NDArray[Any]
) -> Iterator[tuple[str, Replicates]]:
    readable = record.readable
    if not grid.labelled:
        assert clean is not None
        used = readable & clean.readable
        wrong = (record.prediction != clean.prediction).astype(np.float64)
        yield "error", _weighted_mean(wrong, used, counts)
        return
    right = record.prediction == record.target
    yield "error", _weighted_mean(~right, readable, counts)
    yield (
        "top5_error",
        _weighted_mean(~(record.top == record.target[:, None]).any(axis=1), readable, counts),
    )
    yield "loss", _weighted_mean(np.nan_to_num(record.loss), readable, counts)
    # Expected calibration error: the mean over bins of |sum of (confidence - right)|.
    confidence = np.where(readable, record.confidence, 0.0).astype(np.float64)
    surplus = np.where(readable, confidence - right, 0.0)
    per_bin = np.zeros((len(record), BINS))
    per_bin[np.arange(len(record)), bin_index(confidence)] = surplus
    total = _with_original(counts, readable.astype(np.float64)[:, None])[:, 0]
    yield "calibration_error", _divide(np.abs(_with_original(counts, per_bin)).sum(axis=1), total)


def _weighted_mean(values: NDArray[Any], used: NDArray[np.bool_], counts: NDArray[Any]) -> Replicates:
    columns = np.stack([np.where(used, values, 0), used], axis=1).astype(np.float64)
    sums = _with_original(counts, columns)
    return _divide(sums[:, 0], sums[:, 1])


def _with_original(counts: NDArray[Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of ``values`` (images, columns) as they are, then weighted by each row of ``counts``."""
    return np.concatenate([values.sum(axis=0)[None], counts @ values])


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, NaN where there is nothing to divide by: a resample without a readable image."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)


def _difference(
    those: Mapping[_Key, Replicates], these: Mapping[_Key, Replicates]
) -> dict[_Key, Replicates]:
    return {key: those[key] - these[key] for key in those if key in these}


# ---------------------------------------------------------------- as written to the file


def _figures(
    replicates: Mapping[_Key, Replicates], grid: _Grid, images: Mapping[Cell, int]
) -> dict[str, Any]:
    def figure(*key: Any) -> Figure:
        values = replicates.get(key)
        if values is None or not np.isfinite(values[0]):
            return None
        drawn = values[1:][np.isfinite(values[1:])]
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (values[0], values[0])
        return {"value": _round(values[0]), "low": _round(low), "high": _round(high)}

    def cell_figures(cell: Cell) -> dict[str, Any]:
        counted = {"images": images[cell]} if cell in images else {}
        return {**counted, **{name: figure("cell", cell, name) for name in _PER_CELL}}

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
                "group": _group(name),
                **{key: figure("corruption", name, key) for key in ("error", "ce", "relative_ce")},
            }
            for name in grid.corruptions
        ],
    }  # fmt: skip


def _round(value: float) -> float:
    """Ten digits: all that the figures hold, and the last bits of a sum are not worth a difference."""
    return float(f"{value:.10g}")


def _group(name: str) -> str:
    return next((group for group, members in GROUPS.items() if name in members), "other")


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
            "clean_error": _round(clean_wrong[index] / clean_seen[index])
            if clean_seen[index]
            else None,
            "error": _round(grid_wrong[index] / grid_seen[index]),
        }
        for index in np.flatnonzero(grid_seen)
    ]
    return sorted(rows, key=lambda row: (-row["error"], row["index"]))
