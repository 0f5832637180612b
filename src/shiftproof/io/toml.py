"""TOML files: read by the standard library, and by the package that it came from before Python 3.11."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import SyntaxFault, convert_errors, locate_character
from shiftproof.io.text import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_MAX_LINES = 2000
"""Number of lines of which :func:`find_line` parses ever more, in seconds at most."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        BrokenFileError: it is missing, not UTF-8 or not TOML; the message has line and column.
    """
    text = read_text(path)

    def find_fault(error: Exception) -> SyntaxFault | None:
        # Only from Python 3.14 on has the exception the place as numbers.
        found = re.fullmatch(
            r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error)
        )
        if found is None:
            return None
        if found[2] is None:
            return locate_character(text, len(text), f"{found[1]}, at the end of the file")
        return SyntaxFault(int(found[2]), int(found[3]), found[1])

    with convert_errors(path, "not valid TOML", find_fault=find_fault):
        return dict(tomllib.loads(text))


def find_line(path: Path, keys: Sequence[str]) -> int | None:
    """Return the line of a valid TOML file, from 1, on which a value or a table begins.

    The parser keeps no places. So ever more lines are parsed until the key is there; what begins
    before the last of them and spans several lines, such as a list, cannot be parsed in part.

    Args:
        path: the file.
        keys: the names of the tables and of the key, from the outermost.

    Returns:
        None if the first 2,000 lines have no such key, or the file cannot be read any more.
    """
    try:
        lines = read_text(path).splitlines(keepends=True)[:_MAX_LINES]
    except BrokenFileError:
        return None
    start = 0
    for end in range(1, len(lines) + 1):
        try:
            content: Any = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _has_key(content, keys):
            begun = (at for at in range(start, end) if lines[at].strip()[:1] not in ("", "#"))
            return next(begun, end - 1) + 1
        start = end
    return None


def _has_key(content: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            return False
        content = content[key]
    return True
