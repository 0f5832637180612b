"""Text files: UTF-8 with or without a byte order mark; and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import convert_errors, open_regular


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8, without the byte order mark that some editors write.

    Args:
        path: the file.
        errors: how bytes that are not UTF-8 are handled, as in ``bytes.decode``.

    Raises:
        BrokenFileError: it cannot be read, or is not UTF-8.
    """
    with (
        open_regular(path, allow_pipe=True) as file,
        convert_errors(path, "expected a text file in UTF-8"),
    ):
        return file.read().decode("utf-8-sig", errors)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        BrokenFileError: it is missing, not JSON, or has another type.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise BrokenFileError(f"{path}: expected an object, got {type(value).__name__}.")
    return value


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        BrokenFileError: it is missing or not JSON.
    """
    with open_regular(path, allow_pipe=True) as file, convert_errors(path, "not valid JSON"):
        return json.loads(file.read().decode("utf-8-sig"))
