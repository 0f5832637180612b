"""The options that `bench`, `detect` and `segment` share, each spelt once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from shiftproof.cli.options import (
    CONSTANTS_HELP,
    CORRUPTIONS_HELP,
    FROST_HELP,
    PROTOCOL_HELP,
    SEVERITIES_HELP,
)
from shiftproof.errors import InputError

DATA_PANEL = "Data, where the names do not say enough"
RUN_PANEL = "How it runs"

Out: TypeAlias = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the run; one that was interrupted goes on.")
]
Corruptions: TypeAlias = Annotated[str, typer.Option("--corruptions", "-c", help=CORRUPTIONS_HELP)]
Severities: TypeAlias = Annotated[str, typer.Option("--severities", "-s", help=SEVERITIES_HELP)]
FrostFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--frost-dir", help=FROST_HELP, rich_help_panel=RUN_PANEL)
]
Constants: TypeAlias = Annotated[
    str, typer.Option("--constants", help=CONSTANTS_HELP, rich_help_panel=RUN_PANEL)
]
BatchSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "-b",
        min=1,
        help="Images per batch; n of adaptation. 64 of classifiers, 8 of detectors, 4 "
        "of segmenters by default.",
        rich_help_panel=RUN_PANEL,
    ),
]
ProtocolText: TypeAlias = Annotated[
    str, typer.Option("--protocol", "-p", help=PROTOCOL_HELP, rich_help_panel=RUN_PANEL)
]
Seed: TypeAlias = Annotated[
    int, typer.Option("--seed", help="Decides noise and order.", rich_help_panel=RUN_PANEL)
]
EncodeText: TypeAlias = Annotated[
    str,
    typer.Option(
        "--encode",
        help="none, or jpeg: save and reread as the files of ImageNet-C were.",
        rich_help_panel=RUN_PANEL,
    ),
]
Device: TypeAlias = Annotated[
    str,
    typer.Option("--device", help="cpu, cuda, cuda:1, mps or auto.", rich_help_panel=RUN_PANEL),
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", min=0, help="Processes that read and corrupt.", rich_help_panel=RUN_PANEL
    ),
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print scores.json on standard output.")
]


def parse_adapters(text: str) -> list[str]:
    """Read ``"batchnorm:prior=16 rpl"`` as a list of specs; ``none`` is none."""
    return [] if text.strip() in ("", "none") else text.split()


def name_specs(specs: Sequence[str]) -> str | dict[str, str]:
    """Return a single spec as it is, and several by short names.

    Raises:
        InputError: two of them would have one name.
    """
    if len(specs) == 1:
        return specs[0]
    named: dict[str, str] = {}
    for spec in specs:
        name = short_name(spec)
        if name in named:
            raise InputError(
                f"Two models are called {name!r}; run them one by one and compare the runs by "
                "`shiftproof report`."
            )
        named[name] = spec
    return named


def short_name(spec: str) -> str:
    """Return what a model of several is called: its own part of the spec, as it can name a folder."""
    target = spec.partition("?")[0].rpartition(":")[2]
    stem = target.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.+-]+", "-", re.sub(r"\.(onnx|pt|pth|safetensors)$", "", stem)) or "model"
