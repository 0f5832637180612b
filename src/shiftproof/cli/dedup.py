"""``shiftproof dedup``: leave out near-duplicate rows."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

import typer

from shiftproof.cli import embedding_options as options
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import pluralize


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "dedup",
        epilog="Examples:  shiftproof dedup train --out unique  ·  "
        "shiftproof dedup train --clusters 1000 --rule central --out unique",
    )(expand_groups(dedup))


def dedup(
    train: options.Train,
    out: options.KeepFolder,
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
            help="Which row is kept: earlier (none of its duplicates comes before it) or central (the "
            "one of a group that is nearest to the others).",
        ),
    ] = "earlier",
    clusters: Annotated[
        int | None,
        typer.Option(
            "--clusters", min=1, help="Compare only within this many clusters: faster, misses some."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="INT", help="Seed of the clusters.")] = 0,
    *,
    rows: options.RowOptions,
    search: options.ShardingOptions,
    as_json: options.Json = False,
) -> None:
    """Write keep.npy, keys.parquet, uids.npy if there are uids, and groups.npy.

    An interrupted run is resumed.
    """
    announce(f"Searching {train} for rows more similar than {threshold:g}", out)
    from shiftproof.similarity.keeping import write_deduplicated

    sharding = search.sharding(out)
    with search.share():
        result = write_deduplicated(
            rows.open(train),
            out,
            threshold,
            rule=rule,
            clusters=clusters,
            seed=seed,
            sharding=sharding,
            say=options.print_notice,
        )
    if as_json:
        print_json(json.dumps(result, indent=1))
        return
    options.show_kept(result, out)
    print_line(f"{pluralize(result['pairs'], 'pair')} above {threshold:g}")
    if clusters is not None:
        recall = result["recall"]
        text = "could not be measured" if recall is None or math.isnan(recall) else f"{recall:.1%}"
        print_line(f"share of the pairs that the clusters find, measured on a sample: {text}")
