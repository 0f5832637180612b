"""``--dry-run``: forecasts of time, memory and cost, common to all verbs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shiftproof.cli.options import DryRun
from shiftproof.cli.printing import print_line
from shiftproof.counts import pluralize
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.compute.needs import Needs


@dataclass(frozen=True)
class PlanOptions:
    """Options of a forecast: ``--dry-run`` and the price of an hour."""

    dry_run: DryRun = False
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="NUMBER",
            help="With --dry-run: the price of an hour of a machine, such as 2.5; shows the total.",
        ),
    ] = None

    def check(self) -> None:
        """Check the price before any work.

        Raises:
            InputError: a price without a dry run, or an invalid one.
        """
        if self.rate is not None and not self.dry_run:
            raise InputError("--rate has an effect with --dry-run only.")
        if self.rate is not None and not 0 <= self.rate < float("inf"):
            raise InputError(
                f"--rate: expected the price of an hour of a machine, 0 or more, got {self.rate:g}."
            )

    def describe(self, needs: Needs) -> dict[str, Any]:
        """Return the needs of the work for JSON."""
        cost = None if self.rate is None else needs.cost(self.rate)
        return {**asdict(needs), "rate": self.rate, "cost": cost}

    def show(self, needs: Needs) -> None:
        """Print memory, cost, and the number of workers that can share the work."""
        share_text = (
            f"; up to {needs.parts:,} machines can share the work" if needs.parts > 1 else ""
        )
        print_line(f"about {show_size(needs.memory)} of memory{share_text}")
        if self.rate is not None:
            hours = needs.seconds / 3600
            print_line(
                f"about {needs.cost(self.rate):,.2f} for {hours:,.2f} hours at {self.rate:g} an hour"
            )


def count_processes(workers: int) -> str:
    """Return the number of processes for so many workers; 0 workers use this process."""
    return pluralize(max(workers, 1), "process", "processes")


def show_size(size: int) -> str:
    """Format a number of bytes for users."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
