"""The figures of each run as tables to copy, as a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from shiftproof.report import table_writing, wording
from shiftproof.report.sections import Named, Section, run_names
from shiftproof.report.table_writing import Table

Run = TypeVar("Run", bound=Named)


def numbers_section(
    runs: Sequence[Run],
    summary: Callable[[Run], Table],
    cells: Callable[[Run], str],
    *,
    unit: str,
) -> Section:
    """Build the section: the summary as CSV and as LaTeX, and every cell as CSV.

    ``unit`` says in what the figures of all cells are: fractions, ...
    """
    return tables_section(
        [
            (name if len(runs) > 1 else None, summary(run), cells(run))
            for run, name in zip(runs, run_names(runs), strict=True)
        ],
        unit=unit,
    )


def tables_section(tables: Sequence[tuple[str | None, Table, str]], *, unit: str) -> Section:
    """Build the section of summaries and cells, with a name where there are several."""
    return Section(
        "numbers",
        "The table, to copy",
        "CSV and LaTeX",
        "numbers.html.j2",
        {
            "runs": [
                {
                    "name": name,
                    "csv": table_writing.as_csv(table),
                    "latex": table_writing.as_latex(table),
                    "stored": _listing(one.stored for one in table.spellings),
                    "printed": _listing(one.printed for one in table.spellings),
                    "cells": cells,
                    "unit": unit,
                }
                for name, table, cells in tables
            ]
        },
    )


def _listing(units: Iterable[str]) -> str:
    return wording.listing(list(dict.fromkeys(units)))
