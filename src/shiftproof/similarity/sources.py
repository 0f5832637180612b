"""Reading embeddings from arrays, ``.npy`` files, folders of shards, and URLs.

Rows are read in blocks of float32. A row is identified by its shard and its index in it, because
keys are not unique across the tars of LAION.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.counts import pluralize
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.arrays import Header, open_archive, read_header
from shiftproof.io.border import convert_errors, show_name
from shiftproof.io.locations import Location
from shiftproof.io.naming import name_source
from shiftproof.io.parquet import check_footer, open_in_this_thread
from shiftproof.io.tars import sort_key
from shiftproof.io.urls import redact_urls
from shiftproof.storage.contents import check_complete
from shiftproof.storage.store import STATE_FOLDER, Store
from shiftproof.types import F32, F64, Flags
from shiftproof.unit_rows import MIN_LENGTH, find_row_maxima, measure_rows

UnusableRows: TypeAlias = Literal["refuse", "skip"]

NORM_TOLERANCE = 0.01
"""Tolerance of a normalized row's length: float16 changes it by less than 0.001."""

_READ_ROWS = 4096

_METADATA_ROWS = 16_384

WHOLE_BYTES = 1 << 30
"""Total size up to which files are read completely for their fingerprint: a second or two."""

_SAMPLE_COUNT, _SAMPLE_BYTES = 64, 4096
"""Number of positions in a larger file, and bytes at each, for its fingerprint."""

_DAMAGED = "damaged or cut short"
_NO_PARQUET = "no Parquet file that can be read"

_DATACOMP_SUFFIX = ".npz"
_KEY_COLUMNS = ("uid", "key", "image_path", "url")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Shard:
    """One file of rows: its number, its name, and its number of rows."""

    number: int
    name: str
    rows: int


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of one shard.

    Attributes:
        shard: the shard's index in :attr:`Embeddings.shards`.
        start: index of the first row in the shard.
        first: index of the first row in the whole source.
        values: ``(N, width)`` float32, finite; unusable rows are 0.
        usable: ``(N,)`` bool.
    """

    shard: int
    start: int
    first: int
    values: F32
    usable: Flags


@dataclass(frozen=True)
class _ShardFile:
    """Location of a shard's rows: ``member`` is the array's name in an ``.npz``.

    A shard may be part of a file: its rows from ``start``.
    """

    shard: Shard
    location: Location | None
    array: NDArray[Any] | None
    member: str | None
    metadata: Location | None
    start: int = 0


class Embeddings:
    """Embeddings of one width, read on demand.

    Made by :func:`open_embeddings`. Small to pickle unless made from an array.

    Attributes:
        width: the length of a row.
        shards: the files, in the order of their numbers.
        normalize: whether rows are scaled to length 1.
        unusable: treatment of unusable rows.
        name: name of the source.
    """

    def __init__(
        self,
        parts: Sequence[_ShardFile],
        width: int,
        normalize: bool,
        unusable: UnusableRows,
        name: str,
        *,
        may_skip: bool = True,
    ) -> None:
        self._parts = tuple(parts)
        self.width = width
        self.shards = tuple(part.shard for part in parts)
        self.normalize = normalize
        self.unusable = unusable
        self.name = name
        self._may_skip = may_skip
        self.starts = np.cumsum([0, *(shard.rows for shard in self.shards)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def blocks(self, rows: int, shards: Sequence[int] | None = None) -> Iterator[Block]:
        """Yield all rows in order, at most ``rows`` at a time; a block never spans two shards.

        Args:
            rows: maximum number of rows per block.
            shards: indices into :attr:`shards`; all by default.

        Raises:
            BrokenFileError: a shard that has changed or cannot be read.
            InputError: rows that are zero, not finite, or (without ``normalize``) not of length 1,
                if ``unusable`` is "refuse".
        """
        for place in range(len(self.shards)) if shards is None else shards:
            start = 0
            for values in _read_blocks(self._parts[place], self.width, rows, scale=self.normalize):
                yield self._make_block(place, start, values)
                start += len(values)

    def check_first(self) -> None:
        """Check the first row: if rows are not normalized, it is most likely not either.

        Raises:
            InputError: it is unusable.
        """
        next(self.blocks(1), None)

    def read(self, start: int = 0, stop: int | None = None) -> F32:
        """Return rows as one array ``(stop - start, width)``; unusable rows are 0."""
        end = len(self) if stop is None else min(stop, len(self))
        values = np.empty((max(end - start, 0), self.width), dtype=np.float32)
        shards = [
            place
            for place in range(len(self.shards))
            if self.starts[place] < end and self.starts[place + 1] > start
        ]
        for block in self.blocks(_READ_ROWS, shards):
            first, last = max(start, block.first), min(end, block.first + len(block.values))
            if first < last:
                values[first - start : last - start] = block.values[
                    first - block.first : last - block.first
                ]
        return values

    def keys(self, shard: int, column: str | None = None) -> list[str | None] | None:
        """Return the keys of a shard's rows from its metadata, or None if there are none.

        Numbers become text; missing keys (null, or NaN) are None.

        Args:
            shard: an index into :attr:`shards`.
            column: the column of the metadata; by default the first of "uid", "key", "image_path"
                and "url" that exists.

        Raises:
            UnknownNameError: there is no such column.
            BrokenFileError: the metadata cannot be read.
        """
        chosen = self._choose_key_column(shard, column)
        if chosen is None:
            return None
        return [key for batch in self._read_columns(shard, [chosen]) for key in _read_texts(batch)]

    def key_batches(self, shard: int, column: str | None = None) -> Iterator[list[str | None]]:
        """Yield what :meth:`keys` returns, some rows at a time; None for each row without keys.

        Raises:
            UnknownNameError: there is no such column.
            BrokenFileError: the metadata cannot be read.
        """
        chosen = self._choose_key_column(shard, column)
        if chosen is not None:
            yield from map(_read_texts, self._read_columns(shard, [chosen]))
            return
        count = self.shards[shard].rows
        for start in range(0, count, _METADATA_ROWS):
            yield [None] * min(_METADATA_ROWS, count - start)

    def sample_keys(self, shard: int) -> Iterator[list[str | None]] | None:
        """Yield the keys of a shard's webdataset samples, or return None if there are none."""
        for column in ("key", "__key__"):
            if column in self.columns(shard):
                return self.key_batches(shard, column)
        return None

    def columns(self, shard: int) -> list[str]:
        """Return the columns of a shard's metadata; empty without metadata."""
        metadata = self._parts[shard].metadata
        if metadata is None:
            return []
        with _open_parquet(metadata) as table:
            return list(table.schema_arrow.names)

    def metadata(self, shard: int) -> Iterator[Any]:
        """Yield a shard's metadata as record batches of pyarrow, at least one.

        Raises:
            BrokenFileError: the metadata cannot be read.
        """
        return self._read_columns(shard, None)

    def _choose_key_column(self, shard: int, column: str | None) -> str | None:
        names = self.columns(shard)
        if column is None:
            return next((name for name in _KEY_COLUMNS if name in names), None)
        if names and column not in names:
            raise UnknownNameError.of(f"column of {self._parts[shard].metadata}", column, names)
        return column if names else None

    def _read_columns(self, shard: int, names: list[str] | None) -> Iterator[Any]:
        """Yield columns of a shard's metadata as record batches; all columns by default."""
        import pyarrow

        metadata = self._parts[shard].metadata
        assert metadata is not None
        with _open_parquet(metadata) as table:
            with convert_errors(str(metadata), _NO_PARQUET):
                batches = table.iter_batches(_METADATA_ROWS, columns=names, use_threads=False)
                batch = next(batches, None)
            if batch is None:
                # Without rows there is one empty batch, which has the columns.
                yield pyarrow.RecordBatch.from_pylist([], schema=table.schema_arrow)
            while batch is not None:
                yield batch
                with convert_errors(str(metadata), _NO_PARQUET):
                    batch = next(batches, None)

    def split_rows(self, rows: int) -> Embeddings:
        """Return the same rows in shards of at most ``rows``: a larger file becomes several shards.

        For work in parts. Keys of rows and their positions in files must be taken from the
        original.
        """
        pieces = [
            dataclasses.replace(
                part,
                shard=Shard(0, part.shard.name, min(rows, part.shard.rows - start)),
                start=part.start + start,
                metadata=None,
            )
            for part in self._parts
            for start in range(0, part.shard.rows, rows)
        ]
        return self._renumber(pieces)

    def select_shards(self, shards: Sequence[int]) -> Embeddings:
        """Return the rows of some shards only; the shards are renumbered."""
        return self._renumber([self._parts[place] for place in shards])

    def _renumber(self, parts: Sequence[_ShardFile]) -> Embeddings:
        numbered = [
            dataclasses.replace(part, shard=dataclasses.replace(part.shard, number=number))
            for number, part in enumerate(parts)
        ]
        return Embeddings(
            numbered,
            self.width,
            self.normalize,
            self.unusable,
            self.name,
            may_skip=self._may_skip,
        )

    def to_test_set(self) -> Embeddings:
        """Return the same rows as a test set, whose unusable rows are errors."""
        parts = self._parts
        return Embeddings(
            parts, self.width, self.normalize, self.unusable, self.name, may_skip=False
        )

    def fingerprint(self) -> str:
        """Return 32 hex digits that depend on the rows and on how they are read.

        It does not depend on a file's path. For arrays, and files of up to :data:`WHOLE_BYTES`
        together, it covers the whole content; for larger ones, which may be terabytes, the size,
        the modification time and samples of the content. A member of an ``.npz`` is identified by
        its checksum, a file at a URL by the state that the server reports.

        Raises:
            BrokenFileError: a file that cannot be read.
        """
        read = f"{self.width} {self.normalize} {self.unusable}".encode()
        known: dict[str, bytes] = {}
        places = {part.location.address: part.location for part in self._parts if part.location}
        whole = sum(place.size() for place in places.values()) <= WHOLE_BYTES
        return files.fingerprint(
            [read, *(_fingerprint_part(part, known, whole) for part in self._parts)]
        )

    def place(self, row: int) -> tuple[int, int]:
        """Return (shard, index in it) of a row of the whole source."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return shard, int(row - self.starts[shard])

    def _make_block(self, place: int, start: int, values: F32) -> Block:
        norms = measure_rows(values, scale=self.normalize)
        usable = np.isfinite(norms) & (norms > 0)
        if not self.normalize:
            usable &= np.abs(norms - 1) <= NORM_TOLERANCE
        if not usable.all():
            if self.unusable == "refuse":
                raise InputError(self._explain_unusable(place, start, norms, usable))
            values[~usable] = 0
        if self.normalize:
            values /= np.where(usable, norms, 1).astype(np.float32)[:, None]
        return Block(place, start, int(self.starts[place]) + start, values, usable)

    def _explain_unusable(self, place: int, start: int, norms: F64, usable: Flags) -> str:
        row = int(np.flatnonzero(~usable)[0])
        where = f"{self.shards[place].name}: row {start + row}"
        norm = float(norms[row])
        skip = (
            "or leave out such rows (--unusable skip, unusable='skip')"
            if self._may_skip
            else "or take it out: rows of a test set are not skipped"
        )
        if not math.isfinite(norm):
            return f"{where} holds NaN or infinity in float32. Fix it, {skip}."
        if norm == 0:
            return f"{where} is all zeros in float32. Fix it, {skip}."
        return (
            f"{where} has length {norm:.4g}; expected rows of length 1. Normalize them "
            f"(--normalize, normalize=True), {skip}."
        )


Source: TypeAlias = "Embeddings | NDArray[Any] | str | Path"
"""Anything that :func:`open_embeddings` accepts."""


def open_embeddings(
    source: Source,
    *,
    array: str | None = None,
    normalize: bool = False,
    unusable: UnusableRows = "refuse",
) -> Embeddings:
    """Open embeddings without loading them.

    Args:
        source: a float array ``(N, width)``; an ``.npy`` or ``.npz`` file; or a folder of shards:
            clip-retrieval and LAION (``img_emb/img_emb_0.npy`` with
            ``metadata/metadata_0.parquet``; shiftproof writes the same), DataComp (``.npz`` beside
            ``.parquet``), or ``.npy`` files. A string may be a URL of fsspec, such as ``s3://...``.
            Shards come in the order of the numbers in their names.
        array: which array of an ``.npz``, such as "l14_img"; required if it has several.
        normalize: scale every row to length 1; otherwise rows of another length are refused.
        unusable: "refuse" raises an error at a row that is zero, not finite or not normalized;
            "skip" ignores such rows: they are no neighbors, and their similarity is NaN.

    Raises:
        InputError: no embeddings, different widths, not numeric, or no rows.
        BrokenFileError: a file that is damaged, truncated, or holds Python objects.
        MissingExtraError: a URL, and fsspec is not installed.

    >>> import numpy
    >>> embeddings = open_embeddings(numpy.eye(3, dtype="float16"))
    >>> len(embeddings), embeddings.width
    (3, 3)
    """
    if unusable not in ("refuse", "skip"):
        raise UnknownNameError.of("choice for unusable rows", unusable, ["refuse", "skip"])
    if isinstance(source, Embeddings):
        return source
    if isinstance(source, np.ndarray):
        parts = [_ShardFile(Shard(0, "array", len(source)), None, source, None, None)]
        shapes = [_check_array("The array", source.shape, source.dtype)]
    else:
        _check_path(source)
        location = Location.of(source)
        found = _find_shards(location)
        parts, shapes = [], []
        for number, (file, metadata) in enumerate(found):
            member = _choose_member(file, array) if file.suffix == _DATACOMP_SUFFIX else None
            header = _read_file_header(file, member)
            shapes.append(_check_array(str(file), header.shape, header.dtype))
            shard = Shard(number, show_name(file.name), header.shape[0])
            parts.append(_ShardFile(shard, file, None, member, metadata))
            if metadata is not None:
                _check_metadata(metadata, file, header.shape[0])
    for part, width in zip(parts, shapes, strict=True):
        if width != shapes[0]:
            raise InputError(
                f"{part.shard.name}: rows of width {width}, but {parts[0].shard.name} has rows of "
                f"width {shapes[0]}. Expected shards of one encoder."
            )
    if sum(part.shard.rows for part in parts) == 0:
        raise InputError(f"{_describe_source(source)} holds no rows.")
    name = "array" if isinstance(source, np.ndarray) else name_source(source)
    return Embeddings(parts, shapes[0], normalize, unusable, name)


def open_sources(
    train: Source, tests: Mapping[str, Source]
) -> tuple[Embeddings, dict[str, Embeddings]]:
    """Open the training rows and the test sets.

    Raises:
        InputError: no test set, or widths that differ.
    """
    check_test_sets(tests)
    rows = open_embeddings(train)
    sets = {name: open_embeddings(source).to_test_set() for name, source in tests.items()}
    for name, rows_of_set in sets.items():
        if rows_of_set.width != rows.width:
            raise InputError(
                f"The training rows have width {rows.width}, the rows of {name} "
                f"{rows_of_set.width}. Embed both with one encoder."
            )
    return rows, sets


def _check_path(source: object) -> None:
    if not isinstance(source, str | os.PathLike | Location):
        raise InputError(
            f"Expected an array, a path or a URL of embeddings, got {type(source).__name__}. Give rows "
            "in memory as a float array (rows, width): numpy.asarray(rows)."
        )


def check_test_sets(tests: object) -> None:
    """Refuse test sets that are no mapping from names.

    Raises:
        InputError: a set without a name, or none.
    """
    if not isinstance(tests, Mapping):
        raise InputError(
            f"Expected test sets by name, got {type(tests).__name__}; write {{'test': rows}}."
        )
    if not tests:
        raise InputError("Expected at least one test set.")


def _describe_source(source: object) -> str:
    return "The array" if isinstance(source, np.ndarray) else redact_urls(str(source))


def _check_array(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the width of the rows."""
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise InputError(f"{name}: expected embeddings as float16 or float32, got {dtype}.")
    if len(shape) != 2 or shape[1] == 0:
        raise InputError(f"{name}: expected an array of shape (rows, width), got {shape}.")
    return shape[1]


def _check_metadata(metadata: Location, file: Location, rows: int) -> None:
    with _open_parquet(metadata) as table:
        count = table.metadata.num_rows
    if count != rows:
        raise InputError(
            f"{metadata} describes {pluralize(count, 'row')}, but {file.name} holds {rows}. Write both "
            "again, or move the metadata away to read the rows without it."
        )


# ---------------------------------------------------------------- shards


def _find_shards(location: Location) -> list[tuple[Location, Location | None]]:
    """Return the files of rows in the order of their numbers, each with its metadata if any."""
    listing = location.list_folder()
    if listing is None:
        if location.suffix not in (".npy", _DATACOMP_SUFFIX):
            raise InputError(
                f"{location}: expected an .npy or .npz file or a folder of shards"
                f"{', got another kind of file' if location.exists() else '; it is not there'}."
            )
        if not location.exists():
            raise InputError(f"{location} is not there.")
        beside = location.with_name(Path(location.name).stem + ".parquet")
        return [(location, beside if beside.exists() else None)]
    children = {child.name: child for child in listing}
    if location.is_remote and STATE_FOLDER in children:
        check_complete(Store(location.address), Store(location.address).list())
    vectors = next((name for name in ("img_emb", "text_emb") if name in children), None)
    if vectors is not None:
        tables = _order_by_number(
            children["metadata"].list_folder() if "metadata" in children else []
        )
        shards = _order_by_number(
            child for child in children[vectors].list_folder() or [] if child.suffix == ".npy"
        )
        return [(shard, tables.get(number)) for number, shard in sorted(shards.items())]
    for suffix in (".npy", _DATACOMP_SUFFIX):
        shards_here = [child for child in listing if child.suffix == suffix]
        if shards_here:
            return [
                (shard, children.get(Path(shard.name).stem + ".parquet"))
                for shard in sorted(shards_here, key=lambda shard: sort_key(shard.name))
            ]
    raise InputError(
        f"{location}: expected img_emb/ with .npy files, .npz files beside .parquet files, or .npy "
        f"files; found {', '.join(sorted(children)[:5]) or 'nothing'}."
    )


def _order_by_number(locations: Any) -> dict[int, Location]:
    numbered: dict[int, Location] = {}
    for location in locations or []:
        numbers = _NUMBER.findall(Path(location.name).stem)
        if not numbers:
            continue
        number = int(numbers[-1])
        if number in numbered:
            raise InputError(
                f"{location} and {numbered[number].name} have the same number {number}; expected "
                "one file for each number."
            )
        numbered[number] = location
    return numbered


# ---------------------------------------------------------------- arrays in files


def _choose_member(file: Location, array: str | None) -> str:
    """Return the name of the ``.npz``'s member that holds the rows."""
    with _open_archive_file(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    if array is None:
        if len(names) == 1:
            return names[0]
        raise InputError(
            f"{file} holds the arrays {', '.join(names)}; say which "
            f"(--array {names[0]}, array={names[0]!r})."
            if names
            else f"{file} holds no array."
        )
    if array not in names:
        raise UnknownNameError.of(f"array in {file}", array, names)
    return array


@contextlib.contextmanager
def _open_archive_file(file: Location) -> Iterator[zipfile.ZipFile]:
    with file.open() as raw, open_archive(raw, str(file)) as archive:
        yield archive


@contextlib.contextmanager
def _open_array(file: Location, member: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """Open the bytes of an array in ``.npy`` form, with their number."""
    if member is None:
        with file.open() as raw:
            with convert_errors(str(file), "cannot be read"):
                size = raw.seek(0, os.SEEK_END)
                raw.seek(0)
            yield raw, size
    else:
        with _open_archive_file(file) as archive:
            with convert_errors(str(file), _DAMAGED):
                entry = archive.getinfo(f"{member}.npy")
                raw = archive.open(entry)
            with raw:
                yield raw, entry.file_size


def _read_file_header(file: Location, member: str | None) -> Header:
    with _open_array(file, member) as (raw, size):
        return read_header(raw, str(file), size)


def _read_blocks(part: _ShardFile, width: int, rows: int, *, scale: bool) -> Iterator[F32]:
    """Yield a shard's rows as newly allocated float32 arrays; ``scale`` as for the conversion."""
    end = part.start + part.shard.rows
    if part.array is not None:
        for start in range(part.start, end, rows):
            yield _convert_to_float32(part.array[start : min(start + rows, end)], scale=scale)
        return
    assert part.location is not None
    with _open_array(part.location, part.member) as (raw, size):
        changed = BrokenFileError(f"{part.location}: it was changed after it was opened.")
        try:
            header = read_header(raw, str(part.location), size)
        except BrokenFileError as error:
            raise changed from error
        shape, dtype = header.shape, header.dtype
        if len(shape) != 2 or shape[1] != width or shape[0] < end:
            raise changed
        with convert_errors(str(part.location), _DAMAGED):
            raw.seek(header.offset + part.start * width * dtype.itemsize)
        for start in range(part.start, end, rows):
            count = min(rows, end - start)
            buffer = np.empty((count, width), dtype=dtype)
            with convert_errors(str(part.location), _DAMAGED):
                done = _read_into(raw, buffer.view(np.uint8).reshape(-1).data)
            if done < buffer.nbytes:
                raise changed
            yield buffer if dtype == np.float32 else _convert_to_float32(buffer, scale=scale)


def _fingerprint_part(part: _ShardFile, known: dict[str, bytes], whole: bool) -> bytes:
    """Return the fingerprint of a file or an array; ``known`` caches those of files."""
    if part.location is None:
        assert part.array is not None
        here = np.ascontiguousarray(part.array[part.start : part.start + part.shard.rows])
        return f"{here.dtype} {here.shape} ".encode() + hashlib.blake2b(here.tobytes()).digest()
    name = f"{part.location.address} {part.member}"
    if name not in known:
        if part.member is None:
            known[name] = _fingerprint_file(part.location, whole)
        else:
            with (
                _open_archive_file(part.location) as archive,
                convert_errors(str(part.location), _DAMAGED),
            ):
                entry = archive.getinfo(f"{part.member}.npy")
                known[name] = f"{entry.file_size} {entry.CRC}".encode()
    about = f"{part.location.name} {part.member} {part.start} {part.shard.rows} "
    return about.encode("utf-8", "surrogateescape") + known[name]


def _fingerprint_file(file: Location, whole: bool) -> bytes:
    with _open_array(file, None) as (raw, size):
        digest = hashlib.blake2b(str(size).encode())
        state = file.state()
        with convert_errors(str(file), "cannot be read"):
            if (whole and not file.is_remote) or (file.is_remote and state is None):
                while block := raw.read(1 << 20):
                    digest.update(block)
                return digest.digest()
            digest.update(str(state).encode())
            for place in (
                np.linspace(0, max(size - _SAMPLE_BYTES, 0), _SAMPLE_COUNT).astype(int).tolist()
            ):
                raw.seek(place)
                digest.update(raw.read(_SAMPLE_BYTES))
    return digest.digest()


def _read_into(raw: IO[bytes], target: memoryview) -> int:
    done = 0
    while done < len(target):
        data = raw.read(min(len(target) - done, 1 << 22))
        if not data:
            break
        target[done : done + len(data)] = data
        done += len(data)
    return done


def _convert_to_float32(values: NDArray[Any], *, scale: bool) -> F32:
    """Return rows as float32; with ``scale``, float64 rows outside its range are divided by their
    largest absolute value.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        found = np.array(values, dtype=np.float32, order="C")
        if scale and values.dtype.itemsize > 4:
            largest = np.abs(found).max(axis=1, initial=0)
            rows = np.flatnonzero((largest < MIN_LENGTH) | np.isinf(largest))
            found[rows] = values[rows] / find_row_maxima(values[rows])[:, None]
        return found


@contextlib.contextmanager
def _open_parquet(file: Location) -> Iterator[Any]:
    with file.open() as raw:
        with convert_errors(str(file), _NO_PARQUET):
            check_footer(raw, raw.seek(0, os.SEEK_END))
            raw.seek(0)
            table = open_in_this_thread(raw)
        yield table


def _read_texts(batch: Any) -> list[str | None]:
    """Return a record batch of one column as texts."""
    with convert_errors("The metadata", "a column that cannot be read"):
        return [_read_text(value) for value in batch.column(0).to_pylist()]


def _read_text(value: object) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


# ---------------------------------------------------------------- one flag for each row


def check_flags(flags: NDArray[Any], rows: int, name: str) -> Flags:
    """Check and return one bool per row.

    Raises:
        InputError: anything else, such as indices.
    """
    values = np.asarray(flags)
    if values.shape != (rows,):
        raise InputError(
            f"Expected one value in {name} for each row ({rows:,}), got shape {values.shape}."
        )
    if values.dtype != np.bool_:
        raise InputError(
            f"Expected true or false in {name} for each row, got {values.dtype}. From indices make "
            "such flags by flags = numpy.zeros(rows, bool); flags[indices] = True."
        )
    return values
