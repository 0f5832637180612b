"""A finished run: where it is, its figures and its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shiftproof.io.text import read_json
from shiftproof.types import Cell

from . import detection_records, records
from .folder import RunFolder


class Run:
    """A finished run: where it is, and its figures."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder.open(path)
        self.path = path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def scores(self) -> dict[str, Any]:
        """The content of ``scores.json``."""
        scores: dict[str, Any] = read_json(self.folder.scores_file)
        return scores

    def records(self, model: str, corruption: str, severity: int) -> records.CellRecords:
        """Return one row per image; the clean cell is ``("clean", 0)``."""
        return records.read_cell(self.folder.records_file(model, Cell(corruption, severity)))

    def detections(
        self, model: str, corruption: str, severity: int
    ) -> detection_records.DetectionRecords:
        """Return one row per image of a run of detectors, with all that was found in it."""
        return detection_records.read_detections(
            self.folder.records_file(model, Cell(corruption, severity))
        )
