"""``shiftproof prune``: leave out training rows that are close to test sets."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from shiftproof.cli import embedding_options as options
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import pluralize


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "prune",
        epilog=(
            "Examples:  shiftproof prune train --test sketch=sketch --reference imagenet --out kept"
            "  ·  shiftproof prune train --test sketch=sketch --rule random --size 1M --out control"
        ),
    )(expand_groups(prune))


def prune(
    train: options.Train,
    test: options.Test,
    out: options.KeepFolder,
    rule: Annotated[
        Literal["gap-matched", "near", "far", "random"],
        typer.Option(
            "--rule",
            "-r",
            metavar="NAME",
            help="gap-matched (no closer to any test row than the reference), near (the least "
            "similar stay), far (the most similar stay) or random (the control).",
        ),
    ] = "gap-matched",
    reference: options.Reference = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="NUMBER",
            help="Instead of a reference: the similarity that is too close, -1..1.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="COUNT", help="For near, far and random: rows to keep."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="INT", help="Seed of random.")] = 0,
    *,
    rows: options.RowOptions,
    search: options.ShardingOptions,
    as_json: options.Json = False,
) -> None:
    """Write keep.npy, keys.parquet and, if there are uids, uids.npy for DataComp.

    An interrupted run is resumed.
    """
    announce(f"Pruning {train} by the rule {rule}, for {options.describe_tests(test)}", out)
    from shiftproof.similarity.keeping import write_pruned
    from shiftproof.similarity.plan import parse_count

    sharding = search.sharding(out)
    with search.share():
        result = write_pruned(
            rows.open(train),
            rows.open_tests(test),
            out,
            rule=rule,
            reference=rows.open_reference(reference),
            threshold=threshold,
            size=None if size is None else parse_count(size),
            seed=seed,
            sharding=sharding,
            say=options.print_notice,
        )
    if as_json:
        print_json(json.dumps(result, indent=1))
        return
    options.show_kept(result, out)
    _show(result)


def _show(result: dict[str, Any]) -> None:
    for name, count in result.get("removed", {}).items():
        print_line(f"{name}: {pluralize(count, 'row')} too close")
    names = result.get("shared", {}).get("names", [])
    for name, row in zip(names, result.get("shared", {}).get("matrix", []), strict=False):
        for other, share in zip(names, row, strict=True):
            if name != other and share is not None:
                print_line(f"of what {other} costs, pruning for {name} removes {share:.1%}")
    for name, proof in result.get("proof", {}).items():
        if proof["holds"]:
            print_line(
                f"proof: none of {pluralize(proof['rows'], 'row')} of {name} is closer than it may be"
            )
        else:
            print_line(f"{pluralize(proof['violations'], 'row')} of {name} closer than allowed")
