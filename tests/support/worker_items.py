"""What tests of workers have them do, apart from the tests: a worker would import pytest first."""

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
    """What cannot be imported by a worker whose memory is full."""

    def __setstate__(self, state):
        raise ImportError("libopenblas.so: failed to map segment from shared object")

    def __getstate__(self):
        return {"any": 1}


class Slow:
    """What takes longer to be read by a worker than one may wait for it."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __setstate__(self, state):
        time.sleep(state["seconds"])


class Deadly:
    """What kills the worker that reads it."""

    def __setstate__(self, state):
        os.kill(os.getpid(), signal.SIGKILL)

    def __getstate__(self):
        return {"any": 1}


class Unreadable:
    def __setstate__(self, state):
        raise ValueError("cannot be read")

    def __getstate__(self):
        return {"any": 1}
