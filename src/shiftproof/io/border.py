"""Reading untrusted files: any exception of a parser becomes an error of the file."""

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
"""Paths of a shell's process substitution."""

_SIBLINGS = 10_000
"""So many names of a folder are looked at for the nearest: some folders have millions."""


@contextlib.contextmanager
def convert_errors(name: str | Path, expected: str) -> Iterator[None]:
    """Convert exceptions of a parsing library in the block to a :class:`BrokenFileError` of the
    file.

    A library that meets damaged bytes raises anything: ``struct.error``, ``zlib.error``,
    ``KeyError``, ``TokenError``, ``MemoryError``. No reader lists what it knows of; it puts this
    around the library's calls. Errors of our own come through as they are.

    Args:
        name: name of the file in messages.
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
    """Return the first line of an exception's message, shortened and without secrets of URLs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip() or type(error).__name__
    return redact_urls(text.splitlines()[0])[:200]


def is_utf8(name: str) -> bool:
    """Return whether a name can be encoded: bytes that are not UTF-8 become lone surrogates in
    Python.
    """
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


_shown_as: dict[str, str] = {}
"""What folders of this machine are called that stand for others."""


def show_as(folder: str, name: str) -> None:
    """Call a folder by another name in all that is printed: by its URL, where it is a copy."""
    _shown_as[folder] = name


def show_folders(text: str) -> str:
    """Return a text with each folder called as :func:`show_as` was told."""
    for folder, name in _shown_as.items():
        text = text.replace(folder, name)
    return text


def show_text(text: str) -> str:
    """Return text that is safe to print: like :func:`show_name`, but with line breaks."""
    return "\n".join(map(show_name, redact_urls(show_folders(text)).split("\n")))


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
