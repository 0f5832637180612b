"""Images for which a model gave no number: they count as wrong, and must be said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftproof.types import Cell

from .folder import RunFolder
from .records import read_cell


def count_unanswered(
    folder: RunFolder, models: Sequence[str], cells: Sequence[Cell]
) -> list[dict[str, Any]]:
    """Return in which cells a model's logits were not finite, and for how many images.

    Depends on the records alone. An image that could not be read is none of them.

    Args:
        folder: of the run.
        models: their names in the run.
        cells: the cells of the run.
    """
    found = []
    for name in models:
        for cell in cells:
            records = read_cell(folder.records_file(name, cell))
            count = int(np.count_nonzero(np.isnan(records.confidence) & records.readable))
            if count:
                found.append(
                    {
                        "model": name,
                        "corruption": cell.corruption,
                        "severity": cell.severity,
                        "images": count,
                    }
                )
    return found
