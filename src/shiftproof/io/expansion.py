"""A bound on documents whose parts refer to each other (YAML anchors), as long as all of them written out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

DEEPEST = 64


def check_expansion(root: Any, bound: int, children: Callable[[Any], Iterable[Any] | None]) -> None:
    """Refuse a document that, its shared parts written out, has more than ``bound`` values.

    Args:
        root: of the document.
        bound: the most values; a file of so many bytes cannot spell more.
        children: gives the parts of a value, or None for one that has none.

    Raises:
        ValueError: it has more, is nested deeper than 64 levels, or holds itself.
    """
    counts: dict[int, int] = {}
    above: set[int] = set()

    def count(value: Any) -> int:
        parts = children(value)
        if parts is None:
            return 1
        key = id(value)
        if key in counts:
            return counts[key]
        if key in above:
            raise ValueError("a list or mapping that holds itself")
        if len(above) == DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        above.add(key)
        total = 1
        for part in parts:
            total += count(part)
            if total > bound:
                raise ValueError(f"its repeated parts stand for more than {bound} values")
        above.remove(key)
        counts[key] = total
        return total

    count(root)
