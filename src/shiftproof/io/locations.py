"""Files at local paths or fsspec URLs, and brace patterns."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.io.border import convert_errors, open_regular
from shiftproof.io.remote import find_system, retry
from shiftproof.io.urls import redact_urls

_VERSION_KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "checksum",
    "generation",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
)
"""Keys of a file's version in fsspec's file systems, the most reliable first."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_NAMES = 100_000


def is_url(text: str) -> bool:
    """Return whether a text is a URL instead of a path.

    >>> is_url("s3://bucket/a.tar"), is_url("data/a.tar")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.\-]+://", text) is not None


def has_braces(text: str) -> bool:
    """Return whether a text has a shell's brace pattern, such as ``{000..012}.tar`` or ``{a,b}.tar``."""
    return any(_RANGE.fullmatch(inner) or "," in inner for inner in _BRACES.findall(text))


def expand_braces(pattern: str) -> list[str]:
    """Expand a brace pattern; numbers have the width of the first.

    Raises:
        InputError: a descending range, or more than 100,000 names.

    >>> expand_braces("{08..10}.{tar,txt}")
    ['08.tar', '08.txt', '09.tar', '09.txt', '10.tar', '10.txt']
    """
    parts = _BRACES.split(pattern)
    choices = [
        [part] if index % 2 == 0 else _expand_choices(part, pattern)
        for index, part in enumerate(parts)
    ]
    total = math.prod(map(len, choices))
    if total > _MAX_NAMES:
        raise InputError(f"{redact_urls(pattern)} stands for {total:,} files; expected fewer.")
    return ["".join(combination) for combination in itertools.product(*choices)]


def _expand_choices(inner: str, pattern: str) -> list[str]:
    ends = _RANGE.fullmatch(inner)
    if ends is None:
        return inner.split(",") if "," in inner else [f"{{{inner}}}"]
    first, last, width = int(ends[1][:18]), int(ends[2][:18]), len(ends[1])
    if not first <= last <= first + _MAX_NAMES:
        raise InputError(
            f"{redact_urls(pattern)}: expected an ascending range of at most {_MAX_NAMES:,} numbers, got "
            f"{{{inner[:40]}}}."
        )
    return [f"{number:0{width}}" for number in range(first, last + 1)]


def find_version(info: Mapping[str, Any], *further_keys: str) -> str | None:
    """Return a version that changes with a file's content, from the store's entry for it, or None.

    Args:
        info: what fsspec's ``info`` returns.
        further_keys: tried after the usual ones.
    """
    keys = (*_VERSION_KEYS, *further_keys)
    return next((f"{name} {info[name]}" for name in keys if info.get(name)), None)


@dataclass(frozen=True)
class Location:
    """A file or folder by local path or URL. Small to pickle; holds no open file."""

    address: str

    @classmethod
    def of(cls, source: str | Path) -> Location:
        """Return the location of a source; ``Path`` objects are never URLs."""
        text = str(source)
        return cls(text.rstrip("/") if isinstance(source, str) and is_url(text) else text)

    def __str__(self) -> str:
        return redact_urls(self.address)

    @property
    def is_remote(self) -> bool:
        """Whether it is a URL."""
        return is_url(self.address)

    @property
    def path(self) -> Path:
        """The local path."""
        return Path(self.address)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.replace("\\", "/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name, in lower case."""
        return Path(self.name).suffix.lower()

    def with_name(self, name: str) -> Location:
        """Return the location of a file in the same folder."""
        if self.is_remote:
            return Location(f"{self.address.rpartition('/')[0]}/{name}")
        return Location(str(self.path.with_name(name)))

    def list_folder(self) -> list[Location] | None:
        """Return the content of a folder, or None if it is not a folder.

        Raises:
            BrokenFileError: it cannot be listed.
        """
        if not self.is_remote:
            if not self.path.is_dir():
                return None
            with convert_errors(str(self), "cannot be listed"):
                return [Location(str(path)) for path in sorted(self.path.iterdir())]
        names = retry(str(self), self._list, what="listed")
        if names is None:
            return None
        return [Location(f"{self.address}/{name.rstrip('/').rpartition('/')[2]}") for name in names]

    def is_file(self) -> bool:
        """Return whether it is an existing file."""
        if not self.is_remote:
            return os.path.isfile(self.address)  # noqa: PTH113 (pathlib's raises for long names)
        system, path = find_system(self.address)
        return retry(str(self), lambda: bool(system.isfile(path)))

    def exists(self) -> bool:
        """Return whether it exists."""
        if not self.is_remote:
            return self.path.exists()
        system, path = find_system(self.address)
        return retry(str(self), lambda: bool(system.exists(path)))

    def size(self) -> int:
        """Return its size in bytes.

        Raises:
            BrokenFileError: it cannot be read.
        """
        if not self.is_remote:
            with convert_errors(str(self), "cannot be read"):
                return self.path.stat().st_size
        system, path = find_system(self.address)
        size = retry(str(self), lambda: system.size(path))
        if size is None:
            raise BrokenFileError(f"{self}: the server does not say how many bytes it has.")
        return int(size)

    def state(self) -> str | None:
        """Return the version of a file's content, or None if unknown."""
        if not self.is_remote:
            with convert_errors(str(self), "cannot be read"):
                return str(self.path.stat().st_mtime_ns)
        system, path = find_system(self.address)
        info = retry(str(self), lambda: system.info(path))
        return find_version(info)

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open a file for random access.

        Raises:
            BrokenFileError: it cannot be read.
            RunError: a store that does not answer, now or while the file is read.
            MissingExtraError: a URL, and fsspec is not installed.
        """
        if not self.is_remote:
            with open_regular(self.path) as file:
                yield file
            return
        system, path = find_system(self.address)
        with contextlib.closing(retry(str(self), lambda: system.open(path, "rb"))) as source:
            yield cast("IO[bytes]", RemoteFile(source, str(self)))

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``, for a URL by one request.

        Raises:
            BrokenFileError: it cannot be read, or is too short.
        """
        if self.is_remote:
            system, path = find_system(self.address)
            data = retry(
                str(self), lambda: bytes(system.cat_file(path, start=start, end=start + count))
            )
            if len(data) > count:
                raise InputError(f"{self}: the server sends only whole files, not parts of them.")
        else:
            with convert_errors(str(self), "cannot be read"), self.path.open("rb") as file:
                file.seek(start)
                data = file.read(count)
        if len(data) < count:
            raise BrokenFileError(f"{self}: it ends before byte {start + count}.")
        return data

    def _list(self) -> list[str] | None:
        system, path = find_system(self.address)
        return sorted(system.ls(path, detail=False)) if system.isdir(path) else None


class RemoteFile(io.RawIOBase):
    """A file of fsspec whose failed reads are retried.

    A broken connection is not the end of the file: otherwise tars and arrays would seem truncated.
    """

    def __init__(self, source: Any, name: str) -> None:
        self._source = source
        self._name = name
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether the server supports range requests."""
        return bool(self._source.seekable())

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position."""
        self._position = int(self._source.seek(offset, whence))
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; return the number of bytes, fewer only at the end of the file."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Return the rest of the file."""
        return self.read(-1)

    def read(self, size: int = -1, /) -> bytes:
        """Return ``size`` bytes, fewer only at the end of the file.

        Raises:
            RunError: every attempt failed.
        """
        data = retry(self._name, lambda: self._read(size))
        self._position += len(data)
        return data

    def _read(self, size: int) -> bytes:
        self._restore_position()
        file_size = getattr(self._source, "size", None)
        count = size if size >= 0 else None
        if file_size is not None:
            available = max(int(file_size) - self._position, 0)
            count = available if count is None else min(count, available)
        data = bytearray()
        while count is None or len(data) < count:
            chunk = self._source.read(-1 if count is None else count - len(data))
            if not chunk:
                break
            data += chunk
        if file_size is not None and len(data) < (count or 0):
            raise ConnectionError(f"received {len(data):,} of {count:,} bytes")
        return bytes(data)

    def _restore_position(self) -> None:
        """Seek to the end of the last successful read."""
        if self._source.tell() == self._position:
            return
        try:
            self._source.seek(self._position)
        except ValueError as error:
            raise RunError(
                f"{self._name}: the connection was lost, and the server sends only whole files, so the "
                "rest cannot be requested. Start the same command again."
            ) from error
