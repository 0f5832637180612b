"""P of a detector in one cell, from its record table; kept in a file where several share the cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.bench.tasks.detection.measures import DetectionMeasure, make_measure
from shiftproof.bench.tasks.performance import Performance
from shiftproof.bench.tasks.summary import SEED
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.arrays import read_arrays, write_arrays
from shiftproof.metrics import intervals
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.detection import read_detections
from shiftproof.types import Cell

FEW_IMAGES = 1000
"""Number of images above which 200 instead of 1,000 resamples are drawn, since each is slow."""

MANY = 200


@dataclass(frozen=True, eq=False)
class CellMeasure:
    """What one cell is measured by, the same for all cells of a run.

    Attributes:
        measure: the measure, with the ground truth of the images that count.
        places: for each row of a table the index of its image in the measure, -1 for an image that
            does not count.
        replicates: number of resamples.
    """

    measure: DetectionMeasure
    places: list[int]
    replicates: int

    @classmethod
    def of(cls, name: str, truth: Mapping[str, Any], ids: Sequence[Any]) -> CellMeasure:
        """Return it for a measure's name.

        Args:
            name: as :func:`make_measure` takes it.
            truth: the ground truth of the images that count, in COCO's format.
            ids: for each row of a table the id of its image in ``truth``, or None.
        """
        measure = make_measure(name, truth)
        at = {identity: place for place, identity in enumerate(measure.image_ids)}
        places = [-1 if one is None else at[one] for one in ids]
        return cls(measure, places, intervals.REPLICATES if len(at) <= FEW_IMAGES else MANY)


def measure_cell(cell_measure: CellMeasure, path: Path) -> Performance:
    """Return P of one record table; the workers' function.

    Raises:
        BrokenFileError: the table cannot be read.
    """
    found = read_detections(path).columns(cell_measure.places, cell_measure.measure.sizes)
    return cell_measure.measure.performance(found, replicates=cell_measure.replicates, seed=SEED)


# ---------------------------------------------------------------- kept until the run is summarized


def save_performance(folder: RunFolder, model: str, cell: Cell, performance: Performance) -> None:
    """Write P of a cell, measured on all images of the run, for :func:`find_performance`.

    Raises:
        RunError: the disk is full.
    """
    path = _locate_performance(folder, model, cell)
    files.make_folder(path.parent)
    write_arrays(
        path,
        {
            "replicates": performance.replicates,
            "names": np.array(list(performance.numbers), dtype=np.str_),
            "numbers": np.array(list(performance.numbers.values()), dtype=np.float64),
            "per_class": np.array(performance.per_class, dtype=np.float64),
        },
    )


def find_performance(
    folder: RunFolder, model: str, cell: Cell, cell_measure: CellMeasure
) -> Performance | None:
    """Return P of a cell where it was kept for the same resamples; None if it has to be measured."""
    path = _locate_performance(folder, model, cell)
    if not path.is_file():
        return None
    try:
        kept = read_arrays(path)
        drawn, numbers = kept["replicates"], kept["numbers"].tolist()
        names, per_class = kept["names"].tolist(), kept["per_class"].tolist()
    except (BrokenFileError, KeyError):
        return None
    if drawn.shape != (1 + cell_measure.replicates,):
        return None
    return Performance(drawn, dict(zip(names, numbers, strict=True)), per_class)


def _locate_performance(folder: RunFolder, model: str, cell: Cell) -> Path:
    return folder.cache / "measured" / model / f"{cell}.npz"
