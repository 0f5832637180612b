"""``shiftproof subset``: apply a keep-list to embeddings and to webdataset tars."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli import embedding_options as options
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import pluralize


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "subset",
        epilog="Example:  shiftproof subset train --keep kept --tars tars --out smaller",
    )(expand_groups(subset))


def subset(
    train: options.Train,
    keep: Annotated[
        Path,
        typer.Option(
            "--keep",
            "-k",
            metavar="PATH",
            help="A keep.npy, or what prune, dedup or coreset wrote.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")],
    tars: Annotated[
        Path | None,
        typer.Option(
            "--tars",
            metavar="PATH",
            help="The webdataset tars that were embedded; they are filtered, too.",
        ),
    ] = None,
    *,
    rows: options.RowOptions,
    as_json: options.Json = False,
) -> None:
    """Write the kept rows as shards, and their samples as tars.

    An interrupted run is resumed.
    """
    announce(f"Applying {keep} to {train}", out)
    from shiftproof.similarity.subset import write_subset

    result = write_subset(rows.open(train), keep, out, tars=tars)
    if as_json:
        print_json(json.dumps(dataclasses.asdict(result), indent=1))
        return
    existing = f", {pluralize(result.kept, 'file')} existed already" if result.kept else ""
    print_line(
        f"{pluralize(result.rows, 'row stays', 'rows stay')}; "
        f"{pluralize(result.shards, 'shard')} written to {out}{existing}"
    )
    if tars is not None:
        print_line(
            f"{pluralize(result.tars, 'tar')} with {pluralize(result.samples, 'sample')} written to "
            f"{out / 'tars'}"
        )
