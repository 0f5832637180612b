"""``shiftproof corrupt``: a corrupted copy of an image, a folder or a dataset."""

from __future__ import annotations

from typing import Any

import typer

from shiftproof.cli.copying import (
    AsJson,
    Format,
    Source,
    Target,
    show_done,
    show_estimate,
)
from shiftproof.cli.grid_options import ShiftOptions
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import Depth, ImagesFolder, Root, Seed, Split, Workers
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.cli.printing import announce
from shiftproof.data.presence import check_presence


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "corrupt",
        epilog=(
            "Examples:  shiftproof corrupt cat.jpg out -c fog -s 3  ·  "
            "shiftproof corrupt photos photos-c --corruptions weather --severities 1,3,5  ·  "
            "shiftproof corrupt coco coco-c --dry-run"
        ),
    )(expand_groups(corrupt))


def corrupt(
    source: Source,
    target: Target,
    image_format: Format = "png",
    as_json: AsJson = False,
    *,
    shifts: ShiftOptions,
    depth: Depth = None,
    split: Split = None,
    images: ImagesFolder = None,
    root: Root = None,
    seed: Seed = 0,
    workers: Workers = None,
    parts: PartOptions,
    plan: PlanOptions,
) -> None:
    """Write TARGET/<corruption>/<severity>/<path below SOURCE> for every image.

    Annotations are copied, with the images' new names. An interrupted copy is resumed.
    """
    plan.check()
    backend = parts.choose(workers)
    severities = shifts.levels
    check_presence(source, "copies")
    announce(f"Corrupting {source}, {shifts.describe()}", target, dry_run=plan.dry_run)
    from shiftproof.data import estimate_export, export_corrupted

    arguments: dict[str, Any] = {
        "corruptions": shifts.choose(depth=depth),
        "severities": severities,
        "seed": seed,
        "image_format": image_format,
        "split": split,
        "images": images,
        "root": root,
        "workers": workers,
    }
    if plan.dry_run:
        estimate = estimate_export(source, target, **arguments)
        show_estimate(
            estimate, target, plan, of_each="cell", others=" in each cell", as_json=as_json
        )
        return
    with parts.share():
        result = export_corrupted(source, target, backend=backend, **arguments)
    show_done(result, target, verb="corrupt", as_json=as_json)
