"""Options and output common to verbs that write a modified copy of a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from shiftproof.cli.options import ImageFormat, json_option
from shiftproof.cli.planning import PlanOptions, count_processes, show_size
from shiftproof.cli.printing import print_json, print_line, warn
from shiftproof.counts import pluralize

if TYPE_CHECKING:
    from shiftproof.data import Estimate, ExportResult

Source: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="An image, a folder of images, a webdataset tar or a folder of them, a dataset saved "
        "by Hugging Face's datasets, Parquet of images, or a dataset as COCO, Pascal VOC, "
        "Cityscapes or YOLO lay it out."
    ),
]
Target: TypeAlias = Annotated[Path, typer.Argument(help="Folder to write to.")]
Format: TypeAlias = Annotated[
    ImageFormat,
    typer.Option(
        "--format",
        metavar="NAME",
        help="png (lossless), jpeg (quality 95: another benchmark), or source (same names and formats, "
        "JPEG at quality 95, so that one annotation file fits all).",
    ),
]
AsJson: TypeAlias = Annotated[bool, json_option("Print what was done as JSON.")]


def show_done(result: ExportResult, target: Path, *, verb: str, as_json: bool) -> None:
    """Print what was written and which files are unreadable; exit with 2 if all are."""
    if as_json:
        print_json(json.dumps({"target": str(target), **vars(result)}, indent=1))
    else:
        print_line(
            f"{pluralize(result.written, 'image')} written to {target}{describe_existing(result.kept)}"
        )
        if result.carried:
            print_line(f"{pluralize(result.carried, 'other file')} carried over")
        parts = {
            "decode": result.decode_seconds,
            verb: result.corrupt_seconds,
            "encode and write": result.write_seconds,
        }
        if (total_seconds := sum(parts.values())) > 0:
            shares = ", ".join(f"{name} {part / total_seconds:.0%}" for name, part in parts.items())
            print_line(f"{total_seconds:.1f} s of CPU: {shares}")
        show_omissions(result.omissions)
        for reason in result.broken.values():
            warn(f"not readable: {reason}")
    if result.broken and not (result.written or result.kept):
        raise typer.Exit(2)


def describe_existing(count: int) -> str:
    """Return a phrase on files of an earlier run, "" for none."""
    return f", {count:,} existed already" if count else ""


def show_omissions(sentences: Sequence[str]) -> None:
    """Print what was omitted, at most the first few sentences."""
    for sentence in sentences[:10]:
        warn(f"left aside: {sentence}")
    if len(sentences) > 10:
        warn(f"and {len(sentences) - 10} more")


def show_estimate(
    estimate: Estimate, target: Path, plan: PlanOptions, *, of_each: str, others: str, as_json: bool
) -> None:
    """Print a forecast; ``of_each`` is the noun for the versions of an image: "cell", "style"."""
    if as_json:
        print_json(json.dumps({**vars(estimate), **plan.describe(estimate.needs)}, indent=1))
        return
    if estimate.extent is not None:
        print_line(estimate.extent)
    total = estimate.images * estimate.cells
    print_line(
        f"{estimate.layout}: {pluralize(estimate.images, 'image')} in "
        f"{pluralize(estimate.cells, of_each)} {'is' if total == 1 else 'are'} {pluralize(total, 'image')}"
        + (f", and {pluralize(estimate.carried, 'other file')}{others}" if estimate.carried else "")
    )
    print_line(
        f"about {show_size(estimate.bytes)} ({show_size(estimate.free_bytes)} are free at {target})"
    )
    print_line(
        f"about {show_duration(estimate.seconds)} with {count_processes(estimate.workers)}, "
        f"{show_duration(estimate.cpu_seconds)} of CPU; tried on "
        f"{pluralize(len(estimate.sampled), 'image')}"
    )
    plan.show(estimate.needs)
    show_omissions(estimate.omissions)
    if estimate.bytes > estimate.free_bytes:
        warn("The disk will be full before the work is finished.")


def show_duration(seconds: float) -> str:
    """Format a duration for users."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
