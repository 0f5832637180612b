"""``shiftproof corruptions``: the list, and the sheet of one image under all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftproof.cli.options import json_option
from shiftproof.cli.printing import print_json, print_line


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "corruptions",
        epilog="Examples:  shiftproof corruptions  ·  "
        "shiftproof corruptions --show cat.jpg --corruptions c-bar --out sheet.png",
    )(corruptions)


def corruptions(
    show: Annotated[
        Path | None, typer.Option("--show", help="Draw this image under every corruption.")
    ] = None,
    chosen: Annotated[
        str, typer.Option("--corruptions", "-c", help="Names or sets on the sheet.")
    ] = "all",
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the sheet.")] = Path(
        "sheet.png"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    sets: Annotated[bool, typer.Option("--sets", help="List only the sets.")] = False,
    as_json: Annotated[bool, json_option("Print the list as JSON.")] = False,
) -> None:
    """List the corruptions and the sets of them, or draw the sheet of all names and severities."""
    if show is not None:
        from shiftproof.cli.corruption_choice import resolve_corruptions
        from shiftproof.report import write_sheet

        write_sheet(show, out, corruptions=resolve_corruptions(chosen, None), seed=seed)
        print_line(f"sheet   {out}")
        return
    if as_json:
        print_json(json.dumps(_list_sets() if sets else _list_corruptions(), indent=1))
        return
    # Titles are printed before the slow imports of their rows.
    console = Console(file=sys.stdout)
    if not sets:
        console.print(Text("--corruptions, one by one", style="bold"))
        _print(console, ("name", "family", "set", "description"), _list_corruptions())
        console.print()
    console.print(Text("--corruptions, sets of them", style="bold"))
    _print(console, ("set", "corruptions", "what it is", "source"), _list_sets())


def _list_corruptions() -> list[dict[str, str]]:
    from shiftproof.corruptions import CORRUPTIONS
    from shiftproof.corruptions.suites import find_suite

    return [
        {
            "name": name,
            "family": entry.family,
            "set": find_suite(name).name,
            "description": entry.description,
            "source": find_suite(name).source,
        }
        for name, entry in CORRUPTIONS.items()
    ]


def _list_sets() -> list[dict[str, str | int]]:
    from shiftproof.corruptions import SUITES

    return [
        {
            "set": name,
            "corruptions": len(suite.corruptions),
            "what it is": suite.title,
            "source": suite.source,
        }
        for name, suite in SUITES.items()
    ]


def _print(
    console: Console, columns: Sequence[str], rows: Sequence[Mapping[str, str | int]]
) -> None:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    console.print(table)
