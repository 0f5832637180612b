"""A run over the grid for `bench`, `detect` and `segment`, or its forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from shiftproof.cli.models import check_out, show_assumed
from shiftproof.cli.outcome import show_forecast, show_outcome
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.cli.printing import announce
from shiftproof.data.presence import check_presence
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.adapt.dense.methods import ModelKind
    from shiftproof.bench import Detection, Segmentation, Task
    from shiftproof.bench.cells.on_device import CorruptOn
    from shiftproof.corruptions import CorruptionFunction
    from shiftproof.data import DetectionData, ImageData, SegmentationData
    from shiftproof.runs import Run
    from shiftproof.shards import Backend
    from shiftproof.types import Cell


@dataclass(frozen=True)
class GridCommand:
    """The options common to all tasks."""

    models: Sequence[str]
    data: str
    out: Path
    adapt: str
    shifts: ShiftOptions
    grid: GridOptions
    parts: PartOptions
    plan: PlanOptions
    as_json: bool

    def announce(self) -> None:
        """Print which models will be measured on which data."""
        adapters = f", adapters {self.adapt}" if parse_adapters(self.adapt) else ""
        announce(
            f"Measuring {', '.join(self.models)} on {self.data}, {self.shifts.describe()}{adapters}",
            self.out,
            dry_run=self.plan.dry_run,
        )

    def prepare(
        self,
        backend: Backend | None,
        adapters: Sequence[str],
        copies: Copies | None,
        *,
        depth: str | None = None,
        images: str | None = None,
        precision: float | None = None,
        budget: float | None = None,
        corrupt_on: CorruptOn = "workers",
    ) -> GridJob:
        """Return the job, with the requested corruptions.

        Args:
            backend: see ``GridJob``, also of the other arguments.
            adapters: the specs.
            copies: the -C tree to read instead of corrupting images, if any.
            depth: the source of depth maps for corruptions.
            images: number of images, the name of a list, or their folder.
            precision: in points.
            budget: in seconds.
            corrupt_on: workers or device.

        Raises:
            UnknownNameError, InputError: no such corruption, or one that is impossible here.
        """
        others = () if copies is None else copies.other_corruptions
        corruptions = self.shifts.choose(others, depth, from_copies=copies is not None)
        if copies is not None:
            copies.check(corruptions, self.shifts.levels)
        return GridJob(
            self,
            backend,
            corruptions,
            adapters,
            split_images(images)[0],
            precision,
            budget,
            corrupt_on,
        )


@dataclass(frozen=True)
class Copies:
    """The cells of a -C tree, known before its images are listed.

    Attributes:
        name: the name of the tree.
        cells: its cells, from the folder names.
    """

    name: str
    cells: Sequence[Cell]

    @classmethod
    def find(cls, source: str | Path, clean: Path | None = None) -> Copies | None:
        """Return the corrupted copies at a path; None for other data.

        Raises:
            InputError: a severity outside 1 to 5, or a cell that occurs twice.
        """
        from shiftproof.data.images.opening import find_copies

        cells = find_copies(source, clean)
        return None if cells is None else cls(Path(source).resolve().name, cells)

    @property
    def other_corruptions(self) -> tuple[str, ...]:
        """The corruptions that are not in the table."""
        from shiftproof.corruptions import CORRUPTIONS

        return tuple(
            dict.fromkeys(c.corruption for c in self.cells if c.corruption not in CORRUPTIONS)
        )

    def check(self, corruptions: Iterable[str], severities: Sequence[int]) -> None:
        """Raise an InputError if the tree lacks a requested cell."""
        from shiftproof.bench.arguments import check_cells
        from shiftproof.types import Cell

        requested = [Cell(name, severity) for name in corruptions for severity in severities]
        check_cells(self.name, self.cells, requested)


@dataclass(frozen=True)
class GridJob:
    """A command whose options were read before a model was loaded.

    Attributes:
        command: the command.
        backend: the backend chosen by its ``parts``.
        corruptions: the corruptions that it names.
        adapters: the specs of its adapters.
        images: number of images, or the name of a list; None for all.
        precision: the half-width in points that decides the number of images.
        budget: the time in seconds that decides it.
        corrupt_on: where images are corrupted.
    """

    command: GridCommand
    backend: Backend | None
    corruptions: Mapping[str, str | CorruptionFunction]
    adapters: Sequence[str]
    images: int | str | None = None
    precision: float | None = None
    budget: float | None = None
    corrupt_on: CorruptOn = "workers"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments common to a run and its forecast."""
        return {
            "corruptions": self.corruptions,
            "severities": self.command.shifts.levels,
            "adapters": self.adapters,
            "images": self.images,
            "batch_size": self.command.grid.batch_size,
            "protocol": self.command.grid.parsed_protocol,
            "seed": self.command.grid.seed,
            "encode": self.command.grid.encode,
            "device": self.command.grid.device,
            "workers": self.command.grid.workers,
        }


def plan_dense_job(
    command: GridCommand,
    kind: ModelKind,
    dense: DenseOptions,
    *,
    corrupted: Path | None,
    budget: str | None,
    images: str | None = None,
    precision: float | None = None,
    depth: str | None = None,
) -> GridJob:
    """Return the job of detectors or segmenters, and announce it, before a model is loaded.

    With ``corrupted``, a -C tree, the corruptions may also be its folders.

    Raises:
        InputError: options that cannot be used, or not together.
    """
    command.plan.check()
    dense.check()
    backend = command.parts.choose(command.grid.workers)
    seconds = check_budget(
        budget,
        dry_run=command.plan.dry_run,
        backend=backend,
        adapt=command.adapt,
        precision=precision,
        images=images,
    )
    adapters = dense.complete(parse_adapters(command.adapt))
    check_presence(command.data, "boxes" if kind == "detector" else "label maps")
    command.announce()
    from shiftproof.adapt.dense.methods import check_method_spec
    from shiftproof.data.images.cell_folders import list_tree_cells

    for spec in adapters:
        check_method_spec(spec, kind)
    dense.check_images()
    check_out(command.out, dry_run=command.plan.dry_run)
    copies = None
    if corrupted is not None:
        copies = Copies(corrupted.resolve().name, list_tree_cells(corrupted))
    return command.prepare(
        backend,
        adapters,
        copies,
        depth=depth,
        images=images,
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

    command = job.command
    if command.plan.dry_run:
        if job.precision is not None:
            raise InputError(
                "--precision decides the number of images itself; leave it out of --dry-run."
            )
        forecast = benchmark.forecast_run(
            models, data, task=task, out=command.out, **job.arguments()
        )
        show_forecast(forecast, command.plan, as_json=command.as_json)
        return None
    if job.budget is not None:
        arguments = job.arguments()
        del arguments["images"], arguments["adapters"]
        run = benchmark.run_within(
            models, data, task=task, budget=job.budget, out=command.out, **arguments
        )
        show_outcome(run, as_json=command.as_json, log=command.grid.log or (), trust=trust)
        return run
    with command.parts.share():
        run = benchmark.run(
            models,
            data,
            task=task,
            precision=job.precision,
            out=command.out,
            corrupt_on=job.corrupt_on,
            backend=job.backend,
            **job.arguments(),
        )
    show_outcome(run, as_json=command.as_json, log=command.grid.log or (), trust=trust)
    return run


def run_dense_grid(
    models: Mapping[str, Any],
    data: DetectionData | SegmentationData,
    task: Detection | Segmentation,
    job: GridJob,
    *,
    dense: DenseOptions,
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
    dense.estimate(
        {**models, **{spec: adapt(first, spec) for spec in job.adapters}},
        data,
        corruptions=job.corruptions,
        severities=job.command.shifts.levels,
        class_map=task.class_map,
        out=run.path,
        as_json=job.command.as_json,
    )
