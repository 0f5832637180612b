"""Reading JSON that is not trusted: every value knows where it stands, so that a complaint can say so.

The files of a run may be cut short, edited by hand, or written by another version. Whatever does not
fit ends in one sentence that names the file and the place in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.reading import clean_text, show
from shiftproof.types import Settings

FORMAT = 1
"""The format of ``run.json`` and ``scores.json`` that this version reads."""


@dataclass(frozen=True)
class Node:
    """A value inside a JSON file, and where it stands."""

    value: Any
    file: Path
    where: str = ""

    def wrong(self, expected: str) -> BrokenFileError:
        """Return the complaint that something else was expected here."""
        place = f"at {self.where.lstrip('.')}" if self.where else "as its content"
        return BrokenFileError(
            f"{self.file}: expected {expected} {place}, got {show(self.value)}. The file is "
            "damaged or was changed by hand; start the run again to have it written anew."
        )

    def get(self, key: str) -> Node:
        """A missing key reads as null; what must be there says so when asked for its value."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return Node(self.value.get(key), self.file, f"{self.where}.{key}")

    def item(self, position: int) -> Node:
        """Return one entry of a list."""
        return Node(self.value[position], self.file, f"{self.where}[{position}]")

    def items(self) -> Iterator[Node]:
        """Return the entries of a list."""
        if not isinstance(self.value, list | tuple):
            raise self.wrong("a list")
        return (self.item(position) for position in range(len(self.value)))

    def optional_items(self) -> Iterator[Node]:
        """Return the entries of a list; none where there is no list."""
        return iter(()) if self.value is None else self.items()

    def entries(self) -> Iterator[tuple[str, Node]]:
        """Return the keys of an object with their values."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return (
            (clean_text(str(key)), Node(value, self.file, f"{self.where}.{key}"))
            for key, value in self.value.items()
        )

    def optional_entries(self) -> Iterator[tuple[str, Node]]:
        """Return the keys of an object with their values; none where there is no object."""
        return iter(()) if self.value is None else self.entries()

    def text(self) -> str:
        """Return a text without what no page should be handed."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return clean_text(self.value)

    def optional_text(self) -> str | None:
        """Return a text, or None where there is none."""
        return None if self.value is None else self.text()

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def optional_flag(self) -> bool | None:
        """Return true or false, or None where there is neither."""
        return None if self.value is None else self.flag()

    def count(self) -> int:
        """Return a whole number from 0 up."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            raise self.wrong("a whole number from 0 up")
        return self.value

    def optional_count(self) -> int | None:
        """Return a whole number from 0 up, or None where there is none."""
        return None if self.value is None else self.count()

    def number(self, low: float | None = None, high: float | None = None) -> float:
        """Return a finite number within ``low`` and ``high``, where both are given."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a number")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong("a finite number")
        # A mean of fractions may leave the range by rounding; a percentage given for a fraction
        # leaves it by far.
        slack = 1e-9
        if low is not None and high is not None and not low - slack <= number <= high + slack:
            raise self.wrong(f"a number from {low:g} to {high:g}")
        return number

    def optional_number(self, low: float | None = None, high: float | None = None) -> float | None:
        """Return a number, or None where there is none."""
        return None if self.value is None else self.number(low, high)

    def interval(self, low: float | None = None, high: float | None = None) -> Interval | None:
        """Return a figure with its ends, or None where there is none."""
        if self.value is None:
            return None
        ends = self.get("low").number(low, high), self.get("high").number(low, high)
        if ends[0] > ends[1]:
            raise self.wrong("an interval with its low end below its high end")
        return Interval(self.get("value").number(low, high), *ends)

    def settings(self) -> Settings:
        """Return an object with its keys cleaned."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return {clean_text(str(key)): value for key, value in self.value.items()}

    def optional_settings(self) -> Settings:
        """Return an object; an empty one where there is none."""
        return {} if self.value is None else self.settings()


def check_format(node: Node) -> None:
    """Refuse what another version wrote.

    Raises:
        BrokenFileError: the format is not ``FORMAT``.
    """
    found = node.get("format").value
    if found != FORMAT:
        raise BrokenFileError(
            f"{node.file}: expected format {FORMAT}, got {show(found)}. It was written by "
            "another version of shiftproof, or is not a run at all; use the version that wrote it."
        )
