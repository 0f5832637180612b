"""``shiftproof corrupt``: a corrupted copy of an image or a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli.options import (
    CONSTANTS_HELP,
    CORRUPTIONS_HELP,
    FROST_HELP,
    SEVERITIES_HELP,
    named_corruptions,
    parse_format,
    parse_severities,
)
from shiftproof.progress import console


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "corrupt",
        epilog=(
            "Examples:  shiftproof corrupt cat.jpg out -c fog -s 3  ·  "
            "shiftproof corrupt photos photos-c --corruptions weather --severities 1,3,5"
        ),
    )(corrupt)


def corrupt(
    source: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    target: Annotated[Path, typer.Argument(help="Folder to write to.")],
    corruptions: Annotated[
        str, typer.Option("--corruptions", "-c", help=CORRUPTIONS_HELP)
    ] = "common",
    severities: Annotated[str, typer.Option("--severities", "-s", help=SEVERITIES_HELP)] = "1-5",
    frost_dir: Annotated[Path | None, typer.Option("--frost-dir", help=FROST_HELP)] = None,
    constants: Annotated[str, typer.Option("--constants", help=CONSTANTS_HELP)] = "published",
    seed: Annotated[int, typer.Option("--seed", help="Decides the noise.")] = 0,
    image_format: Annotated[
        str,
        typer.Option("--format", help="png (lossless) or jpeg (quality 95: another benchmark)."),
    ] = "png",
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=0, help="Processes; all cores by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write TARGET/<corruption>/<severity>/<path below SOURCE> for every image.

    Goes on where an interrupted copy stopped.
    """
    from shiftproof.data import export_corrupted

    done = export_corrupted(
        source,
        target,
        corruptions=named_corruptions(corruptions, frost_dir, constants=constants),
        severities=parse_severities(severities),
        seed=seed,
        image_format=parse_format(image_format),
        workers=workers,
    )
    if as_json:
        typer.echo(json.dumps({"target": str(target), **vars(done)}, indent=1))
    else:
        there = f", {done.kept} were there" if done.kept else ""
        typer.echo(f"{done.written} images written to {target}{there}")
        parts = {
            "decode": done.decode_seconds,
            "corrupt": done.corrupt_seconds,
            "encode and write": done.write_seconds,
        }
        if (spent := sum(parts.values())) > 0:
            shares = ", ".join(f"{name} {part / spent:.0%}" for name, part in parts.items())
            typer.echo(f"{spent:.1f} s of CPU: {shares}")
        for reason in done.broken.values():
            console.print(f"not readable: {reason}", style="yellow", markup=False)
    if done.broken and not (done.written or done.kept):
        raise typer.Exit(2)
