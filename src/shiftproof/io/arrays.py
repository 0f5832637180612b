"""NumPy's ``.npy`` and ``.npz`` files: read without executing code, within the file's size; and written."""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, describe_error, open_regular

_MAX_HEADER = 1 << 16
_DEFLATE_RATIO = 1032
"""Maximum expansion of one compressed byte (zlib's documentation)."""


@dataclass(frozen=True)
class Header:
    """The header of a ``.npy`` file.

    Attributes:
        shape: of the array, one dimension or more.
        dtype: of its values, never objects.
        offset: where the values begin, in bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def end(self) -> int:
        """Where the values end, in bytes from the beginning of the file."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_header(raw: IO[bytes], name: str | Path, size: int) -> Header:
    """Read the header of a ``.npy`` file, checked against the size of the file.

    Args:
        raw: the file, at its beginning; its position afterwards is undefined.
        name: name of the file in messages.
        size: bytes of the whole file.

    Raises:
        BrokenFileError: not in ``.npy`` format, Python objects, not stored row by row, or cut short.
    """
    with convert_errors(name, "not an array in NumPy's .npy format"):
        head_bytes = io.BytesIO(raw.read(_MAX_HEADER))
        version = np.lib.format.read_magic(head_bytes)
        read_array_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read_array_header(head_bytes)
        is_valid = all(isinstance(length, int) and length >= 0 for length in shape)
    if dtype.hasobject:
        raise BrokenFileError(
            f"{name}: it holds Python objects, which are not read: they can run code. Save "
            "numbers, such as float32."
        )
    if not is_valid:
        raise BrokenFileError(
            f"{name}: not an array in NumPy's .npy format (its shape is {shape})."
        )
    if not shape:
        raise BrokenFileError(f"{name}: expected an array of one dimension or more, got {shape}.")
    if fortran_order and len(shape) > 1:
        raise BrokenFileError(
            f"{name}: expected an array that is stored row by row; save it by "
            "numpy.save(path, numpy.ascontiguousarray(array))."
        )
    header = Header(shape, dtype, head_bytes.tell())
    # Rows without bytes do not bound their number.
    if size < header.end or (header.end == header.offset and shape[0] > size):
        raise BrokenFileError(
            f"{name}: cut short; an array of shape {shape} takes {header.end} bytes, the file has "
            f"{size}. Fetch or make it again."
        )
    return header


@dataclass(frozen=True)
class ArrayFile:
    """A ``.npy`` file that is read on demand; small to pickle.

    It is not mapped into memory: a process that meets a mapped file cut short is killed.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    size: int

    def read(self, start: int, count: int) -> NDArray[Any]:
        """Return ``count`` rows from ``start`` as a new array.

        Raises:
            BrokenFileError: the file was deleted or changed after it was opened.
        """
        row_length = math.prod(self.shape[1:])
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != self.size:
                    raise BrokenFileError(f"{self.path}: it was changed after it was opened.")
                file.seek(self.offset + start * row_length * self.dtype.itemsize)
                values = np.fromfile(file, self.dtype, count * row_length)
        except OSError as error:
            raise BrokenFileError(
                f"{self.path}: cannot be read ({describe_error(error)})."
            ) from error
        return values.reshape(count, *self.shape[1:])


def open_array(path: Path) -> ArrayFile:
    """Open a ``.npy`` file of one dimension or more.

    Nothing in the file is executed: arrays of Python objects (pickles) are refused.

    Raises:
        BrokenFileError: it is missing, not a ``.npy`` file, damaged, or shorter than it claims.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        header = read_header(file, path, size)
    return ArrayFile(path, header.shape, header.dtype, header.offset, size)


def read_array(path: Path) -> NDArray[Any]:
    """Return the array of a ``.npy`` file.

    Raises:
        BrokenFileError: as :func:`open_array`.
    """
    file = open_array(path)
    return file.read(0, file.shape[0])


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a ``.npz`` file by name; they may be scalars.

    Raises:
        BrokenFileError: it is missing, not a ``.npz``, damaged, or an entry claims more than it holds.
    """
    with open_regular(path) as raw, open_archive(raw, path) as archive:
        arrays = {}
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with convert_errors(f"{path}, {name}", "damaged or cut short"):
                data = archive.read(entry)
                if len(data) < _MAX_HEADER:
                    # A job's part may have scalars, which read_header refuses.
                    arrays[name] = np.load(io.BytesIO(data), allow_pickle=False, mmap_mode=None)
                    continue
                header = read_header(io.BytesIO(data), f"{path}, {name}", len(data))
                values = np.frombuffer(data, header.dtype, offset=header.offset)
                arrays[name] = values[: math.prod(header.shape)].reshape(header.shape)
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of numbers or texts by name to a ``.npz`` file, atomically.

    The same arrays give the same bytes.

    Raises:
        RunError: the disk is full.
    """
    with files.atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            # Entries contain a date; ZipInfo's default is constant.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(values), allow_pickle=False)


@contextlib.contextmanager
def open_archive(raw: IO[bytes], name: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; entries that claim more bytes than they can have are refused.

    Raises:
        BrokenFileError: not a zip archive, damaged, or an entry that claims too much.
    """
    with contextlib.ExitStack() as stack:
        with convert_errors(name, "damaged or cut short"):
            size = raw.seek(0, os.SEEK_END)
            raw.seek(0)
            archive = stack.enter_context(zipfile.ZipFile(raw))
            for entry in archive.infolist():
                bound = min(entry.compress_size, size)
                if entry.compress_type != zipfile.ZIP_STORED:
                    bound = bound * _DEFLATE_RATIO + _MAX_HEADER
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise BrokenFileError(
                        f"{name}: {entry.filename} is compressed in a way that NumPy does not write."
                    )
                if entry.file_size > bound:
                    raise BrokenFileError(
                        f"{name}: damaged; {entry.filename} claims {entry.file_size} bytes."
                    )
        yield archive
