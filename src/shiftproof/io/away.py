"""Files that stand here by name and size alone, and are fetched from their store when they are read.

A folder behind a URL is copied to this machine without the content of its images: each is a file of
the right size that takes no room, with a date that no other file has. Whoever opens a file that may be
such a one calls :func:`bring` before. How such folders are made, ``shiftproof.storage`` says.
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
from shiftproof.io.reaching import ask, find_system
from shiftproof.io.urls import redact_urls

SOURCE_FILE = "source.json"
"""Beside the folder with the files: says what URL they are of."""

CACHE = "SHIFTPROOF_CACHE"
"""The variable of the environment that says where copies of folders behind URLs are kept."""

LIMIT = "SHIFTPROOF_CACHE_GB"
"""The variable of the environment that says how many gigabytes of images one of them may hold."""

_DATE = 86_400
"""Seconds since 1970: the date of files that are away."""

_ADDRESS = "SHIFTPROOF_URL_"
"""Begins the variable that tells worker processes a URL that must not be written down."""

_LOOKED_AFTER = 16
"""A process that has fetched this part of the limit looks whether all hold more than it."""


@dataclass(frozen=True)
class Origin:
    """Where the files of a folder come from.

    Attributes:
        root: the folder here.
        address: the URL that it stands for, with its secrets.
    """

    root: Path
    address: str

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return redact_urls(self.address)

    def locate(self, name: str) -> str:
        """Return the URL of a file by its name below the folder."""
        address, mark, query = self.address.partition("?")
        return f"{address.rstrip('/')}/{name}{mark}{query}"

    def record(self) -> None:
        """Say beside the folder what it stands for; what is secret, only to processes started later."""
        text = json.dumps({"url": self.shown}) + "\n"
        if self.shown != self.address:
            os.environ[_ADDRESS + self.root.parent.name] = self.address
        self.root.mkdir(parents=True, exist_ok=True)
        _replace(self.root.parent / SOURCE_FILE, text.encode())


def find_origin(path: Path) -> Origin | None:
    """Return where a file comes from, or None for one of this machine.

    Raises:
        RunError: the URL has a secret, which this process was not told.
    """
    # Elsewhere nothing is believed: a stranger's folder may hold such a file, and would have any URL read.
    whole, cache = path.absolute(), find_cache()
    for folder in whole.parents if whole.is_relative_to(cache) else ():
        if folder.parent.parent != cache:
            continue
        with contextlib.suppress(OSError, ValueError):
            url = json.loads((folder.parent / SOURCE_FILE).read_bytes())["url"]
            address = os.environ.get(_ADDRESS + folder.parent.name, url)
            if redact_urls(address) == address and "***" in address:
                raise RunError(
                    f"{url} has a secret that this process was not told; start the same command again."
                )
            return Origin(folder, address)
    return None


def find_cache() -> Path:
    """Return the folder of this machine that holds copies of folders behind URLs."""
    if stated := os.environ.get(CACHE):
        return Path(stated).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "shiftproof"


def is_away(path: Path | str) -> bool:
    """Whether a file stands here by name and size alone."""
    try:
        return os.stat(path).st_mtime == _DATE  # noqa: PTH116 (a Path takes longer than the file)
    except (OSError, ValueError):
        return False


def put_away(path: Path, size: int) -> None:
    """Make a file of a folder behind a URL stand here by name and size alone."""
    with _beside(path) as temporary:
        os.truncate(temporary, size)
        os.utime(temporary, (_DATE, _DATE))


def bring(path: Path) -> Path:
    """Return a path whose file is here: one that is away is fetched before.

    Raises:
        BrokenFileError: it is not in its store any more.
        RunError: it has changed there, or the store does not answer; never a part for the whole.
    """
    if not is_away(path):
        return path
    size = path.stat().st_size
    if (origin := find_origin(path)) is not None:
        name = path.absolute().relative_to(origin.root).as_posix()
        fetch(origin.locate(name), path, size)
        _make_room(origin.root, size)
    elif size and getattr(path.stat(), "st_blocks", 1) == 0:
        raise RunError(
            f"{path} stands here by its name alone, and this process knows of no URL to fetch it from. "
            f"Set {CACHE} to one folder for all machines that share the work."
        )
    return path


def fetch(address: str, path: Path, size: int | None) -> None:
    """Fetch a file, which appears here whole or not at all.

    Args:
        address: its URL.
        path: where it is to be, in a folder that is there.
        size: its bytes, as its store lists them; None where it does not.

    Raises:
        BrokenFileError: it is not there.
        RunError: other bytes came than were listed, in each attempt; or as :func:`ask`.
    """
    system, remote = find_system(address)

    def request() -> None:
        with _beside(path) as temporary:
            system.get_file(remote, str(temporary))
            got = temporary.stat().st_size
            if size is not None and got != size:
                raise ConnectionError(f"{size:,} bytes are listed, {got:,} came")

    ask(redact_urls(address), request)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary file that takes the place of ``path`` when the block has ended well."""
    descriptor, name = tempfile.mkstemp(prefix=".away-", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _replace(path: Path, data: bytes) -> None:
    with _beside(path) as temporary:
        temporary.write_bytes(data)


# ---------------------------------------------------------------- room


_fetched: dict[Path, int] = {}
"""Bytes that this process has fetched into each folder since it last looked."""


def limit_bytes() -> int:
    """Return how many bytes of images a folder behind a URL may hold here: 20 GB by default."""
    try:
        return int(float(os.environ[LIMIT]) * 1e9)
    except (KeyError, ValueError, OverflowError):
        return 20_000_000_000


def _make_room(root: Path, size: int) -> None:
    _fetched[root] = _fetched.get(root, 0) + size
    if _fetched[root] * _LOOKED_AFTER >= limit_bytes():
        _fetched[root] = 0
        drop_oldest(root, limit_bytes())


def drop_oldest(root: Path, limit: int) -> None:
    """Put away what was fetched first, until what is left holds at most three quarters of a limit.

    Nothing is done while all hold no more than the limit. A file that is open elsewhere stays
    readable there.
    """
    here = [
        (about.st_mtime_ns, about.st_size, path)
        for path in _list_fetchable(root)
        if (about := path.stat()).st_mtime != _DATE
    ]
    held = sum(size for _, size, _ in here)
    if held <= limit:
        return
    for _, size, path in sorted(here):
        if held <= limit * 3 // 4:
            return
        put_away(path, size)
        held -= size


MAY_BE_AWAY = "may-be-away.txt"
"""Beside the folder with the files: names of those that may be away, one a line."""


def _list_fetchable(root: Path) -> Iterator[Path]:
    """Yield the files that may be put away and are there."""
    try:
        names = (root.parent / MAY_BE_AWAY).read_text("utf-8").splitlines()
    except OSError:
        return
    for name in names:
        path = root / name
        if path.is_file():
            yield path
