"""``shiftproof corrupt``: a corrupted copy of an image, a folder or a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from shiftproof.data import Estimate


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "corrupt",
        epilog=(
            "Examples:  shiftproof corrupt cat.jpg out -c fog -s 3  ·  "
            "shiftproof corrupt photos photos-c --corruptions weather --severities 1,3,5  ·  "
            "shiftproof corrupt coco coco-c --dry-run"
        ),
    )(corrupt)


def corrupt(
    source: Annotated[
        Path,
        typer.Argument(
            help="An image, a folder of images, a webdataset tar or a folder of them, or a data set "
            "as COCO, Pascal VOC, Cityscapes or YOLO lay it out."
        ),
    ],
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
        typer.Option(
            "--format",
            help="png (lossless), jpeg (quality 95: another benchmark), or source (names and formats "
            "stay, JPEG at quality 95, so one annotation file serves all).",
        ),
    ] = "png",
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=0, help="Processes; all cores by default.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would take, by a few images; write nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write TARGET/<corruption>/<severity>/<path below SOURCE> for every image.

    Annotations are carried over, with the images' new names in them. Goes on where an interrupted
    copy stopped.
    """
    from shiftproof.data import estimate_export, export_corrupted

    if dry_run:
        estimate = estimate_export(
            source,
            target,
            corruptions=named_corruptions(corruptions, frost_dir, constants=constants),
            severities=parse_severities(severities),
            seed=seed,
            image_format=parse_format(image_format),
            workers=workers,
        )
        _show_estimate(estimate, target, as_json=as_json)
        return
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
        if done.carried:
            typer.echo(f"{done.carried} other files carried over")
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


def _show_estimate(estimate: Estimate, target: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**vars(estimate), "seconds": estimate.seconds}, indent=1))
        return
    total = estimate.images * estimate.cells
    typer.echo(
        f"{estimate.layout}: {estimate.images} images in {estimate.cells} cells are {total} images"
        + (f", and {estimate.carried} other files in each cell" if estimate.carried else "")
    )
    typer.echo(
        f"about {_gigabytes(estimate.bytes)} ({_gigabytes(estimate.free_bytes)} are free at {target})"
    )
    typer.echo(
        f"about {_duration(estimate.seconds)} with {max(estimate.workers, 1)} processes, "
        f"{_duration(estimate.cpu_seconds)} of CPU; tried on {len(estimate.sampled)} images"
    )
    if estimate.bytes > estimate.free_bytes:
        console.print("The disk will be full before it is through.", style="yellow")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
