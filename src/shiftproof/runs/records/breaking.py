"""The record table of breaking points: one row per image, one file per corruption and model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.io.parquet import decode_texts
from shiftproof.metrics.breaking import SURVIVES, look_up_severities
from shiftproof.runs.folder import make_cell_path
from shiftproof.runs.parquet import TableFormat, open_table
from shiftproof.runs.records.rows import ImageRows
from shiftproof.types import F64, I32, I64, Cell, Flags


@dataclass
class BreakingRecords(ImageRows):
    """Breaking points of one model's predictions under one corruption, one entry per image.

    Attributes:
        ids: image ids, in the order of the dataset.
        target: ``(N,)`` the true class, or without labels the prediction on the clean image; -1 if
            the image could not be read.
        clean: ``(N,)`` the prediction on the clean image.
        place: ``(N,)`` index of the breaking point as in ``metrics.breaking``: 0 if wrong clean, up
            to SURVIVES.
        answer: ``(N,)`` the prediction at the breaking point; -1 if there is none.
        checked: ``(N,)`` index of a higher severity at which the prediction was checked again; 0 if
            none was.
        recovered: ``(N,)`` whether the prediction was correct again there.
        error: the reason if an image could not be read, else None.
    """

    ids: list[str]
    target: I32
    clean: I32
    place: I64
    answer: I32
    checked: I64
    recovered: Flags
    error: list[str | None]

    @property
    def severity(self) -> F64:
        """``(N,)`` breaking severities: 0 if wrong clean, 5 also if never broken."""
        return look_up_severities(self.place)


def make_breaking_path(folder: Path, model: str, corruption: str) -> Path:
    """Return the path of a model's records under a corruption."""
    return make_cell_path(folder, model, Cell(corruption, 0))


_FORMAT = TableFormat(
    {
        "id": "string", "target": "int32", "clean": "int32", "breaking": "float64",
        "place": "int8", "answer": "int32", "checked": "float64", "checked_place": "int8",
        "recovered": "bool", "error": "string",
    },
    required=("id",),
)  # fmt: skip


def write_breaking(path: Path, records: BreakingRecords) -> None:
    """Write a table, atomically and deterministically.

    ``breaking`` is the severity; null if the prediction never breaks or the image cannot be read.
    """
    unreadable = ~records.readable
    unchecked = records.checked == 0
    values = {
        "id": records.ids,
        "target": records.target,
        "clean": records.clean,
        "breaking": records.severity,
        "place": records.place,
        "answer": records.answer,
        "checked": look_up_severities(records.checked),
        "checked_place": records.checked,
        "recovered": records.recovered,
        "error": records.error,
    }
    missing = {
        "target": records.target < 0,
        "clean": records.clean < 0,
        "breaking": unreadable | (records.place == SURVIVES),
        "place": unreadable,
        "answer": records.answer < 0,
        "checked": unchecked,
        "checked_place": unchecked,
        "recovered": unchecked,
    }
    _FORMAT.write(path, values, missing)


def read_breaking(path: Path) -> BreakingRecords:
    """Read a table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    with open_table(path, _FORMAT.make_schema()) as table:
        column = {
            name: np.asarray(table[name].fill_null(missing))
            for name, missing in (
                ("target", -1), ("clean", -1), ("place", 0), ("answer", -1), ("checked_place", 0),
                ("recovered", False),
            )
        }  # fmt: skip
        place, checked = (column[name].astype(np.int64) for name in ("place", "checked_place"))
        for places in (place, checked):
            look_up_severities(places)  # raises if one is out of range
        return BreakingRecords(
            ids=table["id"].to_pylist(),
            target=column["target"].astype(np.int32),
            clean=column["clean"].astype(np.int32),
            place=place,
            answer=column["answer"].astype(np.int32),
            checked=checked,
            recovered=column["recovered"].astype(bool),
            error=decode_texts(table["error"].combine_chunks()),
        )
