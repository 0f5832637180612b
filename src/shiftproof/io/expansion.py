"""A bound on the expanded size of documents with references (YAML anchors)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

MAX_DEPTH = 64


def check_expansion(root: Any, bound: int, children: Callable[[Any], Iterable[Any] | None]) -> None:
    """Refuse a document that has more than ``bound`` values after expansion of its references.

    Args:
        root: the document's root.
        bound: maximum number of values; a file of that many bytes cannot have more.
        children: function that returns the parts of a value, or None for a scalar.

    Raises:
        ValueError: it has more, is nested deeper than 64 levels, or holds itself.
    """
    counts: dict[int, int] = {}
    ancestors: set[int] = set()

    def count(value: Any) -> int:
        parts = children(value)
        if parts is None:
            return 1
        key = id(value)
        if key in counts:
            return counts[key]
        if key in ancestors:
            raise ValueError("a list or mapping that holds itself")
        if len(ancestors) == MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        ancestors.add(key)
        total = 1
        for part in parts:
            total += count(part)
            if total > bound:
                raise ValueError(f"its repeated parts stand for more than {bound} values")
        ancestors.remove(key)
        counts[key] = total
        return total

    count(root)
