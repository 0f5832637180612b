"""The cells of a corrupted copy: the union of the existing and the requested ones."""

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
    """The cells of a copy: the existing ones and those that are requested now.

    Attributes:
        corruptions: from name to corruption.
        severities: the severities of each corruption.
        new: the cells that are not in the manifest; all cells if there is no copy.
        before: the corruptions and severities in the manifest; None without a copy, or if it has
            another corruption under the same name.
        kept: corruptions and severities of the copy that are not requested now.
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
        """The corruptions and severities for the manifest."""
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
        """Whether the existing copy gets more cells."""
        return self.before is not None and bool(self.new)

    def describe(self) -> str | None:
        """Return a line on the existing, added and kept cells; None if only existing ones are requested."""
        if self.before is None or not (self.new or self.kept):
            return None
        existing = len(self.cells) - len(self.new)
        summary = format_existing(existing)
        if not self.new:
            return f"{summary}; all are kept, also what was not asked for: {join_names(self.kept)}"
        known, known_severities = self.before["corruptions"], self.before["severities"]
        added = describe_cells(
            list(self.corruptions),
            self.severities,
            new_corruptions=[name for name in self.corruptions if name not in known],
            new_severities=[
                severity for severity in self.severities if severity not in known_severities
            ],
        )
        return f"{summary}, {format_added(len(self.new))}: {'; '.join(added)}"

    def print_extent(self) -> None:
        """Print this description to standard error."""
        print_extent(self.describe())


def find_extent(
    target: Path,
    corruptions: Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
) -> CopyExtent:
    """Return the union of the requested cells and those of the copy in a folder.

    Raises:
        RunMismatchError: a corruption of the copy is not requested, and cannot be found by its name
            alone.
    """
    cells = [Cell(name, severity) for name in corruptions for severity in severities]
    before = _read_cells(target)
    if before is None or _differs(before["corruptions"], corruptions):
        # If it has another corruption under the same name, comparing the manifests refuses it.
        return CopyExtent(corruptions, severities, cells)
    known, known_severities = before["corruptions"], before["severities"]
    unrequested = [name for name in known if name not in corruptions]
    for name, identity in find_custom(known, unrequested).items():
        raise RunMismatchError(
            f"{target} has the corruption {name}, too ({identity:.100}), which its name alone does "
            "not give. Name it beside the others, with the same options or function."
        )
    by_name = {name: corruptions.get(name, name) for name in unite_names(known, corruptions)}
    all_severities = _unite_severities(known_severities, severities)
    unrequested_severities = [
        f"severity {severity}" for severity in known_severities if severity not in severities
    ]
    return CopyExtent(
        by_name,
        all_severities,
        [
            Cell(name, severity)
            for name in by_name
            for severity in all_severities
            if name not in known or severity not in known_severities
        ],
        before,
        [*unrequested, *unrequested_severities],
    )


def _unite_severities(existing: Sequence[int], requested: Sequence[int]) -> list[int]:
    """Return the severities of both, in the order of the manifest or of a single command."""
    if set(requested) <= set(existing):
        return list(existing)
    return list(requested) if set(existing) <= set(requested) else sorted({*existing, *requested})


def _read_cells(target: Path) -> Settings | None:
    file = target / "manifest.json"
    manifest = read_json(file) if file.is_file() else None
    if not isinstance(manifest, dict):
        return None
    corruptions, severities = manifest.get("corruptions"), manifest.get("severities")
    if not isinstance(corruptions, dict) or not isinstance(severities, list):
        return None
    if not all(isinstance(severity, int) for severity in severities):
        return None
    return {"corruptions": corruptions, "severities": severities}


def _differs(known: Mapping[str, Any], corruptions: Mapping[str, str | CorruptionFunction]) -> bool:
    return any(
        name in known and identify_corruption(item) != known[name]
        for name, item in corruptions.items()
    )
