"""Check that images can be read before long work on them starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from shiftproof.errors import BrokenFileError, InputError

Item = TypeVar("Item")


def check_any_readable(name: str, images: Sequence[Item], read: Callable[[Item], object]) -> None:
    """Check that at least one of the images can be read; stops at the first one that can.

    Raises:
        InputError: none can; the message has the error of the first.
    """
    first_error = None
    for image in images:
        try:
            read(image)
        except BrokenFileError as error:
            first_error = first_error or error
        else:
            return
    if first_error is not None:
        raise make_unreadable_error(name, len(images), str(first_error))


def make_unreadable_error(name: str, count: int, first: str) -> InputError:
    """Return the error for images of which none can be read."""
    return InputError(f"None of the images of {name} can be read. The first of {count:,}: {first}")
