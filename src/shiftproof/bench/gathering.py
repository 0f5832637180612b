"""A folder of a run made of others' records: of some images, or of the models of several runs."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from shiftproof.bench.classification import Classification
from shiftproof.bench.detection import Detection
from shiftproof.bench.segmentation import Segmentation
from shiftproof.bench.task import Grid, Task
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.runs.folder import RUN_FILE, RunFolder
from shiftproof.runs.parquet import open_table, write_table
from shiftproof.runs.run import Run
from shiftproof.types import CLEAN, Cell

_TASKS: dict[str, type[Task]] = {one.kind: one for one in (Classification, Detection, Segmentation)}


def task_of(run: Run, task: Task | None) -> Task:
    """Return the task that measures a run: the given one, or what its kind says.

    Raises:
        InputError: a task of one's own that was not given, or one of another kind.
    """
    if task is None and run.kind in _TASKS:
        return _TASKS[run.kind]()
    if task is None or task.kind != run.kind:
        raise InputError(
            f"{run.path} is a run of the kind {run.kind!r}; expected its task (task=), which knows how "
            "to measure its records."
        )
    return task


def grid_of(run: Run) -> Grid:
    """Return the cells of a finished run."""
    scores = run.scores
    clean = [CLEAN] if scores.models[0].clean is not None else []
    missing = (name.rpartition("-") for name in scores.grid.missing)
    return Grid(
        [*clean, *(one.cell for one in scores.models[0].cells)],
        [Cell(name, int(severity)) for name, _, severity in missing if severity.isdecimal()],
    )


def list_images(run: Run) -> list[str]:
    """Return the ids of all images of a run, in the order of its records."""
    first = run.folder.records_file(run.scores.models[0].name, grid_of(run).cells[0])
    if not first.is_file():
        raise InputError(
            f"{run.path} has no records (only a table of results was scored), so that its images "
            "cannot be told apart."
        )
    with open_table(first) as table:
        return [str(one) for one in table["id"].to_pylist()]


def gather_images(run: Run, task: Task, target: Path, images: Collection[str]) -> RunFolder:
    """Write the records of some images of a run, and what it takes to measure them, into ``target``.

    Raises:
        BrokenFileError: a file of the run cannot be read.
    """
    folder = _begin(run, task, target, images)
    for model in run.scores.models:
        files.make_folder(target / "records" / model.name)
        for cell in grid_of(run).cells:
            _narrow_table(run.folder, folder, model.name, cell, images)
    return folder


def gather_models(
    runs: Sequence[Run], task: Task, target: Path, names: Mapping[tuple[int, str], str]
) -> RunFolder:
    """Lay the records of several runs of the same images into ``target``, each model by a new name.

    Args:
        runs: of one kind, over the same images and cells.
        task: measures them.
        target: a new folder.
        names: number of the run and name of the model to its name in ``target``.
    """
    folder = _begin(runs[0], task, target, set(list_images(runs[0])))
    for (at, model), name in names.items():
        files.make_folder(target / "records" / name)
        for cell in grid_of(runs[0]).cells:
            source = runs[at].folder.records_file(model, cell)
            shutil.copyfile(source, folder.records_file(name, cell))
    return folder


def _begin(run: Run, task: Task, target: Path, images: Collection[str]) -> RunFolder:
    shutil.copyfile(run.folder.run_file, target / RUN_FILE)
    folder = RunFolder(target)
    task.carry(run.folder, folder, images)
    return folder


def _narrow_table(
    source: RunFolder, target: RunFolder, model: str, cell: Cell, images: Collection[str]
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    with open_table(source.records_file(model, cell)) as table:
        place = table.schema.get_field_index("error")
        if place >= 0:
            table = table.set_column(place, "error", table["error"].cast(pa.string()))
        kept = table.filter(pc.is_in(table["id"], pa.array(sorted(images), table["id"].type)))
    write_table(target.records_file(model, cell), kept)
