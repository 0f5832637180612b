"""``shiftproof models``: which models can be named, and how."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("models", epilog="Example:  shiftproof models --json")(models)


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List how a model is named (--model) and which adapters there are (--adapt)."""
    from shiftproof.adapt import ADAPTERS
    from shiftproof.models import LOADERS

    loaders = {name: entry.description for name, entry in LOADERS.items()}
    adapters = {name: entry.description for name, entry in ADAPTERS.items()}
    if as_json:
        typer.echo(json.dumps({"models": loaders, "adapters": adapters}, indent=1))
        return
    console = Console(file=sys.stdout)
    for title, entries in (("--model", loaders), ("--adapt", adapters)):
        table = Table(title, "", box=None, header_style="bold", pad_edge=False)
        for name, description in entries.items():
            table.add_row(name, description)
        console.print(table)
        console.print()
