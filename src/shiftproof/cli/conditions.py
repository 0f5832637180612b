"""``shiftproof conditions``: a finished run by weather, hour, camera or other metadata."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from shiftproof.cli.options import Workers, json_option
from shiftproof.cli.outcome import write_page
from shiftproof.cli.printing import announce, print_json, print_line


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "conditions",
        epilog=(
            "Examples:  shiftproof conditions run --metadata labels.csv --by weather  ·  "
            "shiftproof conditions run --metadata bdd100k_labels_images_val.json --by timeofday "
            "--against daytime  ·  shiftproof conditions run --by part:2"
        ),
    )(conditions)


def conditions(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="The column of the metadata; or part:2, the second folder of the images' names, "
            "which has the weather in ACDC.",
        ),
    ],
    metadata: Annotated[
        Path | None,
        typer.Option(
            "--metadata",
            "-m",
            help="A CSV or Parquet table with a column image, name or path, or the label JSON of "
            "BDD100K or SHIFT. Not needed for conditions in the images' names.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="The condition to compare with; by default clear, or its name in the metadata, else "
            "the one with the most images.",
        ),
    ] = None,
    workers: Workers = None,
    table: Annotated[
        Literal["text", "csv", "latex"],
        typer.Option("--table", metavar="NAME", help="Format of the table: text, csv or latex."),
    ] = "text",
    as_json: Annotated[bool, json_option("Print the scores on standard output.")] = False,
) -> None:
    """Read a finished run by weather, time of day or any other condition of its images."""
    announce(f"Reading {run} by {by}")
    from shiftproof.runs import RunFolder, load_run

    load_run(run)  # a folder that is not a run is refused before the slow imports
    from shiftproof import bench
    from shiftproof.report import conditions_csv, conditions_latex, print_conditions

    scores = bench.score_conditions(run, metadata, by=by, against=against, workers=workers or 0)
    file = RunFolder(run).conditions_file(by)
    page = write_page(run)
    if as_json:
        print_json(file.read_text(encoding="utf-8"))
    elif table == "csv":
        print_line(conditions_csv(scores), newline=False)
    elif table == "latex":
        print_line(conditions_latex(scores), newline=False)
    else:
        print_conditions(scores, Console(file=sys.stdout))
        if page is not None:
            print_line(f"report   {page}")
        print_line(f"scores   {file}")
