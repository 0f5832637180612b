"""``shiftproof compare``: two runs, paired by image, and a gate for a pipeline."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console

from shiftproof.cli.ending import EXIT_GATE
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import Workers, json_option
from shiftproof.cli.printing import announce, print_json, print_line, warn

if TYPE_CHECKING:
    from shiftproof.comparison import Comparison

CandidateModel: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="NAME", help="Model of the candidate; its first by default."
    ),
]
BaselineModel: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--baseline-model",
        metavar="NAME",
        help="Model of the baseline; by default the one with the candidate's name, else its first.",
    ),
]


@dataclass(frozen=True)
class GateOptions:
    """The conditions on the difference."""

    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="TEXT",
            help="A condition that must not hold, once for each: 'mCE > +1.0' (a difference in points, "
            "candidate minus baseline), 'clean > 30' (the candidate's own figure). Measures: mCE, mPC, mean, "
            "rPC, clean, a corruption, a cell (fog-3), worst (corruption), any (of the corruptions), "
            "or a title of the printed table ('Error under corruption', in short 'error').",
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail also if the interval reaches beyond the threshold, so that a loss is not excluded.",
        ),
    ] = False


@dataclass(frozen=True)
class FileOptions:
    """Files to write for a pipeline."""

    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Write the conditions as JUnit XML."),
    ] = None
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Write a summary for a pull request."),
    ] = None

    def write(self, result: Comparison) -> None:
        """Write the requested files."""
        from shiftproof import comparison
        from shiftproof.io import files

        for path, write in (
            (self.junit, comparison.comparison_junit),
            (self.markdown, comparison.comparison_markdown),
        ):
            if path is not None:
                files.make_folder(path.parent)
                files.write_bytes(path, write(result).encode("utf-8"))


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "compare",
        epilog=(
            "Examples:  shiftproof compare before after  ·  "
            'shiftproof compare before after --fail-if "mCE > +1.0" --fail-if "any > +3"  ·  '
            'shiftproof compare before after --fail-if "mean > +1" --strict --junit gate.xml '
            "--markdown gate.md"
        ),
    )(expand_groups(compare))


def compare(
    baseline: Annotated[Path, typer.Argument(help="Folder of the run to compare with.")],
    candidate: Annotated[Path, typer.Argument(help="Folder of the run to compare.")],
    *,
    gate: GateOptions,
    model: CandidateModel = None,
    baseline_model: BaselineModel = None,
    files: FileOptions,
    as_json: Annotated[
        bool, json_option("Print the comparison on standard output as JSON.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Compare two runs, paired by image; exits with 3 if a condition fails."""
    announce(f"Comparing {candidate} with {baseline}")
    from shiftproof.runs import load_run

    # Folders that are not runs are refused before the slow imports.
    runs = load_run(baseline), load_run(candidate)
    from shiftproof import comparison
    from shiftproof.comparison.writing import describe_outcome, print_comparison

    result = comparison.compare(
        *runs,
        fail_if=gate.fail_if or (),
        strict=gate.strict,
        model=model,
        baseline_model=baseline_model,
        workers=workers or 0,
    )
    for warning in result.warnings:
        warn(f"warning: {warning}", style="bold yellow")
    for note in result.notes:
        warn(f"note: {note}")
    files.write(result)
    if as_json:
        print_json(result.to_json())
    else:
        print_comparison(result, Console(file=sys.stdout))
        if result.checks:
            print_line(describe_outcome(result))
    if result.failed:
        raise typer.Exit(EXIT_GATE)
