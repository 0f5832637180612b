"""The records and galleries of runs, by kind of run; custom tasks have no row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from shiftproof.runs.records.classification import CellRecords as ClassificationRecords
from shiftproof.runs.records.classification import read_cell
from shiftproof.runs.records.detection import DetectionRecords, read_detections
from shiftproof.runs.records.segmentation import SegmentationRecords, read_segmentation
from shiftproof.runs.scores import classification, detection, segmentation

CellRecords: TypeAlias = ClassificationRecords | DetectionRecords | SegmentationRecords
Gallery: TypeAlias = classification.Gallery | detection.Gallery | segmentation.Gallery


@dataclass(frozen=True)
class StoredTask:
    """One row of ``TASKS``.

    Attributes:
        read_cell: reads the records of one cell as arrays.
        gallery: the type of ``gallery.json``.
        hub_name: the hub's name of the task.
    """

    read_cell: Callable[[Path], CellRecords]
    gallery: type[Gallery]
    hub_name: str


TASKS: Mapping[str, StoredTask] = {
    "classification": StoredTask(read_cell, classification.Gallery, "image-classification"),
    "detection": StoredTask(read_detections, detection.Gallery, "object-detection"),
    "segmentation": StoredTask(read_segmentation, segmentation.Gallery, "image-segmentation"),
}
"""The built-in tasks by the kind of their runs."""
