"""Reading and writing record tables as Parquet files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import describe_error
from shiftproof.io.parquet import NameCache, read_parquet

if TYPE_CHECKING:
    import pyarrow


class HasIds(Protocol):
    """Records with the ids of their images."""

    ids: list[str]


Key = TypeVar("Key")
Records = TypeVar("Records", bound=HasIds)


def schema_of(columns: Mapping[str, str], *, required: Sequence[str]) -> pyarrow.Schema:
    """Return a schema of columns by their types.

    Args:
        columns: name to Arrow's name of its type, in brackets for a list of them: "[int32]".
        required: the columns without nulls.
    """
    import pyarrow as pa

    def type_of(name: str) -> pyarrow.DataType:
        inner = name.strip("[]")
        return pa.type_for_alias(name) if inner == name else pa.list_(pa.type_for_alias(inner))

    fields = [
        pa.field(name, type_of(kind), nullable=name not in required)
        for name, kind in columns.items()
    ]
    return pa.schema(fields)


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a record table as Parquet, atomically and deterministically."""
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
    known: NameCache | None = None,
) -> Iterator[pyarrow.Table]:
    """Open a record table for a ``with`` block; exceptions in the block become errors of the file.

    The column ``error`` is dictionary-encoded, since many rows share few texts.

    Args:
        path: the file.
        schema: the expected columns; None accepts any.
        unique: the text column that identifies the rows; None if there is none.
        newer: further accepted schemas, of files with more columns.
        known: the names of the tables of the same run that were read before.

    Raises:
        BrokenFileError: the file is missing or damaged, or its content was not as expected.
    """
    try:
        table = read_parquet(path, unique=unique, shared=["error"], cache=known)
        names = table.schema.names
        if schema is not None and names != schema.names:
            schema = _find_form(names, schema, newer)
        for field in schema or ():
            there = table.schema.field(field.name).type
            if field.name != "error" and not there.equals(field.type):
                raise TypeError(f"expected {field.type} in the column {field.name}, got {there}")
        yield table
    except Exception as error:  # damaged files raise any kind of exception
        reason = describe_error(error).removeprefix(f"{path}: ").rstrip(".")
        raise BrokenFileError(
            f"{path}: not a readable record table ({reason}). "
            "Delete it and start the run again: only missing cells are computed."
        ) from error


def _find_form(
    names: Sequence[str], oldest: pyarrow.Schema, newer: Sequence[pyarrow.Schema]
) -> pyarrow.Schema:
    found = next((form for form in newer if form.names == names), None)
    if found is None:
        raise ValueError(f"expected the columns {', '.join(oldest.names)}")
    return found


def read_alike(paths: Mapping[Key, Path], read: Callable[[Path], Records]) -> dict[Key, Records]:
    """Read tables that must be of the same images, in one order: cells are compared by image.

    All of them get one list of ids, since names are what takes the memory.

    Raises:
        BrokenFileError: one of them cannot be read, or is of other images.
    """
    found: dict[Key, Records] = {}
    ids: list[str] | None = None
    for key, path in paths.items():
        records = read(path)
        ids = records.ids if ids is None else ids
        if records.ids is not ids and records.ids != ids:
            raise other_images(path)
        records.ids = ids
        found[key] = records
    return found


def other_images(path: Path) -> BrokenFileError:
    """Return the error for a table whose images differ from those of the other cells."""
    return BrokenFileError(
        f"{path}: its images are not those of the other cells. Delete it and start the "
        "run again: only missing cells are computed."
    )
