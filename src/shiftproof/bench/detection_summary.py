"""From the tables of detectors to the figures: P in every cell, mPC, rPC, with paired intervals.

mPC and rPC are those of Michaelis et al. 2019 (arXiv 1907.07484, eq. 1 and 2). All models and cells
share the same resamples of the images. Matching is done once a cell; a resample only weighs what was
matched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from shiftproof import engine
from shiftproof.corruptions import COMMON, GROUPS
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.text import read_json
from shiftproof.metrics import intervals
from shiftproof.progress import progress
from shiftproof.types import CLEAN, Cell

from .detection_records import read_detections
from .folder import FORMAT, RunFolder
from .measures import Measure, Performance, make_measure
from .record_files import other_images
from .replicates import Key, Replicates, difference, group_of, rounded

SEED = 0

GROUND_TRUTH = "ground_truth.json"
"""The file of a run with the objects that were to be found, in COCO's form."""

FEW_IMAGES = 1000
"""Up to so many images there are 1,000 resamples; beyond, where each takes long, 200."""

MANY = 200

Figure: TypeAlias = dict[str, float | None] | None
"""``{"value", "low", "high"}``: without ends where there are no images to resample, or None."""


def summarise(
    folder: RunFolder,
    *,
    models: Mapping[str, str],
    cells: Sequence[Cell],
    measure: str,
    missing: Sequence[Cell] = (),
    workers: int = 0,
    show_progress: bool | None = None,
) -> dict[str, Any]:
    """Return the content of ``scores.json``: every figure of a run with its interval.

    Depends on the records and the ground truth beside them alone.

    Args:
        folder: where the records are.
        models: name in the run to title; the first is the one that the others are compared with.
        cells: the cells of the run that there are records of.
        measure: what ``make_measure`` takes.
        missing: cells that there should be records of, and are not.
        workers: processes that measure; 0 does it in this one.
        show_progress: None shows it on a terminal only.

    Raises:
        BrokenFileError: a table cannot be read, or two are not about the same images.
        InputError: the ground truth contradicts itself.
    """
    ids, broken = _images(folder, list(models), cells)
    truth, places = _ground_truth(folder, ids, broken)
    measured = make_measure(measure, truth)
    at = {identity: place for place, identity in enumerate(measured.image_ids)}
    job = _Job(
        measured,
        [-1 if one is None else at[one] for one in places],
        intervals.REPLICATES if len(at) <= FEW_IMAGES else MANY,
    )
    keys = [(name, cell) for name in models for cell in cells]
    results = engine.map_ordered(
        _measure,
        [folder.records_file(name, cell) for name, cell in keys],
        context=job,
        workers=workers if len(keys) > 1 else 0,
        lookahead=2,
    )
    performance: dict[str, dict[Cell, Performance]] = {name: {} for name in models}
    with progress("Measure", len(keys), show=show_progress) as advance:
        for (name, cell), result in zip(keys, results, strict=True):
            performance[name][cell] = result
            advance(note=str(cell))
    classes = [str(record["name"]) for record in truth["categories"]]
    objects = _objects_per_class(truth)
    return _scores(
        performance,
        models,
        _Grid.of(cells, missing),
        measured.name,
        measured.title,
        interval={
            "level": intervals.LEVEL,
            "method": "paired percentile bootstrap over images, moved by its bias",
            "replicates": job.replicates,
            "seed": SEED,
        },
        images={
            "total": len(ids),
            "used": len(at),
            "objects": sum(objects),
            "broken": broken,
        },
        classes=classes,
        objects=objects,
    )


def of_performance(
    performance: Mapping[str, Mapping[Cell, Performance]],
    models: Mapping[str, str],
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    name: str,
    title: str,
    *,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the content of ``scores.json`` where only P in each cell is known: without intervals.

    Args:
        performance: name in the run to cell to what was reached.
        models: name in the run to title.
        cells: those that all models have.
        missing: cells that there should be, and are not.
        name: what P is called.
        title: P in full.
        classes: names of the classes, where the performances have P of each.
    """
    return _scores(
        performance,
        models,
        _Grid.of(cells, missing),
        name,
        title,
        interval={"level": intervals.LEVEL, "method": "none", "replicates": 0, "seed": SEED},
        images={"total": None, "used": None, "objects": None, "broken": []},
        classes=classes,
        objects=[None] * len(classes),
    )


def _scores(
    performance: Mapping[str, Mapping[Cell, Performance]],
    models: Mapping[str, str],
    grid: _Grid,
    name: str,
    title: str,
    *,
    interval: dict[str, Any],
    images: dict[str, Any],
    classes: Sequence[str],
    objects: Sequence[int | None],
) -> dict[str, Any]:
    names = list(models)
    replicates = {model: _replicates(performance[model], grid) for model in names}
    return {
        "format": FORMAT,
        "measure": name,
        "measure_title": title,
        "interval": interval,
        "images": images,
        "grid": {
            "corruptions": grid.corruptions,
            "severities": grid.severities,
            "complete": grid.complete,
            "missing": [str(cell) for cell in grid.missing],
            "mpc_reason": grid.reason,
        },
        "models": [
            {
                "name": model,
                "title": models[model],
                **_figures(replicates[model], grid, performance[model]),
                "sizes": _sizes(performance[model], grid),
                "classes": _classes(performance[model], grid, classes, objects),
            }
            for model in names
        ],
        "differences": [
            {
                "name": model,
                "against": names[0],
                **_figures(difference(replicates[model], replicates[names[0]]), grid, {}),
            }
            for model in names[1:]
        ],
    }


# ---------------------------------------------------------------- what is measured


@dataclass(frozen=True, eq=False)
class _Job:
    measure: Measure
    places: list[int]
    replicates: int


def _measure(job: _Job, path: Path) -> Performance:
    """Runs in a worker: one cell of one model."""
    table = read_detections(path)
    found = table.columns(job.places, job.measure.sizes)
    return job.measure.performance(found, replicates=job.replicates, seed=SEED)


def _images(
    folder: RunFolder, models: Sequence[str], cells: Sequence[Cell]
) -> tuple[list[str], list[dict[str, Any]]]:
    """The images of the run, and those that could not be read in every cell: none is measured there.

    All tables are read for it, since a cell in which an image is missing would be measured on others.
    """
    ids: list[str] | None = None
    broken: dict[str, dict[str, Any]] = {}
    for name in models:
        for cell in cells:
            path = folder.records_file(name, cell)
            table = read_detections(path)
            ids = table.ids if ids is None else ids
            if table.ids != ids:
                raise other_images(path)
            if name != models[0]:
                continue
            for image, reason in zip(table.ids, table.error, strict=True):
                if reason is not None:
                    entry = broken.setdefault(
                        image, {"id": image, "cells": 0, "first_cell": str(cell), "reason": reason}
                    )
                    entry["cells"] += 1
    assert ids is not None
    return ids, sorted(broken.values(), key=lambda entry: str(entry["id"]))


def write_ground_truth(folder: RunFolder, truth: Mapping[str, Any]) -> None:
    """Write the objects that are to be found; an area that is no finite number as text, as JSON has none."""
    annotations = [
        one if math.isfinite(one["area"]) else {**one, "area": str(one["area"])}
        for one in truth["annotations"]
    ]
    files.write_json(folder.path / GROUND_TRUTH, {**truth, "annotations": annotations})


def _ground_truth(
    folder: RunFolder, ids: Sequence[str], broken: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[Any]]:
    """The ground truth of the images that could be read, and for each image its id there or None."""
    path = folder.path / GROUND_TRUTH
    truth = read_json(path)
    try:
        image_id = {record["file_name"]: record["id"] for record in truth["images"]}
        left_out = {image_id[entry["id"]] for entry in broken}
        places = [None if image_id[one] in left_out else image_id[one] for one in ids]
        kept = {
            **truth,
            "images": [one for one in truth["images"] if one["id"] not in left_out],
            "annotations": [one for one in truth["annotations"] if one["image_id"] not in left_out],
        }
    except (KeyError, TypeError) as error:
        raise BrokenFileError(
            f"{path}: not the ground truth of this run ({error!r:.100}). It was changed, or is of "
            "another one."
        ) from error
    return kept, places


def _objects_per_class(truth: Mapping[str, Any]) -> list[int]:
    """How many objects there are to find of each class; crowds and difficult ones are none."""
    wanted = [
        one["category_id"]
        for one in truth["annotations"]
        if not one.get("iscrowd") and not one.get("difficult")
    ]
    return [wanted.count(record["id"]) for record in truth["categories"]]


# ---------------------------------------------------------------- the grid


@dataclass(frozen=True)
class _Grid:
    cells: list[Cell]
    missing: list[Cell]
    corruptions: list[str]
    severities: list[int]
    has_clean: bool
    reason: str | None

    @classmethod
    def of(cls, cells: Sequence[Cell], missing: Sequence[Cell]) -> _Grid:
        corrupted = [cell for cell in cells if not cell.is_clean]
        corruptions = list(dict.fromkeys(cell.corruption for cell in corrupted))
        severities = sorted({cell.severity for cell in corrupted})
        return cls(
            corrupted,
            list(missing),
            corruptions,
            severities,
            CLEAN in cells,
            _why_no_mpc(corrupted, missing, corruptions, severities),
        )

    @property
    def complete(self) -> bool:
        """Whether there is an mPC."""
        return self.reason is None

    @property
    def averaged(self) -> list[Cell]:
        """The cells that enter the mean: the hold-out corruptions never do."""
        common = [cell for cell in self.cells if cell.corruption in COMMON]
        return common or self.cells


def _why_no_mpc(
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    corruptions: Sequence[str],
    severities: Sequence[int],
) -> str | None:
    absent = [name for name in COMMON if name not in corruptions]
    if absent:
        return f"{len(absent)} of the 15 corruptions are not there ({', '.join(absent)})"
    if missing:
        named = ", ".join(map(str, missing[:5]))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return f"{len(missing)} cells are missing ({named}{more})"
    if list(severities) != [1, 2, 3, 4, 5]:
        return f"only the severities {', '.join(map(str, severities))} of 1 to 5 are there"
    gone = [
        f"{name}-{severity}"
        for name in COMMON
        for severity in severities
        if Cell(name, severity) not in cells
    ]
    return f"{len(gone)} cells are missing ({', '.join(gone[:5])})" if gone else None


def _replicates(performance: Mapping[Cell, Performance], grid: _Grid) -> dict[Key, Replicates]:
    """All figures of one model that have intervals."""
    of_cell = {cell: one.replicates for cell, one in performance.items()}
    out: dict[Key, Replicates] = {("cell", cell): values for cell, values in of_cell.items()}

    def mean(cells: Sequence[Cell]) -> Replicates:
        return np.asarray(np.mean([of_cell[cell] for cell in cells], axis=0))

    clean = of_cell.get(CLEAN)
    for name in grid.corruptions:
        out["corruption", name] = mean([cell for cell in grid.cells if cell.corruption == name])
    for group, names in GROUPS.items():
        inside = [cell for cell in grid.averaged if cell.corruption in names]
        if inside and {cell.corruption for cell in inside} == set(names):
            out["group", group] = mean(inside)
    if grid.averaged:
        out["summary", "mean"] = mean(grid.averaged)
        if grid.complete:
            out["summary", "mpc"] = out["summary", "mean"]
    if clean is not None:
        out["summary", "clean"] = clean
    for whole, share in (("mean", "relative"), ("mpc", "rpc")):
        if clean is not None and ("summary", whole) in out:
            # A share of nothing is no number.
            out["summary", share] = np.divide(
                out["summary", whole], clean, out=np.full_like(clean, np.nan), where=clean > 0
            )
    return out


# ---------------------------------------------------------------- as written to the file


def _figures(
    replicates: Mapping[Key, Replicates],
    grid: _Grid,
    performance: Mapping[Cell, Performance],
) -> dict[str, Any]:
    def figure(*key: Any) -> Figure:
        values = replicates.get(key)
        if values is None or not np.isfinite(values[0]):
            return None
        if len(values) == 1:
            return {"value": rounded(values[0]), "low": None, "high": None}
        interval = intervals.percentile_interval(values)
        assert interval is not None
        return {end: rounded(number) for end, number in interval._asdict().items()}

    def cell_figures(cell: Cell) -> dict[str, Any]:
        numbers = performance[cell].numbers if cell in performance else {}
        return {"p": figure("cell", cell), "numbers": _numbers(numbers)}

    return {
        "summary": {
            name: figure("summary", name) for name in ("clean", "mean", "relative", "mpc", "rpc")
        },
        "clean": cell_figures(CLEAN) if grid.has_clean else None,
        "cells": [
            {"corruption": cell.corruption, "severity": cell.severity, **cell_figures(cell)}
            for cell in grid.cells
        ],
        "corruptions": [
            {"corruption": name, "group": group_of(name), "p": figure("corruption", name)}
            for name in grid.corruptions
        ],
        "groups": [
            {"group": group, "p": figure("group", group)}
            for group in GROUPS
            if ("group", group) in replicates
        ],
    }


def _sizes(performance: Mapping[Cell, Performance], grid: _Grid) -> dict[str, Any]:
    """AP by the objects' size, clean and as the mean over the grid; empty where it is not measured."""
    names = ("APs", "APm", "APl")
    some = next(iter(performance.values()))
    if not set(names) <= set(some.numbers):
        return {}
    return {
        name: {
            "clean": _number(performance[CLEAN].numbers[name]) if grid.has_clean else None,
            "mean": _number(_mean([performance[cell].numbers[name] for cell in grid.averaged])),
        }
        for name in names
    }


def _classes(
    performance: Mapping[Cell, Performance],
    grid: _Grid,
    classes: Sequence[str],
    objects: Sequence[int | None],
) -> list[dict[str, Any]]:
    """Per class with objects: P clean and as the mean over the grid, the largest loss first."""
    if not classes:
        return []
    clean = performance[CLEAN].per_class if grid.has_clean else [float("nan")] * len(classes)
    rows = [
        {
            "class": name,
            "index": index,
            "objects": objects[index],
            "clean": _number(clean[index]),
            "mean": _number(_mean([performance[cell].per_class[index] for cell in grid.averaged])),
        }
        for index, name in enumerate(classes)
        if objects[index] != 0
    ]

    def lost(row: Mapping[str, Any]) -> float:
        return (row["clean"] or 0.0) - (row["mean"] or 0.0)

    return sorted(rows, key=lambda row: (-lost(row), row["index"]))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _numbers(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in numbers.items()}


def _number(value: float) -> float | None:
    """A number as JSON takes it: what is NaN has no meaning there."""
    return rounded(value) if np.isfinite(value) else None
