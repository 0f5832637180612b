"""The names of classes as a person gives them: a list, a word, or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shiftproof.classes import Classes, imagenet, name_classes
from shiftproof.errors import BrokenFileError
from shiftproof.io.locations import is_url
from shiftproof.io.text import read_json, read_lines

NUMBERED = "numbered"
"""The word for outputs that have no names."""

IMAGENET = "imagenet"
"""The word for ImageNet's 1,000 classes."""


def read_classes(given: Classes | Iterable[str] | str | Path) -> Classes:
    """Return classes that were given as such, as names, by the word ``imagenet``, or by a file.

    Raises:
        BrokenFileError: the file is missing or no list of names.
    """
    if isinstance(given, Classes):
        return given
    if given == IMAGENET:
        return imagenet()
    return read_names(Path(given)) if isinstance(given, (str, Path)) else name_classes(given)


def check_names(given: str | None) -> None:
    """Raise a BrokenFileError if a file of class names cannot be read; URLs are not fetched."""
    if given is not None and given != NUMBERED and not is_url(given):
        read_classes(given)


def read_names(path: Path) -> Classes:
    """Read class names from a file, in the order of the labels.

    A text file has one name a line; a ``.json`` file a list of names, or an object from the index
    to the name (``{"0": "cat"}``).

    Raises:
        BrokenFileError: the file is missing, no text, or has no name or an empty one between two.
    """
    if path.suffix.lower() == ".json":
        names = _check_names(read_json(path), path)
    else:
        numbered = read_lines(path)
        empty = next((number for number, line in numbered if not line), None)
        if empty is not None:
            raise BrokenFileError(
                f"{path}, line {empty}: expected the name of a class, got an empty line."
            )
        names = [line for _, line in numbered]
    if not names or "" in names:
        found = "no name" if not names else f"an empty name of class {names.index('')}"
        raise BrokenFileError(f"{path}: expected one name of a class a line, got {found}.")
    return name_classes(names)


def _check_names(content: Any, path: Path) -> list[str]:
    if isinstance(content, Mapping):
        keys = [str(index) for index in range(len(content))]
        content = [content.get(key) for key in keys]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise BrokenFileError(
            f'{path}: expected a list of names, or an object from 0, 1, ... to them ({{"0": "cat"}}).'
        )
    return [name.strip() for name in content]
