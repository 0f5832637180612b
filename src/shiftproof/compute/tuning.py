"""Usable cores, and tuning of processes that shiftproof controls."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import threading
import time

ATTEMPTS = 3
"""Number of times that an item may crash its worker before the job fails."""

_M_TRIM_THRESHOLD = -1  # from glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_GIBIBYTE = 1 << 30

_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h

_CHECK_SECONDS = 1.0
"""Seconds between two checks whether the parent is alive."""


def count_usable_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def default_processes() -> int:
    """Return the default number of worker processes: one per core, and none on a single core."""
    cores = count_usable_cores()
    return cores if cores > 1 else 0


def tune_own_process() -> None:
    """Tune allocator, OpenMP and the end of this process; call it before importing torch.

    All hold for the whole process, so this is called by the command line and in worker processes,
    never by a function of the library.

    - glibc's allocator keeps large freed blocks. A forward pass frees and allocates tens of
      megabytes in every layer, and the kernel clears each page again: with EfficientNet-Lite0 and
      20 images at 224 pixels that took about half of the time.
    - Threads of OpenMP that wait for each other sleep (``OMP_WAIT_POLICY=PASSIVE``, unless you have
      set it). Busy waiting takes cores from the threads that still compute if other processes, such
      as our workers, need them: on two busy cores a forward pass took six times as long.
    - Python looks for garbage while it ends, among all objects of all libraries, which takes a fifth of
      the time of a short command. What is there at the end is left to the system.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, _GIBIBYTE)
    mallopt(_M_TRIM_THRESHOLD, _GIBIBYTE)


def end_with_parent(parent: int) -> None:
    """Make this process exit with its parent, also if the parent is killed.

    Linux kills it immediately; elsewhere a thread checks once a second.

    Args:
        parent: id of the parent process, which may have exited already.
    """
    if not _is_killed_with_parent():
        threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    elif os.getppid() != parent:  # it exited before that took effect
        os._exit(1)


def _is_killed_with_parent() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    return int(prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)) == 0


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    os._exit(1)
