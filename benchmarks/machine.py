"""What a benchmark reads of the machine: the seconds and the memory of its process."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def time_cpu(work: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
    """Return the CPU seconds that a call takes of this process, and its result."""
    start = time.process_time()
    result = work(*arguments)
    return time.process_time() - start, result


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def read_status(key: str) -> int:
    """Return a number of /proc/self/status: ``VmRSS`` the kilobytes held, ``VmHWM`` the most so far.

    The most of getrusage would count that of the parent, too.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition(f"{key}:")[2].split()[0])
