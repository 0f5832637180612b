"""What a recipe comes to: tables, findings, and how they were made; as JSON and back.

All that is shown of a recipe (Markdown, CSV, figures, the terminal) is made from this alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.text import read_json
from shiftproof.metrics.intervals import Interval
from shiftproof.types import Settings

FORMAT = 1

Verdict = Literal["yes", "no", "undecided"]
Unit = Literal["error", "change", "number", "score"]
"""Fractions that are shown in percent; differences of them, in points; a plain number; a number
with its interval, three digits each."""

Drawing = Literal["none", "curves", "bars"]

Value: TypeAlias = Interval | None


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
"""What the verdicts and intervals of most recipes say, and what they do not."""


@dataclass(frozen=True)
class Result:
    """A finished recipe.

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


# ---------------------------------------------------------------- the file


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    plain = dataclasses.asdict(result)
    for table, entry in zip(result.tables, plain["tables"], strict=True):
        entry["values"] = [[_plain(value) for value in row] for row in table.values]
    for finding, entry in zip(result.findings, plain["findings"], strict=True):
        entry["figure"] = _plain(finding.figure)
    files.write_json(path, {"format": FORMAT, **plain})


def read_result(path: Path) -> Result:
    """Read what ``write_result`` wrote; ``read_result`` of it is equal to what was written.

    Raises:
        BrokenFileError: it is missing, or something else.
    """
    content: Any = read_json(path)
    try:
        if content.pop("format") != FORMAT:
            raise ValueError("it is of another format")
        tables = [
            Table(**{**entry, "values": [[_interval(v) for v in row] for row in entry["values"]]})
            for entry in content.pop("tables")
        ]
        findings = [
            Finding(**{**entry, "figure": _interval(entry["figure"])})
            for entry in content.pop("findings")
        ]
        return Result(tables=tables, findings=findings, **content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BrokenFileError(f"{path}: no result of a recipe ({error}).") from error


def _plain(value: Value) -> dict[str, float] | None:
    return None if value is None else dataclasses.asdict(value)


def _interval(value: Any) -> Value:
    return None if value is None else Interval(**value)


def rounded(interval: Interval) -> Interval:
    """Return the figure with six digits behind the point: more than any number of images holds."""
    value, low, high = interval.value, interval.lower, interval.upper
    return Interval(round(float(value), 6), round(float(low), 6), round(float(high), 6))


def point(value: float) -> Interval:
    """Return a figure that has no interval of its own, as for the quality of an estimate."""
    return rounded(Interval(value, value, value))
