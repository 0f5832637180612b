"""The files of record tables, of all kinds of models: Parquet, written atomically, and refused kindly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import reason_of
from shiftproof.io.parquet import read_parquet

if TYPE_CHECKING:
    import pyarrow


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a record table as Parquet, atomically: the same table gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    files.write_bytes(path, buffer.getvalue().to_pybytes())


@contextlib.contextmanager
def open_table(
    path: Path,
    schema: pyarrow.Schema | None = None,
    *,
    unique: str | None = "id",
    newer: Sequence[pyarrow.Schema] = (),
) -> Iterator[pyarrow.Table]:
    """Open a record table for a ``with`` block that reads it; what fails there is the file's fault.

    Texts in the column ``error`` come as a dictionary, since many rows share few of them.

    Args:
        path: the file.
        schema: what its columns are; None takes any.
        unique: the column of texts that names the rows; None where no column does.
        newer: other forms that the table may have, of files that hold more.

    Raises:
        BrokenFileError: the file is missing or damaged, or something in it was not as expected.
    """
    try:
        table = read_parquet(path, unique=unique, shared=["error"])
        names = table.schema.names
        if schema is not None and names != schema.names:
            schema = _find_form(names, schema, newer)
        for field in schema or ():
            there = table.schema.field(field.name).type
            if field.name != "error" and not there.equals(field.type):
                raise TypeError(f"expected {field.type} in the column {field.name}, got {there}")
        yield table
    except Exception as error:  # what is of another kind, or damaged, raises anything
        reason = reason_of(error).removeprefix(f"{path}: ").rstrip(".")
        raise BrokenFileError(
            f"{path}: not a readable record table ({reason}). "
            "Delete it and start the run again: only what is missing is done anew."
        ) from error


def _find_form(
    names: Sequence[str], oldest: pyarrow.Schema, newer: Sequence[pyarrow.Schema]
) -> pyarrow.Schema:
    found = next((form for form in newer if form.names == names), None)
    if found is None:
        raise ValueError(f"expected the columns {', '.join(oldest.names)}")
    return found


def other_images(path: Path) -> BrokenFileError:
    """Return the error to raise where a table is of other images than those before it."""
    return BrokenFileError(
        f"{path}: its images are not those of the other cells. Delete it and start the "
        "run again: only what is missing is done anew."
    )
