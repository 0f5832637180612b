"""The scores as a table: for a spreadsheet, for a paper, for a terminal.

All three show the same rows: the clean images, each corruption over its severities, the mean over
the corruptions, and what the benchmark makes of them where it may be claimed. They are generated from
``scores.json``, never typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from rich.console import Console

from shiftproof.report.evaluation import tables as evaluation_tables
from shiftproof.report.grid.tables import summarize
from shiftproof.report.probe import tables as probe_tables
from shiftproof.report.similarity import scores as similarity_scores
from shiftproof.report.similarity import tables as similarity_tables
from shiftproof.report.table_writing import Table, as_csv, as_latex, as_terminal
from shiftproof.runs.scores.evaluation import MEASURE as ACCURACY
from shiftproof.runs.scores.evaluation import EvaluationScores
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.probe import MEASURE, ProbeScores
from shiftproof.runs.scores.reading import convert

Scores: TypeAlias = "GridScores | ProbeScores | EvaluationScores | Mapping[str, Any]"
"""What ``scores.json`` holds, typed or as it was parsed."""


def table_csv(scores: Scores) -> str:
    """Return the table of a run's scores as CSV, figures in full precision, shares as fractions.

    One line per row of the table; per model and per difference (named ``BN-source``) three
    columns: the figure and the low and high end of its interval. Figures that do not apply are
    empty.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    return as_csv(_table(scores))


def table_latex(scores: Scores) -> str:
    r"""Return the table of a run's scores as a LaTeX ``table``, shares in percent.

    It needs ``\usepackage{booktabs}`` and nothing else.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    return as_latex(_table(scores))


def print_table(scores: Scores, console: Console) -> None:
    """Print the table of a run's scores to a terminal of 80 columns or more.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    console.print(as_terminal(_table(scores)))


def _table(scores: Scores) -> Table:
    content = msgspec.to_builtins(scores) if isinstance(scores, msgspec.Struct) else scores
    file = Path("scores.json")
    measure = content.get("measure") if isinstance(content, Mapping) else None
    if measure == similarity_tables.MEASURE:
        return similarity_tables.summary(similarity_scores.parse_scores(content))
    if measure == MEASURE:
        return probe_tables.summary(convert(content, ProbeScores, file))
    if measure == ACCURACY:
        return evaluation_tables.summary(convert(content, EvaluationScores, file))
    return summarize(convert(content, GridScores, file))
