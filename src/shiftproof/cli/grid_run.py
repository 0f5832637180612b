"""A run over the grid for `bench`, `detect` and `segment`, or its forecast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.cli.dense_options import DenseOptions
from shiftproof.cli.grid_options import (
    GridOptions,
    ShiftOptions,
    check_budget,
    parse_adapters,
    split_images,
)
from shiftproof.cli.models import show_assumed
from shiftproof.cli.outcome import show_forecast, show_outcome
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.cli.printing import announce
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.bench import Detection, Segmentation, Task
    from shiftproof.bench.on_device import CorruptOn
    from shiftproof.corruptions import CorruptionFunction
    from shiftproof.data import DetectionData, ImageData, SegmentationData
    from shiftproof.runs import Run
    from shiftproof.shards import Backend


@dataclass(frozen=True)
class GridJob:
    """The options of a run over the grid that do not depend on the task.

    Attributes:
        backend: what ``parts`` chose before a model was loaded.
        images: so many, or the name of a list; None for all.
        precision: the half-width in points that decides the number of images.
        budget: the seconds that decide it.
    """

    corruptions: Mapping[str, str | CorruptionFunction]
    severities: Sequence[int]
    adapters: Sequence[str]
    out: Path
    grid: GridOptions
    parts: PartOptions
    backend: Backend | None
    plan: PlanOptions
    as_json: bool
    images: int | str | None = None
    precision: float | None = None
    budget: float | None = None
    corrupt_on: CorruptOn = "workers"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments common to a run and its forecast."""
        return {
            "corruptions": self.corruptions,
            "severities": self.severities,
            "adapters": self.adapters,
            "images": self.images,
            "batch_size": self.grid.batch_size,
            "protocol": self.grid.shown,
            "seed": self.grid.seed,
            "encode": self.grid.encode,
            "device": self.grid.device,
            "workers": self.grid.workers,
        }


def announce_grid(
    models: Sequence[str],
    data: str,
    out: Path,
    adapt: str,
    *,
    shifts: ShiftOptions,
    plan: PlanOptions,
) -> None:
    """Print which models will be measured on which data."""
    adapters = f", adapters {adapt}" if parse_adapters(adapt) else ""
    announce(
        f"Measuring {', '.join(models)} on {data}, {shifts.describe()}{adapters}",
        out,
        dry_run=plan.dry_run,
    )


def plan_dense_job(
    models: Sequence[str],
    data: str,
    out: Path,
    adapt: str,
    budget: str | None,
    corrupted: Path | None,
    *,
    shifts: ShiftOptions,
    grid: GridOptions,
    more: DenseOptions,
    parts: PartOptions,
    plan: PlanOptions,
    as_json: bool,
    images: str | None = None,
    precision: float | None = None,
    depth: str | None = None,
) -> GridJob:
    """Return the job of detectors or segmenters, and announce it, before a model is loaded.

    With ``corrupted``, a -C tree, the corruptions may also be its folders.

    Raises:
        InputError: options that cannot be used, or not together.
    """
    plan.check()
    more.check()
    backend = parts.choose(grid.workers)
    seconds = check_budget(
        budget,
        dry_run=plan.dry_run,
        backend=backend,
        adapt=adapt,
        precision=precision,
        images=images,
    )
    severities, adapters = shifts.levels, more.complete(parse_adapters(adapt))
    announce_grid(models, data, out, adapt, shifts=shifts, plan=plan)
    from shiftproof.data import CorruptedTree

    others = () if corrupted is None else CorruptedTree(corrupted, labeled=False).other_corruptions
    return GridJob(
        corruptions=shifts.choose(others, depth, from_copies=corrupted is not None),
        severities=severities,
        adapters=adapters,
        out=out,
        grid=grid,
        parts=parts,
        backend=backend,
        plan=plan,
        as_json=as_json,
        images=split_images(images)[0],
        precision=precision,
        budget=seconds,
    )


def run_grid(
    models: Mapping[str, Any],
    data: ImageData,
    task: Task,
    job: GridJob,
    *,
    trust: bool = False,
) -> Run | None:
    """Measure models over the grid and print the results, or print a forecast of the run.

    ``trust`` adds the table on the reliability of confidences. Returns the run, or None for a
    forecast.

    Raises:
        InputError: a forecast cannot determine the number of images by ``precision``.
    """
    from shiftproof import bench as benchmark

    if job.plan.dry_run:
        if job.precision is not None:
            raise InputError(
                "--precision decides the number of images itself; leave it out of --dry-run."
            )
        forecast = benchmark.forecast_run(models, data, task=task, out=job.out, **job.arguments())
        show_forecast(forecast, job.plan, as_json=job.as_json)
        return None
    if job.budget is not None:
        asked = job.arguments()
        del asked["images"], asked["adapters"]
        run = benchmark.run_within(models, data, task=task, budget=job.budget, out=job.out, **asked)
        show_outcome(run, as_json=job.as_json, log=job.grid.log or (), trust=trust)
        return run
    with job.parts.share():
        run = benchmark.run(
            models,
            data,
            task=task,
            precision=job.precision,
            out=job.out,
            corrupt_on=job.corrupt_on,
            backend=job.backend,
            **job.arguments(),
        )
    show_outcome(run, as_json=job.as_json, log=job.grid.log or (), trust=trust)
    return run


def run_dense_grid(
    models: Mapping[str, Any],
    data: DetectionData | SegmentationData,
    task: Detection | Segmentation,
    job: GridJob,
    *,
    more: DenseOptions,
    adapt: Callable[[Any, str], Any],
) -> None:
    """Measure detectors or segmenters over the grid, then estimate them on images without labels.

    ``adapt`` wraps a model in an adapter by its spec.
    """
    for model in models.values():
        show_assumed(model)
    run = run_grid(models, data, task, job)
    if run is None:
        return
    first = next(iter(models.values()))
    more.estimate(
        {**models, **{spec: adapt(first, spec) for spec in job.adapters}},
        data,
        corruptions=job.corruptions,
        severities=job.severities,
        class_map=task.class_map,
        out=run.path,
        as_json=job.as_json,
    )
