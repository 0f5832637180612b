"""What every kind of page is made of: models with a look, and sections with a template.

A kind of run (classification, detection) is a function from the runs to a list of sections. The page
around them and its style are shared, and so are the sections that all kinds have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from shiftproof.report import wording
from shiftproof.report.figures import Look
from shiftproof.report.reading import clean_text
from shiftproof.report.run_folder import Measured, Named, Run
from shiftproof.types import Settings

AnyRun: TypeAlias = Run[Measured, object]

Run_co = TypeVar("Run_co", bound=AnyRun, covariant=True)
Model_co = TypeVar("Model_co", bound=Named, covariant=True)


@dataclass(frozen=True)
class Section:
    """One part of the page: its anchor, headings, template, and what the template is given."""

    anchor: str
    title: str
    short: str
    """The title as it stands in the page's navigation."""
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry(Generic[Run_co, Model_co]):
    """A model on the page: its scores, the run they are from, and how it looks.

    ``adapter`` are the settings of the adapter; None for the model as it is.
    """

    run: Run_co
    scored: Model_co
    look: Look
    adapter: Settings | None = None

    @property
    def label(self) -> str:
        """The model's name, with the run's name before it where several runs are shown."""
        return self.look.label


AnyEntry: TypeAlias = Entry[AnyRun, Named]


@dataclass(frozen=True)
class Change(Generic[Run_co, Model_co]):
    """A paired difference on the page: a model, what it is held against, and the figures."""

    run: Run_co
    entry: Entry[Run_co, Model_co]
    against: Entry[Run_co, Model_co]
    scored: Model_co

    @property
    def label(self) -> str:
        """The name of the difference."""
        return f"{self.entry.label} {wording.MINUS} {self.against.scored.name}"


AnyChange: TypeAlias = Change[AnyRun, Named]


@dataclass(frozen=True)
class Document:
    """A page before it is written: the title block and the sections."""

    title: str
    kicker: str
    byline: Sequence[Sequence[str]]
    lead: Sequence[str]
    sections: Sequence[Section]
    alarms: Sequence[str] = ()
    """What makes the page misleading if it is not read; stands above all figures."""
    warnings: Sequence[str] = ()


def entries(
    runs: Sequence[Run_co],
    models: Callable[[Run_co], Sequence[Model_co]],
    adapter: Callable[[Run_co, Model_co], Settings | None],
) -> list[Entry[Run_co, Model_co]]:
    """Return the models of all runs, each with a label that no other has."""
    names = run_names(runs)
    found: list[Entry[Run_co, Model_co]] = []
    for run, run_name in zip(runs, names, strict=True):
        for model in models(run):
            label = model.name if len(runs) == 1 else f"{run_name}: {model.name}"
            found.append(Entry(run, model, Look(label, len(found)), adapter(run, model)))
    return found


def changes(
    runs: Sequence[Run_co],
    shown: Sequence[Entry[Run_co, Model_co]],
    differences: Callable[[Run_co], Sequence[Model_co]],
) -> list[Change[Run_co, Model_co]]:
    """Return the differences of all runs, each with the two models that it is between."""
    by_name = {(id(entry.run), entry.scored.name): entry for entry in shown}
    return [
        Change(
            run,
            by_name[id(run), difference.name],
            by_name[id(run), str(difference.against)],
            difference,
        )
        for run in runs
        for difference in differences(run)
    ]


def run_names(runs: Sequence[AnyRun]) -> list[str]:
    """Return a name for each run: its folder's, with a number where two folders share one."""
    folders = [clean_text(run.path.resolve().name or str(run.path)) for run in runs]
    return [
        folder
        if folders.count(folder) == 1
        else f"{folder} ({1 + folders[:position].count(folder)})"
        for position, folder in enumerate(folders)
    ]
