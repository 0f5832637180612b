"""What a benchmark reads of the machine: the seconds and the memory of its process."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


def restart_with_one_thread() -> None:
    """Start the program anew with one thread for products of matrices, unless it has one already.

    With several, a thread that waits for another one is counted as CPU time. OpenBLAS reads their
    number when it is loaded.
    """
    if any(os.environ.get(name) != "1" for name in THREADS):
        environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


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
