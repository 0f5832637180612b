"""Files at local paths or fsspec URLs, and brace patterns."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shiftproof.errors import BrokenFileError, InputError, MissingExtraError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, open_regular, reason_of
from shiftproof.io.urls import redact_urls

_STATES = (
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
_MOST = 100_000


def is_url(text: str) -> bool:
    """Whether a text is a URL, and no path.

    >>> is_url("s3://bucket/a.tar"), is_url("data/a.tar")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.\-]+://", text) is not None


def has_braces(text: str) -> bool:
    """Whether a text is a brace pattern as of a shell, such as ``{000..012}.tar`` or ``{a,b}.tar``."""
    return any(_RANGE.fullmatch(inner) or "," in inner for inner in _BRACES.findall(text))


def expand_braces(pattern: str) -> list[str]:
    """Expand a brace pattern; numbers keep the width of the first.

    Raises:
        InputError: a range that runs backwards, or more than 100,000 names.

    >>> expand_braces("{08..10}.{tar,txt}")
    ['08.tar', '08.txt', '09.tar', '09.txt', '10.tar', '10.txt']
    """
    parts = _BRACES.split(pattern)
    choices = [
        [part] if place % 2 == 0 else _choices(part, pattern) for place, part in enumerate(parts)
    ]
    total = 1
    for each in choices:
        total *= len(each)
    if total > _MOST:
        raise InputError(f"{redact_urls(pattern)} stands for {total:,} files; expected fewer.")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(inner: str, pattern: str) -> list[str]:
    ends = _RANGE.fullmatch(inner)
    if ends is None:
        return inner.split(",") if "," in inner else [f"{{{inner}}}"]
    first, last, width = int(ends[1][:18]), int(ends[2][:18]), len(ends[1])
    if not first <= last <= first + _MOST:
        raise InputError(
            f"{redact_urls(pattern)}: expected a rising range of at most {_MOST:,} numbers, got "
            f"{{{inner[:40]}}}."
        )
    return [f"{number:0{width}}" for number in range(first, last + 1)]


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

    def beside(self, name: str) -> Location:
        """Return a file of the same folder."""
        if self.is_remote:
            return Location(f"{self.address.rpartition('/')[0]}/{name}")
        return Location(str(self.path.with_name(name)))

    def list_folder(self) -> list[Location] | None:
        """Return what a folder holds, or None where there is no folder.

        Raises:
            BrokenFileError: it cannot be listed.
        """
        if not self.is_remote:
            if not self.path.is_dir():
                return None
            with convert_errors(str(self), "cannot be listed"):
                return [Location(str(path)) for path in sorted(self.path.iterdir())]
        system, path = self._find_system()
        with convert_errors(str(self), "cannot be listed"):
            if not system.isdir(path):
                return None
            names = sorted(system.ls(path, detail=False))
        return [Location(f"{self.address}/{name.rstrip('/').rpartition('/')[2]}") for name in names]

    def is_file(self) -> bool:
        """Whether there is such a file."""
        if not self.is_remote:
            return files.is_file(self.path)
        system, path = self._find_system()
        with convert_errors(str(self), "cannot be read"):
            return bool(system.isfile(path))

    def exists(self) -> bool:
        """Return whether it exists."""
        if not self.is_remote:
            return self.path.exists()
        system, path = self._find_system()
        with convert_errors(str(self), "cannot be read"):
            return bool(system.exists(path))

    def size(self) -> int:
        """Return its bytes.

        Raises:
            BrokenFileError: it cannot be read.
        """
        with convert_errors(str(self), "cannot be read"):
            if not self.is_remote:
                return self.path.stat().st_size
            system, path = self._find_system()
            return int(system.size(path))

    def state(self) -> str | None:
        """Return the version of a file's content, or None if unknown."""
        if not self.is_remote:
            with convert_errors(str(self), "cannot be read"):
                return str(self.path.stat().st_mtime_ns)
        system, path = self._find_system()
        with convert_errors(str(self), "cannot be read"):
            about = system.info(path)
        return next((f"{name} {about[name]}" for name in _STATES if about.get(name)), None)

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open a file for random access.

        Raises:
            BrokenFileError: it cannot be read.
            MissingExtraError: a URL, and fsspec is not installed.
        """
        if not self.is_remote:
            with open_regular(self.path) as file:
                yield file
            return
        system, path = self._find_system()
        with contextlib.ExitStack() as stack:
            with convert_errors(str(self), "cannot be read"):
                file = stack.enter_context(system.open(path, "rb"))
            yield file

    def read(self, start: int, count: int) -> bytes:
        """Return some bytes; those behind a URL by one request.

        Raises:
            BrokenFileError: it cannot be read, or ends before.
        """
        with convert_errors(str(self), "cannot be read"):
            if self.is_remote:
                system, path = self._find_system()
                data = bytes(system.cat_file(path, start=start, end=start + count))
            else:
                with self.path.open("rb") as file:
                    file.seek(start)
                    data = file.read(count)
        if len(data) < count:
            raise BrokenFileError(f"{self}: it ends before byte {start + count}.")
        return data

    def _find_system(self) -> tuple[Any, str]:
        try:
            import fsspec.core
        except ImportError as error:
            raise MissingExtraError.of("fsspec", "similarity") from error
        try:
            system, path = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise InputError(f"{self} cannot be reached ({reason_of(error)}).") from error
        return system, path
