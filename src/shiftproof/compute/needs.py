"""What work would take: time, memory, disk and money, as every verb tells it beforehand."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from shiftproof.errors import InputError

WORKER_BYTES = 300_000_000
"""What a worker process holds that has its libraries, compiled loops and an image: measured on Linux."""


@dataclass(frozen=True)
class Needs:
    """What work would take.

    Attributes:
        seconds: of one machine like this one.
        memory: bytes that all processes of a machine hold.
        disk: bytes that are written.
        parts: by so many machines or commands it can be shared at most.
    """

    seconds: float
    memory: int
    disk: int
    parts: int

    def cost(self, rate: float) -> float:
        """Return what it costs at so much for an hour of a machine, however many share it.

        Raises:
            InputError: a rate below 0, or none.
        """
        if not 0 <= rate < float("inf"):
            raise InputError(f"Expected what an hour of a machine costs, 0 or more, got {rate}.")
        return self.seconds / 3600 * rate


def measure_memory(workers: int) -> int:
    """Return the bytes that this process has held at most, and those of so many workers beside it."""
    return _peak() + workers * WORKER_BYTES


def _peak() -> int:
    if sys.platform == "win32":
        return WORKER_BYTES
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
