"""The border to a stranger's bytes: whatever a parser raises becomes the error of the file."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from shiftproof.errors import BrokenFileError, InputError, ShiftproofError, suggest_name
from shiftproof.io.urls import redact_urls

_HANDED_OVER = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""What a shell calls the output of another command that it hands over as a file."""

_SIBLINGS = 10_000
"""So many names of a folder are looked at for the nearest: some folders have millions."""


@contextlib.contextmanager
def convert_errors(name: str | Path, expected: str) -> Iterator[None]:
    """Turn what a parsing library raises in the block into a :class:`BrokenFileError` of the file.

    A library that meets damaged bytes raises anything: ``struct.error``, ``zlib.error``,
    ``KeyError``, ``TokenError``, ``MemoryError``. No reader lists what it knows of; it puts this
    around the library's calls. Errors of our own come through as they are.

    Args:
        name: the file, as the message is to call it.
        expected: what the file should have been, without a full stop: "not valid JSON".

    Raises:
        BrokenFileError: the block raised anything but an error of our own.
    """
    try:
        yield
    except ShiftproofError:
        raise
    except OSError as error:
        raise BrokenFileError(f"{name}: cannot be read ({reason_of(error)}).") from error
    except Exception as error:
        raise BrokenFileError(f"{name}: {expected} ({reason_of(error)}).") from error


@contextlib.contextmanager
def open_regular(path: Path, *, handed_over: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for reading; a pipe or a device, which may never end, is refused.

    Args:
        path: the file.
        handed_over: whether it may be another command's output, ``<(...)`` in a shell. It has no
            size then, and cannot be read twice.

    Raises:
        BrokenFileError: it cannot be read, or is no regular file.
    """
    with contextlib.ExitStack() as stack:
        with convert_errors(path, "cannot be read"):
            piped = handed_over and str(path).startswith(_HANDED_OVER)
            if not piped and path.exists() and not path.is_file():
                raise BrokenFileError(f"{path}: not a regular file.")
            file = stack.enter_context(path.open("rb"))
        yield file


def reason_of(error: BaseException) -> str:
    """Return the first line of what an exception says, short and without secrets of URLs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip() or type(error).__name__
    return redact_urls(text.splitlines()[0])[:200]


def is_utf8(name: str) -> bool:
    """Whether a name can be written down: of bytes that are not UTF-8 Python makes half surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_names(root: Path, names: Iterable[str]) -> None:
    """Check that names of files could be written to a record.

    Raises:
        InputError: one is not UTF-8.
    """
    for name in names:
        if not is_utf8(name):
            raise InputError(
                f"{show_name(str(root))}: the name {show_name(name)} is not UTF-8; rename the file."
            )


def show_text(text: str) -> str:
    """Return what may be printed to a terminal: as :func:`show_name`, but lines stay lines."""
    return "\n".join(map(show_name, redact_urls(text).split("\n")))


def show_name(name: str) -> str:
    r"""Return a name as it can be printed and written: what is not UTF-8 or not printable, escaped.

    >>> print(show_name("a\tb"))
    a\tb
    """
    if name.isprintable():
        return name
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


def suggest_sibling(path: Path) -> str:
    """Return the sentence that asks for the nearest name beside a path that is not there, or ""."""
    try:
        with os.scandir(path.parent) as entries:
            names = [
                entry.name for entry in itertools.islice(entries, _SIBLINGS) if is_utf8(entry.name)
            ]
    except OSError:
        return ""
    return show_text(suggest_name(path.name, names, cutoff=0.7))
