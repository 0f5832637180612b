"""``shiftproof corrupt``: a corrupted copy of an image, a folder or a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli.copying import (
    AsJson,
    DryRun,
    Images,
    Root,
    Source,
    Split,
    Target,
    Workers,
    show_done,
    show_estimate,
)
from shiftproof.cli.options import (
    CONSTANTS_HELP,
    CORRUPTIONS_HELP,
    DEPTH_HELP,
    FROST_HELP,
    SEVERITIES_HELP,
    check_choice,
    named_corruptions,
    parse_format,
    parse_severities,
)


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
    source: Source,
    target: Target,
    corruptions: Annotated[
        str, typer.Option("--corruptions", "-c", help=CORRUPTIONS_HELP)
    ] = "common",
    severities: Annotated[str, typer.Option("--severities", "-s", help=SEVERITIES_HELP)] = "1-5",
    frost_dir: Annotated[Path | None, typer.Option("--frost-dir", help=FROST_HELP)] = None,
    depth: Annotated[str | None, typer.Option("--depth", help=DEPTH_HELP)] = None,
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
    split: Split = None,
    images: Images = None,
    root: Root = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write TARGET/<corruption>/<severity>/<path below SOURCE> for every image.

    Annotations are carried over, with the images' new names in them. Goes on where an interrupted
    copy stopped.
    """
    from shiftproof.data import estimate_export, export_corrupted

    named = named_corruptions(corruptions, frost_dir, constants=constants, depth=depth)
    chosen = parse_severities(severities)
    check_choice(named, chosen)
    if dry_run:
        estimate = estimate_export(
            source,
            target,
            corruptions=named,
            severities=chosen,
            seed=seed,
            image_format=parse_format(image_format),
            split=split,
            images=images,
            root=root,
            workers=workers,
        )
        show_estimate(estimate, target, of_each="cells", others=" in each cell", as_json=as_json)
        return
    done = export_corrupted(
        source,
        target,
        corruptions=named,
        severities=chosen,
        seed=seed,
        image_format=parse_format(image_format),
        split=split,
        images=images,
        root=root,
        workers=workers,
    )
    show_done(done, target, verb="corrupt", as_json=as_json)
