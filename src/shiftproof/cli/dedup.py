"""``shiftproof dedup``: leave out rows that are nearly copies of others."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

import typer

from shiftproof.cli import embeddings as words
from shiftproof.errors import UnknownNameError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "dedup",
        epilog="Examples:  shiftproof dedup train --out unique  ·  "
        "shiftproof dedup train --clusters 1000 --rule central --out unique",
    )(dedup)


def dedup(
    train: words.Train,
    out: words.KeepFolder,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Rows more similar than this are duplicates.")
    ] = 0.876,
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            "-r",
            help="Which stays: earlier (none of its duplicates comes before it) or central (of a "
            "group the one nearest to the others).",
        ),
    ] = "earlier",
    clusters: Annotated[
        int | None,
        typer.Option(
            "--clusters", min=1, help="Compare within so many clusters only: faster, misses some."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the clusters.")] = 0,
    array: words.Array = None,
    normalise: words.Normalise = False,
    unusable: words.Unusable = "refuse",
    workers: words.Threads = None,
    memory: words.Memory = "4GB",
    precision: words.PrecisionName = "auto",
    as_json: words.Json = False,
) -> None:
    """Write keep.npy, keys.parquet, uids.npy where there are uids, and groups.npy."""
    from shiftproof.similarity.keeping import write_deduplicated

    told = write_deduplicated(
        words.open_source(train, array, normalise, unusable),
        out,
        threshold,
        rule=_rule(rule),
        clusters=clusters,
        seed=seed,
        precision=words.parse_precision(precision),
        memory=memory,
        threads=workers,
    )
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    words.show_kept(told, out)
    typer.echo(f"{told['pairs']:,} pairs above {threshold:g}")
    if clusters is not None:
        recall = told["recall"]
        known = "could not be measured" if recall is None or math.isnan(recall) else f"{recall:.1%}"
        typer.echo(f"share of the pairs that the clusters find, measured on a sample: {known}")


def _rule(text: str) -> Literal["earlier", "central"]:
    if text == "earlier":
        return "earlier"
    if text == "central":
        return "central"
    raise UnknownNameError.of("keeping rule", text, ["earlier", "central"])
