"""What an experiment comes to: tables, findings, and how they were made; as JSON and back.

All that is shown of it (Markdown, CSV, figures, the terminal) is made from this alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from shiftproof.errors import BrokenFileError
from shiftproof.io import read_json, write_json
from shiftproof.metrics import Interval
from shiftproof.types import Settings

FORMAT = 1

Verdict = Literal["yes", "no", "undecided"]
Unit = Literal["error", "change", "number", "score"]
"""Fractions that are shown in percent; differences of them, in points; a plain number; a number
with its interval, three digits each."""

Drawing = Literal["none", "curves", "bars"]

Value: TypeAlias = Interval | None

DIGITS = 6
"""Behind the point, of every figure: more than any number of images holds."""


@dataclass(frozen=True)
class Table:
    """Figures by row and column; ``values`` has a list per row, None where nothing was measured.

    ``unit`` says what the figures are. ``drawing`` is how the table is also drawn: ``"curves"``
    has a line per row over the columns, ``"bars"`` a bar per row of the first column.
    """

    name: str
    title: str
    corner: str
    columns: list[str]
    rows: list[str]
    values: list[list[Value]]
    unit: Unit = "error"
    note: str = ""
    drawing: Drawing = "none"

    def __post_init__(self) -> None:
        values = [[round_off(value) for value in row] for row in self.values]
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class Finding:
    """A claim of a paper, or a fault that is known, and what was measured here.

    ``figure`` is what decides, in the unit named, ``ours`` says it in words, and ``holds`` whether
    it bears the claim out; "undecided" where its interval leaves both open.
    """

    name: str
    claim: str
    source: str
    ours: str
    holds: Verdict
    figure: Value = None
    unit: Unit = "change"


OVER_IMAGES = (
    "“yes” and “no” where the whole 95 % interval is to that side of the line, “undecided” "
    "where it is on both. Intervals are over images, paired where two models are compared; "
    "they do not hold what another training or another order of the images would change."
)
"""What the verdicts and intervals of most experiments say, and what they do not."""


@dataclass(frozen=True)
class Result:
    """A finished experiment.

    ``settings`` decide the numbers, ``provenance`` tells how they came about, ``seconds`` what
    each part took: of the clock at the papers' scale, of the CPU at the others. ``intervals`` says
    how to read verdicts and intervals.
    """

    recipe: str
    scale: str
    title: str
    about: str
    settings: Settings
    provenance: Settings
    tables: list[Table]
    findings: list[Finding]
    seconds: dict[str, float] = field(default_factory=dict)
    intervals: str = OVER_IMAGES

    def table(self, name: str) -> Table:
        """Return the table of that name."""
        return next(table for table in self.tables if table.name == name)


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    write_json(path, {"format": FORMAT, **msgspec.to_builtins(result)})


def read_result(path: Path) -> Result:
    """Read what ``write_result`` wrote; ``read_result`` of it is equal to what was written.

    Raises:
        BrokenFileError: it is missing, or something else.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BrokenFileError(f"{path}: no result of a recipe (it is of another format).")
    try:
        return msgspec.convert(content, Result)
    except msgspec.ValidationError as error:
        raise BrokenFileError(f"{path}: no result of a recipe ({error}).") from error


def to_json(plan: object) -> Settings:
    """Return a dataclass as JSON has it, with lists for tuples."""
    settings: Settings = msgspec.json.decode(msgspec.json.encode(plan))
    return settings


def slug(title: str) -> str:
    """Return a title as the name of a file.

    >>> slug("Fog: near, as many")
    'fog-near-as-many'
    """
    kept = "".join(letter if letter.isalnum() else " " for letter in title.lower())
    return "-".join(kept.split())


def round_off(value: Value) -> Value:
    """Return a figure with ``DIGITS`` digits behind the point."""
    if value is None:
        return None
    ends = (value.value, value.lower, value.upper)
    return Interval(*(round(float(end), DIGITS) for end in ends))


def point(value: float | None) -> Value:
    """Return a figure that has no interval of its own, as for the quality of an estimate."""
    return None if value is None else Interval(value, value, value)
