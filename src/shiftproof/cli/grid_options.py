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
    DEPTH_HELP,
    FROST_HELP,
    IMAGES_HELP,
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
WhichImages: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--images",
        help="Which images. A number: so many, drawn by name, of each class its share, the same "
        "ones in every run; robustbench: its 5,000 of ImageNet's. Else where they are: "
        + IMAGES_HELP,
    ),
]
Precision: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--precision",
        help="As many images as bring the headline's interval to +- so many points, planned from a "
        "pilot run of 400 (kept in OUT-pilot).",
    ),
]
FrostFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--frost-dir", help=FROST_HELP, rich_help_panel=RUN_PANEL)
]
Depth: TypeAlias = Annotated[
    str | None, typer.Option("--depth", help=DEPTH_HELP, rich_help_panel=RUN_PANEL)
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
ClassesFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="What the outputs mean: imagenet, numbered, or a file with one name a line. Of a "
        "zero-shot model (CLIP, SigLIP) the names that it is asked for.",
        rich_help_panel=DATA_PANEL,
    ),
]
Templates: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--templates",
        help="Sentences of a zero-shot model, with {} where the name stands: openai (80), simple (7), "
        "a file with one a line, or one sentence.",
        rich_help_panel=DATA_PANEL,
    ),
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print scores.json on standard output.")
]


def split_images(text: str | None) -> tuple[int | str | None, str | None]:
    """Read ``--images`` as how many images or the name of a list, or as the place that they lie in.

    Raises:
        InputError: it could be either.
    """
    from shiftproof.data.subset import SUBSETS

    if text is None or not (text.isdecimal() or text in SUBSETS):
        return None, text
    if Path(text).exists():
        raise InputError(f"--images {text} is there as a folder, too; write ./{text} for that.")
    return int(text) if text.isdecimal() else text, None


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
    if spec.startswith("open_clip:") and target.count("/") == 1 and target[0] not in "./~":
        # One tag of weights is there for many architectures.
        target = target.replace("/", "-")
    stem = target.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.+-]+", "-", re.sub(r"\.(onnx|pt|pth|safetensors)$", "", stem)) or "model"
