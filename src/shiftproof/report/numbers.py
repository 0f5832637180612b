"""The figures of each run as tables to copy, as a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from shiftproof.report import table_writing, wording
from shiftproof.report.sections import Section, run_names
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import AnyRun

Scores = TypeVar("Scores", bound=msgspec.Struct)


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
