"""Check that data exist, before a verb imports or loads anything for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from shiftproof.errors import InputError
from shiftproof.io.border import suggest_sibling
from shiftproof.io.locations import has_braces, is_url

Kind = Literal["images", "boxes", "label maps", "copies", "results"]

_EXPECTED: Final[dict[Kind, str]] = {
    "images": "a folder of images, a .csv file, a -C tree, or demo",
    "boxes": "a dataset with boxes",
    "label maps": "the folder of a dataset with label maps",
    "copies": "an image or a folder of images",
    "results": "a folder of result files, or a table",
}


def check_source(source: object) -> None:
    """Refuse what is no path or address, such as a loader of another library.

    Raises:
        InputError: neither a text nor a path; the message says what images in memory are.
    """
    if isinstance(source, str | os.PathLike):
        return
    kind = type(source).__name__
    if isinstance(source, bytes):
        raise InputError("Expected a path as text, got bytes; write os.fsdecode(path).")
    raise InputError(
        f"Expected a path or a dataset of shiftproof.data, got {kind}. Images in memory, also those of "
        "a loader or of another library's dataset, are ImageArrays(images, labels=labels)."
    )


def check_presence(source: str | Path, kind: Kind) -> None:
    """Check that a path exists or is an address of tars.

    Args:
        source: the path, the address, or for images "demo".
        kind: what the path is expected to be.

    Raises:
        InputError: it does not exist; the message suggests the nearest name in the folder.
    """
    path = Path(source)
    is_demo = kind == "images" and str(source) == "demo"
    is_remote = kind != "results" and is_address(source)
    if path.exists() or is_demo or is_remote:
        return
    hint = _explain_pattern(path) or suggest_sibling(path)
    raise InputError(f"{path} does not exist; expected {_EXPECTED[kind]}.{hint}")


def _explain_pattern(path: Path) -> str:
    """Return advice if a path is a file name pattern that the shell has not expanded, else ""."""
    if not any(character in str(path) for character in "*?["):
        return ""
    folder = next((parent for parent in path.parents if parent.is_dir()), path.parent)
    return f" File name patterns are not expanded: give the folder, {folder}."


def is_demo(source: str | Path) -> bool:
    """Return whether a source is "demo" and not an existing file or folder."""
    return str(source) == "demo" and not Path(source).exists()


def is_address(source: str | Path) -> bool:
    """Return whether a source is a URL or brace pattern of tars and not an existing file or folder."""
    text = str(source)
    return is_url(text) or (has_braces(text) and not Path(text).exists())
