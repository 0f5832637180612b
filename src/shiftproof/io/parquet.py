"""Parquet tables of records, held against the size of their file before they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.io.border import convert_errors, open_regular

if TYPE_CHECKING:
    import pyarrow

_VALUES_PER_BYTE = 16
_FREE_VALUES = 1_000_000
_RATIO = 64
_FREE_BYTES = 1 << 24
"""Tables of equal values pack well: so much is let pass, whatever the file's size."""


def read_parquet(path: Path, *, unique: str | None, shared: Sequence[str] = ()) -> pyarrow.Table:
    """Return the table of a Parquet file.

    Args:
        path: the file.
        unique: a column of texts that names the rows: each is there once. What packs to nothing,
            millions of equal rows, is met there before the rest is read. None where no column does.
        shared: columns of texts that come back as dictionaries, since few of them may stand for
            more text than memory holds; see :func:`texts_of`.

    Raises:
        BrokenFileError: it is missing, no Parquet, damaged, or claims more than its size has room
            for.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with open_regular(path) as raw, convert_errors(path, "no Parquet table that can be read"):
        data = raw.read()
        there = pq.read_schema(pa.BufferReader(data)).names
        dictionaries = [name for name in (unique, *shared) if name in there]
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=dictionaries)
        _check_claims(file.metadata, len(data))
        if unique is None:
            table = file.read()
            table.validate(full=True)
            return table
        names = file.read([unique]).column(unique).combine_chunks()
        if names.null_count or pc.count_distinct(names.indices).as_py() != len(names):
            raise ValueError(f"expected a name of its own for each row in the column {unique}")
        table = file.read()
        table.validate(full=True)
        place = table.schema.get_field_index(unique)
        return table.set_column(place, unique, names.cast(pa.string()))


def texts_of(column: Any) -> list[str | None]:
    """Return the texts of a column that :func:`read_parquet` shares: equal ones are one object."""
    found: list[str | None] = []
    for chunk in column.chunks if hasattr(column, "chunks") else [column]:
        words = chunk.dictionary.to_pylist()
        found += [None if at is None else words[at] for at in chunk.indices.to_pylist()]
    return found


def _check_claims(claims: Any, size: int) -> None:
    for group in range(claims.num_row_groups):
        row_group = claims.row_group(group)
        for number in range(row_group.num_columns):
            chunk = row_group.column(number)
            most = _VALUES_PER_BYTE * size + _FREE_VALUES
            if chunk.num_values > most or claims.num_rows > most:
                raise ValueError(f"{max(chunk.num_values, claims.num_rows)} values are claimed")
            if chunk.total_uncompressed_size > _RATIO * size + _FREE_BYTES:
                raise ValueError(f"{chunk.total_uncompressed_size} bytes are claimed")
