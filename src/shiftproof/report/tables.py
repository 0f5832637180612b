"""The scores as a table: for a spreadsheet, a paper, a page of Markdown, a terminal.

All of them show the same rows. They are generated from ``scores.json``, never typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rich.console import Console

from shiftproof.report.classification.trust import describe_lost, list_lines
from shiftproof.report.grid import conditions, words
from shiftproof.report.grid.conditions import format_conditions
from shiftproof.report.grid.ranking import format_ranking
from shiftproof.report.kinds import find_kind
from shiftproof.report.parts import tabulate_models
from shiftproof.report.table_writing import (
    Table,
    print_whole,
    to_csv,
    to_latex,
    to_markdown,
    to_terminal,
)
from shiftproof.report.wording import NO_BREAK
from shiftproof.runs.run import AnyRun, Run
from shiftproof.runs.scores.anytime import AnytimeScores
from shiftproof.runs.scores.audit import AuditScores
from shiftproof.runs.scores.breaking import BreakingScores
from shiftproof.runs.scores.conditions import ConditionScores
from shiftproof.runs.scores.evaluation import EvaluationScores
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.probe import ProbeScores
from shiftproof.runs.scores.reading import convert

TypedScores: TypeAlias = (
    GridScores | ProbeScores | AuditScores | EvaluationScores | AnytimeScores | BreakingScores
)

Scores: TypeAlias = "TypedScores | Mapping[str, Any]"
"""The content of ``scores.json``, typed or as parsed JSON."""


def table_csv(scores: Scores) -> str:
    """Return the table of a run's scores as CSV, figures in full precision, shares as fractions.

    One line per row of the table; per model and per difference (named ``BN-source``) three
    columns: the figure and the low and high end of its interval. Undefined values are empty.

    Raises:
        BrokenFileError: ``scores`` is invalid.
    """
    return to_csv(_summarize(scores))


def table_latex(scores: Scores) -> str:
    r"""Return the table of a run's scores as a LaTeX ``table``, shares in percent.

    It needs ``\usepackage{booktabs}`` and nothing else.

    Raises:
        BrokenFileError: ``scores`` is invalid.
    """
    return to_latex(_summarize(scores))


def table_markdown(scores: Scores) -> str:
    """Return the table of a run's scores as GitHub's Markdown, shares in percent.

    A difference whose interval excludes 0 is bold.

    Raises:
        BrokenFileError: ``scores`` is invalid.
    """
    return to_markdown(_summarize(scores))


def write_ranking(run: Sequence[str | Path], form: Literal["csv", "latex", "markdown"]) -> str:
    """Return the ranking of the models of several runs, each with its difference to every other.

    Raises:
        RunMismatchError: the runs are not comparable; the message names the differences.
        InputError: a folder is not a finished run; a kind whose models cannot be ranked.
        BrokenFileError: a file of a run is damaged.
    """
    return _WRITERS[form](tabulate_models(run))


_WRITERS = {"csv": to_csv, "latex": to_latex, "markdown": to_markdown}


def print_table(scores: Scores, console: Console) -> None:
    """Print the table of a run's scores, its figures whole on a terminal of any width.

    Raises:
        BrokenFileError: ``scores`` is invalid.
    """
    typed = _read(scores)
    print_whole(console, to_terminal(_summarize(typed)))
    ranked = format_ranking(typed, typed.ranking) if isinstance(typed, GridScores) else None
    if ranked is not None:
        print_whole(console, ranked)


def describe_subset(run: AnyRun[Any]) -> str | None:
    """Describe a run's subset of images, its rule, and the headline's precision.

    Returns:
        ``5,000 of 50,000 images, drawn by id, stratified by label; mCE ±0.8 points.``; None for a
        run of all images, or of a kind without a grid.
    """
    return words.describe_subset(run) if isinstance(run, Run) else None


def describe_trust(run: Run) -> tuple[list[str], list[str]]:
    """Describe calibration and coverage for a terminal, by model.

    Returns:
        Lines with the scores, and a sentence for each model whose sets lose their coverage.
    """
    found = list(run.trust().items())
    lost = [said for name, one in found for said in describe_lost(name, one)]
    return list_lines(found), [said.replace(NO_BREAK, " ") for said in lost]


def print_conditions(scores: ConditionScores, console: Console) -> None:
    """Print the figures by condition to a terminal: a block for each model."""
    print_whole(console, format_conditions(scores))


def conditions_csv(scores: ConditionScores) -> str:
    """Return the figures by condition as CSV: a line for each condition in each headline."""
    return to_csv(conditions.summarize(scores))


def conditions_latex(scores: ConditionScores) -> str:
    r"""Return the figures by condition as a LaTeX ``table``, which needs ``\usepackage{booktabs}``."""
    return to_latex(conditions.summarize(scores))


def _summarize(scores: Scores) -> Table:
    typed = _read(scores)
    return find_kind(typed.kind).summarize(typed)


def _read(scores: Scores) -> TypedScores:
    """Return typed scores, converting parsed JSON."""
    if isinstance(scores, TypedScores):
        return scores
    kind = find_kind(str(scores.get("kind")) if isinstance(scores, Mapping) else "")
    found: TypedScores = convert(scores, kind.form, Path("scores.json"))
    return found
