"""Mean performance under corruption, mPC and rPC, from a performance P in each cell.

Detection and segmentation share them; P is average precision of one, mean IoU of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from shiftproof.bench.tasks.interface import Grid, Measured
from shiftproof.bench.tasks.published import why_cells_lack
from shiftproof.bench.tasks.summary import average
from shiftproof.corruptions import COMMON
from shiftproof.counts import pluralize
from shiftproof.runs.resamples import Replicates, round_figure
from shiftproof.runs.scores.detection import SIZES, ClassDrop, Detail, Drop
from shiftproof.runs.scores.grid import Headline, Images, Measure
from shiftproof.runs.scores.shared import Resampling
from shiftproof.types import CLEAN, F64, Cell

BIAS_CORRECTED = "paired percentile bootstrap over images, moved by its bias"
"""How the intervals of figures are drawn that resamples raise."""


@dataclass(frozen=True, eq=False)
class Performance:
    """One detector's scores in one cell, all in 0..1, NaN without objects.

    Attributes:
        replicates: ``(1 + R,)`` P, observed and on resamples, corrected for bias.
        numbers: all metrics of the measure, by their common names.
        per_class: P of each class, by its place among the classes.
    """

    replicates: F64
    numbers: Mapping[str, float] = field(default_factory=dict)
    per_class: Sequence[float] = ()


def summarize_performance(
    performance: Mapping[str, Mapping[Cell, Performance]],
    grid: Grid,
    name: str,
    title: str,
    *,
    interval: Resampling,
    images: Images,
    classes: Sequence[str] = (),
    objects: Sequence[int | None] = (),
    changed: str | None = None,
) -> Measured:
    """Return the measurements of a run from P in each cell.

    Args:
        performance: performances by name of the model in the run and cell.
        grid: the cells that all models have.
        name: name of P.
        title: full name of P.
        interval: the resampling of the replicates.
        images: number of images, and unreadable ones.
        classes: names of the classes if the performances have P by class.
        objects: number of objects of each class.
        changed: why the corruptions differ from the benchmark's, if they do.
    """
    reason = _explain_missing_mpc(grid) or changed
    return Measured(
        measures=(Measure(name, title, lower_is_better=False, unit="share"),),
        headlines=_make_headlines(name, complete=reason is None),
        cells={
            model: {cell: {name: one.replicates} for cell, one in cells.items()}
            for model, cells in performance.items()
        },
        images=images,
        interval=interval,
        claim="mPC",
        reason=reason,
        complete=reason is None,
        summaries={model: _summarize(cells, grid) for model, cells in performance.items()},
        numbers={
            model: {cell: _to_json_numbers(one.numbers) for cell, one in cells.items()}
            for model, cells in performance.items()
        },
        details={
            model: msgspec.to_builtins(
                Detail(
                    sizes=_score_sizes(cells, grid),
                    classes=_score_classes(cells, grid, classes, objects or [None] * len(classes)),
                )
            )
            for model, cells in performance.items()
        },
    )


def _explain_missing_mpc(grid: Grid) -> str | None:
    absent = [name for name in COMMON if name not in grid.corruptions]
    if absent:
        are = "is" if len(absent) == 1 else "are"
        return f"{len(absent)} of the 15 corruptions {are} not there ({', '.join(absent)})"
    if grid.missing:
        named = ", ".join(map(str, grid.missing[:5]))
        more = f" and {len(grid.missing) - 5} more" if len(grid.missing) > 5 else ""
        return f"{pluralize(len(grid.missing), 'cell is', 'cells are')} missing ({named}{more})"
    if grid.severities != [1, 2, 3, 4, 5]:
        return f"only the severities {', '.join(map(str, grid.severities))} of 1 to 5 are there"
    return why_cells_lack(grid)


def _make_headlines(name: str, *, complete: bool) -> tuple[Headline, ...]:
    """Return the headlines; for the complete grid they have the names of the benchmark."""
    mean = (
        ("mPC", f"mean {name} over the 15 × 5 corruptions")
        if complete
        else (f"{name} under corruption", "mean over what was run, no mPC")
    )
    share = (
        ("rPC", f"mPC as a share of the clean {name}")
        if complete
        else ("Share that is kept", f"of the clean {name}, over what was run")
    )
    return (
        Headline(
            "clean",
            f"Clean {name}",
            f"{name} on the images as they are",
            lower_is_better=False,
            unit="share",
        ),
        Headline("mean", *mean, lower_is_better=False, unit="share"),
        Headline("rpc", *share, lower_is_better=False, unit="share"),
    )


def _summarize(cells: Mapping[Cell, Performance], grid: Grid) -> dict[str, Replicates]:
    if not grid.averaged or not grid.has_clean:
        return {}
    mean = average([cells[cell].replicates for cell in grid.averaged])
    clean = cells[CLEAN].replicates
    # A share of 0 is undefined.
    return {"rpc": np.divide(mean, clean, out=np.full_like(clean, np.nan), where=clean > 0)}


# ---------------------------------------------------------------- details for the page


def _score_sizes(cells: Mapping[Cell, Performance], grid: Grid) -> dict[str, Drop]:
    """Return AP by size of the objects, clean and over the grid; empty if not measured."""
    some = next(iter(cells.values()))
    if not set(SIZES) <= set(some.numbers):
        return {}
    return {
        name: Drop(
            clean=_to_json_number(cells[CLEAN].numbers[name]) if grid.has_clean else None,
            mean=_to_json_number(
                _average_finite([cells[cell].numbers[name] for cell in grid.averaged])
            ),
        )
        for name in SIZES
    }


def _score_classes(
    cells: Mapping[Cell, Performance],
    grid: Grid,
    classes: Sequence[str],
    objects: Sequence[int | None],
) -> tuple[ClassDrop, ...]:
    """Return P of each class with objects, clean and over the grid, the largest loss first."""
    if not classes:
        return ()
    clean = cells[CLEAN].per_class if grid.has_clean else [float("nan")] * len(classes)
    rows = [
        ClassDrop(
            name=name,
            index=index,
            objects=objects[index],
            clean=_to_json_number(clean[index]),
            mean=_to_json_number(
                _average_finite([cells[cell].per_class[index] for cell in grid.averaged])
            ),
        )
        for index, name in enumerate(classes)
        if objects[index] != 0
    ]
    return tuple(
        sorted(rows, key=lambda row: (-((row.clean or 0.0) - (row.mean or 0.0)), row.index))
    )


def _average_finite(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _to_json_numbers(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _to_json_number(value) for name, value in numbers.items()}


def _to_json_number(value: float) -> float | None:
    """Return a number for JSON: None for NaN."""
    return round_figure(value) if np.isfinite(value) else None
