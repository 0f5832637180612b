"""The border to a stranger's bytes: whatever a parser raises becomes the error of the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from shiftproof.errors import BrokenFileError, ShiftproofError


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


def reason_of(error: BaseException) -> str:
    """Return the first line of what an exception says, short enough for a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def show_name(name: str) -> str:
    r"""Return a name as it can be printed and written: what is not UTF-8 or not printable, escaped.

    >>> print(show_name("a\tb"))
    a\tb
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )
