"""``shiftproof audit``: how close a training set comes to test sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftproof.cli import embedding_options as options
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.outcome import write_page
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import pluralize
from shiftproof.io.border import show_text

if TYPE_CHECKING:
    from shiftproof.metrics.intervals import Interval
    from shiftproof.runs.scores.audit import AuditScores

CAVEAT = (
    "Similarity depends on the encoder, and a gap is not a cause: only training without the close "
    "images shows whether a score comes from them (prune, retrain, compare with a random pruning of the "
    "same size)."
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "audit",
        epilog=(
            "Example:  shiftproof audit train --test sketch=sketch --reference imagenet --out audit"
        ),
    )(expand_groups(audit))


def audit(
    train: options.Train,
    test: options.Test,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.")],
    reference: options.Reference = None,
    k: Annotated[
        int,
        typer.Option("--k", min=1, metavar="INT", help="Nearest training rows for the density."),
    ] = 10,
    duplicates: Annotated[
        float,
        typer.Option(
            "--duplicates", metavar="NUMBER", help="Minimum similarity of a near-duplicate."
        ),
    ] = 0.95,
    leakage: Annotated[
        int,
        typer.Option(
            "--leakage",
            min=0,
            metavar="INT",
            help="Number of test rows shown with their nearest training rows.",
        ),
    ] = 24,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="NAME=DIR",
            help="The images of a test set, for the page; once for each.",
        ),
    ] = None,
    train_images: Annotated[
        Path | None,
        typer.Option("--train-images", metavar="DIR", help="The training images, for the page."),
    ] = None,
    *,
    rows: options.RowOptions,
    search: options.ShardingOptions,
    as_json: options.Json = False,
) -> None:
    """Measure how close a training set comes to test sets, beside a reference training set.

    An interrupted audit is resumed. `shiftproof plan` estimates what an audit takes.
    """
    image_folders = options.parse_named(images or [], "--images")
    announce(f"Searching {train} for what is close to {options.describe_tests(test)}", out)
    from shiftproof.similarity import audit as measure_similarity

    sharding = search.sharding(out)
    with search.share():
        result = measure_similarity(
            rows.open(train),
            rows.open_tests(test),
            out,
            reference=rows.open_reference(reference),
            k=k,
            duplicates=duplicates,
            leakage=leakage,
            images=image_folders,
            train_images=train_images,
            sharding=sharding,
        )
    shown_folders = (
        image_folders if train_images is None else {**image_folders, "train": train_images}
    )
    page = write_page(out, [Path(f"{name}={folder}") for name, folder in shown_folders.items()])
    if as_json:
        print_json((out / "scores.json").read_text(encoding="utf-8"))
        return
    _show(result.scores, Console(file=sys.stdout))
    if page is not None:
        print_line(f"report   {page}")
    print_line(f"scores   {out / 'scores.json'}")
    print_line(f"records  {out / 'records'}")


_MEASURES = (
    ("similarity", "similarity to the nearest training row", False),
    ("reference_similarity", "to the nearest reference row", False),
    ("gap", "gap", False),
    ("share_closer", "closer to training than to reference", True),
    ("near_duplicates", "with a near-duplicate in training", True),
    ("density", "similarity to the k nearest", False),
)


def _show(scores: AuditScores, console: Console) -> None:
    """Print the figures of each test set, with 95 % intervals, and a caveat."""
    from shiftproof.report.table_writing import print_whole

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("test set", no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    for test_set in scores.sets:
        table.add_row(
            Text(show_text(test_set.name), style="bold"), pluralize(test_set.rows, "row"), "", ""
        )
        for name, title, share in _MEASURES:
            if (figure := getattr(test_set, name)) is not None:
                table.add_row("", title, *_format_figure(figure, share=share))
        if test_set.pruned is not None:
            table.add_row(
                "",
                "training rows that gap-matched pruning removes",
                f"{test_set.pruned.rows:,}",
                f"{test_set.pruned.share:.2%}",
            )
    print_whole(console, table)
    for test_set in scores.sets:
        for leak in [entry for entry in test_set.leakage if entry.train][:1]:
            nearest = leak.train[0]
            print_line(
                f"nearest of {test_set.name}: {leak.key or f'row {leak.row}'} and "
                f"{nearest.key or f'row {nearest.row}'} ({leak.similarity:.3f})"
            )
    if scores.train.skipped:
        skipped = pluralize(scores.train.skipped, "training row")
        console.print(f"{skipped} could not be used", style="yellow")
    console.print(CAVEAT, style="dim", highlight=False)


def _format_figure(figure: Interval, *, share: bool) -> tuple[str, str]:
    """Return a figure and its interval."""
    value, low, high = (
        f"{end:.1%}" if share else f"{end:.3f}"
        for end in (figure.value, figure.lower, figure.upper)
    )
    return value, f"{low} to {high}"
