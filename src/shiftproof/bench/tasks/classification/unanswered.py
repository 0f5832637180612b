"""Images whose logits were not finite: they count as wrong, and are reported."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftproof.runs.records.classification import CellRecords
from shiftproof.runs.scores.grid import Unanswered
from shiftproof.types import Cell, Flags


def list_unanswered(tables: Mapping[str, Mapping[Cell, CellRecords]]) -> tuple[Unanswered, ...]:
    """Return in which cells a model's logits were not finite, and for how many images.

    Unreadable images are not counted.
    """
    counts = {
        (name, cell): int(np.count_nonzero(_find_unanswered(records)))
        for name, table in tables.items()
        for cell, records in table.items()
    }
    return tuple(
        Unanswered(name, cell.corruption, cell.severity, count)
        for (name, cell), count in counts.items()
        if count
    )


def _find_unanswered(records: CellRecords) -> Flags:
    """``(N,)`` bool. Answers made elsewhere may be classes alone: there no confidence means nothing."""
    unsure = np.isnan(records.confidence)
    if unsure[records.readable].all():
        unsure = records.prediction < 0
    return unsure & records.readable
