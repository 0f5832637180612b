"""Reading untrusted files: any exception of a parser becomes an error of the file."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from shiftproof.errors import BrokenFileError, InputError, ShiftproofError, suggest_name
from shiftproof.io.urls import redact_urls

_SUBSTITUTIONS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Paths of a shell's process substitution."""

_SIBLINGS = 10_000
"""Maximum number of names of a folder to search for the nearest: some folders have millions."""


@dataclass(frozen=True)
class SyntaxFault:
    """Where the text of a file breaks its syntax.

    Attributes:
        line: line of the file, from 1.
        column: character in the line, from 1.
        reason: what was expected there, or what is wrong.
    """

    line: int
    column: int
    reason: str


FindFault: TypeAlias = Callable[[Exception], "SyntaxFault | None"]
"""Returns the place that a parser's exception names, or None if it names none."""


@contextlib.contextmanager
def convert_errors(
    name: str | Path, expected: str, *, find_fault: FindFault | None = None
) -> Iterator[None]:
    """Convert exceptions of a parsing library in the block to a :class:`BrokenFileError` of the
    file.

    For damaged bytes libraries raise exceptions of many types: ``struct.error``, ``zlib.error``,
    ``KeyError``, ``TokenError``, ``MemoryError``. Readers use this around a library's calls instead
    of listing them. Errors of shiftproof pass unchanged. The message names line and column if the
    exception does; bytes that are not in a text's encoding have a place in every file.

    Args:
        name: name of the file in messages.
        expected: what the file should have been, without a full stop: "not valid JSON".
        find_fault: returns the place that an exception of this library names.

    Raises:
        BrokenFileError: the block raised any other exception.
    """
    try:
        yield
    except ShiftproofError:
        raise
    except OSError as error:
        raise BrokenFileError(f"{name}: cannot be read ({describe_error(error)}).") from error
    except Exception as error:
        fault = _find_decoding_fault(error) or (find_fault(error) if find_fault else None)
        if fault is None:
            raise BrokenFileError(f"{name}: {expected} ({describe_error(error)}).") from error
        place = f"{name}, line {fault.line}, column {fault.column}"
        raise BrokenFileError(f"{place}: {expected} ({_shorten(fault.reason)}).") from error


def locate_character(text: str, position: int, reason: str) -> SyntaxFault:
    """Return the fault at a position of a text, counted from 0."""
    line_start = text.rfind("\n", 0, position) + 1
    return SyntaxFault(text.count("\n", 0, position) + 1, position - line_start + 1, reason)


def _find_decoding_fault(error: Exception) -> SyntaxFault | None:
    """Return the place of a byte that is not in the encoding of a text."""
    if not isinstance(error, UnicodeDecodeError) or not error.object:
        return None
    before = bytes(error.object[: error.start])
    readable = before.decode(error.encoding, "replace").removeprefix("\ufeff")
    byte = error.object[error.start] if error.start < len(error.object) else 0
    reason = f"the byte 0x{byte:02x} is not {error.encoding}: {error.reason}"
    return locate_character(readable, len(readable), reason)


@contextlib.contextmanager
def open_regular(path: Path, *, allow_pipe: bool = False) -> Iterator[IO[bytes]]:
    """Open a regular file for reading; pipes and devices are refused, since they may never end.

    Args:
        path: the file.
        allow_pipe: whether a shell's process substitution ``<(...)`` is accepted, which has no size
            and cannot be read twice.

    Raises:
        BrokenFileError: the file cannot be read, or is not regular.
    """
    with contextlib.ExitStack() as stack:
        with convert_errors(path, "cannot be read"):
            is_pipe = allow_pipe and str(path).startswith(_SUBSTITUTIONS)
            if not is_pipe and path.exists() and not path.is_file():
                raise BrokenFileError(f"{path}: not a regular file.")
            file = stack.enter_context(path.open("rb"))
        yield file


def describe_error(error: BaseException) -> str:
    """Return the first line of an exception's message, shortened and without secrets of URLs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return _shorten(str(error).strip() or type(error).__name__)


def _shorten(text: str) -> str:
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
"""Names shown in messages in place of local folders."""


def show_as(folder: str, name: str) -> None:
    """Show a folder under another name in messages: a local copy by its URL."""
    _shown_as[folder] = name


def show_folders(text: str) -> str:
    """Return a text with the folders replaced by their names of :func:`show_as`."""
    for folder, name in _shown_as.items():
        text = text.replace(folder, name)
    return text


def show_text(text: str) -> str:
    """Return text that is safe to print: like :func:`show_name`, but with line breaks."""
    return "\n".join(map(show_name, redact_urls(show_folders(text)).split("\n")))


def show_name(name: str) -> str:
    r"""Return a printable name: characters that are not UTF-8 or not printable are escaped.

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
    """Return a question that suggests the nearest name beside a missing path, or "".

    For a broken link, return a sentence with its target.
    """
    try:
        if path.is_symlink():
            return show_text(f" It is a link to {path.readlink()}, which does not exist.")
        with os.scandir(path.parent) as entries:
            names = [
                entry.name for entry in itertools.islice(entries, _SIBLINGS) if is_utf8(entry.name)
            ]
    except OSError:
        return ""
    return show_text(suggest_name(path.name, names, cutoff=0.7))
