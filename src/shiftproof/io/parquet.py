"""Reading Parquet tables, with their claimed size checked against the file's size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shiftproof.io.border import convert_errors, open_regular
from shiftproof.io.thrift import Fields, read_struct

if TYPE_CHECKING:
    import pyarrow

_VALUES_PER_BYTE = 16
_FREE_VALUES = 1_000_000
_RATIO = 64
_FREE_BYTES = 1 << 24
"""Always allowed, whatever the file's size: tables of equal values compress well."""


class NameCache:
    """A cache of the row names that were read last, for tables with the same rows."""

    def __init__(self) -> None:
        self._source: Any = None
        self._column: pyarrow.Array | None = None
        self._texts: list[str] = []

    def find(self, source: Any) -> pyarrow.Array | None:
        """Return the names that were read from the same bytes; None if there are none."""
        return None if source is None or source != self._source else self._column

    def keep(self, source: Any, column: pyarrow.Array) -> None:
        """Keep names that have been checked."""
        self._source, self._column, self._texts = source, column, column.to_pylist()

    def list_texts(self, column: pyarrow.Array) -> list[str]:
        """Return the names in a column that :func:`read_parquet` gave: equal ones are one list."""
        known = self._column is not None and column.equals(self._column)
        return self._texts if known else column.to_pylist()


def read_parquet(
    path: Path,
    *,
    unique: str | None,
    shared: Sequence[str] = (),
    known: NameCache | None = None,
) -> pyarrow.Table:
    """Return the table of a Parquet file.

    Args:
        path: the file.
        unique: a column of texts that names the rows: each is there once. What packs to nothing,
            millions of equal rows, is met there before the rest is read. None where no column does.
        shared: columns of texts that come back as dictionaries, since few of them may stand for
            more text than memory holds; see :func:`decode_texts`.
        known: the names of tables that were read before; those of this one are kept there.

    Raises:
        BrokenFileError: it is missing, no Parquet, damaged, or claims more than its size has room
            for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as raw, convert_errors(path, "no Parquet table that can be read"):
        data = raw.read()
        footer = check_footer(io.BytesIO(data), len(data))
        there = pq.read_schema(pa.BufferReader(data)).names
        dictionaries = [name for name in (unique, *shared) if name is not None and name in there]
        file = open_in_this_thread(pa.BufferReader(data), read_dictionary=dictionaries)
        if unique is None:
            table = file.read(use_threads=False)
            table.validate(full=True)
            return table
        source = None if known is None else _find_source(footer, data, unique)
        names = None if known is None else known.find(source)
        if names is None:
            names = _read_names(file, unique)
            if known is not None:
                known.keep(source, names)
        table = file.read([name for name in there if name != unique], use_threads=False)
        table.validate(full=True)
        return table.add_column(there.index(unique), unique, names)


def _read_names(file: Any, column: str) -> pyarrow.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = file.read([column], use_threads=False).column(column).combine_chunks()
    if names.null_count or pc.count_distinct(names.indices).as_py() != len(names):
        raise ValueError(f"expected a name of its own for each row in the column {column}")
    return names.cast(pa.string())


def open_in_this_thread(source: Any, *, read_dictionary: Sequence[str] = ()) -> Any:
    """Open a Parquet file that Python holds; read it with ``use_threads=False``.

    Otherwise one of Arrow's threads may release Python's bytes or file last, which aborts the process if the
    interpreter is exiting.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(source, read_dictionary=list(read_dictionary), pre_buffer=False)


def decode_texts(column: Any) -> list[str | None]:
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

_PATH, _COMPRESSED, _DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE = 3, 7, 9, 10, 11
"""Fields of ColumnMetaData; the last three are places in the file."""


def _find_source(footer: Fields, data: bytes, column: str) -> Any:
    """Return the bytes of a column and its metadata, which determine its values.

    None without such a column.
    """
    chunks = []
    for group in footer[_ROW_GROUPS]:
        for chunk in group[_COLUMNS]:
            about = chunk[_META_DATA]
            if about[_PATH] != [column.encode()]:
                continue
            start = min(about[_DATA_PAGE], about.get(_DICTIONARY_PAGE) or about[_DATA_PAGE])
            held = data[start : start + about[_COMPRESSED]]
            places = (_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE)
            chunks.append(({key: about[key] for key in about if key not in places}, held))
    whole = {key: footer[key] for key in footer if key != _ROW_GROUPS}
    return (whole, chunks) if chunks else None


def check_footer(file: IO[bytes], size: int) -> Fields:
    """Check the sizes in the footer of a Parquet file against the file's size, and return it.

    pyarrow would abort the process for a column with wrong size statistics, so the footer is read here.

    Raises:
        ValueError: no footer, or claims that the file has no room for.
    """
    footer = read_struct(_read_footer(file, size))
    most = _VALUES_PER_BYTE * size + _FREE_VALUES
    _check_at_most(footer[_NUM_ROWS], most, "values")
    for group in footer[_ROW_GROUPS]:
        for chunk in group[_COLUMNS]:
            _check_at_most(chunk[_META_DATA][_NUM_VALUES], most, "values")
            _check_at_most(chunk[_META_DATA][_UNCOMPRESSED], _RATIO * size + _FREE_BYTES, "bytes")
    return footer


def _read_footer(file: IO[bytes], size: int) -> bytes:
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
