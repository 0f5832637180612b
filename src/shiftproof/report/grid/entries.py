"""The models of all runs on a page, and the differences between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from shiftproof.report import wording
from shiftproof.report.sections import label_models
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import Scored
from shiftproof.runs.scores.reading import convert
from shiftproof.types import Settings

Form = TypeVar("Form", bound=msgspec.Struct)


@dataclass(frozen=True)
class Entry:
    """A model on the page: its scores, the run they are from, and how it looks.

    ``adapter`` are the settings of the adapter; None for a model as it is.
    """

    run: Run
    scored: Scored
    look: SeriesStyle
    adapter: Settings | None = None

    @property
    def label(self) -> str:
        """The model's name, with the run's name before it where several runs are shown."""
        return self.look.label

    def detail(self, form: type[Form]) -> Form:
        """Return what the model's scores have beside those of every task.

        Raises:
            BrokenFileError: it is not what a run of that kind writes.
        """
        place = self.run.scores.models.index(self.scored)
        where = f"models[{place}].detail"
        return convert(self.scored.detail, form, self.run.folder.scores_file, where)


@dataclass(frozen=True)
class Change:
    """A paired difference on the page: a model, what it is held against, and the figures."""

    run: Run
    entry: Entry
    against: Entry
    scored: Scored

    @property
    def label(self) -> str:
        """The name of the difference."""
        return f"{self.entry.label} {wording.MINUS} {self.against.scored.name}"


@dataclass(frozen=True)
class Shown:
    """All that a page shows: runs, their models, and the differences between these."""

    runs: Sequence[Run]
    entries: Sequence[Entry]
    changes: Sequence[Change]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Shown:
        """Give each model of the runs a label that no other has."""
        entries = [
            Entry(run, model, look, run.adapter(model.name))
            for run, model, look in label_models(runs)
        ]
        by_name = {(id(entry.run), entry.scored.name): entry for entry in entries}
        changes = [
            Change(
                run,
                by_name[id(run), difference.name],
                by_name[id(run), str(difference.against)],
                difference,
            )
            for run in runs
            for difference in run.scores.differences
        ]
        return cls(runs, entries, changes)

    @property
    def first(self) -> Run:
        """The run whose measure all share."""
        return self.runs[0]

    @property
    def measure(self) -> str:
        """The name of what the grid is drawn by."""
        return self.first.scores.measure.name

    @property
    def alone(self) -> list[Entry]:
        """The models that are held against no other of their run."""
        compared = {id(change.entry) for change in self.changes}
        return [entry for entry in self.entries if id(entry) not in compared]

    def of_run(self, run: Run) -> list[Entry]:
        """Return the models of one run."""
        return [entry for entry in self.entries if entry.run is run]

    def find_pictured(self, form: type[Form], part: str) -> tuple[Run, Form] | None:
        """Return the first run whose gallery has something in ``part``, with the gallery."""
        for run in self.runs:
            gallery = run.gallery(form)
            if getattr(gallery, part):
                return run, gallery
        return None
