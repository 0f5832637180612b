"""The end of a command: printable output, exit codes, and one line after a signal."""

from __future__ import annotations

import codecs
import contextlib
import gc
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
from shiftproof.io.border import describe_error
from shiftproof.io.files import ErrorRecordingFile

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_GATE = 3
EXIT_INTERRUPTED = 130

_SIGNAL_BASE = 128
"""Base of exit codes of programs that were ended by a signal, as in shells."""

_PLAIN = {
    "\xa0": " ", "·": "-", "•": "*", "–": "-", "—": "-", "…": "...",
    "×": "x", "±": "+/-", "→": "->", "−": "-",
    "≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip


class Stopped(BaseException):
    """Raised by SIGTERM or SIGHUP; like KeyboardInterrupt it must not be handled as an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


# ---------------------------------------------------------------- what is printed


_output: ErrorRecordingFile | None = None
"""The file of standard output, if it has one."""


def record_output_errors() -> None:
    """Let standard output record write errors.

    Lost output is not written again, so the error would go unnoticed at the end.
    """
    global _output
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper):
        return
    try:
        stdout.flush()
        _output = ErrorRecordingFile(stdout.fileno(), "wb", closefd=False)
    except (OSError, ValueError):  # no file descriptor, or closed
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_output),
        encoding=stdout.encoding,
        errors=stdout.errors,
        line_buffering=stdout.line_buffering,
        write_through=stdout.write_through,
    )


def allow_any_text() -> None:
    """Let standard output and error print any text, whatever their encoding."""
    codecs.register_error("shiftproof", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="shiftproof")


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    letters = [_PLAIN.get(c, c.encode("unicode_escape").decode()) for c in missing]
    return "".join(letters), error.end


def find_output_error() -> str | None:
    """Return the write error of standard output, or None; a closed pipe is no error."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    failure = None if _output is None else _output.failure
    if failure is None or isinstance(failure, BrokenPipeError):
        return None
    return f"Standard output cannot be written to ({describe_error(failure)}). What is finished is kept."


def find_folder_error() -> str | None:
    """Return an error if the working directory does not exist, or None."""
    try:
        Path.cwd()
    except OSError:
        return "The working directory does not exist any more. Change to another folder."
    return None


# ---------------------------------------------------------------- signals


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Stopped` in the block, unless they are ignored (nohup).

    A second signal ends the process at once. An exception raised while Python cleans up would be lost,
    so the signal is sent again.
    """
    handlers = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            handlers[number] = signal.signal(number, _stop)
    hook = sys.unraisablehook
    sys.unraisablehook = _send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
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


def describe_stopped(number: int) -> int:
    """Print one line about the signal that ended the command, and return the exit code."""
    word = "Interrupted" if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}"
    with contextlib.suppress(OSError):  # the terminal is closed
        console.print(
            f"\n{word}. What is finished is kept; the same command resumes there.",
            highlight=False,
            soft_wrap=True,
        )
    return _SIGNAL_BASE + number


# ---------------------------------------------------------------- the end


def leave(code: int) -> NoReturn:
    """Exit with this code, or with that of a failure if output was lost."""
    output_error = find_output_error()
    if output_error is not None:
        code = code or EXIT_FAILURE
        complain(output_error)
    if _output is not None and _output.failure is not None:
        with contextlib.suppress(OSError):
            # Python would flush again at exit, and print another error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), _output.fileno())
    if code > _SIGNAL_BASE:
        # A second interrupt prints no traceback.
        with contextlib.suppress(KeyboardInterrupt):
            _release_semaphores()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _release_semaphores() -> None:
    """Release the semaphores of stopped workers, for which their tracker would print a warning.

    Tracebacks and the thread that feeds a queue keep them after the last line of the command.
    """
    if "multiprocessing.synchronize" not in sys.modules:
        return
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":
            thread.join(1)
