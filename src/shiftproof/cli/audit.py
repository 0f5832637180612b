"""``shiftproof audit``: how close a training set comes to test sets."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftproof.cli import embeddings as words
from shiftproof.cli.outcome import write_page
from shiftproof.cli.printing import say, say_json
from shiftproof.errors import InputError
from shiftproof.io.border import show_text

if TYPE_CHECKING:
    from shiftproof.metrics.intervals import Interval
    from shiftproof.runs.scores.audit import AuditScores
    from shiftproof.similarity.plan import Plan

CAVEAT = (
    "Similarity is this encoder's, and a gap is no cause: whether a score comes from close training "
    "images only training without them tells (prune, retrain, compare with a random pruning of the "
    "same size)."
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "audit",
        epilog=(
            "Examples:  shiftproof audit train --test sketch=sketch --reference imagenet "
            "--out audit  ·  shiftproof audit --plan --train-rows 400M --dim 640 --test-rows 170k"
        ),
    )(audit)


def audit(
    train: Annotated[str | None, typer.Argument(help=words.TRAIN_HELP)] = None,
    test: Annotated[list[str] | None, typer.Option("--test", "-t", help=words.TEST_HELP)] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run.")] = None,
    reference: words.Reference = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Training rows that make the density.")] = 10,
    duplicates: Annotated[
        float, typer.Option("--duplicates", help="How similar a near-duplicate is at least.")
    ] = 0.95,
    leakage: Annotated[
        int, typer.Option("--leakage", min=0, help="Test rows shown with their nearest.")
    ] = 24,
    images: Annotated[
        list[str] | None,
        typer.Option("--images", help="NAME=FOLDER, the images of a test set, for the page."),
    ] = None,
    train_images: Annotated[
        Path | None, typer.Option("--train-images", help="The training images, for the page.")
    ] = None,
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
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it would take, by some ten seconds of it.")
    ] = False,
    train_rows: Annotated[
        str | None, typer.Option("--train-rows", help="Of --plan, such as 400M.")
    ] = None,
    test_rows: Annotated[
        str | None, typer.Option("--test-rows", help="Of --plan: of all test sets together.")
    ] = None,
    reference_rows: Annotated[
        str, typer.Option("--reference-rows", help="Of --plan, such as 1.28M.")
    ] = "0",
    sets: Annotated[int, typer.Option("--sets", min=1, help="Of --plan: how many test sets.")] = 1,
    dim: Annotated[
        int | None, typer.Option("--dim", min=1, help="Of --plan: width of a row.")
    ] = None,
    gpu_rate: Annotated[
        float | None,
        typer.Option("--gpu-rate", help="Of --plan: operations a second that a GPU does, as 3e14."),
    ] = None,
    as_json: words.Json = False,
) -> None:
    """Measure how close a training set comes to test sets, beside a reference training set.

    Goes on where an interrupted audit stopped.
    """
    from shiftproof.similarity import audit as run
    from shiftproof.similarity.plan import parse_count
    from shiftproof.similarity.plan import plan as estimate

    backend = words.choose_backend(engine, address, workers, worker, of)
    if plan:
        if train_rows is None or test_rows is None or dim is None:
            raise InputError("--plan needs --train-rows, --test-rows and --dim.")
        if device != "cpu":
            raise InputError("--plan measures this processor; for a GPU state its --gpu-rate.")
        planned = estimate(
            parse_count(train_rows),
            parse_count(test_rows),
            dim,
            reference_rows=parse_count(reference_rows),
            sets=sets,
            k=k,
            workers=backend.processes(),
            precision=words.parse_precision(precision),
            memory=memory,
            gpu_rate=gpu_rate,
        )
        if as_json:
            say_json(json.dumps(dataclasses.asdict(planned), indent=1))
        else:
            _show_plan(planned, backend.processes())
        return
    if train is None or not test or out is None:
        raise InputError("Expected TRAIN, at least one --test NAME=PATH, and --out.")
    place = words.place_of(out, backend, memory, precision, device, part_rows)
    pictures = words.parse_named(images or [], "--images")
    with words.share_of(worker):
        audited = run(
            words.open_source(train, array, normalise, unusable),
            words.open_tests(test, array, normalise),
            out,
            reference=None
            if reference is None
            else words.open_source(reference, array, normalise, unusable),
            k=k,
            duplicates=duplicates,
            leakage=leakage,
            images=pictures,
            train_images=train_images,
            place=place,
        )
    named = pictures if train_images is None else {**pictures, "train": train_images}
    page = write_page(out, [Path(f"{name}={folder}") for name, folder in named.items()])
    if as_json:
        say_json((out / "scores.json").read_text(encoding="utf-8"))
        return
    _show(audited.scores, Console(file=sys.stdout))
    if page is not None:
        say(f"report   {page}")
    say(f"scores   {out / 'scores.json'}")
    say(f"records  {out / 'records'}")


_MEASURES = (
    ("similarity", "similarity to the nearest training row", False),
    ("reference_similarity", "to the nearest reference row", False),
    ("gap", "gap", False),
    ("share_closer", "closer to training than to reference", True),
    ("near_duplicates", "with a near-duplicate in training", True),
    ("density", "similarity to the k nearest", False),
)


def _show(scores: AuditScores, console: Console) -> None:
    """Print the figures of each test set, with 95 % intervals, and what they do not say."""
    table = Table(
        "test set", "", "", "95 % interval", box=None, header_style="bold", pad_edge=False
    )
    for one in scores.sets:
        table.add_row(Text(show_text(one.name), style="bold"), f"{one.rows:,} rows", "", "")
        for name, title, share in _MEASURES:
            if (figure := getattr(one, name)) is not None:
                table.add_row("", title, *_spell(figure, share=share))
        if one.pruned is not None:
            table.add_row(
                "",
                "training rows that gap-matched pruning removes",
                f"{one.pruned.rows:,}",
                f"{one.pruned.share:.2%}",
            )
    console.print(table)
    for one in scores.sets:
        for leak in [entry for entry in one.leakage if entry.train][:1]:
            nearest = leak.train[0]
            say(
                f"nearest of {one.name}: {leak.key or f'row {leak.row}'} and "
                f"{nearest.key or f'row {nearest.row}'} ({leak.similarity:.3f})"
            )
    if scores.train.skipped:
        console.print(f"{scores.train.skipped:,} training rows could not be used", style="yellow")
    console.print(CAVEAT, style="dim", highlight=False)


def _spell(figure: Interval, *, share: bool) -> tuple[str, str]:
    """Return a figure and its interval."""
    value, low, high = (
        f"{end:.1%}" if share else f"{end:.3f}"
        for end in (figure.value, figure.lower, figure.upper)
    )
    return value, f"{low} to {high}"


def _show_plan(plan: Plan, workers: int) -> None:
    gigabyte = 1e9
    lines = {
        "work": f"{plan.products:.2e} pairs of rows, {plan.operations:.2e} operations",
        "memory": f"{plan.memory / gigabyte:.1f} GB for {workers} workers, {plan.passes} "
        f"pass{'es' if plan.passes > 1 else ''} over the training rows for each search",
        "read": f"{plan.read / gigabyte:,.0f} GB of float16 rows, all searches together",
        "disk": f"{plan.disk / gigabyte:,.1f} GB of parts and records",
        "time": f"{plan.core_hours:,.1f} hours on one core like this one's, "
        f"{plan.core_hours / workers:,.1f} with {workers} workers",
        "parts": f"{plan.parts:,} of {plan.part_rows:,} rows (--part-rows {plan.part_rows})",
    }
    if plan.gpu_hours is None:
        lines["GPU"] = (
            "say --gpu-rate, operations a second, for what the arithmetic would take on one"
        )
    else:
        lines["GPU"] = (
            f"{plan.gpu_hours:,.2f} hours for the arithmetic at the stated rate (not measured; see "
            "--device)"
        )
    for name, line in lines.items():
        say(f"{name:<7} {line}")
    rates = plan.rates
    say(
        f"measured here, one core: {rates.top_k / 1e6:,.0f}, {rates.nearest / 1e6:,.0f} and "
        f"{rates.prune / 1e6:,.0f} million pairs a second (top-k, nearest, prune). Rows that lie "
        "otherwise may take half or twice as long."
    )
