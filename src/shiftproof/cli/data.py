"""``shiftproof data``: how a dataset is recognized."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from shiftproof.cli.copying import show_omissions
from shiftproof.cli.options import ImagesFolder, Root, Split, json_option
from shiftproof.cli.printing import announce, print_json, print_line, warn


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "data",
        epilog=(
            "Examples:  shiftproof data coco  ·  shiftproof data export --split valid  ·  "
            "shiftproof data yolo/data.yaml --root yolo --json"
        ),
    )(data)


def data(
    source: Annotated[
        str,
        typer.Argument(
            help="A dataset, a folder of images, a file, or webdataset tars by a brace pattern or URL."
        ),
    ],
    split: Split = None,
    images: ImagesFolder = None,
    root: Root = None,
    as_json: Annotated[bool, json_option("Print it as JSON.")] = False,
) -> None:
    """Show how SOURCE is recognized: its layout, annotations and images, and what is left aside.

    Nothing is written. Exits with 2 if nothing can be used.
    """
    announce(f"Looking at {source}")
    from shiftproof.data import find_dataset

    dataset = find_dataset(source, split=split, images=images, root=root)
    if as_json:
        print_json(json.dumps(dataset.as_json(), indent=1))
    else:
        for sentence in dataset.sentences:
            print_line(sentence)
        for sentence in dataset.notes:
            warn(sentence)
        show_omissions(dataset.omissions)
    if dataset.problem is not None:
        raise typer.Exit(2)
