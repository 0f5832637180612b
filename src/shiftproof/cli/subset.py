"""``shiftproof subset``: apply a keep-list to embeddings and to webdataset tars."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli import embeddings as words
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import plural


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "subset",
        epilog="Example:  shiftproof subset train --keep kept --tars tars --out smaller",
    )(expand_groups(subset))


def subset(
    train: words.Train,
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
            help="Webdataset tars that were embedded, to be filtered, too.",
        ),
    ] = None,
    *,
    rows: words.RowOptions,
    as_json: words.Json = False,
) -> None:
    """Write the rows that stay as shards, and their samples as tars.

    Goes on where an interrupted run stopped.
    """
    announce(f"Applying {keep} to {train}", out)
    from shiftproof.similarity.subset import write_subset

    done = write_subset(rows.open(train), keep, out, tars=tars)
    if as_json:
        print_json(json.dumps(dataclasses.asdict(done), indent=1))
        return
    there = f", {plural(done.kept, 'file was', 'files were')} there" if done.kept else ""
    print_line(
        f"{plural(done.rows, 'row stays', 'rows stay')}; "
        f"{plural(done.shards, 'shard')} written to {out}{there}"
    )
    if tars is not None:
        print_line(
            f"{plural(done.tars, 'tar')} with {plural(done.samples, 'sample')} written to {out / 'tars'}"
        )
