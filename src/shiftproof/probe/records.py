"""The record table of a probe: one row per version of an image, one Parquet file per factor and
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.io import files
from shiftproof.runs.parquet import open_table, write_table
from shiftproof.runs.scores.probe import READINGS
from shiftproof.types import F64, I64


@dataclass(frozen=True)
class Readings:
    """Readout predictions of one factor from one model's vectors.

    Attributes:
        ids: ``N`` image ids.
        folds: ``(N,)`` the fold in which each image was held out.
        values: ``(N, V)`` the true values, in the factor's unit.
        read: predictions ``(N, V)`` by the names of ``READINGS``; "network" only if torch is
            installed.
    """

    ids: tuple[str, ...]
    folds: I64
    values: F64
    read: dict[str, F64]


def write_readings(path: Path, readings: Readings) -> None:
    """Write the table atomically."""
    import pyarrow as pa

    images, versions = readings.values.shape
    columns = {
        "id": pa.array(np.repeat(np.array(readings.ids, dtype=object), versions), pa.string()),
        "version": pa.array(np.tile(np.arange(versions), images), pa.int32()),
        "fold": pa.array(np.repeat(readings.folds, versions), pa.int32()),
        "value": pa.array(readings.values.reshape(-1), pa.float64()),
        **{
            name: pa.array(read.reshape(-1).astype(np.float32), pa.float32())
            for name, read in readings.read.items()
        },
    }
    files.make_folder(path.parent)
    write_table(path, pa.table(columns))


def read_readings(path: Path) -> Readings:
    """Read the table of one factor and model.

    Raises:
        BrokenFileError: it is missing, or was not written by ``write_readings``.
    """
    with open_table(path, unique=None) as table:
        versions = int(np.max(table["version"].to_numpy())) + 1

        def column(name: str) -> F64:
            return np.asarray(table[name].to_numpy(), np.float64).reshape(-1, versions)

        return Readings(
            ids=tuple(table["id"].to_pylist()[::versions]),
            folds=np.asarray(column("fold")[:, 0], np.int64),
            values=column("value"),
            read={name: column(name) for name in READINGS if name in table.column_names},
        )
