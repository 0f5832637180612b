"""The result of an experiment: tables, findings and provenance, written as JSON.

Markdown, CSV, figures and the terminal output are rendered from it alone.
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
"""A fraction, shown in percent; a difference of fractions, in points; a plain number; a number with
an interval, with three digits each.
"""

Drawing = Literal["none", "curves", "bars"]

Value: TypeAlias = Interval | None

DIGITS = 6
"""Decimal places of all figures."""


@dataclass(frozen=True)
class Table:
    """A table of figures; ``values`` has a list per row, with None for missing ones.

    ``unit`` is the unit of the figures. ``drawing`` is the figure drawn of the table: ``"curves"``
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
    """A claim of a paper, or a known failure mode, and the result here.

    ``figure`` is the deciding figure in ``unit``, ``ours`` describes it in words, and ``holds`` is
    whether it confirms the claim, "undecided" if its interval allows both.
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
"""Explanation of the verdicts and intervals of most experiments."""


@dataclass(frozen=True)
class Result:
    """A finished experiment.

    ``settings`` determine the numbers; ``seconds`` are the time of each part, wall time at the
    papers' scale and CPU time at the others; ``intervals`` explains verdicts and intervals.
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
        """Return the table with a name."""
        return next(table for table in self.tables if table.name == name)


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    write_json(path, {"format": FORMAT, **msgspec.to_builtins(result)})


def read_result(path: Path) -> Result:
    """Read a result that ``write_result`` wrote.

    Raises:
        BrokenFileError: it is missing, or not a result.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BrokenFileError(f"{path}: no result of a recipe (it is of another format).")
    try:
        return msgspec.convert(content, Result)
    except msgspec.ValidationError as error:
        raise BrokenFileError(f"{path}: no result of a recipe ({error}).") from error


def to_json(plan: object) -> Settings:
    """Convert a dataclass to JSON types."""
    settings: Settings = msgspec.json.decode(msgspec.json.encode(plan))
    return settings


def slug(title: str) -> str:
    """Convert a title to a file name.

    >>> slug("Fog: near, as many")
    'fog-near-as-many'
    """
    kept = "".join(letter if letter.isalnum() else " " for letter in title.lower())
    return "-".join(kept.split())


def round_off(value: Value) -> Value:
    """Round a figure to ``DIGITS`` decimal places."""
    if value is None:
        return None
    ends = (value.value, value.lower, value.upper)
    return Interval(*(round(float(end), DIGITS) for end in ends))


def point(value: float | None) -> Value:
    """Return a figure without an interval."""
    return None if value is None else Interval(value, value, value)
