"""The cores that a process may use, and settings for processes that are ours alone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_M_TRIM_THRESHOLD = -1  # from glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_GIBIBYTE = 1 << 30

_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h

_GLANCE = 1.0
"""Seconds between two checks whether the parent is still there."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def default_processes() -> int:
    """Return how many processes share work: one a core, and none beside this one on a single core."""
    cores = usable_cores()
    return cores if cores > 1 else 0


def tune_own_process() -> None:
    """Make forward passes on a busy CPU cost what they need: call it before torch is imported.

    Both hold for the whole process, so this is called by the command line and in worker processes,
    never by a function of the library.

    - glibc's allocator keeps large blocks that are freed. A forward pass frees and asks again for
      tens of megabytes in every layer, and the kernel clears each page anew: with EfficientNet-Lite0
      and 20 images at 224 pixels that was about half of the time.
    - Threads of OpenMP that wait for each other sleep (``OMP_WAIT_POLICY=PASSIVE``, unless you have
      set it). Waiting in a loop takes the core from the very thread that is waited for when other
      processes, our own workers among them, want it too: on two busy cores a forward pass took six
      times as long.
    """
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
    """Make this process end when its parent has, also when the parent was killed.

    Linux kills it at that moment; elsewhere a thread looks once a second.

    Args:
        parent: the number of the process that started this one; it may have ended already.
    """
    if not _is_killed_with_parent():
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    elif os.getppid() != parent:  # it ended before that held
        os._exit(1)


def _is_killed_with_parent() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    return int(prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)) == 0


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_GLANCE)
    os._exit(1)
