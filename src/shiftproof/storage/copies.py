"""The local copy of a remote folder: its path, and which of its files are placeholders."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.compute.progress import progress
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.border import show_as
from shiftproof.io.images import IMAGE_SUFFIXES
from shiftproof.io.locking import lock
from shiftproof.io.placeholders import (
    PLACEHOLDERS,
    Origin,
    fetch,
    find_cache,
    is_placeholder,
    make_placeholder,
)
from shiftproof.storage.store import Store

MAX_REQUESTS = 16
"""Number of concurrent requests."""

_PLACEHOLDER_SUFFIXES = IMAGE_SUFFIXES | {".tar", ".tgz", ".gz", ".zip", ".mp4"}
"""Suffixes of placeholders; code that opens such files must call ``io.placeholders.ensure_local``."""


@dataclass(frozen=True)
class LocalCopy:
    """The local copy of a remote folder.

    Attributes:
        base: the folder with the copy and the files that describe it.
        store: the remote folder.
    """

    base: Path
    store: Store

    @classmethod
    def of(cls, store: Store, use: str) -> LocalCopy:
        """Return the local copy of a remote folder, which may not exist yet.

        Args:
            store: the remote folder.
            use: "in" for inputs, "out" for outputs, which do not share files.
        """
        key = files.fingerprint([use.encode(), store.address.encode()])
        return cls(find_cache() / key, store)

    @property
    def root(self) -> Path:
        """The folder with the files; it has the name of the remote folder."""
        return self.base / self.store.name

    def prepare(self) -> None:
        """Create the folders; messages will show their URL instead of their path."""
        files.make_folder(self.root)
        Origin(self.root, self.store.address).record()
        show_as(str(self.root), str(self.store))

    def record_placeholders(self, names: Iterable[str]) -> None:
        """Record which files may be placeholders."""
        text = "".join(f"{name}\n" for name in names)
        files.write_bytes(self.base / PLACEHOLDERS, text.encode(), durable=False)

    def make_placeholders(self, sizes: dict[str, int]) -> None:
        """Create placeholders of these sizes."""
        self._make_folders(sizes)
        for name, size in sizes.items():
            make_placeholder(self.root / name, size)

    def update(
        self, sizes: dict[str, int], placeholders: frozenset[str], show: bool | None
    ) -> None:
        """Make placeholders of those files that are to be placeholders, and fetch the others.

        Args:
            sizes: the files that are missing or out of date, with their sizes.
            placeholders: all files of the copy that may be placeholders.
            show: whether to show progress.
        """
        self.record_placeholders(placeholders)
        self.make_placeholders({n: size for n, size in sizes.items() if n in placeholders})
        self.fetch({n: size for n, size in sizes.items() if n not in placeholders}, show)

    def fetch(self, sizes: dict[str, int], show: bool | None) -> None:
        """Fetch files concurrently."""
        self._make_folders(sizes)

        def fetch_file(name: str) -> str:
            fetch(self.store.join(name), self.root / name, sizes[name])
            return name

        run_concurrently(fetch_file, list(sizes), f"Fetching from {self.store}", show)

    def _make_folders(self, names: Iterable[str]) -> None:
        for folder in {PurePosixPath(name).parent for name in names}:
            files.make_folder(self.root / folder)

    def list_names(self) -> Iterator[str]:
        """Yield the names of local files, including hidden ones."""
        for path in self.root.rglob("*"):
            if path.is_file():
                yield path.relative_to(self.root).as_posix()

    def has(self, name: str, size: int) -> bool:
        """Return whether a file of this size or its placeholder exists."""
        path = self.root / name
        return path.is_file() and path.stat().st_size == size

    def is_placeholder(self, name: str) -> bool:
        """Return whether a file is a placeholder."""
        return is_placeholder(self.root / name)

    @contextlib.contextmanager
    def lock(self, *, wait: bool) -> Iterator[None]:
        """Lock the copy against other commands on this machine.

        Raises:
            InputError: another command has the lock and ``wait`` is False.
        """
        files.make_folder(self.base)
        with (self.base / ".lock").open("ab") as file:
            if lock(file.fileno(), wait=wait) is False:
                raise InputError(
                    f"Another command of this machine is at work in {self.store}. Wait until it has "
                    "ended, or choose another output folder."
                )
            yield


def run_concurrently(
    work: Callable[[str], str], names: Sequence[str], title: str, show: bool | None
) -> None:
    """Call a function with each name, concurrently; the first error cancels the rest."""
    with (
        ThreadPoolExecutor(MAX_REQUESTS) as pool,
        progress(title, len(names), show=show) as advance,
    ):
        try:
            for name in pool.map(work, names):
                advance(note=name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def choose_placeholders(names: Iterable[str]) -> frozenset[str]:
    """Return the files to fetch only when they are read: images, archives and videos.

    Those of a run are fetched with the run, since its images are few and small.
    """
    paths = {name: PurePosixPath(name) for name in names}
    runs = {path.parent for path in paths.values() if path.name == "run.json"}
    return frozenset(
        name
        for name, path in paths.items()
        if path.suffix.lower() in _PLACEHOLDER_SUFFIXES and runs.isdisjoint(path.parents)
    )
