"""``--dry-run``: what a command would take, in the words that all verbs share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shiftproof.cli.options import DryRun
from shiftproof.cli.printing import say
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.compute.needs import Needs


@dataclass(frozen=True)
class PlanOptions:
    """Whether only to say what it would take, and what an hour costs."""

    dry_run: DryRun = False
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="NUMBER",
            help="With --dry-run: what an hour of a machine costs, such as 2.5; says what all costs.",
        ),
    ] = None

    def check(self) -> None:
        """Refuse a rate where nothing is planned, and one that is none, before anything is tried.

        Raises:
            InputError: there is one.
        """
        if self.rate is not None and not self.dry_run:
            raise InputError("--rate has an effect with --dry-run only.")
        if self.rate is not None and not 0 <= self.rate < float("inf"):
            raise InputError(
                f"--rate: expected what an hour of a machine costs, 0 or more, got {self.rate:g}."
            )

    def tell(self, needs: Needs) -> dict[str, Any]:
        """Return what work would take, for JSON."""
        cost = None if self.rate is None else needs.cost(self.rate)
        return {**asdict(needs), "rate": self.rate, "cost": cost}

    def show(self, needs: Needs) -> None:
        """Say memory, money and by how many it can be shared."""
        shared = f"; up to {needs.parts:,} machines can share the work" if needs.parts > 1 else ""
        say(f"about {show_size(needs.memory)} of memory{shared}")
        if self.rate is not None:
            hours = needs.seconds / 3600
            say(
                f"about {needs.cost(self.rate):,.2f} for {hours:,.2f} hours at {self.rate:g} an hour"
            )


def count_processes(workers: int) -> str:
    """Return how many processes do the work of so many workers; without one it is this process."""
    return f"{workers:,} processes" if workers > 1 else "1 process"


def show_size(size: int) -> str:
    """Return a number of bytes as a person says it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
