"""Cells of answers that others made, as parts: each is read once, here, by a worker, or on a cluster.

A part is one model in one cell. What is made of it does not depend on other parts, so all bytes are
the same wherever it was made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shiftproof.runs.folder import RunFolder
from shiftproof.shards import Arrays, Backend, FileParts, Ray, fill_parts, pack_files
from shiftproof.shards.access import check_accessible
from shiftproof.types import Cell

WHAT = "Score"


class CellReader(Protocol):
    """Reads the answers of a model in a cell; small to pickle, and the same in every process."""

    def write(self, folder: RunFolder, model: str, cell: Cell) -> None:
        """Write the record table of a cell, and what else is known once it is read.

        Raises:
            InputError: the answers cannot be used.
        """


@dataclass(frozen=True, eq=False)
class ScoreJob:
    """The cells of all models, and what reads them.

    Attributes:
        reader: reads them.
        sources: name of each model to the file or folder of its answers.
        cells: the cells that all of them have.
        is_sent: whether machines of a cluster read them, which may not see the answers.
    """

    reader: CellReader
    sources: Mapping[str, Path]
    cells: Sequence[Cell]
    is_sent: bool = False

    @property
    def parts(self) -> list[tuple[str, Cell]]:
        """The parts: name of the model, and the cell."""
        return [(name, cell) for name in self.sources for cell in self.cells]


def fill_scored(
    folder: RunFolder,
    reader: CellReader,
    sources: Mapping[str, Path],
    cells: Sequence[Cell],
    backend: Backend,
    *,
    show_progress: bool | None,
) -> None:
    """Fill a run's folder with the cells that are missing: all, a worker's share, or on a cluster.

    Raises:
        InputError: answers cannot be used.
        UnfinishedError: this worker's share is done, others' are not.
        RunError: a machine of the cluster does not see the answers.
    """
    job = ScoreJob(reader, sources, cells, is_sent=isinstance(backend, Ray))
    inner = RunFolder(Path())
    # The table marks a part as done; what else belongs to it is removed at the end of the run.
    tables = [(inner.records_file(*part).as_posix(),) for part in job.parts]
    titles = [f"{name}, {cell}" for name, cell in job.parts]
    parts = FileParts(folder.path, tables)
    fill_parts(
        WHAT, make_part, job, parts, backend, show=show_progress, describe=titles.__getitem__
    )


def make_part(job: ScoreJob, part: int) -> Arrays:
    """Return the files of one part."""
    name, cell = job.parts[part]
    if job.is_sent:
        check_accessible(job.sources[name])
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        folder = RunFolder(Path(scratch))
        folder.records_file(name, cell).parent.mkdir(parents=True)
        job.reader.write(folder, name, cell)
        return pack_files(Path(scratch))
