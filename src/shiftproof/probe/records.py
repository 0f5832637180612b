"""The record table of a probe: one row per version of an image, one Parquet file per factor and model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import open_regular, reason_of

READINGS = ("beside", "alone", "network")


@dataclass(frozen=True)
class Readings:
    """What was read of one factor, out of one model's vectors.

    Attributes:
        ids: ``N`` images.
        folds: ``(N,)`` the fold in which each image was held out.
        values: ``(N, V)`` the true values, in the factor's unit.
        read: by the names of ``READINGS``, ``(N, V)`` each; "network" only where torch is installed.
    """

    ids: tuple[str, ...]
    folds: NDArray[np.int64]
    values: NDArray[np.float64]
    read: dict[str, NDArray[np.float64]]


def write_readings(path: Path, readings: Readings) -> None:
    """Write the table atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

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
    with files.atomic(path) as file:
        pq.write_table(pa.table(columns), file)


def read_readings(path: Path) -> Readings:
    """Read the table of one factor and model.

    Raises:
        BrokenFileError: it is missing, or not what ``write_readings`` writes.
    """
    import pyarrow.parquet as pq

    try:
        with open_regular(path) as file:
            table = pq.read_table(file)
        versions = int(np.max(table["version"].to_numpy())) + 1

        def column(name: str) -> NDArray[np.float64]:
            return np.asarray(table[name].to_numpy(), np.float64).reshape(-1, versions)

        return Readings(
            ids=tuple(table["id"].to_pylist()[::versions]),
            folds=np.asarray(column("fold")[:, 0], np.int64),
            values=column("value"),
            read={name: column(name) for name in READINGS if name in table.column_names},
        )
    except Exception as error:  # what is of another kind, or damaged, raises anything
        reason = reason_of(error).removeprefix(f"{path}: ").rstrip(".")
        raise BrokenFileError(
            f"{path}: no table of a probe that can be read ({reason}). Delete it and start the probe "
            "again; it is made anew."
        ) from error
