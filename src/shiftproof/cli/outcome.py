"""What a person sees at the end of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from shiftproof.bench import Run
from shiftproof.errors import MissingExtraError
from shiftproof.io import files
from shiftproof.progress import console


def show_outcome(run: Run, *, as_json: bool) -> None:
    """Write the report, then show the table and where things are; or the scores as JSON."""
    from shiftproof.report import print_table

    scores = run.scores
    page = write_page(run.path)
    if as_json:
        echo_json(run.folder.scores_file)
        return
    broken = scores["images"]["broken"]
    print_table(scores, Console(file=sys.stdout))
    for entry in broken[:5]:
        console.print(f"not readable: {entry['reason']}", style="yellow", markup=False)
    if len(broken) > 5:
        console.print(f"and {len(broken) - 5} more, listed in the report", style="yellow")
    if page is not None:
        typer.echo(f"report   {page}")
    typer.echo(f"scores   {run.folder.scores_file}")
    if (run.path / "records").is_dir():
        typer.echo(f"records  {run.path / 'records'}")


def echo_json(path: Path) -> None:
    """Print a JSON file, with the letters escaped that standard output does not have."""
    text = path.read_text(encoding="utf-8")
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=1) + "\n"
    typer.echo(text, nl=False)


def write_page(run: Path, images: Sequence[Path] = ()) -> Path | None:
    """Write the report of a run; say why where there is none.

    ``images`` are folders whose pictures it may show, beside the run's own.
    """
    from shiftproof.report import write_report

    files.clear_unfinished(run, below=False)
    try:
        return write_report(run, images=images)
    except MissingExtraError as error:
        console.print(f"No report.html: {error}", highlight=False, markup=False)
        return None
