"""Where the shards of a job are done: what a backend is, on this machine, by a batch scheduler."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shiftproof.compute.processes import map_ordered
from shiftproof.compute.tuning import default_processes, usable_cores
from shiftproof.errors import InputError
from shiftproof.shards.folder import Arrays, Parts

Function = Callable[[Any, int], Arrays]


class Backend(Protocol):
    """Something that makes parts."""

    def share(self, shards: Sequence[int]) -> list[int]:
        """Return those of the missing shards that are done here."""

    def work(
        self, function: Function, context: Any, parts: Parts, shards: Sequence[int]
    ) -> Generator[int, None, None]:
        """Make the parts of these shards and yield each shard when its part is written."""

    def whose(self, shards: Sequence[int]) -> str:
        """Say in words behind a list of missing shards who is to do them."""

    def processes(self) -> int:
        """Return how many shards are under way at a time on one machine."""


@dataclass(frozen=True)
class Local:
    """All shards on this machine, in processes that may be killed; each writes its own parts.

    Attributes:
        workers: how many processes, 0 for none but this one; None takes one per core, and none where
            only one shard is left.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise InputError(f"Expected a number of workers of 0 or more, got {self.workers}.")

    def share(self, shards: Sequence[int]) -> list[int]:
        """Return all of them."""
        return list(shards)

    def work(
        self, function: Function, context: Any, parts: Parts, shards: Sequence[int]
    ) -> Generator[int, None, None]:
        """Make the parts in processes."""
        workers = self.workers
        if workers is None:
            # For one shard, starting a process is longer than it is worth.
            workers = default_processes() if len(shards) > 1 else 0
        yield from map_ordered(
            _write, shards, context=(function, context, parts), workers=min(workers, len(shards))
        )

    def whose(self, shards: Sequence[int]) -> str:
        """Say nothing: there is nobody else."""
        return ""

    def processes(self) -> int:
        """Return the number of workers, at least 1."""
        return max(1, usable_cores() if self.workers is None else self.workers)


@dataclass(frozen=True)
class Scheduled:
    """One of several commands that a batch scheduler such as Slurm starts over one folder.

    Attributes:
        worker: which one this is, from 0 up.
        of: how many there are.
        workers: processes on this machine, 0 for none but this one.
    """

    worker: int
    of: int
    workers: int | None = 0

    def __post_init__(self) -> None:
        if self.of < 1:
            raise InputError(f"Expected 1 command or more to share the work, got {self.of}.")
        if not 0 <= self.worker < self.of:
            raise InputError(
                f"Expected worker 0 to {self.of - 1} of {self.of}, got worker {self.worker} of "
                f"{self.of}."
            )

    def share(self, shards: Sequence[int]) -> list[int]:
        """Return every ``of``-th shard, by its number: what is there already changes nothing."""
        return [shard for shard in shards if shard % self.of == self.worker]

    def work(
        self, function: Function, context: Any, parts: Parts, shards: Sequence[int]
    ) -> Generator[int, None, None]:
        """Make the parts as :class:`Local` does."""
        yield from Local(self.workers).work(function, context, parts, shards)

    def whose(self, shards: Sequence[int]) -> str:
        """Name the workers whose share they are."""
        others = sorted({shard % self.of for shard in shards})
        told = ", ".join(map(str, others[:10])) + (" and more" if len(others) > 10 else "")
        return f" (of worker{'s' if len(others) > 1 else ''} {told}, --of {self.of})"

    def processes(self) -> int:
        """Return the number of workers, at least 1."""
        return Local(self.workers).processes()


def _write(context: tuple[Function, Any, Parts], shard: int) -> int:
    """Make one part, in a worker; what is written does not wait for the parent."""
    function, of_job, parts = context
    parts.write(shard, function(of_job, shard))
    return shard
