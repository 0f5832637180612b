"""Backends of a job: the protocol, local processes, and batch schedulers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shiftproof.compute.tuning import count_usable_cores, default_processes
from shiftproof.errors import InputError
from shiftproof.shards.folder import Arrays, Parts

Function = Callable[[Any, int], Arrays]


class Backend(Protocol):
    """Computes the parts of a job."""

    def share(self, shards: Sequence[int]) -> list[int]:
        """Return the missing shards that this worker should compute."""

    def work(
        self, function: Function, context: Any, parts: Parts, shards: Sequence[int]
    ) -> Generator[int, None, None]:
        """Compute the parts of these shards, and yield each shard when its part is written."""

    def describe_workers(self, shards: Sequence[int]) -> str:
        """Return a message's suffix that names the workers of missing shards."""

    def processes(self) -> int:
        """Return the number of shards that run concurrently on one machine."""


@dataclass(frozen=True)
class Local:
    """All shards on this machine, in worker processes that write their own parts.

    Attributes:
        workers: number of processes, 0 for only this one; None uses one per core, and none if only
            one shard is left.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise InputError(f"Expected a number of workers of 0 or more, got {self.workers}.")

    def share(self, shards: Sequence[int]) -> list[int]:
        """Return all shards."""
        return list(shards)

    def work(
        self, function: Function, context: Any, parts: Parts, shards: Sequence[int]
    ) -> Generator[int, None, None]:
        """Compute the parts in worker processes."""
        from shiftproof.compute.processes import map_ordered  # with all that starts them

        workers = self.workers
        if workers is None:
            # Starting a process is not worth it for a single shard.
            workers = default_processes() if len(shards) > 1 else 0
        yield from map_ordered(
            _write, shards, context=(function, context, parts), workers=min(workers, len(shards))
        )

    def describe_workers(self, shards: Sequence[int]) -> str:
        """Return nothing: there are no other workers."""
        return ""

    def processes(self) -> int:
        """Return the number of workers, at least 1."""
        return max(1, count_usable_cores() if self.workers is None else self.workers)


@dataclass(frozen=True)
class Scheduled:
    """One of several commands that a batch scheduler such as Slurm starts over one folder.

    Attributes:
        worker: index of this command, from 0.
        of: number of commands.
        workers: processes on this machine, 0 for only this one.
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
        """Return every ``of``-th shard by number, independent of which shards exist already."""
        return [shard for shard in shards if shard % self.of == self.worker]

    def work(
        self, function: Function, context: Any, parts: Parts, shards: Sequence[int]
    ) -> Generator[int, None, None]:
        """Compute the parts like :class:`Local`."""
        yield from Local(self.workers).work(function, context, parts, shards)

    def describe_workers(self, shards: Sequence[int]) -> str:
        """Return a suffix that names the workers of these shards."""
        others = sorted({shard % self.of for shard in shards})
        told = ", ".join(map(str, others[:10])) + (" and more" if len(others) > 10 else "")
        return f" (of worker{'s' if len(others) > 1 else ''} {told}, --of {self.of})"

    def processes(self) -> int:
        """Return the number of workers, at least 1."""
        return Local(self.workers).processes()


def _write(context: tuple[Function, Any, Parts], shard: int) -> int:
    """Compute and write one part in a worker, without waiting for the parent."""
    function, of_job, parts = context
    parts.write(shard, function(of_job, shard))
    return shard
