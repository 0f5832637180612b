"""``shiftproof report``: write the page of a run again, or compare runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console

from shiftproof.cli.options import json_option
from shiftproof.cli.printing import announce, print_json, print_line, warn
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.runs import AnyRun


TableFormat: TypeAlias = Literal["text", "csv", "latex", "markdown", "md"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "report",
        epilog=(
            "Examples:  shiftproof report run  ·  shiftproof report run1 run2 --out both.html  ·  "
            "shiftproof report run --table latex  ·  shiftproof report stream --calibration run  ·  "
            "shiftproof report audit --images photos"
        ),
    )(report)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs of any kinds; alike ones are compared."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The page; RUN/report.html by default."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="DIR",
            help="For a run without labels: a labeled run of the same model, from which its "
            "accuracy is estimated.",
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images",
            metavar="[NAME=]DIR",
            help="For an audit: a folder with its images, or NAME=DIR for those of one test set or of "
            "train; once for each. Images in other folders are not opened.",
        ),
    ] = None,
    table: Annotated[
        TableFormat | None,
        typer.Option(
            "--table",
            metavar="NAME",
            help="Print a table instead: text, csv, latex or markdown (md); of several runs the ranking "
            "of their models.",
        ),
    ] = None,
    model_index: Annotated[
        bool,
        typer.Option(
            "--model-index",
            help="Print the figures as metadata of a Hugging Face model card (YAML).",
        ),
    ] = False,
    as_json: Annotated[bool, json_option("Print scores.json on standard output.")] = False,
) -> None:
    """Write the HTML page of one run, or of several of any kinds."""
    announce(f"Reading {', '.join(map(str, runs))}")
    from shiftproof.io import files
    from shiftproof.runs import load_run

    loaded = [load_run(path) for path in runs]
    if model_index:
        print_line(_write_model_index(loaded), newline=False)
        return
    if as_json or table:
        if calibration is not None or images:
            raise InputError(
                "--calibration and --images are for the page; leave out --table and --json."
            )
        _print_scores(loaded, runs, table, as_json=as_json)
        return
    from shiftproof.report import describe_differences, write_report

    if out is not None:
        files.make_folder(out.parent)
    files.clear_unfinished(runs[0] if out is None else out.parent, recursive=False)
    page = write_report(
        runs[0] if len(runs) == 1 else runs, out, calibration=calibration, images=images or ()
    )
    for sentence in describe_differences(runs) if len(runs) > 1 else ():
        warn(sentence)
    print_line(f"report   {page}")


def _print_scores(
    loaded: Sequence[AnyRun[Any]],
    runs: list[Path],
    table_format: TableFormat | None,
    *,
    as_json: bool,
) -> None:
    """Print the scores of one run as JSON or a table, or the ranking of several."""
    from shiftproof.report import (
        describe_subset,
        print_table,
        table_csv,
        table_latex,
        table_markdown,
    )

    if len(loaded) > 1:
        if as_json:
            raise InputError(
                "--json prints the scores of one run; give one folder, or --table for a ranking."
            )
        _print_ranking(runs, table_format)
        return
    writers = {
        "csv": table_csv,
        "latex": table_latex,
        "markdown": table_markdown,
        "md": table_markdown,
    }
    [run] = loaded
    if as_json:
        print_json(run.folder.scores_file.read_text(encoding="utf-8"))
    elif table_format in writers:
        print_line(writers[table_format](run.scores), newline=False)
    else:
        print_table(run.scores, Console(file=sys.stdout))
        subset = describe_subset(run)
        if subset is not None:
            print_line(subset)


def _write_model_index(runs: Sequence[AnyRun[Any]]) -> str:
    """Return ``model-index`` as YAML: an entry for each run."""
    from shiftproof.runs import Run
    from shiftproof.runs.model_index import write_yaml

    grids = [run for run in runs if isinstance(run, Run)]
    if len(grids) < len(runs):
        raise InputError("--model-index is for runs over the corruption grid.")
    return write_yaml({"model-index": [run.model_index() for run in grids]})


def _print_ranking(runs: list[Path], table_format: TableFormat | None) -> None:
    from shiftproof.report import print_ranking, write_ranking

    if table_format is None or table_format == "text":
        print_ranking(runs, Console(file=sys.stdout))
    else:
        print_line(
            write_ranking(runs, "markdown" if table_format == "md" else table_format), newline=False
        )
