"""What every page is made of: a title block, and sections with a template each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from shiftproof.runs.scores.reading import clean_text


class Named(Protocol):
    """A run on a page."""

    @property
    def path(self) -> Path:
        """Its folder."""


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


def run_names(runs: Sequence[Named]) -> list[str]:
    """Return a name for each run: its folder's, with a number where two folders share one."""
    folders = [clean_text(run.path.resolve().name or str(run.path)) for run in runs]
    return [
        folder
        if folders.count(folder) == 1
        else f"{folder} ({1 + folders[:position].count(folder)})"
        for position, folder in enumerate(folders)
    ]
