"""How a command ends: what it prints can be printed, and a signal ends it in one line."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from shiftproof.cli.printing import complain
from shiftproof.compute.progress import console
from shiftproof.io.border import reason_of
from shiftproof.io.files import WatchedFile

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_GATE = 3
EXIT_INTERRUPTED = 130

_BY_SIGNAL = 128
"""Plus its number: what a shell says of a program that a signal ended."""

_PLAIN = {
    "·": "-", "•": "*", "–": "-", "—": "-", "…": "...", "×": "x", "±": "+/-", "→": "->", "−": "-",
    "≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip


class Stopped(BaseException):
    """SIGTERM or SIGHUP came; like KeyboardInterrupt no error that anybody should catch."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


# ---------------------------------------------------------------- what is printed


_output: WatchedFile | None = None
"""What standard output writes to, where it is a file of the system."""


def watch_output() -> None:
    """Make standard output remember that it could not be written to.

    What was lost is not tried again, so that nothing would tell in the end.
    """
    global _output
    there = sys.stdout
    if not isinstance(there, io.TextIOWrapper):
        return
    try:
        there.flush()
        _output = WatchedFile(there.fileno(), "wb", closefd=False)
    except (OSError, ValueError):  # none of the system's, or closed
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_output),
        encoding=there.encoding,
        errors=there.errors,
        line_buffering=there.line_buffering,
        write_through=there.write_through,
    )


def print_anything() -> None:
    """Make standard output and error take every text, also where their encoding has few letters."""
    codecs.register_error("shiftproof", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="shiftproof")


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    spelt = [_PLAIN.get(c, c.encode("unicode_escape").decode()) for c in missing]
    return "".join(spelt), error.end


def fault_of_output() -> str | None:
    """Say why standard output takes nothing, or return None where it does; a reader that left is none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    failure = None if _output is None else _output.failure
    if failure is None or isinstance(failure, BrokenPipeError):
        return None
    return f"Standard output cannot be written to ({reason_of(failure)}). What is finished is kept."


def fault_of_folder() -> str | None:
    """Say that the working directory is gone, or return None where it is there."""
    try:
        Path.cwd()
    except OSError:
        return "The working directory is not there any more. Change to a folder that is."
    return None


# ---------------------------------------------------------------- signals


@contextlib.contextmanager
def heeding_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise :class:`Stopped`, unless they are ignored (nohup).

    Once: the next one ends the process there and then. What is raised while Python cleans up is lost
    there, so it is sent once more.
    """
    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, _stop)
    hook = sys.unraisablehook
    sys.unraisablehook = _send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)


def _send_again(unraisable: sys.UnraisableHookArgs) -> None:
    error = unraisable.exc_value
    if not isinstance(error, (KeyboardInterrupt, Stopped)):
        sys.__unraisablehook__(unraisable)
        return
    number = int(signal.SIGINT)
    if isinstance(error, Stopped):
        number = error.number
        signal.signal(number, _stop)
    later = threading.Timer(0.05, os.kill, (os.getpid(), number))
    later.daemon = True
    later.start()


def tell_stopped(number: int) -> int:
    """Say in one line what ended the command, and return its exit code."""
    word = "Interrupted" if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}"
    with contextlib.suppress(OSError):  # a terminal that hung up
        console.print(
            f"\n{word}. What is finished is kept; the same command goes on from there.",
            highlight=False,
            soft_wrap=True,
        )
    return _BY_SIGNAL + number


# ---------------------------------------------------------------- the end


def leave(code: int) -> NoReturn:
    """End the process with this exit code, or with that of a failure where the output is not out."""
    told = fault_of_output()
    if told is not None:
        code = code or EXIT_FAILURE
        complain(told)
    if _output is not None and _output.failure is not None:
        with contextlib.suppress(OSError):
            # Python writes out what is left once more, and would say that it cannot.
            os.dup2(os.open(os.devnull, os.O_WRONLY), _output.fileno())
    if code > _BY_SIGNAL:
        # Whoever asked for the end twice is not shown where it was asked for the second time.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
