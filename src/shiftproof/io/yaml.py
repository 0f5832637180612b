"""YAML of plain values, with a limit on their number from the size of the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import convert_errors, open_regular
from shiftproof.io.expansion import check_expansion
from shiftproof.lazy import import_extra

MAX_BYTES = 1_000_000
"""Larger files are refused: a dataset of 20,000 classes takes half of it."""

_MAX_VALUES = 50_000
"""More are refused while they are read: PyYAML takes 25 microseconds for each."""

_MAX_DIGITS = 64
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TEXT = "tag:yaml.org,2002:str"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds: mappings, lists, texts, numbers, truth values and None.

    Nothing in it is executed. A date stays the text that it is. Aliases (``*name``) are followed as
    long as the whole, written out, has no more values than the file has bytes.

    Raises:
        BrokenFileError: it cannot be read, is above a megabyte or 50,000 values, is no YAML,
            nests deeper than 64 levels, holds itself, or means far more than it says.
        MissingExtraError: PyYAML is not installed.
    """
    yaml = import_extra("yaml", "detection", package="PyYAML")
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise BrokenFileError(f"{path}: above {MAX_BYTES // 1_000_000} MB; no data.yaml.")
        with convert_errors(path, "not valid YAML"):
            loader = yaml.SafeLoader(file.read(MAX_BYTES))
            loader.compose_node = _limit_count(loader.compose_node)
            constructors = {**loader.yaml_constructors, _TIMESTAMP: loader.yaml_constructors[_TEXT]}
            loader.yaml_constructors = constructors
            try:
                node = loader.get_single_node()
                if node is None:
                    return None
                check_expansion(node, size, _list_parts)
                return loader.construct_document(node)
            finally:
                loader.dispose()


def _limit_count(compose: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return what composes a value, but stops at too many."""
    numbers = iter(range(_MAX_VALUES))

    def compose_counted(parent: Any, index: Any) -> Any:
        if next(numbers, None) is None:
            raise ValueError(f"more than {_MAX_VALUES} values")
        return compose(parent, index)

    return compose_counted


def _list_parts(node: Any) -> list[Any] | None:
    if isinstance(node.value, str):
        _check_scalar(node)
        return None
    pairs = (entry if isinstance(entry, tuple) else (entry,) for entry in node.value)
    return [part for pair in pairs for part in pair]


def _check_scalar(node: Any) -> None:
    node.value.encode()  # half a surrogate pair, which nothing could write down again
    if node.tag in (_INT, _FLOAT) and len(node.value) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(node.value)} digits")
