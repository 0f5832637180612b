"""YAML of plain values, within a bound of what a file of its size can mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.errors import BrokenFileError, MissingExtraError
from shiftproof.io.arrays import open_regular
from shiftproof.io.border import convert_errors

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 1_000_000
"""Larger files are refused: a data set of 20,000 classes takes half of it."""

_MOST_VALUES = 100_000
"""More are refused while they are read: PyYAML takes 25 microseconds for each."""

_DEEPEST = 64
_LONGEST_NUMBER = 64
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TEXT = "tag:yaml.org,2002:str"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds: mappings, lists, texts, numbers, truth values and None.

    Nothing in it is executed. A date stays the text that it is. Aliases (``*name``) are followed as
    long as the whole, written out, has no more values than the file has bytes.

    Raises:
        BrokenFileError: it cannot be read, is above a megabyte or 100,000 values, is no YAML,
            nests deeper than 64 levels, holds itself, or means far more than it says.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError.of("PyYAML", "detection") from error

    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise BrokenFileError(f"{path}: above {MAX_BYTES // 1_000_000} MB; no data.yaml.")
        with convert_errors(path, "not valid YAML"):
            loader = yaml.SafeLoader(file.read(MAX_BYTES))
            loader.compose_node = _counted(loader.compose_node)
            constructors = {**loader.yaml_constructors, _TIMESTAMP: loader.yaml_constructors[_TEXT]}
            loader.yaml_constructors = constructors
            try:
                node = loader.get_single_node()
                if node is None:
                    return None
                _check_size(node, size)
                return loader.construct_document(node)
            finally:
                loader.dispose()


def _counted(compose: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return what composes a value, but stops at too many."""
    numbers = iter(range(_MOST_VALUES))

    def compose_counted(parent: Any, index: Any) -> Any:
        if next(numbers, None) is None:
            raise ValueError(f"more than {_MOST_VALUES} values")
        return compose(parent, index)

    return compose_counted


def _check_size(root: yaml.Node, bound: int) -> None:
    """Refuse a document that, its aliases written out, has more than ``bound`` values.

    Raises:
        ValueError: it has, or is too deep, or holds itself.
    """
    counts: dict[int, int] = {}
    above: set[int] = set()

    def count(node: Any) -> int:
        key = id(node)
        if key in counts:
            return counts[key]
        if key in above:
            raise ValueError("a list or mapping that holds itself")
        if len(above) == _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        if isinstance(node.value, str):
            _check_scalar(node)
            counts[key] = 1
            return 1
        above.add(key)
        total = 1
        for entry in node.value:
            total += sum(map(count, entry)) if isinstance(entry, tuple) else count(entry)
            if total > bound:
                raise ValueError(f"its aliases stand for more than {bound} values")
        above.remove(key)
        counts[key] = total
        return total

    count(root)


def _check_scalar(node: Any) -> None:
    node.value.encode()  # half a surrogate pair, which nothing could write down again
    if node.tag in (_INT, _FLOAT) and len(node.value) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(node.value)} digits")
