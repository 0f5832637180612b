"""``shiftproof coreset``: the part of a training set that lies closest to what is to be tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli import embeddings as words
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
    train: words.Train,
    test: words.Test,
    size: Annotated[
        str, typer.Option("--size", metavar="COUNT", help="Rows to choose, such as 100M.")
    ],
    out: words.KeepFolder,
    among: Annotated[
        Path | None,
        typer.Option(
            "--among", metavar="PATH", help="Only of these rows: a keep.npy, or what `dedup` wrote."
        ),
    ] = None,
    *,
    rows: words.RowOptions,
    search: words.ShardingOptions,
    as_json: words.Json = False,
) -> None:
    """Write keep.npy, keys.parquet and, where there are uids, uids.npy of the rows nearest to the tests.

    It looks at the test sets: a core set says where a score comes from, and is no way to reach one.
    Goes on where an interrupted run stopped.
    """
    announce(f"Choosing {size} rows of {train}, nearest to {words.describe_tests(test)}", out)
    from shiftproof.similarity.keeping import write_coreset
    from shiftproof.similarity.plan import parse_count

    sharding = search.sharding(out)
    with search.share():
        told = write_coreset(
            rows.open(train),
            rows.open_tests(test),
            parse_count(size),
            out,
            among=among,
            sharding=sharding,
            say=words.print_notice,
        )
    if as_json:
        print_json(json.dumps(told, indent=1))
        return
    words.show_kept(told, out)
    for name, count in told["nearest_to"].items():
        print_line(f"{count:,} of them are nearest to {name}")
