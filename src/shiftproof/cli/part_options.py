"""Options for the backend of a long command: local, batch scheduler, or Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from shiftproof.cli.printing import print_line
from shiftproof.errors import InputError, UnfinishedError, UnknownNameError

if TYPE_CHECKING:
    from shiftproof.shards import Backend

PARTS_PANEL = "On many machines, with the same results"


@dataclass(frozen=True)
class PartOptions:
    """Options for the backend that computes the parts of a command."""

    engine: Annotated[
        str,
        typer.Option(
            "--engine", "-e", metavar="NAME", rich_help_panel=PARTS_PANEL,
            help="local (this machine), or ray.",
        ),
    ] = "local"  # fmt: skip
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="URL", rich_help_panel=PARTS_PANEL,
            help="Address of a Ray cluster, such as auto or ray://host:10001; without it Ray starts here.",
        ),
    ] = None  # fmt: skip
    worker: Annotated[
        int | None,
        typer.Option(
            "--worker", metavar="INT", rich_help_panel=PARTS_PANEL,
            help="Number of this command, from 0 to --of minus 1, for batch schedulers such as Slurm.",
        ),
    ] = None  # fmt: skip
    of: Annotated[
        int | None,
        typer.Option(
            "--of",
            metavar="INT",
            help="Number of commands that share the work.",
            rich_help_panel=PARTS_PANEL,
        ),
    ] = None
    gpus_per_task: Annotated[
        float,
        typer.Option(
            "--gpus-per-task",
            metavar="NUMBER",
            help="GPUs of each task on Ray, or of each --worker.",
            rich_help_panel=PARTS_PANEL,
        ),
    ] = 0

    @property
    def engines(self) -> tuple[str, ...]:
        """The names of the available engines."""
        return ("local", "ray")

    def choose(self, workers: int | None = None) -> Backend | None:
        """Return the backend; None for the command's default.

        Call this before a model is loaded, so that a worker uses only its own GPUs.

        Args:
            workers: tasks at a time on Ray, where any number was given; processes of a worker.
        """
        if self.engine not in self.engines:
            raise UnknownNameError.of("engine", self.engine, self.engines)
        if (self.worker is None) != (self.of is None):
            raise InputError("--worker and --of belong together: worker 0 to N-1 of N.")
        if self.engine == "ray":
            if self.worker is not None:
                raise InputError(
                    "--worker is for batch schedulers; leave it out with --engine ray."
                )
            from shiftproof.shards import Ray

            return Ray(self.address, workers or None, self.gpus_per_task)
        if self.address is not None:
            raise InputError("--address has an effect with --engine ray only.")
        if self.worker is not None and self.of is not None:
            from shiftproof.shards import Scheduled

            scheduled = Scheduled(self.worker, self.of, workers)
            self._restrict_to_gpus(self.worker)
            return scheduled
        if self.gpus_per_task:
            raise InputError(
                "--gpus-per-task has an effect with --engine ray or --worker only; without them "
                "--device says where a model runs."
            )
        return None

    def _restrict_to_gpus(self, worker: int) -> None:
        from shiftproof.shards.gpus import restrict_to_gpus

        if self.gpus_per_task < 0 or self.gpus_per_task % 1:
            raise InputError(
                f"--gpus-per-task: expected a whole number with --worker, got {self.gpus_per_task:g}; "
                "only Ray can share a GPU."
            )
        if self.gpus_per_task:
            restrict_to_gpus(worker, int(self.gpus_per_task))

    @contextlib.contextmanager
    def share(self) -> Iterator[None]:
        """Let one of several commands succeed once its own share is done."""
        try:
            yield
        except UnfinishedError as error:
            if self.worker is None:
                raise
            print_line(f"This worker's share is done. {error}")
            raise typer.Exit from error
