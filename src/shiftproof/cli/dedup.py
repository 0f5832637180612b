"""``shiftproof dedup``: leave out rows that are nearly copies of others."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

import typer

from shiftproof.cli import embeddings as words
from shiftproof.cli.printing import say, say_json
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
    engine: words.Engine = "local",
    address: words.Address = None,
    workers: words.Workers = None,
    worker: words.Worker = None,
    of: words.Of = None,
    memory: words.Memory = "4GB",
    precision: words.PrecisionName = "auto",
    device: words.Device = "cpu",
    part_rows: words.PartRows = None,
    as_json: words.Json = False,
) -> None:
    """Write keep.npy, keys.parquet, uids.npy where there are uids, and groups.npy.

    Goes on where an interrupted run stopped.
    """
    from shiftproof.similarity.keeping import write_deduplicated

    backend = words.choose_backend(engine, address, workers, worker, of)
    place = words.place_of(out, backend, memory, precision, device, part_rows)
    with words.share_of(worker):
        told = write_deduplicated(
            words.open_source(train, array, normalise, unusable),
            out,
            threshold,
            rule=_rule(rule),
            clusters=clusters,
            seed=seed,
            place=place,
            say=words.say_beside,
        )
    if as_json:
        say_json(json.dumps(told, indent=1))
        return
    words.show_kept(told, out)
    say(f"{told['pairs']:,} pairs above {threshold:g}")
    if clusters is not None:
        recall = told["recall"]
        known = "could not be measured" if recall is None or math.isnan(recall) else f"{recall:.1%}"
        say(f"share of the pairs that the clusters find, measured on a sample: {known}")


def _rule(text: str) -> Literal["earlier", "central"]:
    if text == "earlier":
        return "earlier"
    if text == "central":
        return "central"
    raise UnknownNameError.of("keeping rule", text, ["earlier", "central"])
