"""``shiftproof dedup``: leave out rows that are nearly copies of others."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

import typer

from shiftproof.cli import embeddings as words
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import plural


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "dedup",
        epilog="Examples:  shiftproof dedup train --out unique  ·  "
        "shiftproof dedup train --clusters 1000 --rule central --out unique",
    )(expand_groups(dedup))


def dedup(
    train: words.Train,
    out: words.KeepFolder,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", metavar="NUMBER", help="Rows more similar than this are duplicates."
        ),
    ] = 0.876,
    rule: Annotated[
        Literal["earlier", "central"],
        typer.Option(
            "--rule",
            "-r",
            metavar="NAME",
            help="Which stays: earlier (none of its duplicates comes before it) or central (of a "
            "group the one nearest to the others).",
        ),
    ] = "earlier",
    clusters: Annotated[
        int | None,
        typer.Option(
            "--clusters", min=1, help="Compare within this many clusters only: faster, misses some."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="INT", help="Of the clusters.")] = 0,
    *,
    rows: words.RowOptions,
    search: words.ShardingOptions,
    as_json: words.Json = False,
) -> None:
    """Write keep.npy, keys.parquet, uids.npy where there are uids, and groups.npy.

    Goes on where an interrupted run stopped.
    """
    announce(f"Searching {train} for rows more similar than {threshold:g}", out)
    from shiftproof.similarity.keeping import write_deduplicated

    sharding = search.sharding(out)
    with search.share():
        told = write_deduplicated(
            rows.open(train),
            out,
            threshold,
            rule=rule,
            clusters=clusters,
            seed=seed,
            sharding=sharding,
            say=words.print_notice,
        )
    if as_json:
        print_json(json.dumps(told, indent=1))
        return
    words.show_kept(told, out)
    print_line(f"{plural(told['pairs'], 'pair')} above {threshold:g}")
    if clusters is not None:
        recall = told["recall"]
        known = "could not be measured" if recall is None or math.isnan(recall) else f"{recall:.1%}"
        print_line(f"share of the pairs that the clusters find, measured on a sample: {known}")
