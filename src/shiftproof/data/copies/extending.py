"""The cells of a corrupted copy: the union of what the folder has and what is asked for now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.corruptions import CorruptionFunction
from shiftproof.corruptions.extent import (
    describe_cells,
    find_custom,
    format_added,
    format_existing,
    join_names,
    print_extent,
    unite_names,
)
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.errors import RunMismatchError
from shiftproof.io.text import read_json
from shiftproof.types import Cell, Settings


@dataclass(frozen=True)
class CopyExtent:
    """The cells of a copy with all that was ever asked for.

    Attributes:
        corruptions: by name, what makes them.
        severities: of each.
        new: the cells that the folder had not been begun with; all of them where there is no copy.
        before: what the manifest says of the cells; None where there is no copy, or another one.
        kept: corruptions and severities of the folder that were not asked for.
    """

    corruptions: Mapping[str, str | CorruptionFunction]
    severities: Sequence[int]
    new: Sequence[Cell]
    before: Settings | None = None
    kept: Sequence[str] = ()

    @property
    def cells(self) -> list[Cell]:
        """All cells."""
        return [Cell(name, severity) for name in self.corruptions for severity in self.severities]

    @property
    def settings(self) -> Settings:
        """What the manifest has to say of the cells."""
        known = {} if self.before is None else self.before["corruptions"]
        return {
            "corruptions": {
                name: known.get(name) or identify_corruption(item)
                for name, item in self.corruptions.items()
            },
            "severities": list(self.severities),
        }

    @property
    def is_extended(self) -> bool:
        """Whether the copy that is there gets more cells."""
        return self.before is not None and bool(self.new)

    def describe(self) -> str | None:
        """Say in one line what the copy has and what is added or kept; None where it is as asked."""
        if self.before is None or not (self.new or self.kept):
            return None
        there = len(self.cells) - len(self.new)
        has = format_existing(there)
        if not self.new:
            return f"{has}; all are kept, also what was not asked for: {join_names(self.kept)}"
        known, levels = self.before["corruptions"], self.before["severities"]
        added = describe_cells(
            list(self.corruptions),
            self.severities,
            new_corruptions=[name for name in self.corruptions if name not in known],
            new_severities=[level for level in self.severities if level not in levels],
        )
        return f"{has}, {format_added(len(self.new))}: {'; '.join(added)}"

    def print_extent(self) -> None:
        """Print that line to standard error."""
        print_extent(self.describe())


def find_extent(
    target: Path,
    corruptions: Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
) -> CopyExtent:
    """Return the union of what is asked for and what the copy in a folder has.

    Raises:
        RunMismatchError: a corruption of the copy was not asked for, and its name alone does not say
            what it was.
    """
    cells = [Cell(name, severity) for name in corruptions for severity in severities]
    before = _read_cells(target)
    if before is None or _differs(before["corruptions"], corruptions):
        # Of one with another corruption under a name the manifest says so.
        return CopyExtent(corruptions, severities, cells)
    known, levels = before["corruptions"], before["severities"]
    absent = [name for name in known if name not in corruptions]
    for name, identity in find_custom(known, absent).items():
        raise RunMismatchError(
            f"{target} has the corruption {name}, too ({identity:.100}), which its name alone does "
            "not give. Name it beside the others, with the same options or function."
        )
    named = {name: corruptions.get(name, name) for name in unite_names(known, corruptions)}
    united = _unite_severities(levels, severities)
    left_out = [f"severity {level}" for level in levels if level not in severities]
    return CopyExtent(
        named,
        united,
        [
            Cell(name, level)
            for name in named
            for level in united
            if name not in known or level not in levels
        ],
        before,
        [*absent, *left_out],
    )


def _unite_severities(there: Sequence[int], here: Sequence[int]) -> list[int]:
    """Return the severities of both, in the order that the manifest has, or one command would write."""
    if set(here) <= set(there):
        return list(there)
    return list(here) if set(there) <= set(here) else sorted({*there, *here})


def _read_cells(target: Path) -> Settings | None:
    file = target / "manifest.json"
    told = read_json(file) if file.is_file() else None
    if not isinstance(told, dict):
        return None
    corruptions, severities = told.get("corruptions"), told.get("severities")
    if not isinstance(corruptions, dict) or not isinstance(severities, list):
        return None
    if not all(isinstance(one, int) for one in severities):
        return None
    return {"corruptions": corruptions, "severities": severities}


def _differs(known: Mapping[str, Any], corruptions: Mapping[str, str | CorruptionFunction]) -> bool:
    return any(
        name in known and identify_corruption(item) != known[name]
        for name, item in corruptions.items()
    )
