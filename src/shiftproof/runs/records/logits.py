"""The table of held-out images: all logits of one model, from which it is calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.io.parquet import decode_texts
from shiftproof.runs.parquet import TableFormat, open_table
from shiftproof.types import I32, Logits


@dataclass
class LogitRecords:
    """All logits of one model on labeled images.

    ``logits`` is ``(N, K)`` float32, all NaN for an image that could not be read (``error`` is the
    reason); ``target`` ``(N,)`` its class.
    """

    ids: list[str]
    target: I32
    logits: Logits
    error: list[str | None]


_FORMAT = TableFormat(
    {"id": "string", "target": "int32", "logits": "[float32]", "error": "string"},
    required=("id", "target"),
)


def write_logits(path: Path, records: LogitRecords) -> None:
    """Write a table, atomically and deterministically."""
    import pyarrow as pa

    count, classes = records.logits.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * classes)
    logits = pa.ListArray.from_arrays(offsets, pa.array(records.logits.ravel(), pa.float32()))
    values = {
        "id": records.ids, "target": records.target, "logits": logits, "error": records.error,
    }  # fmt: skip
    _FORMAT.write(path, values)


def read_logits(path: Path) -> LogitRecords:
    """Read a table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    with open_table(path, _FORMAT.make_schema()) as table:
        column = {name: table.column(name).combine_chunks() for name in table.schema.names}
        if any(column[name].null_count for name in ("id", "target", "logits")):
            raise ValueError("a row has no class or no logits")
        values = np.asarray(column["logits"].flatten(), dtype=np.float32)
        logits = values.reshape(len(table), -1)
        if not (np.diff(np.asarray(column["logits"].offsets)) == logits.shape[1]).all():
            raise ValueError("its rows have different numbers of logits")
        return LogitRecords(
            ids=column["id"].to_pylist(),
            target=np.asarray(column["target"], dtype=np.int32),
            logits=logits,
            error=decode_texts(column["error"]),
        )
