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
from shiftproof.runs.scores.grid import ModelScores
from shiftproof.runs.scores.reading import convert
from shiftproof.types import Settings

Form = TypeVar("Form", bound=msgspec.Struct)


@dataclass(frozen=True)
class Entry:
    """A model on the page: its scores, its run, and its style in charts.

    ``adapter`` are the settings of the adapter; None without one.
    """

    run: Run
    scored: ModelScores
    series: SeriesStyle
    adapter: Settings | None = None

    @property
    def label(self) -> str:
        """The model's name, after the run's name if several runs are shown."""
        return self.series.label

    def detail(self, form: type[Form]) -> Form:
        """Return the task-specific part of the model's scores.

        Raises:
            BrokenFileError: it does not have the format of such a run.
        """
        place = self.run.scores.models.index(self.scored)
        where = f"models[{place}].detail"
        return convert(self.scored.detail, form, self.run.folder.scores_file, where)


@dataclass(frozen=True)
class Change:
    """A paired difference on the page: a model, its baseline, and the figures."""

    run: Run
    entry: Entry
    against: Entry
    scored: ModelScores

    @property
    def label(self) -> str:
        """The name of the difference."""
        return f"{self.entry.label} {wording.MINUS} {self.against.scored.name}"


@dataclass(frozen=True)
class PageContent:
    """The content of a page: runs, their models, and the differences between these."""

    runs: Sequence[Run]
    entries: Sequence[Entry]
    changes: Sequence[Change]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> PageContent:
        """Collect the models of the runs with unique labels."""
        entries = [
            Entry(run, model, series, run.adapter(model.name))
            for run, model, series in label_models(runs)
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
        """The first run, which determines the common measure."""
        return self.runs[0]

    @property
    def measure(self) -> str:
        """The name of the measure in charts of the grid."""
        return self.first.scores.measure.name

    @property
    def alone(self) -> list[Entry]:
        """The models without a baseline in their run."""
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
