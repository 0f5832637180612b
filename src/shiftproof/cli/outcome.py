"""What a person sees at the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from shiftproof.cli.printing import say, say_json, warn
from shiftproof.errors import MissingExtraError
from shiftproof.io import files

if TYPE_CHECKING:
    from shiftproof.runs import EvaluationRun, ProbeRun, Run


def show_outcome(run: Run | ProbeRun | EvaluationRun, *, as_json: bool) -> None:
    """Write the report, then show the table and where things are; or the scores as JSON."""
    from shiftproof.report import describe_subset, print_table

    scores = run.scores
    page = write_page(run.path)
    if as_json:
        say_json(run.folder.scores_file.read_text(encoding="utf-8"))
        return
    broken = scores.images.broken
    print_table(scores, Console(file=sys.stdout))
    bought = describe_subset(run)
    if bought is not None:
        say(bought)
    for entry in broken[:5]:
        warn(f"not readable: {entry.reason}")
    if len(broken) > 5:
        warn(f"and {len(broken) - 5} more, listed in the report")
    if page is not None:
        say(f"report   {page}")
    say(f"scores   {run.folder.scores_file}")
    if (run.path / "records").is_dir():
        say(f"records  {run.path / 'records'}")


def write_page(run: Path, images: Sequence[Path] = ()) -> Path | None:
    """Write the report of a run; say why where there is none.

    ``images`` are folders whose pictures it may show, beside the run's own.
    """
    from shiftproof.report import write_report

    files.clear_unfinished(run, below=False)
    try:
        return write_report(run, images=images)
    except MissingExtraError as error:
        warn(f"No report.html: {error}", style=None)
        return None
