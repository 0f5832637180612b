"""Whether any of many pictures can be read, before long work is begun on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from shiftproof.errors import BrokenFileError, InputError

Picture = TypeVar("Picture")


def check_any_readable(
    name: str, pictures: Sequence[Picture], read: Callable[[Picture], object]
) -> None:
    """Check that one of the pictures can be read; the first that can ends it.

    Raises:
        InputError: none can; the message has the error of the first.
    """
    first = None
    for picture in pictures:
        try:
            read(picture)
        except BrokenFileError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise none_readable(name, len(pictures), str(first))


def none_readable(name: str, count: int, first: str) -> InputError:
    """Return the error for pictures of which none can be read."""
    return InputError(f"None of the images of {name} can be read. The first of {count:,}: {first}")
