"""The scores as a table: for a spreadsheet, for a paper, for a terminal.

All three show the same rows: the clean images, each corruption over its severities, the mean over
the corruptions, and what the benchmark makes of them where it may be claimed. They are generated from
``scores.json``, never typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from shiftproof.report import (
    classification_tables,
    detection_scores,
    detection_tables,
    probe_scores,
    probe_tables,
    similarity_scores,
    similarity_tables,
)
from shiftproof.report import scores as classification_scores
from shiftproof.report.reading import Node
from shiftproof.report.table_writing import Table, as_csv, as_latex, as_terminal


def table_csv(scores: Mapping[str, Any]) -> str:
    """Return the table of a ``scores.json`` as CSV, fractions in full precision.

    One line per row of the table; per model and per difference (named ``BN-source``) three
    columns: the figure and the low and high end of its interval. Figures that do not apply are
    empty.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    return as_csv(_table(scores))


def table_latex(scores: Mapping[str, Any]) -> str:
    r"""Return the table of a ``scores.json`` as a LaTeX ``table``, in percent.

    It needs ``\usepackage{booktabs}`` and nothing else.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    return as_latex(_table(scores))


def print_table(scores: Mapping[str, Any], console: Console) -> None:
    """Print the table of a ``scores.json`` to a terminal of 80 columns or more.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    console.print(as_terminal(_table(scores)))


def _table(content: Mapping[str, Any]) -> Table:
    if isinstance(content, Mapping) and content.get("measure") in detection_scores.MEASURES:
        return detection_tables.summary(detection_scores.read_scores(_root(content)))
    if isinstance(content, Mapping) and content.get("measure") == similarity_tables.MEASURE:
        return similarity_tables.summary(similarity_scores.parse_scores(content))
    if isinstance(content, Mapping) and content.get("measure") == probe_scores.MEASURE:
        return probe_tables.summary(probe_scores.parse_scores(content))
    return classification_tables.summary(classification_scores.read_scores(_root(content)))


def _root(content: Mapping[str, Any]) -> Node:
    return Node(content, Path("scores.json"))
