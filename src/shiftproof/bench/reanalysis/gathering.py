"""Run folders made from the records of other runs: of some images, or of several runs' models."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof.bench.reanalysis.class_order import find_class_order, reorder_classes
from shiftproof.bench.tasks.classification.task import Classification
from shiftproof.bench.tasks.detection.task import Detection
from shiftproof.bench.tasks.interface import Grid, Task
from shiftproof.bench.tasks.segmentation.task import Segmentation
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.io import files
from shiftproof.runs.folder import RUN_FILE, RunFolder
from shiftproof.runs.parquet import explain_other_images, open_table, write_table
from shiftproof.runs.run import Run
from shiftproof.runs.scores.classification import CLASS_NAMES
from shiftproof.types import Cell

if TYPE_CHECKING:
    import pyarrow

_TASKS: dict[str, Callable[[], Task]] = {
    Classification.kind: functools.partial(Classification, trust=False),
    Detection.kind: Detection,
    Segmentation.kind: Segmentation,
}


def find_task(run: Run, task: Task | None) -> Task:
    """Return the task that measures a run: the given one, or what its kind says.

    Raises:
        InputError: a custom task that was not given, or one of another kind.
    """
    if task is None and run.kind in _TASKS:
        return _TASKS[run.kind]()
    if task is None or task.kind != run.kind:
        raise InputError(
            f"{run.path} is a run of the kind {run.kind!r}; expected its task, which knows how to measure "
            "its records: task= in Python. The command line knows those of shiftproof alone."
        )
    return task


def read_grid(run: Run) -> Grid:
    """Return the cells of a finished run."""
    scores = run.scores
    missing = (name.rpartition("-") for name in scores.grid.missing)
    return Grid(
        scores.list_cells(),
        [Cell(name, int(severity)) for name, _, severity in missing if severity.isdecimal()],
    )


def list_images(run: Run) -> list[str]:
    """Return the ids of all images of a run, in the order of its records."""
    first = run.folder.records_file(run.scores.models[0].name, read_grid(run).cells[0])
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
    folder = _begin_folder(run, task, target, images)
    for model in run.scores.models:
        files.make_folder(target / "records" / model.name)
        for cell in read_grid(run).cells:
            _filter_table(run.folder, folder, model.name, cell, images)
    return folder


def gather_models(
    runs: Sequence[Run], task: Task, target: Path, names: Mapping[tuple[int, str], str]
) -> RunFolder:
    """Copy the records of several runs of the same images to ``target``, each model by a new name.

    Classes are those of the first run; if another lists them in another order, its records have
    their indices.

    Raises:
        RunMismatchError: other classes, or other labels of an image.
        BrokenFileError: a file of a run cannot be read.
    """
    folder = _begin_folder(runs[0], task, target, set(list_images(runs[0])))
    orders = [find_class_order(runs[0], run) for run in runs]
    for (index, model), name in names.items():
        files.make_folder(target / "records" / name)
        for cell in read_grid(runs[0]).cells:
            source = runs[index].folder.records_file(model, cell)
            copy = folder.records_file(name, cell)
            if orders[index] is None:
                shutil.copyfile(source, copy)
                continue
            with open_table(source) as table:
                kept = reorder_classes(_decode_errors(table), orders[index])
            write_table(copy, kept)
    cell = read_grid(runs[0]).cells[0]
    _check_labels([folder.records_file(name, cell) for name in names.values()], list(names), runs)
    return folder


def gather_shared(
    runs: Sequence[Run],
    task: Task,
    target: Path,
    names: Mapping[tuple[int, str], str],
    cells: Sequence[Cell],
    images: Sequence[str],
) -> RunFolder:
    """Copy what several runs share to ``target``: their records of some cells and images.

    Args:
        runs: of one kind; each has the cells and the images.
        task: measures them.
        target: a new folder, whose classes are those of the first run in its order.
        names: number of the run and name of the model to its name in ``target``.
        cells: which all runs have.
        images: ids that all runs have, in the order that the records are to have.

    Raises:
        RunMismatchError: the classes, labels or objects of these images differ between runs.
        BrokenFileError: a file of a run cannot be read.
    """
    folder = _begin_folder(runs[0], task, target / "first", images)
    orders = [find_class_order(runs[0], run) for run in runs]
    for index, run in enumerate(runs[1:], 1):
        other = _begin_folder(run, task, target / f"other{index}", images)
        _check_truth(folder, other, runs[0], run)
    for (index, model), name in names.items():
        files.make_folder(folder.path / "records" / name)
        for cell in cells:
            _order_table(runs[index].folder, folder, model, name, cell, images, orders[index])
    first = [folder.records_file(name, cells[0]) for name in names.values()]
    _check_labels(first, list(names), runs)
    return folder


def _check_truth(folder: RunFolder, other: RunFolder, first: Run, run: Run) -> None:
    """Refuse a run whose objects to be found, or classes of the data, are others."""
    truth, theirs = (
        {path.name: files.file_fingerprint(path) for path in one.task_files if is_truth(path)}
        for one in (folder, other)
    )
    if truth != theirs:
        raise RunMismatchError(
            f"{run.path} and {first.path} have other classes, or other objects to be found in the same "
            "images, so their models cannot be paired image by image. Measure both on the same data."
        )


def is_truth(path: Path) -> bool:
    """Whether a file of a task has to be the same in runs that are paired."""
    # The classes of classifiers' outputs are matched by name.
    return path.suffix == ".json" and path.name != CLASS_NAMES


def _check_labels(
    tables: Sequence[Path], names: Sequence[tuple[int, str]], runs: Sequence[Run]
) -> None:
    """Refuse runs that take one image for other classes."""
    expected: list[object] | None = None
    for path, (index, _) in zip(tables, names, strict=True):
        with open_table(path) as table:
            if "target" not in table.column_names:
                return
            labels: list[object] = table["target"].to_pylist()
        expected = labels if expected is None else expected
        if labels != expected:
            wrong = sum(one != other for one, other in zip(labels, expected, strict=True))
            raise RunMismatchError(
                f"{runs[index].path} and {runs[names[0][0]].path} have other labels on {wrong} of the "
                f"{pluralize(len(labels), 'image')} that both have. Measure both on the same data."
            )


def _begin_folder(run: Run, task: Task, target: Path, images: Collection[str]) -> RunFolder:
    files.make_folder(target)
    files.write_json(target / RUN_FILE, run.folder.info())
    folder = RunFolder(target)
    task.carry(run.folder, folder, images)
    return folder


def _filter_table(
    source: RunFolder, target: RunFolder, model: str, cell: Cell, images: Collection[str]
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    with open_table(source.records_file(model, cell)) as table:
        table = _decode_errors(table)
        kept = table.filter(pc.is_in(table["id"], pa.array(sorted(images), table["id"].type)))
    write_table(target.records_file(model, cell), kept)


def _order_table(
    source: RunFolder,
    target: RunFolder,
    model: str,
    name: str,
    cell: Cell,
    images: Sequence[str],
    order: Sequence[int] | None,
) -> None:
    """Write the rows of some images of a table, in their order, with the classes in ``order``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    path = source.records_file(model, cell)
    with open_table(path) as table:
        rows = pc.index_in(pa.array(images, table["id"].type), table["id"].combine_chunks())
        if rows.null_count:
            raise explain_other_images(path)
        kept = reorder_classes(_decode_errors(table).take(rows), order)
    write_table(target.records_file(name, cell), kept)


def join_tables(
    tables: Sequence[Path],
    target: Path,
    images: Sequence[str],
    find_positions: Callable[[Sequence[bool]], Sequence[int]],
) -> None:
    """Write the rows of tables as one: each of the images once, in their order.

    Args:
        tables: of one model in one cell; ``target`` may be among them.
        target: the file that is written.
        images: ids, each of which is in at least one table.
        find_positions: returns the positions in the stream, from whether each image could not be read.

    Raises:
        BrokenFileError: a table cannot be read, or an image is in no table.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with contextlib.ExitStack() as opened:
        read = [_decode_errors(opened.enter_context(open_table(path))) for path in tables]
        joint = pa.concat_tables(read).combine_chunks()
        ids = joint["id"].combine_chunks()
        rows = pc.index_in(pa.array(images, ids.type), ids)
        if rows.null_count:
            raise explain_other_images(target)
        kept = joint.take(rows).combine_chunks()
        broken = [reason is not None for reason in kept["error"].to_pylist()]
        index = kept.schema.get_field_index("position")
        positions = pa.array(find_positions(broken), pa.int32())
        kept = kept.set_column(index, kept.schema.field(index), positions)
    write_table(target, kept)


def _decode_errors(table: pyarrow.Table) -> pyarrow.Table:
    """Equal texts of errors are held once while a table is read; in a file they are plain texts."""
    import pyarrow as pa

    index = table.schema.get_field_index("error")
    if index < 0:
        return table
    return table.set_column(index, "error", table["error"].cast(pa.string()))
