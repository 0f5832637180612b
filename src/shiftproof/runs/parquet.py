"""Reading and writing record tables as Parquet files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import describe_error
from shiftproof.io.parquet import NameCache, read_parquet
from shiftproof.types import Flags

if TYPE_CHECKING:
    import pyarrow


class HasIds(Protocol):
    """Records with the ids of their images."""

    ids: list[str]


Key = TypeVar("Key")
Records = TypeVar("Records", bound=HasIds)


@dataclass(frozen=True)
class TableFormat:
    """The columns of a record table.

    Attributes:
        columns: from name to Arrow's name of the type, in brackets for a list: "[int32]".
        required: the columns without nulls.
    """

    columns: Mapping[str, str]
    required: Sequence[str] = ()

    def make_schema(self) -> pyarrow.Schema:
        """Return the columns as Arrow's schema."""
        import pyarrow as pa

        def make_type(name: str) -> pyarrow.DataType:
            item = name.strip("[]")
            return pa.type_for_alias(name) if item == name else pa.list_(pa.type_for_alias(item))

        return pa.schema(
            pa.field(name, make_type(kind), nullable=name not in self.required)
            for name, kind in self.columns.items()
        )

    def write(
        self, path: Path, values: Mapping[str, Any], missing: Mapping[str, Flags] | None = None
    ) -> None:
        """Write a table, atomically and deterministically.

        Args:
            path: the file.
            values: the values of each column, also as an Arrow array.
            missing: by column, the rows that are null in addition to None.
        """
        import pyarrow as pa

        masks = missing or {}
        schema = self.make_schema()
        arrays = [
            values[field.name]
            if isinstance(values[field.name], pa.Array)
            else pa.array(values[field.name], field.type, mask=masks.get(field.name))
            for field in schema
        ]
        write_table(path, pa.Table.from_arrays(arrays, schema=schema))


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
            schema = _select_schema(names, schema, newer)
        for field in schema or ():
            actual = table.schema.field(field.name).type
            if field.name != "error" and not actual.equals(field.type):
                raise TypeError(f"expected {field.type} in the column {field.name}, got {actual}")
        yield table
    except Exception as error:  # damaged files raise any kind of exception
        reason = describe_error(error).removeprefix(f"{path}: ").rstrip(".")
        raise BrokenFileError(
            f"{path}: not a readable record table ({reason}). "
            "Delete it and start the run again: only missing cells are computed."
        ) from error


def _select_schema(
    names: Sequence[str], oldest: pyarrow.Schema, newer: Sequence[pyarrow.Schema]
) -> pyarrow.Schema:
    for candidate in newer:
        if candidate.names == names:
            return candidate
    raise ValueError(f"expected the columns {', '.join(oldest.names)}")


def read_same_images(
    paths: Mapping[Key, Path], read: Callable[[Path], Records]
) -> dict[Key, Records]:
    """Read tables of the same images in the same order, as cells are compared by image.

    All of them share one list of ids, because the names take most of the memory.

    Raises:
        BrokenFileError: a table cannot be read, or has other images.
    """
    tables: dict[Key, Records] = {}
    ids: list[str] | None = None
    for key, path in paths.items():
        records = read(path)
        ids = records.ids if ids is None else ids
        if records.ids is not ids and records.ids != ids:
            raise explain_other_images(path)
        records.ids = ids
        tables[key] = records
    return tables


def explain_other_images(path: Path) -> BrokenFileError:
    """Return the error for a table whose images differ from those of the other cells."""
    return BrokenFileError(
        f"{path}: its images are not those of the other cells. Delete it and start the "
        "run again: only missing cells are computed."
    )
