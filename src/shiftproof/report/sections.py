"""What every kind of page is made of: models with a look, and sections with a template.

A kind of run (classification today; detection, similarity, probes later) is a function from the
runs to a list of sections. The page around them, its style and its tables are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shiftproof.report.figures import Look
from shiftproof.report.scores import Run, Scored, clean_text
from shiftproof.types import Settings


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
class Entry:
    """A model on the page: its scores, the run they are from, and how it looks."""

    run: Run
    scored: Scored
    look: Look

    @property
    def label(self) -> str:
        """The model's name, with the run's name before it where several runs are shown."""
        return self.look.label

    @property
    def adapter(self) -> Settings | None:
        """The settings of the adapter; None for the model as it is."""
        if self.scored.adapter is not None:
            return self.scored.adapter
        adapters = self.run.settings.get("adapters")
        found = adapters.get(self.scored.name) if isinstance(adapters, Mapping) else None
        return dict(found) if isinstance(found, Mapping) else None


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


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Return the models of all runs, each with a label that no other has."""
    names = run_names(runs)
    found: list[Entry] = []
    for run, run_name in zip(runs, names, strict=True):
        for model in run.scores.models:
            label = model.name if len(runs) == 1 else f"{run_name}: {model.name}"
            found.append(Entry(run, model, Look(label, len(found))))
    return found


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run: its folder's, with a number where two folders share one."""
    folders = [clean_text(run.path.resolve().name or str(run.path)) for run in runs]
    return [
        folder
        if folders.count(folder) == 1
        else f"{folder} ({1 + folders[:position].count(folder)})"
        for position, folder in enumerate(folders)
    ]
