"""Placeholders of remote files: their content is fetched when they are read.

The local copy of a remote folder has placeholders in place of images and archives: sparse files of the
right size with a special date. Code that opens a file that may be a placeholder calls
:func:`ensure_local` first. ``shiftproof.storage`` creates such folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shiftproof.errors import RunError
from shiftproof.io.remote import find_system, retry
from shiftproof.io.urls import join_url, redact_urls

SOURCE_FILE = "source.json"
"""File beside the local copy with the URL of its remote folder."""

CACHE = "SHIFTPROOF_CACHE"
"""The environment variable for the folder of the local copies."""

LIMIT = "SHIFTPROOF_CACHE_GB"
"""The environment variable for the limit in gigabytes of fetched images in a local copy."""

_DATE = 86_400
"""The date of placeholders, in seconds since 1970."""

_ADDRESS = "SHIFTPROOF_URL_"
"""Prefix of the environment variable that passes a URL with secrets to worker processes."""

_CHECKED_AFTER = 16
"""A process checks the limit each time it has fetched this fraction (1/16) of it."""


@dataclass(frozen=True)
class Origin:
    """The remote folder of a local copy.

    Attributes:
        root: the local folder.
        address: the URL of the remote folder, with its secrets.
    """

    root: Path
    address: str

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return redact_urls(self.address)

    def locate(self, name: str) -> str:
        """Return the URL of a file by its name relative to the folder."""
        return join_url(self.address, name)

    def record(self) -> None:
        """Write the URL beside the folder; secrets are passed only to processes started later."""
        if self.shown != self.address:
            os.environ[_ADDRESS + self.root.parent.name] = self.address
        self.root.mkdir(parents=True, exist_ok=True)
        with _write_atomically(self.root.parent / SOURCE_FILE) as temporary:
            temporary.write_text(json.dumps({"url": self.shown}) + "\n", "utf-8")


def find_origin(path: Path) -> Origin | None:
    """Return the remote folder of a file, or None for a local file.

    Raises:
        RunError: the URL has a secret that this process does not have.
    """
    # Only in the cache: a SOURCE_FILE in a folder from elsewhere could make us read any URL.
    absolute, cache = path.absolute(), find_cache()
    for folder in absolute.parents if absolute.is_relative_to(cache) else ():
        if folder.parent.parent != cache:
            continue
        with contextlib.suppress(OSError, ValueError):
            url = json.loads((folder.parent / SOURCE_FILE).read_bytes())["url"]
            address = os.environ.get(_ADDRESS + folder.parent.name, url)
            if redact_urls(address) == address and "***" in address:
                raise RunError(
                    f"{url} has a secret that this process does not have; start the same command again."
                )
            return Origin(folder, address)
    return None


def find_cache() -> Path:
    """Return the folder with the local copies of remote folders."""
    if configured := os.environ.get(CACHE):
        return Path(configured).absolute()
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home).absolute() / "shiftproof"


def is_placeholder(path: Path | str) -> bool:
    """Return whether a file is a placeholder."""
    try:
        return os.stat(path).st_mtime == _DATE  # noqa: PTH116 (making a Path takes longer)
    except (OSError, ValueError):
        return False


def make_placeholder(path: Path, size: int) -> None:
    """Replace a file, or create it, as a placeholder of ``size`` bytes."""
    with _write_atomically(path) as temporary:
        os.truncate(temporary, size)
        os.utime(temporary, (_DATE, _DATE))


def ensure_local(path: Path) -> Path:
    """Return ``path`` after fetching its content if it is a placeholder.

    Raises:
        BrokenFileError: the file is no longer in its store.
        RunError: the file has changed in its store, or the store does not answer.
    """
    if not is_placeholder(path):
        return path
    size = path.stat().st_size
    if (origin := find_origin(path)) is not None:
        name = path.absolute().relative_to(origin.root).as_posix()
        fetch(origin.locate(name), path, size)
        _make_room(origin.root, size)
    elif size and getattr(path.stat(), "st_blocks", 1) == 0:
        raise RunError(
            f"{path} is only a placeholder here, and this process knows no URL to fetch it from. "
            f"Set {CACHE} to one folder for all machines that share the work."
        )
    return path


def fetch(address: str, path: Path, size: int | None) -> None:
    """Fetch a file atomically.

    Args:
        address: URL of the file.
        path: local path, in an existing folder.
        size: size in bytes as listed by the store; None if unknown.

    Raises:
        BrokenFileError: the file does not exist.
        RunError: every attempt received another size than listed; or as :func:`retry`.
    """
    system, remote = find_system(address)

    def request() -> None:
        with _write_atomically(path) as temporary:
            system.get_file(remote, str(temporary))
            received = temporary.stat().st_size
            if size is not None and received != size:
                raise ConnectionError(f"{size:,} bytes are listed, {received:,} were received")

    retry(redact_urls(address), request)


@contextlib.contextmanager
def _write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` when the block ends without an error."""
    descriptor, name = tempfile.mkstemp(prefix=".away-", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


# ---------------------------------------------------------------- limit of the cache


_fetched: dict[Path, int] = {}
"""Bytes that this process has fetched into each folder since it last checked the limit."""


def read_limit() -> int:
    """Return the limit in bytes of fetched images in a local copy: 20 GB by default."""
    try:
        return int(float(os.environ[LIMIT]) * 1e9)
    except (KeyError, ValueError, OverflowError):
        return 20_000_000_000


def _make_room(root: Path, size: int) -> None:
    _fetched[root] = _fetched.get(root, 0) + size
    if _fetched[root] * _CHECKED_AFTER >= read_limit():
        _fetched[root] = 0
        drop_oldest(root, read_limit())


def drop_oldest(root: Path, limit: int) -> None:
    """Replace the files that were fetched first by placeholders, until the rest is below 3/4 of a limit.

    Does nothing while the files are within the limit. A process that has such a file open can still
    read it.
    """
    fetched = [
        (status.st_mtime_ns, status.st_size, path)
        for path in _list_fetchable(root)
        if (status := path.stat()).st_mtime != _DATE
    ]
    total = sum(size for _, size, _ in fetched)
    if total <= limit:
        return
    for _, size, path in sorted(fetched):
        if total <= limit * 3 // 4:
            return
        make_placeholder(path, size)
        total -= size


PLACEHOLDERS = "may-be-away.txt"
"""File beside the local copy with the names of files that may be placeholders, one a line."""


def _list_fetchable(root: Path) -> Iterator[Path]:
    """Yield the existing files that may be placeholders."""
    try:
        names = (root.parent / PLACEHOLDERS).read_text("utf-8").splitlines()
    except OSError:
        return
    for name in names:
        path = root / name
        if path.is_file():
            yield path
