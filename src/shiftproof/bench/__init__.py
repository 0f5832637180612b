"""Measure models on the corruption grid and keep one record per image."""

from shiftproof.bench.classification import SOURCE, Run, run
from shiftproof.bench.folder import RunFolder
from shiftproof.bench.records import CellRecords, read_cell

__all__ = ["SOURCE", "CellRecords", "Run", "RunFolder", "read_cell", "run"]
