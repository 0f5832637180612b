"""What a run over the answers of other frameworks is given, as one value, and the steps of all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from shiftproof.bench.arguments import choose_workers
from shiftproof.bench.scoring.cell_parts import CellReader, fill_scored
from shiftproof.bench.tasks.classification.calibrators import COVERAGE
from shiftproof.bench.tasks.interface import Grid, Task
from shiftproof.bench.tasks.summary import summarize
from shiftproof.classes import Classes
from shiftproof.data import ImageData
from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.info import normalize_settings
from shiftproof.runs.scores.reading import write_form
from shiftproof.shards import Backend, Local, Scheduled
from shiftproof.types import Cell, Settings

Named: TypeAlias = Classes | str | Path | Sequence[str]
"""User's specification of classes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreRequest:
    """What is asked for: the arguments of :func:`score` under their names.

    Attributes:
        given: name of each model to the file or folder of its answers.
    """

    given: Mapping[str, Path]
    data: ImageData | str | Path | None
    out: Path
    measure: str = "auto"
    classes: Named | None = None
    class_map: Mapping[str, str] | None = None
    calibrate: float | str | None = None
    coverage: float = COVERAGE
    workers: int | None = None
    backend: Backend | None = None
    show_progress: bool | None = None

    @property
    def processes(self) -> int:
        """Processes that read and measure."""
        return choose_workers("none") if self.workers is None else self.workers

    def create_folder(self, kind: str, settings: Settings, about: Settings) -> RunFolder:
        """Make the folder of the run, or go on with the one that is there."""
        return RunFolder.create(
            self.out,
            kind,
            normalize_settings(settings),
            {**about, "provenance": provenance("none", 0)},
            shared=isinstance(self.backend, Scheduled),
        )

    def fill(
        self, folder: RunFolder, reader: CellReader, cells: Sequence[Cell], *, processes: int
    ) -> None:
        """Read the cells that are missing: by ``processes`` where no backend is given."""
        backend = Local(processes) if self.backend is None else self.backend
        fill_scored(folder, reader, self.given, cells, backend, show_progress=self.show_progress)

    def summarize(self, folder: RunFolder, task: Task, grid: Grid) -> None:
        """Measure the records, and write the scores."""
        scores = summarize(
            folder,
            task,
            {name: name for name in self.given},
            grid,
            workers=self.processes,
            show_progress=self.show_progress,
        )
        write_form(folder.scores_file, scores)
