"""``shiftproof prune``: leave out of a training set what comes close to test sets."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from shiftproof.cli import embeddings as words
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import plural


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
    train: words.Train,
    test: words.Test,
    out: words.KeepFolder,
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
    reference: words.Reference = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="NUMBER",
            help="In place of a reference: how close is too close, -1..1.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="COUNT", help="Of near, far and random: rows that stay."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="INT", help="Of random.")] = 0,
    *,
    rows: words.RowOptions,
    search: words.ShardingOptions,
    as_json: words.Json = False,
) -> None:
    """Write keep.npy, keys.parquet and, where there are uids, uids.npy as DataComp takes it.

    Goes on where an interrupted run stopped.
    """
    announce(f"Pruning {train} by the rule {rule}, for {words.describe_tests(test)}", out)
    from shiftproof.similarity.keeping import write_pruned
    from shiftproof.similarity.plan import parse_count

    sharding = search.sharding(out)
    with search.share():
        told = write_pruned(
            rows.open(train),
            rows.open_tests(test),
            out,
            rule=rule,
            reference=rows.open_reference(reference),
            threshold=threshold,
            size=None if size is None else parse_count(size),
            seed=seed,
            sharding=sharding,
            say=words.print_notice,
        )
    if as_json:
        print_json(json.dumps(told, indent=1))
        return
    words.show_kept(told, out)
    _show(told)


def _show(told: dict[str, Any]) -> None:
    for name, count in told.get("removed", {}).items():
        print_line(f"{name}: {plural(count, 'row')} too close")
    names = told.get("shared", {}).get("names", [])
    for one, row in zip(names, told.get("shared", {}).get("matrix", []), strict=False):
        for other, share in zip(names, row, strict=True):
            if one != other and share is not None:
                print_line(f"of what {other} costs, pruning for {one} removes {share:.1%}")
    for name, proof in told.get("proof", {}).items():
        if proof["holds"]:
            print_line(
                f"proof: none of {plural(proof['rows'], 'row')} of {name} is closer than it may be"
            )
        else:
            print_line(f"{plural(proof['violations'], 'row')} of {name} closer than allowed")
