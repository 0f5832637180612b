"""``shiftproof log``: a finished run in MLflow, Weights & Biases or TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli.options import LOG_HELP
from shiftproof.cli.printing import announce, print_line


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "log",
        epilog=(
            "Examples:  shiftproof log run --to mlflow  ·  shiftproof log run --to tensorboard:logs  ·  "
            "shiftproof log run1 run2 --to wandb:offline --to mlflow:http://localhost:5000"
        ),
    )(log)


def log(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    to: Annotated[list[str], typer.Option("--to", metavar="NAME[:PLACE]", help=LOG_HELP)],
) -> None:
    """Log finished runs."""
    announce(f"Logging {', '.join(map(str, runs))} in {', '.join(to)}")
    from shiftproof.integrations import check_tracker, log_run
    from shiftproof.runs import load_run

    loaded = [load_run(path) for path in runs]
    for tracker in to:
        check_tracker(tracker)
    for run in loaded:
        for tracker in to:
            print_line(f"logged   {log_run(run, tracker)}")
