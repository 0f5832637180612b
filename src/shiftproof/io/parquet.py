"""Reading Parquet tables, with their claimed size checked against the file's size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shiftproof.io.border import convert_errors, open_regular
from shiftproof.io.thrift import read_struct

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
        check_footer(io.BytesIO(data), len(data))
        there = pq.read_schema(pa.BufferReader(data)).names
        dictionaries = [name for name in (unique, *shared) if name is not None and name in there]
        file = open_in_own_thread(pa.BufferReader(data), read_dictionary=dictionaries)
        if unique is None:
            table = file.read(use_threads=False)
            table.validate(full=True)
            return table
        names = file.read([unique], use_threads=False).column(unique).combine_chunks()
        if names.null_count or pc.count_distinct(names.indices).as_py() != len(names):
            raise ValueError(f"expected a name of its own for each row in the column {unique}")
        table = file.read([name for name in there if name != unique], use_threads=False)
        table.validate(full=True)
        return table.add_column(there.index(unique), unique, names.cast(pa.string()))


def open_in_own_thread(source: Any, *, read_dictionary: Sequence[str] = ()) -> Any:
    """Open a Parquet file that Python holds; read it with ``use_threads=False``.

    One of Arrow's threads may otherwise be the last to let go of Python's bytes or file. For that it
    needs the interpreter, and if that is exiting, it aborts the process.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(source, read_dictionary=list(read_dictionary), pre_buffer=False)


def texts_of(column: Any) -> list[str | None]:
    """Return the texts of a column that :func:`read_parquet` shares: equal ones are one object."""
    found: list[str | None] = []
    for chunk in column.chunks if hasattr(column, "chunks") else [column]:
        if chunk.null_count == len(chunk):
            found += [None] * len(chunk)
            continue
        words = chunk.dictionary.to_pylist()
        found += [None if at is None else words[at] for at in chunk.indices.to_pylist()]
    return found


_NUM_ROWS, _ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES, _UNCOMPRESSED = 3, 4, 1, 3, 5, 6
"""Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData in ``parquet.thrift``."""


def check_footer(file: IO[bytes], size: int) -> None:
    """Check the sizes in the footer of a Parquet file against the file's size.

    It is read here and not by pyarrow, which ends the process where it is asked for a column whose
    size statistics do not fit.

    Raises:
        ValueError: no footer, or claims that the file has no room for.
    """
    footer = read_struct(_footer(file, size))
    most = _VALUES_PER_BYTE * size + _FREE_VALUES
    _check_at_most(footer[_NUM_ROWS], most, "values")
    for group in footer[_ROW_GROUPS]:
        for chunk in group[_COLUMNS]:
            _check_at_most(chunk[_META_DATA][_NUM_VALUES], most, "values")
            _check_at_most(chunk[_META_DATA][_UNCOMPRESSED], _RATIO * size + _FREE_BYTES, "bytes")


def _footer(file: IO[bytes], size: int) -> bytes:
    """Return the struct before the last eight bytes, which are its length and a mark."""
    if size < 12:
        raise ValueError(f"{size} bytes are too few")
    file.seek(size - 8)
    length = int.from_bytes(file.read(4), "little")
    if file.read(4) != b"PAR1" or length > size - 12:
        raise ValueError("it has no footer")
    file.seek(size - 8 - length)
    return file.read(length)


def _check_at_most(claim: Any, most: int, what: str) -> None:
    if not isinstance(claim, int) or not 0 <= claim <= most:
        raise ValueError(f"{claim!r:.40} {what} are claimed")


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a Parquet table that somebody else wrote, by name, as Python's values.

    Raises:
        BrokenFileError: it is missing, no Parquet, damaged, or claims more than its size has room
            for.
    """
    table = read_parquet(path, unique=None)
    with convert_errors(path, "no Parquet table that can be read"):
        return {name: table.column(name).to_pylist() for name in table.column_names}
