"""``shiftproof coreset``: the rows of a training set that are nearest to test sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli import embedding_options as options
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.printing import announce, print_json, print_line


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "coreset",
        epilog="Example:  shiftproof coreset train --test sketch=sketch --test r=r --size 100M "
        "--among unique --out core",
    )(expand_groups(coreset))


def coreset(
    train: options.Train,
    test: options.Test,
    size: Annotated[
        str, typer.Option("--size", metavar="COUNT", help="Rows to choose, such as 100M.")
    ],
    out: options.KeepFolder,
    among: Annotated[
        Path | None,
        typer.Option(
            "--among", metavar="PATH", help="Only of these rows: a keep.npy, or what `dedup` wrote."
        ),
    ] = None,
    *,
    rows: options.RowOptions,
    search: options.ShardingOptions,
    as_json: options.Json = False,
) -> None:
    """Write keep.npy, keys.parquet and, if there are uids, uids.npy of the rows nearest to the tests.

    A core set depends on the test sets: it shows where a score comes from, and must not be used to
    reach one. An interrupted run is resumed.
    """
    announce(f"Choosing {size} rows of {train}, nearest to {options.describe_tests(test)}", out)
    from shiftproof.similarity.keeping import write_coreset
    from shiftproof.similarity.plan import parse_count

    sharding = search.sharding(out)
    with search.share():
        result = write_coreset(
            rows.open(train),
            rows.open_tests(test),
            parse_count(size),
            out,
            among=among,
            sharding=sharding,
            say=options.print_notice,
        )
    if as_json:
        print_json(json.dumps(result, indent=1))
        return
    options.show_kept(result, out)
    for name, count in result["nearest_to"].items():
        print_line(f"{count:,} of them are nearest to {name}")
