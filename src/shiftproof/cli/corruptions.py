"""``shiftproof corruptions``: the list, and the sheet of one image under all of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shiftproof.cli.printing import say, say_json


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "corruptions",
        epilog="Examples:  shiftproof corruptions  ·  "
        "shiftproof corruptions --show cat.jpg --out sheet.png",
    )(corruptions)


def corruptions(
    show: Annotated[
        Path | None, typer.Option("--show", help="Draw this image under every corruption.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the sheet goes.")] = Path(
        "sheet.png"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Decides the noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the corruptions in one line each, or draw the sheet of all names and severities."""
    from shiftproof.corruptions import COMMON, CORRUPTIONS, HOLDOUT

    if show is not None:
        from shiftproof.report import write_sheet

        write_sheet(show, out, seed=seed)
        say(f"sheet   {out}")
        return
    entries = [
        {
            "name": name,
            "family": entry.family,
            "set": "common" if name in COMMON else "holdout" if name in HOLDOUT else "further",
            "description": entry.description,
        }
        for name, entry in CORRUPTIONS.items()
    ]
    if as_json:
        say_json(json.dumps(entries, indent=1))
        return
    table = Table(
        "name", "family", "set", "what it does", box=None, header_style="bold", pad_edge=False
    )
    for entry in entries:
        table.add_row(*entry.values())
    Console(file=sys.stdout).print(table)
