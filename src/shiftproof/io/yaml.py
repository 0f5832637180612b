"""YAML of plain values, whose number is limited by the size of the file."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import SyntaxFault, convert_errors, locate_character, open_regular
from shiftproof.io.expansion import check_expansion
from shiftproof.lazy import import_extra

MAX_BYTES = 1_000_000
"""Larger files are refused: a dataset of 20,000 classes takes half of it."""

_MAX_VALUES = 50_000
"""Files with more are refused while they are read: PyYAML takes 25 microseconds for each."""

_MAX_DIGITS = 64
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TEXT = "tag:yaml.org,2002:str"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def read_yaml(path: Path) -> Any:
    """Return the value of a YAML file: mappings, lists, texts, numbers, truth values and None.

    Nothing in it is executed. Dates are returned as text. With aliases (``*name``) written out, it may
    have at most as many values as the file has bytes.

    Raises:
        BrokenFileError: it cannot be read, is above a megabyte or 50,000 values, is not YAML,
            nests deeper than 64 levels, contains itself, or expands to more values; the message of a
            fault of its syntax has line and column.
        MissingExtraError: PyYAML is not installed.
    """
    return read_located_yaml(path)[0]


def read_located_yaml(path: Path) -> tuple[Any, dict[str, int]]:
    """Return the value of a YAML file, and of a mapping the line of each of its keys, from 1.

    Raises:
        BrokenFileError, MissingExtraError: as for :func:`read_yaml`.
    """
    yaml = import_extra("yaml", "detection", package="PyYAML")
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise BrokenFileError(
                f"{path}: above {MAX_BYTES // 1_000_000} MB, too large for a data.yaml."
            )
        with convert_errors(path, "not valid YAML"):
            text = _decode(file.read(MAX_BYTES))
        with convert_errors(
            path, "not valid YAML", find_fault=lambda error: _find_fault(error, text)
        ):
            loader = yaml.SafeLoader(text)
            loader.compose_node = _limit_count(loader.compose_node)
            constructors = {**loader.yaml_constructors, _TIMESTAMP: loader.yaml_constructors[_TEXT]}
            loader.yaml_constructors = constructors
            try:
                node = loader.get_single_node()
                if node is None:
                    return None, {}
                check_expansion(node, size, _list_parts)
                lines = _find_lines(node) if isinstance(node, yaml.MappingNode) else {}
                return loader.construct_document(node), lines
            finally:
                loader.dispose()


def _decode(data: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark."""
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")


def _find_fault(error: Exception, text: str) -> SyntaxFault | None:
    """Return the place that an exception of PyYAML names."""
    if mark := getattr(error, "problem_mark", None):
        reason = getattr(error, "problem", None) or "unreadable"
        if context := getattr(error, "context", None):
            start = getattr(error, "context_mark", None)
            began = f" that begins in line {start.line + 1}" if start else ""
            reason = f"{context}{began}: {reason}"
        return SyntaxFault(mark.line + 1, mark.column + 1, reason)
    position = getattr(error, "position", None)  # of a character that YAML does not have
    if isinstance(position, int):
        return locate_character(text, position, str(getattr(error, "reason", "unreadable")))
    return None


def _find_lines(node: Any) -> dict[str, int]:
    """Return the line of each key of a mapping that is a single value, as text."""
    return {
        key.value: key.start_mark.line + 1 for key, _ in node.value if isinstance(key.value, str)
    }


def _limit_count(compose: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap PyYAML's function that composes a value, to refuse too many values."""
    remaining = iter(range(_MAX_VALUES))

    def compose_counted(parent: Any, index: Any) -> Any:
        if next(remaining, None) is None:
            raise ValueError(f"more than {_MAX_VALUES} values")
        return compose(parent, index)

    return compose_counted


def _list_parts(node: Any) -> list[Any] | None:
    if isinstance(node.value, str):
        _check_scalar(node)
        return None
    pairs = (entry if isinstance(entry, tuple) else (entry,) for entry in node.value)
    return [part for item in pairs for part in item]


def _check_scalar(node: Any) -> None:
    node.value.encode()  # refuses half a surrogate pair, which could not be written again
    if node.tag in (_INT, _FLOAT) and len(node.value) > _MAX_DIGITS:
        raise _LocatedError(f"a number of {len(node.value)} digits", node.start_mark)


class _LocatedError(ValueError):
    """A value that is refused, with its place as PyYAML's own errors have it."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark
