"""A run over the grid, as `bench`, `detect` and `segment` make it: forecast, or measured and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.cli.grid_options import GridOptions
from shiftproof.cli.outcome import show_forecast, show_outcome
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.bench import Task
    from shiftproof.bench.on_device import CorruptOn
    from shiftproof.corruptions import CorruptionFunction
    from shiftproof.data import ImageData
    from shiftproof.runs import Run
    from shiftproof.shards import Backend


def run_grid(
    models: Mapping[str, Any],
    data: ImageData,
    *,
    task: Task,
    corruptions: Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
    adapters: Sequence[str],
    out: Path,
    grid: GridOptions,
    parts: PartOptions,
    backend: Backend | None,
    plan: PlanOptions,
    as_json: bool,
    images: int | str | None = None,
    precision: float | None = None,
    corrupt_on: CorruptOn = "workers",
    trust: bool = False,
) -> Run | None:
    """Measure models over the grid and show what was found, or say what that would take.

    ``trust`` asks for the table on whether confidences hold. Returns the run, or None where it was
    only foretold.

    Raises:
        InputError: a number of images that depends on a pilot run is wanted of a forecast.
    """
    from shiftproof import bench as benchmark

    if plan.dry_run:
        if precision is not None:
            raise InputError(
                "--precision decides the number of images itself; leave it out of --dry-run."
            )
        forecast = benchmark.forecast_run(
            models,
            data,
            task=task,
            corruptions=corruptions,
            severities=severities,
            adapters=adapters,
            images=images,
            batch_size=grid.batch_size,
            protocol=grid.shown,
            seed=grid.seed,
            encode=grid.encode,
            device=grid.device,
            workers=grid.workers,
        )
        show_forecast(forecast, plan, as_json=as_json)
        return None
    with parts.share():
        run = benchmark.run(
            models,
            data,
            task=task,
            corruptions=corruptions,
            severities=severities,
            adapters=adapters,
            images=images,
            precision=precision,
            out=out,
            batch_size=grid.batch_size,
            protocol=grid.shown,
            seed=grid.seed,
            encode=grid.encode,
            device=grid.device,
            corrupt_on=corrupt_on,
            workers=grid.workers,
            backend=backend,
        )
    show_outcome(run, as_json=as_json, log=grid.log or (), trust=trust)
    return run
