"""What every page is made of: a title block, and sections with a template each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from shiftproof.report import table_writing, wording
from shiftproof.report.svg.charts import Look
from shiftproof.report.table_writing import Table
from shiftproof.report.wording import FEW_IMAGES
from shiftproof.runs.run import AnyRun
from shiftproof.runs.scores.reading import clean_text

Scores = TypeVar("Scores", bound=msgspec.Struct)


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


def run_names(runs: Sequence[AnyRun[Any]]) -> list[str]:
    """Return a name for each run: its folder's, with a number where two folders share one."""
    folders = [clean_text(run.path.resolve().name or str(run.path)) for run in runs]
    return [
        folder
        if folders.count(folder) == 1
        else f"{folder} ({1 + folders[:position].count(folder)})"
        for position, folder in enumerate(folders)
    ]


def label_models(runs: Sequence[AnyRun[Any]]) -> Iterator[tuple[Any, Any, Look]]:
    """Yield each model of each run with a look that no other has.

    Its label is the model's name, with the run's name before it where several runs are shown.
    """
    number = 0
    for run, name in zip(runs, run_names(runs), strict=True):
        for model in run.scores.models:
            label = model.name if len(runs) == 1 else f"{name}: {model.name}"
            yield run, model, Look(label, number)
            number += 1


def reading_section(template: str, context: Mapping[str, Any]) -> Section:
    """Build the words on how to read the page, which stand at its end."""
    return Section(
        "reading", "How to read this", "How to read", template, {"few": FEW_IMAGES, **context}
    )


def numbers_section(
    runs: Sequence[AnyRun[Scores]],
    summarize: Callable[[Scores], Table],
    write_cells: Callable[[Scores], str],
    *,
    unit: str,
) -> Section:
    """Build the section: of each run the summary as CSV and as LaTeX, and every cell as CSV.

    ``unit`` says in what the figures of all cells are: fractions, ...
    """
    listed = []
    for run, name in zip(runs, run_names(runs), strict=True):
        table = summarize(run.scores)
        listed.append(
            {
                "name": name if len(runs) > 1 else None,
                "csv": table_writing.as_csv(table),
                "latex": table_writing.as_latex(table),
                "stored": _list_units(one.stored for one in table.spellings),
                "printed": _list_units(one.printed for one in table.spellings),
                "cells": write_cells(run.scores),
                "unit": unit,
            }
        )
    return Section(
        "numbers", "The table, to copy", "CSV and LaTeX", "numbers.html.j2", {"runs": listed}
    )


def _list_units(units: Iterable[str]) -> str:
    return wording.listing(list(dict.fromkeys(units)))
