"""Text files: UTF-8 with or without a byte order mark; JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import SyntaxFault, convert_errors, open_regular


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8, without the byte order mark that some editors write.

    Args:
        path: the file.
        errors: how bytes that are not UTF-8 are handled, as in ``bytes.decode``.

    Raises:
        BrokenFileError: it cannot be read, or is not UTF-8; the message has line and column.
    """
    with (
        open_regular(path, allow_pipe=True) as file,
        convert_errors(path, "expected a text file in UTF-8"),
    ):
        return file.read().decode("utf-8-sig", errors)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return number, from 1, and stripped text of each line, without empty ones at both ends.

    Raises:
        BrokenFileError: as for :func:`read_text`.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    filled = [number for number, line in enumerate(lines) if line]
    if not filled:
        return []
    first, last = filled[0], filled[-1]
    return list(enumerate(lines[first : last + 1], start=first + 1))


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
        BrokenFileError: it is missing or not JSON; the message has line and column.
    """
    with (
        open_regular(path, allow_pipe=True) as file,
        convert_errors(path, "not valid JSON", find_fault=find_json_fault),
    ):
        return json.loads(file.read().decode("utf-8-sig"))


def find_json_fault(error: Exception) -> SyntaxFault | None:
    """Return the place that an exception of Python's JSON reader names."""
    if not isinstance(error, json.JSONDecodeError):
        return None
    return SyntaxFault(error.lineno, error.colno, error.msg)


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and stripped cells of each row of a CSV file; empty lines are skipped.

    UTF-8, with or without a byte-order mark, cells separated by commas. The line is the one on which a
    row ends.

    Raises:
        BrokenFileError: the file is not such a CSV file.
    """
    text = read_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BrokenFileError(
            f"{path}, line {line}: expected a text file, got one with zero bytes."
        )
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise BrokenFileError(
            f"{path}, line {reader.line_num}: not valid CSV ({error})."
        ) from error
