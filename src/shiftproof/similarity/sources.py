"""Rows of embeddings read as they lie: arrays, ``.npy`` files, folders of shards, buckets.

Nothing is read whole: what comes out is blocks of float32 rows. The identity of a row is its shard
and its place in it, because keys are not unique across the tars of LAION.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError, InputError, MissingExtraError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import reason_of
from shiftproof.io.naming import name_source
from shiftproof.io.urls import redact_urls

F32 = NDArray[np.float32]

UnusableRows: TypeAlias = Literal["refuse", "skip"]

NORM_TOLERANCE = 0.01
"""How far from 1 a normalised row's length may lie: float16 moves it by less than 0.001."""

_READ_ROWS = 4096

_SAMPLES, _SAMPLED = 5, 4096
"""So many places of a file, and so many bytes at each, make its fingerprint."""

_DATACOMP_SUFFIX = ".npz"
_KEY_COLUMNS = ("uid", "key", "image_path", "url")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Shard:
    """One file of rows: its place in the order, its name, and its number of rows."""

    number: int
    name: str
    rows: int


@dataclass(frozen=True, eq=False)
class Block:
    """Some neighbouring rows of one shard.

    Attributes:
        shard: the shard's place in :attr:`Embeddings.shards`.
        start: the first row's place in the shard.
        first: the first row's place in the whole source.
        values: ``(N, width)`` float32, finite; rows that cannot be used are 0.
        usable: ``(N,)`` bool.
    """

    shard: int
    start: int
    first: int
    values: F32
    usable: NDArray[np.bool_]


@dataclass(frozen=True)
class _ShardFile:
    """Where one shard's rows lie: ``member`` names the array in an ``.npz``.

    A shard may be some of a file's rows: from ``start`` on.
    """

    shard: Shard
    location: _Location | None
    array: NDArray[Any] | None
    member: str | None
    metadata: _Location | None
    start: int = 0


class Embeddings:
    """Rows of one width that stay where they are until they are asked for.

    Made by :func:`open_embeddings`. Small to pickle unless it was made of an array.

    Attributes:
        width: the length of a row.
        shards: the files, in the order of their numbers.
        normalise: whether rows are scaled to length 1.
        unusable: what happens to rows that cannot be used.
        name: what the source was called.
    """

    def __init__(
        self,
        parts: Sequence[_ShardFile],
        width: int,
        normalise: bool,
        unusable: UnusableRows,
        name: str,
    ) -> None:
        self._parts = tuple(parts)
        self.width = width
        self.shards = tuple(part.shard for part in parts)
        self.normalise = normalise
        self.unusable = unusable
        self.name = name
        self.starts = np.cumsum([0, *(shard.rows for shard in self.shards)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def blocks(self, rows: int, shards: Sequence[int] | None = None) -> Iterator[Block]:
        """Yield all rows in order, at most ``rows`` at a time; a block never spans two shards.

        Args:
            rows: how many rows at most.
            shards: places in :attr:`shards`; all of them by default.

        Raises:
            BrokenFileError: a shard that has changed or cannot be read.
            InputError: rows that are zero, not finite, or (without ``normalise``) not of length 1,
                where ``unusable`` is "refuse".
        """
        for place in range(len(self.shards)) if shards is None else shards:
            start = 0
            for values in _stream(self._parts[place], self.width, rows):
                yield self._block(place, start, values)
                start += len(values)

    def read(self, start: int = 0, stop: int | None = None) -> F32:
        """Return rows as one array ``(stop - start, width)``; rows that cannot be used are 0."""
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

    def keys(self, shard: int, column: str | None = None) -> list[str] | None:
        """Return the names of a shard's rows from its metadata, or None where there is none.

        Args:
            shard: a place in :attr:`shards`.
            column: the column of the metadata; by default the first of "uid", "key", "image_path"
                and "url" that is there.

        Raises:
            UnknownNameError: there is no such column.
        """
        metadata = self._parts[shard].metadata
        if metadata is None:
            return None
        with _parquet(metadata) as table:
            names = table.schema_arrow.names
            chosen = column or next((name for name in _KEY_COLUMNS if name in names), None)
            if chosen not in names:
                raise UnknownNameError.of(f"column of {metadata}", column or "uid", names)
            return [str(key) for key in table.read(columns=[chosen])[chosen].to_pylist()]

    def sample_keys(self, shard: int) -> list[str] | None:
        """Return the keys of a shard's samples in a webdataset, or None where none are known."""
        for column in ("key", "__key__"):
            try:
                return self.keys(shard, column)
            except UnknownNameError:
                continue
        return None

    def metadata(self, shard: int) -> Any:
        """Return a shard's metadata as a table of pyarrow, or None where there is none."""
        metadata = self._parts[shard].metadata
        if metadata is None:
            return None
        with _parquet(metadata) as table:
            return table.read()

    def cut(self, rows: int) -> Embeddings:
        """Return the same rows in shards of at most ``rows``: a larger file becomes several shards.

        For work that is done in parts. The names of rows, and their places in files, are to be asked of
        the whole.
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
        return self._of(pieces)

    def only(self, shards: Sequence[int]) -> Embeddings:
        """Return the rows of some shards alone, which are numbered anew."""
        return self._of([self._parts[place] for place in shards])

    def _of(self, parts: Sequence[_ShardFile]) -> Embeddings:
        numbered = [
            dataclasses.replace(part, shard=dataclasses.replace(part.shard, number=number))
            for number, part in enumerate(parts)
        ]
        return Embeddings(numbered, self.width, self.normalise, self.unusable, self.name)

    def fingerprint(self) -> str:
        """Return 32 hex digits that change with the rows or with how they are read.

        Of a file its name, its size and some of its bytes count, as there may be terabytes; of an array
        all values.
        """
        read = f"{self.width} {self.normalise} {self.unusable}".encode()
        return files.fingerprint([read, *(_print_of(part) for part in self._parts)])

    def place(self, row: int) -> tuple[int, int]:
        """Return shard and place in it of a row of the whole source."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return shard, int(row - self.starts[shard])

    def _block(self, place: int, start: int, values: F32) -> Block:
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.sqrt(np.einsum("nd,nd->n", values, values))
        usable = np.isfinite(norms) & (norms > 0)
        if not self.normalise:
            usable &= np.abs(norms - 1) <= NORM_TOLERANCE
        if not usable.all():
            if self.unusable == "refuse":
                raise InputError(self._complaint(place, start, norms, usable))
            values[~usable] = 0
        if self.normalise:
            values /= np.where(usable, norms, 1)[:, None]
        return Block(place, start, int(self.starts[place]) + start, values, usable)

    def _complaint(self, place: int, start: int, norms: F32, usable: NDArray[np.bool_]) -> str:
        row = int(np.flatnonzero(~usable)[0])
        where = f"{self.shards[place].name}: row {start + row}"
        norm = float(norms[row])
        if not math.isfinite(norm):
            return (
                f"{where} holds NaN or infinity. Mend it, or leave out such rows (unusable='skip')."
            )
        if norm == 0:
            return f"{where} is all zeros. Mend it, or leave out such rows (unusable='skip')."
        return (
            f"{where} has length {norm:.4g}; expected rows of length 1. Have them normalised "
            "(normalise=True), or leave out such rows (unusable='skip')."
        )


Source: TypeAlias = "Embeddings | NDArray[Any] | str | Path"
"""What functions take for embeddings."""


def open_embeddings(
    source: Source,
    *,
    array: str | None = None,
    normalise: bool = False,
    unusable: UnusableRows = "refuse",
) -> Embeddings:
    """Open embeddings where they lie.

    Args:
        source: a float array ``(N, width)``; an ``.npy`` or ``.npz`` file; or a folder of shards:
            clip-retrieval and LAION (``img_emb/img_emb_0.npy`` with
            ``metadata/metadata_0.parquet``; shiftproof writes the same), DataComp (``.npz`` beside
            ``.parquet``), or ``.npy`` files. A string may be a URL of fsspec, such as ``s3://...``.
            Shards come in the order of the numbers in their names.
        array: which array of an ``.npz``, such as "l14_img"; needed where it holds several.
        normalise: scale every row to length 1; otherwise rows of another length are refused.
        unusable: "refuse" ends with an error at a row that is zero, not finite or not normalised;
            "skip" leaves such rows out: they are nobody's neighbour and get NaN.

    Raises:
        InputError: no embeddings there, none of one width, no numbers, or no rows.
        BrokenFileError: a file that is damaged, cut short, or holds Python objects.
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
        location = _Location.of(source)
        found = _find_shards(location)
        parts, shapes = [], []
        for number, (file, metadata) in enumerate(found):
            member = _member(file, array) if file.suffix == _DATACOMP_SUFFIX else None
            shape, dtype = _header(file, member)
            shapes.append(_check_array(str(file), shape, dtype))
            shard = Shard(number, file.name, shape[0])
            parts.append(_ShardFile(shard, file, None, member, metadata))
            if metadata is not None:
                _check_metadata(metadata, file, shape[0])
    for part, width in zip(parts, shapes, strict=True):
        if width != shapes[0]:
            raise InputError(
                f"{part.shard.name}: rows of width {width}, but {parts[0].shard.name} has rows of "
                f"width {shapes[0]}. Expected shards of one encoder."
            )
    if sum(part.shard.rows for part in parts) == 0:
        raise InputError(f"{_named(source)} holds no rows.")
    name = "array" if isinstance(source, np.ndarray) else name_source(source)
    return Embeddings(parts, shapes[0], normalise, unusable, name)


def _named(source: object) -> str:
    return "The array" if isinstance(source, np.ndarray) else redact_urls(str(source))


def _check_array(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the width of the rows."""
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise InputError(f"{name}: expected embeddings as float16 or float32, got {dtype}.")
    if len(shape) != 2 or shape[1] == 0:
        raise InputError(f"{name}: expected an array of shape (rows, width), got {shape}.")
    return shape[1]


def _check_metadata(metadata: _Location, file: _Location, rows: int) -> None:
    with _parquet(metadata) as table:
        count = table.metadata.num_rows
    if count != rows:
        raise InputError(
            f"{metadata} describes {count} rows, but {file.name} holds {rows}. Make the two in one "
            "go again, or move the metadata away to go without."
        )


# ---------------------------------------------------------------- places, here and elsewhere


@dataclass(frozen=True)
class _Location:
    """A file or folder on this machine, or behind a URL of fsspec."""

    address: str
    remote: bool

    @classmethod
    def of(cls, source: str | Path) -> _Location:
        remote = isinstance(source, str) and "://" in source
        return cls(str(source).rstrip("/") if remote else str(source), remote)

    def __str__(self) -> str:
        return redact_urls(self.address)

    @property
    def path(self) -> Path:
        return Path(self.address)

    @property
    def name(self) -> str:
        return self.address.replace("\\", "/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix.lower()

    def beside(self, name: str) -> _Location:
        if self.remote:
            return _Location(f"{self.address.rpartition('/')[0]}/{name}", remote=True)
        return _Location(str(self.path.with_name(name)), remote=False)

    def listing(self) -> list[_Location] | None:
        """Return what a folder holds, or None where there is no folder."""
        if not self.remote:
            if not self.path.is_dir():
                return None
            return [_Location(str(path), remote=False) for path in sorted(self.path.iterdir())]
        system, path = self._system()
        try:
            if not system.isdir(path):
                return None
            names = sorted(system.ls(path, detail=False))
        except (OSError, ValueError) as error:
            raise InputError(f"{self} cannot be listed ({reason_of(error)}).") from error
        return [
            _Location(f"{self.address}/{name.rstrip('/').rpartition('/')[2]}", remote=True)
            for name in names
        ]

    def exists(self) -> bool:
        if not self.remote:
            return self.path.exists()
        system, path = self._system()
        return bool(system.exists(path))

    def size(self) -> int:
        if not self.remote:
            return self.path.stat().st_size
        system, path = self._system()
        return int(system.size(path))

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading; an error of the disk or the network becomes one clear sentence."""
        try:
            if self.remote:
                system, path = self._system()
                with system.open(path, "rb") as file:
                    yield file
            else:
                with self.path.open("rb") as file:
                    yield file
        except OSError as error:
            raise BrokenFileError(f"{self}: cannot be read ({reason_of(error)}).") from error

    def _system(self) -> tuple[Any, str]:
        try:
            import fsspec.core
        except ImportError as error:
            raise MissingExtraError.of("fsspec", "similarity") from error
        try:
            system, path = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise InputError(f"{self} cannot be reached ({reason_of(error)}).") from error
        return system, path


def _find_shards(location: _Location) -> list[tuple[_Location, _Location | None]]:
    """Return the files of rows in the order of their numbers, each with its metadata if any."""
    listing = location.listing()
    if listing is None:
        if location.suffix not in (".npy", _DATACOMP_SUFFIX):
            raise InputError(
                f"{location}: expected an .npy or .npz file or a folder of shards"
                f"{', got another kind of file' if location.exists() else '; it is not there'}."
            )
        if not location.exists():
            raise InputError(f"{location} is not there.")
        beside = location.beside(Path(location.name).stem + ".parquet")
        return [(location, beside if beside.exists() else None)]
    children = {child.name: child for child in listing}
    if "img_emb" in children:
        tables = _by_number(children["metadata"].listing() if "metadata" in children else [])
        shards = _by_number(
            child for child in children["img_emb"].listing() or [] if child.suffix == ".npy"
        )
        return [(shard, tables.get(number)) for number, shard in sorted(shards.items())]
    for suffix in (".npy", _DATACOMP_SUFFIX):
        shards_here = [child for child in listing if child.suffix == suffix]
        if shards_here:
            return [
                (shard, children.get(Path(shard.name).stem + ".parquet"))
                for shard in sorted(shards_here, key=lambda shard: natural(shard.name))
            ]
    raise InputError(
        f"{location}: expected img_emb/ with .npy files, .npz files beside .parquet files, or .npy "
        f"files; found {', '.join(sorted(children)[:5]) or 'nothing'}."
    )


def _by_number(locations: Any) -> dict[int, _Location]:
    numbered: dict[int, _Location] = {}
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


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which 2 comes before 10."""
    words = re.split(r"(\d+)", name)
    return [(int(word), "") if word.isdigit() else (-1, word) for word in words]


# ---------------------------------------------------------------- arrays in files


def _member(file: _Location, array: str | None) -> str:
    """Return the name of the ``.npz``'s member that holds the rows."""
    with _archive(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    if array is None:
        if len(names) == 1:
            return names[0]
        raise InputError(
            f"{file} holds the arrays {', '.join(names)}; say which (array={names[0]!r})."
            if names
            else f"{file} holds no array."
        )
    if array not in names:
        raise UnknownNameError.of(f"array in {file}", array, names)
    return array


@contextlib.contextmanager
def _archive(file: _Location) -> Iterator[zipfile.ZipFile]:
    with file.open() as raw:
        try:
            with zipfile.ZipFile(raw) as archive:
                yield archive
        except (zipfile.BadZipFile, EOFError, NotImplementedError, KeyError) as error:
            raise BrokenFileError(f"{file}: damaged or cut short ({error}).") from error


@contextlib.contextmanager
def _open_array(file: _Location, member: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """Open the bytes of an array in ``.npy`` form, with their number."""
    if member is None:
        size = file.size() if file.exists() else 0
        with file.open() as raw:
            yield raw, size
    else:
        with _archive(file) as archive:
            name = f"{member}.npy"
            with archive.open(name) as raw:
                yield raw, archive.getinfo(name).file_size


def _read_header(raw: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, dtype and where the values begin; nothing in the file is executed."""
    counted = io.BytesIO(raw.read(1 << 16))
    try:
        version = np.lib.format.read_magic(counted)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, columns_first, dtype = read(counted)
    except Exception as error:
        # What reads a damaged header raises anything: SyntaxError, TypeError, ...
        raise BrokenFileError(f"{name}: no array in NumPy's .npy form ({error}).") from error
    if dtype.hasobject:
        raise BrokenFileError(
            f"{name}: it holds Python objects, which are not read: they can run code. Save the "
            "rows as float16 or float32."
        )
    if columns_first and len(shape) > 1:
        raise BrokenFileError(
            f"{name}: expected an array that is stored row by row; save it by "
            "numpy.save(path, numpy.ascontiguousarray(array))."
        )
    return shape, dtype, counted.tell()


def _header(file: _Location, member: str | None) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with _open_array(file, member) as (raw, size):
        shape, dtype, offset = _read_header(raw, str(file))
    expected = offset + math.prod(shape) * dtype.itemsize
    if size < expected:
        raise BrokenFileError(
            f"{file}: cut short; {expected} bytes belong to an array of shape {shape}, {size} are "
            "there. Fetch or make it again."
        )
    return shape, dtype


def _stream(part: _ShardFile, width: int, rows: int) -> Iterator[F32]:
    """Yield a shard's rows as float32 arrays that are the caller's own."""
    end = part.start + part.shard.rows
    if part.array is not None:
        for start in range(part.start, end, rows):
            yield _as_float32(part.array[start : min(start + rows, end)])
        return
    assert part.location is not None
    with _open_array(part.location, part.member) as (raw, _):
        shape, dtype, offset = _read_header(raw, str(part.location))
        if len(shape) != 2 or shape[1] != width or shape[0] < end:
            raise BrokenFileError(f"{part.location}: it was changed after it was opened.")
        raw.seek(offset + part.start * width * dtype.itemsize)
        for start in range(part.start, end, rows):
            count = min(rows, end - start)
            buffer = np.empty((count, width), dtype=dtype)
            if _read_into(raw, buffer.view(np.uint8).reshape(-1).data) < buffer.nbytes:
                raise BrokenFileError(f"{part.location}: it was changed after it was opened.")
            yield buffer if dtype == np.float32 else _as_float32(buffer)


def _print_of(part: _ShardFile) -> bytes:
    """Return what a file or an array is known by."""
    if part.location is None:
        assert part.array is not None
        here = np.ascontiguousarray(part.array[part.start : part.start + part.shard.rows])
        return f"{here.dtype} {here.shape} ".encode() + hashlib.blake2b(here.tobytes()).digest()
    with _open_array(part.location, part.member) as (raw, size):
        digest = hashlib.blake2b(f"{part.location.name} {size} {part.start}".encode())
        for place in np.linspace(0, max(size - _SAMPLED, 0), _SAMPLES).astype(int).tolist():
            raw.seek(place)
            digest.update(raw.read(_SAMPLED))
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


def _as_float32(values: NDArray[Any]) -> F32:
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float32, order="C")


@contextlib.contextmanager
def _parquet(file: _Location) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    with file.open() as raw:
        try:
            table = pyarrow.parquet.ParquetFile(raw)
        except (pyarrow.ArrowException, OSError) as error:
            raise BrokenFileError(f"{file}: no Parquet file that can be read ({error}).") from error
        yield table
