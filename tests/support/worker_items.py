"""Functions for workers in tests, in their own file so that workers need not import pytest."""

import os
import signal
import time
from pathlib import Path


def square(context, item):
    return context + item * item


def die_once(flag, item):
    if item == 5 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_always(context, item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(context, item):
    if item == 4:
        raise ValueError("item four")
    return item


def sleep_at_three(context, item):
    if item == 3:
        time.sleep(60)
    return item


def raise_timeout(context, item):
    raise TimeoutError("of its own")


def take_too_much(context, item):
    raise item


def length(context, item):
    return len(context)


def number_of_process(context, item):
    return os.getpid(), context, item


class Starved:
    """An object whose import fails, as in a worker without memory."""

    def __setstate__(self, state):
        raise ImportError("libopenblas.so: failed to map segment from shared object")

    def __getstate__(self):
        return {"any": 1}


class Slow:
    """An object that takes a worker longer to unpickle than the timeout."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __setstate__(self, state):
        time.sleep(state["seconds"])


class Deadly:
    """An object that kills the worker that unpickles it."""

    def __setstate__(self, state):
        os.kill(os.getpid(), signal.SIGKILL)

    def __getstate__(self):
        return {"any": 1}


class Unreadable:
    def __setstate__(self, state):
        raise ValueError("cannot be read")

    def __getstate__(self):
        return {"any": 1}
