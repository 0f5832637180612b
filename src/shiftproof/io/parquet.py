"""Reading Parquet tables; the sizes that they claim are checked against the file's size."""

from __future__ import annotations

import functools
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
    """The row names that were read last, for tables with the same rows."""

    def __init__(self) -> None:
        self._source: Any = None
        self._column: pyarrow.Array | None = None
        self._texts: list[str] = []

    def find(self, source: Any) -> pyarrow.Array | None:
        """Return the names that were read from the same bytes, or None."""
        return None if source is None or source != self._source else self._column

    def keep(self, source: Any, column: pyarrow.Array) -> None:
        """Store names that were checked."""
        self._source, self._column, self._texts = source, column, column.to_pylist()

    def list_texts(self, column: pyarrow.Array) -> list[str]:
        """Return a column's names as a list, the same one for equal columns of :func:`read_parquet`."""
        known = self._column is not None and column.equals(self._column)
        return self._texts if known else column.to_pylist()


def read_parquet(
    path: Path,
    *,
    unique: str | None,
    shared: Sequence[str] = (),
    cache: NameCache | None = None,
) -> pyarrow.Table:
    """Return the table of a Parquet file.

    Args:
        path: the file.
        unique: a column of texts that names the rows, without duplicates. It is checked before the
            rest is read, since millions of equal rows compress to almost nothing. None for a table
            without such a column.
        shared: columns of texts that are returned as dictionaries, since a few texts may be repeated
            more often than memory has room for; see :func:`decode_texts`.
        cache: names of tables that were read before; those of this one are stored there.

    Raises:
        BrokenFileError: it is missing, not a Parquet table, damaged, or claims more than a file of its
            size can have.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as raw, convert_errors(path, "not a readable Parquet table"):
        data = raw.read()
        footer = check_footer(io.BytesIO(data), len(data))
        columns = pq.read_schema(pa.BufferReader(data)).names
        dictionaries = [name for name in (unique, *shared) if name is not None and name in columns]
        file = open_in_this_thread(pa.BufferReader(data), read_dictionary=dictionaries)
        if unique is None:
            table = file.read(use_threads=False)
            table.validate(full=True)
            return table
        source = None if cache is None else _find_source(footer, data, unique)
        row_names = None if cache is None else cache.find(source)
        if row_names is None:
            row_names = _read_names(file, unique)
            if cache is not None:
                cache.keep(source, row_names)
        table = file.read([name for name in columns if name != unique], use_threads=False)
        table.validate(full=True)
        return table.add_column(columns.index(unique), unique, row_names)


def _read_names(file: Any, column: str) -> pyarrow.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = file.read([column], use_threads=False).column(column).combine_chunks()
    if names.null_count or pc.count_distinct(names.indices).as_py() != len(names):
        raise ValueError(f"expected different names in the column {column}, one for each row")
    return names.cast(pa.string())


def open_in_this_thread(source: Any, *, read_dictionary: Sequence[str] = ()) -> Any:
    """Open a Parquet file of Python's bytes; read it with ``use_threads=False``.

    Otherwise one of Arrow's threads may be the last to release Python's bytes or file, which aborts the
    process if the interpreter is exiting.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(source, read_dictionary=list(read_dictionary), pre_buffer=False)


def decode_texts(column: Any) -> list[str | None]:
    """Return the texts of a ``shared`` column of :func:`read_parquet`; equal ones are one object."""
    texts: list[str | None] = []
    for chunk in column.chunks if hasattr(column, "chunks") else [column]:
        if chunk.null_count == len(chunk):
            texts += [None] * len(chunk)
            continue
        dictionary = chunk.dictionary.to_pylist()
        texts += [
            None if index is None else dictionary[index] for index in chunk.indices.to_pylist()
        ]
    return texts


_NUM_ROWS, _ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES, _UNCOMPRESSED = 3, 4, 1, 3, 5, 6
"""Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData in ``parquet.thrift``."""

_PATH, _COMPRESSED, _DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE = 3, 7, 9, 10, 11
"""Fields of ColumnMetaData; the last three are offsets in the file."""


def _find_source(footer: Fields, data: bytes, column: str) -> Any:
    """Return the bytes of a column and its metadata, which determine its values, or None."""
    chunks = []
    for group in footer[_ROW_GROUPS]:
        for chunk in group[_COLUMNS]:
            metadata = chunk[_META_DATA]
            if metadata[_PATH] != [column.encode()]:
                continue
            start = min(
                metadata[_DATA_PAGE], metadata.get(_DICTIONARY_PAGE) or metadata[_DATA_PAGE]
            )
            content = data[start : start + metadata[_COMPRESSED]]
            offsets = (_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE)
            chunks.append(({key: metadata[key] for key in metadata if key not in offsets}, content))
    file_metadata = {key: footer[key] for key in footer if key != _ROW_GROUPS}
    return (file_metadata, chunks) if chunks else None


_SMALL_FOOTER = 1 << 15
"""Bytes; those of records have a few thousand."""

_read_again = functools.lru_cache(maxsize=256)(read_struct)
"""Of small footers the last are kept: a run reads each of its tables two or three times."""


def check_footer(file: IO[bytes], size: int) -> Fields:
    """Check the sizes in the footer of a Parquet file against the file's size, and return it.

    Nobody may change what is returned: for the same bytes it is the same object.

    pyarrow would abort the process for a column with wrong size statistics, so the footer is read here.

    Raises:
        ValueError: no footer, or claims of more than a file of this size can have.
    """
    data = _read_footer(file, size)
    footer = _read_again(data) if len(data) <= _SMALL_FOOTER else read_struct(data)
    max_values = _VALUES_PER_BYTE * size + _FREE_VALUES
    _check_at_most(footer[_NUM_ROWS], max_values, "values")
    for group in footer[_ROW_GROUPS]:
        for chunk in group[_COLUMNS]:
            _check_at_most(chunk[_META_DATA][_NUM_VALUES], max_values, "values")
            _check_at_most(chunk[_META_DATA][_UNCOMPRESSED], _RATIO * size + _FREE_BYTES, "bytes")
    return footer


def _read_footer(file: IO[bytes], size: int) -> bytes:
    """Return the struct before the last eight bytes, which are its length and the magic number."""
    if size < 12:
        raise ValueError(f"its {size} bytes are too few")
    file.seek(size - 8)
    length = int.from_bytes(file.read(4), "little")
    if file.read(4) != b"PAR1" or length > size - 12:
        raise ValueError("it has no footer")
    file.seek(size - 8 - length)
    return file.read(length)


def _check_at_most(claim: Any, limit: int, what: str) -> None:
    if not isinstance(claim, int) or not 0 <= claim <= limit:
        raise ValueError(f"it claims {claim!r:.40} {what}")


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Return the columns of any Parquet table by name, as Python's values.

    Raises:
        BrokenFileError: as :func:`read_parquet`.
    """
    table = read_parquet(path, unique=None)
    with convert_errors(path, "not a readable Parquet table"):
        return {name: table.column(name).to_pylist() for name in table.column_names}
