"""The cells that are measured of other frameworks' predictions, and notes on those left out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shiftproof.bench.scoring.result_files import compare_cells, list_corruptions
from shiftproof.bench.tasks.interface import Grid
from shiftproof.corruptions import CORRUPTIONS
from shiftproof.types import Cell, Settings

_ALIKE = 0.6
"""difflib's ratio above which a name is taken for a slip: fgo and fog have 0.67."""


@dataclass(frozen=True)
class SharedCells:
    """The cells that all models have answers for.

    Attributes:
        grid: those cells, and the missing ones of a whole grid.
        lacking: by model, the cells that other models have and it lacks.
    """

    grid: Grid
    lacking: Mapping[str, tuple[Cell, ...]]

    def settings(self) -> Settings:
        """Return the corruptions and severities of the cells, as the record of a run has them."""
        return {
            "corruptions": dict.fromkeys(self.grid.corruptions),
            "severities": self.grid.severities,
        }

    def about(self) -> dict[str, Any]:
        """Return notes for ``run.json``: missing cells, and similar names; empty without any."""
        notes: dict[str, Any] = {}
        if self.lacking:
            notes["cells_lacking"] = {
                name: [str(cell) for cell in cells] for name, cells in self.lacking.items()
            }
        alike = suggest_corruptions([*self.grid.corruptions, *_list_names(self.lacking)])
        return {**notes, "names_alike": alike} if alike else notes


def find_shared_cells(of_models: Mapping[str, Iterable[Cell]]) -> SharedCells:
    """Return the cells that all models have, and which of them lacks which.

    Raises:
        InputError: all models have no corrupted cell.
    """
    sets = {name: set(cells) for name, cells in of_models.items()}
    known_cells = set.union(*sets.values())
    cells, missing = compare_cells(set.intersection(*sets.values()), known_cells)
    lacking = {
        name: tuple(sorted(known_cells - own)) for name, own in sets.items() if known_cells - own
    }
    return SharedCells(Grid(cells, missing), lacking)


def suggest_corruptions(names: Iterable[str]) -> dict[str, str]:
    """Return the nearest known name of each unknown one, if any is near.

    >>> suggest_corruptions(["fog", "fgo", "lens flare"])
    {'fgo': 'fog'}
    """
    unknown = [name for name in dict.fromkeys(names) if name not in CORRUPTIONS]
    close = {
        name: difflib.get_close_matches(name.lower(), CORRUPTIONS, 1, _ALIKE) for name in unknown
    }
    return {name: found[0] for name, found in close.items() if found}


def _list_names(lacking: Mapping[str, Iterable[Cell]]) -> list[str]:
    return list_corruptions(cell for cells in lacking.values() for cell in cells)
