"""``shiftproof models``: which models can be named, and how."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.table import Table

from shiftproof.cli.printing import say_json, warn


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("models", epilog="Example:  shiftproof models --json")(models)


def show_assumed(model: object) -> None:
    """Say in one line, on standard error, what was taken for granted when a model was loaded."""
    if phrases := getattr(model, "assumed", ()):
        warn(f"{getattr(model, 'name', 'model')}: {'; '.join(phrases)}", style="dim")


class _Described(Protocol):
    """A row of one of the tables."""

    @property
    def description(self) -> str:
        """Says it in a sentence."""


def described(entries: Mapping[str, _Described]) -> dict[str, str]:
    """Return what the entries of a table are."""
    return {name: entry.description for name, entry in entries.items()}


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List how classifiers, detectors and encoders are named (--model), and the adapters (--adapt).

    docs/models.md says which of them go with which verbs.
    """
    from shiftproof.adapt import ADAPTERS
    from shiftproof.models import LOADERS
    from shiftproof.models.detectors.load import DETECTOR_LOADERS
    from shiftproof.models.encoders.load import ENCODER_LOADERS
    from shiftproof.models.encoders.texts import TEXT_LOADERS
    from shiftproof.models.segmenters.load import SEGMENTER_LOADERS

    kinds: dict[str, tuple[str, Mapping[str, _Described]]] = {
        "models": ("--model of a classifier", LOADERS),
        "detectors": ("--model of a detector", DETECTOR_LOADERS),
        "segmenters": ("--model of a segmenter", SEGMENTER_LOADERS),
        "encoders": ("--model of an encoder", ENCODER_LOADERS),
        "text_towers": ("--model of texts", TEXT_LOADERS),
        "adapters": ("--adapt", ADAPTERS),
    }
    found = {kind: described(entries) for kind, (_, entries) in kinds.items()}
    if as_json:
        say_json(json.dumps(found, indent=1))
        return
    output = Console(file=sys.stdout)
    for kind, (title, _) in kinds.items():
        table = Table(title, "", box=None, header_style="bold", pad_edge=False)
        for name, description in found[kind].items():
            table.add_row(name, description)
        output.print(table)
        output.print()
