"""Estimated resources of a job: time, memory, disk and money."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from shiftproof.errors import InputError

WORKER_BYTES = 300_000_000
"""Memory of a worker process with its libraries, compiled loops and an image, measured on Linux."""


@dataclass(frozen=True)
class Needs:
    """The estimated resources of a job.

    Attributes:
        seconds: wall time on one machine like this one.
        memory: bytes of memory of all processes on a machine.
        disk: bytes written to disk.
        parts: maximum number of machines or commands that can share it.
    """

    seconds: float
    memory: int
    disk: int
    parts: int

    def cost(self, rate: float) -> float:
        """Return the cost at a rate per machine hour, which does not depend on the number of
        machines.

        Raises:
            InputError: a rate below 0, or not finite.
        """
        if not 0 <= rate < float("inf"):
            raise InputError(f"Expected a machine's price per hour, 0 or more, got {rate}.")
        return self.seconds / 3600 * rate


def measure_memory(workers: int) -> int:
    """Return the peak memory of this process plus that of ``workers`` workers, in bytes."""
    return _measure_peak_memory() + workers * WORKER_BYTES


def _measure_peak_memory() -> int:
    if sys.platform == "win32":
        return WORKER_BYTES
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
