"""Images for which a model gave no number: they count as wrong, and must be said."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftproof.runs.records.classification import CellRecords
from shiftproof.runs.scores.grid import Unanswered
from shiftproof.types import Cell


def list_unanswered(tables: Mapping[str, Mapping[Cell, CellRecords]]) -> tuple[Unanswered, ...]:
    """Return in which cells a model's logits were not finite, and for how many images.

    An image that could not be read is none of them.

    Args:
        tables: model to cell to its records.
    """
    counts = {
        (name, cell): int(np.count_nonzero(np.isnan(records.confidence) & records.readable))
        for name, table in tables.items()
        for cell, records in table.items()
    }
    return tuple(
        Unanswered(name, cell.corruption, cell.severity, count)
        for (name, cell), count in counts.items()
        if count
    )
