"""The record table of an anytime run: one row per drawn pair of image and cell, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shiftproof.errors import BrokenFileError
from shiftproof.io.parquet import decode_texts
from shiftproof.runs.parquet import TableFormat, open_table
from shiftproof.types import F32, I32, Cell, Flags


@dataclass
class DrawRecords:
    """The predictions of one model for one block of draws.

    Attributes:
        ids: image ids.
        cells: the cell of each draw.
        target: ``(B,)`` the true class, an index into the model's classes.
        prediction: ``(B,)`` the predicted class; -1 for a file that could not be read.
        confidence: ``(B,)`` the largest softmax probability, NaN for such a file.
        error: the reason if a file could not be read, else None.
    """

    ids: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    target: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    prediction: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    confidence: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    error: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def wrong(self) -> Flags:
        """``(B,)`` which predictions are wrong."""
        return np.asarray(self.prediction != self.target)


def make_block_path(folder: Path, model: str, number: int) -> Path:
    """Return the path of a block's records."""
    return folder / "records" / model / f"block-{number:05}.parquet"


_FORMAT = TableFormat(
    {
        "id": "string", "corruption": "string", "severity": "int8", "target": "int32",
        "prediction": "int32", "confidence": "float32", "error": "string",
    },
    required=("id", "corruption", "severity"),
)  # fmt: skip


def write_block(path: Path, records: DrawRecords) -> None:
    """Write a block's table, atomically and deterministically."""
    absent = records.prediction < 0
    values = {
        "id": records.ids,
        "corruption": [cell.corruption for cell in records.cells],
        "severity": [cell.severity for cell in records.cells],
        "target": records.target,
        "prediction": records.prediction,
        "confidence": records.confidence,
        "error": records.error,
    }
    _FORMAT.write(path, values, {"prediction": absent, "confidence": absent})


def read_block(path: Path) -> DrawRecords:
    """Read a block's table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    with open_table(path, _FORMAT.make_schema(), unique=None) as table:
        cells = zip(table["corruption"].to_pylist(), table["severity"].to_pylist(), strict=True)
        records = DrawRecords(
            ids=table["id"].to_pylist(),
            cells=[Cell(name, severity) for name, severity in cells],
            target=np.asarray(table["target"].fill_null(-1), np.int32),
            prediction=np.asarray(table["prediction"].fill_null(-1), np.int32),
            confidence=np.asarray(table["confidence"].fill_null(np.nan), np.float32),
            error=decode_texts(table["error"].combine_chunks()),
        )
    pairs = set(zip(records.ids, records.cells, strict=True))
    if len(pairs) < len(records):
        raise BrokenFileError(
            f"{path}: it repeats a pair of image and cell. Delete it and start the run again."
        )
    return records
