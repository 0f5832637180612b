"""``shiftproof reproduce``: a paper's experiment, from data to findings."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftproof.cli.options import Device, Out, Workers, json_option, model_option
from shiftproof.cli.printing import announce, print_json, print_line

if TYPE_CHECKING:
    from shiftproof_reproduce import Result

_STYLES = {"yes": "green", "no": "bold red", "undecided": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "reproduce",
        epilog="Examples:  shiftproof reproduce bn-adaptation --out bn  ·  "
        "shiftproof reproduce self-learning --scale paper --data ImageNet-C --out sl",
    )(reproduce)


def reproduce(
    recipe: Annotated[
        str,
        typer.Argument(
            help="bn-adaptation, self-learning, detection, aninfonce, train-test-similarity or "
            "adaptation-methods."
        ),
    ],
    out: Out,
    scale: Annotated[
        Literal["small", "medium", "paper"],
        typer.Option(
            "--scale",
            metavar="NAME",
            help="small: networks trained here on Fashion-MNIST, some twenty minutes "
            "(aninfonce: known latents, three); medium: aninfonce, an hour; "
            "paper: the paper's own data, from --data.",
        ),
    ] = "small",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DIR",
            help="Folder of Fashion-MNIST's idx files; of the scale paper ImageNet-C, for "
            "detection Pascal VOC, COCO or Cityscapes, for aninfonce images by class, for "
            "train-test-similarity embeddings.",
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch Fashion-MNIST into --out.")
    ] = False,
    model: Annotated[
        str | None,
        model_option("For the scale paper, as for `bench`; the paper's model by default."),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    as_json: Annotated[bool, json_option("Print result.json on standard output.")] = False,
) -> None:
    """Repeat a paper's experiment and compare its findings with those measured here."""
    announce(f"Repeating {recipe} at the scale {scale}", out)
    from shiftproof.errors import InputError
    from shiftproof.io import files

    experiments = load_experiments()
    if download:
        if data is not None or scale != "small":
            raise InputError(
                "--download fetches Fashion-MNIST: leave out --data and --scale paper."
            )
        from shiftproof_reproduce.fashion import download as fetch

        data = fetch(out / "data")
    files.clear_unfinished(out)
    result: Result = experiments.reproduce(
        recipe, out=out, scale=scale, data=data, model=model, device=device, workers=workers
    )
    if as_json:
        print_json((out / "result.json").read_text(encoding="utf-8"))
        return
    show(result, Console(file=sys.stdout))
    print_line(f"page     {out / 'README.md'}")
    print_line(f"result   {out / 'result.json'}")
    print_line(f"runs     {out / 'runs'}")


def load_experiments() -> ModuleType:
    """Import the papers' experiments, which nothing else of shiftproof needs.

    Raises:
        MissingExtraError: their package is not installed.
    """
    try:
        import shiftproof_reproduce
    except ModuleNotFoundError as error:
        if error.name != "shiftproof_reproduce":
            raise
        from shiftproof.errors import MissingExtraError

        raise MissingExtraError(
            "The papers' experiments are not installed: the package shiftproof_reproduce, which comes "
            "with shiftproof, is missing. Install both again with: python -m pip install "
            "--force-reinstall shiftproof"
        ) from error
    return shiftproof_reproduce


def show(result: Result, console: Console) -> None:
    """Print the first table of a result, and its findings."""
    from shiftproof.report.table_writing import print_whole
    from shiftproof_reproduce.formatting import format_figure

    first = result.tables[0]
    table = Table(title=first.title, box=None, header_style="bold", pad_edge=False)
    table.add_column(first.corner)
    for name in first.columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name, values in zip(first.rows, first.values, strict=True):
        table.add_row(name, *(Text(format_figure(value, first.unit)) for value in values))
    print_whole(console, table)
    findings = Table(
        "holds", "claim", "measured here", box=None, header_style="bold", pad_edge=False
    )
    for finding in result.findings:
        verdict = Text(finding.holds, style=_STYLES[finding.holds])
        findings.add_row(verdict, Text(finding.claim), Text(finding.ours))
    console.print()
    console.print(findings)
