"""The copy on this machine of a folder behind a URL: where it is, and which of its files stay away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.compute.progress import progress
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.away import MAY_BE_AWAY, Origin, fetch, find_cache, is_away, put_away
from shiftproof.io.border import show_as
from shiftproof.io.images import IMAGE_SUFFIXES
from shiftproof.io.locking import lock
from shiftproof.storage.store import Store

TOGETHER = 16
"""Requests that are under way at a time."""

_STAY_AWAY = IMAGE_SUFFIXES | {".tar", ".tgz", ".gz", ".zip", ".mp4"}
"""Whatever opens these calls :func:`shiftproof.io.away.bring` before, or does not open them at all."""


@dataclass(frozen=True)
class Copy:
    """Where the copy of a folder behind a URL lies here.

    Attributes:
        base: the folder of the copy, with what is noted of it.
        store: what it is a copy of.
    """

    base: Path
    store: Store

    @classmethod
    def of(cls, store: Store, use: str) -> Copy:
        """Return the copy of a store on this machine, whether it is there or not.

        Args:
            store: the folder.
            use: "in" of what is read, "out" of what is written: they do not share files.
        """
        key = files.fingerprint([use.encode(), store.address.encode()])
        return cls(find_cache() / key, store)

    @property
    def root(self) -> Path:
        """The folder with the files, which is called as the folder behind the URL is."""
        return self.base / self.store.name

    def prepare(self) -> None:
        """Make the folders, and let the command line call them by their URL."""
        files.make_folder(self.root)
        Origin(self.root, self.store.address).record()
        show_as(str(self.root), str(self.store))

    def note_away(self, names: Iterable[str]) -> None:
        """Say beside the files which of them may be away."""
        text = "".join(f"{name}\n" for name in names)
        files.write_bytes(self.base / MAY_BE_AWAY, text.encode(), durable=False)

    def put_away(self, sizes: dict[str, int]) -> None:
        """Make files stand here by name and size alone."""
        self._make_folders(sizes)
        for name, size in sizes.items():
            put_away(self.root / name, size)

    def fetch(self, sizes: dict[str, int], show: bool | None) -> None:
        """Fetch files whole, several at a time."""
        self._make_folders(sizes)

        def get(name: str) -> str:
            fetch(self.store.at(name), self.root / name, sizes[name])
            return name

        each_of(get, list(sizes), f"Fetching from {self.store}", show)

    def _make_folders(self, names: Iterable[str]) -> None:
        for folder in {PurePosixPath(name).parent for name in names}:
            files.make_folder(self.root / folder)

    def names(self) -> Iterator[str]:
        """Yield what is here, hidden files too."""
        for path in self.root.rglob("*"):
            if path.is_file():
                yield path.relative_to(self.root).as_posix()

    def has(self, name: str, size: int) -> bool:
        """Whether a file of this size is here, or stands here."""
        path = self.root / name
        return path.is_file() and path.stat().st_size == size

    def is_away(self, name: str) -> bool:
        """Whether a file stands here by name and size alone."""
        return is_away(self.root / name)

    @contextlib.contextmanager
    def hold(self, *, wait: bool) -> Iterator[None]:
        """Hold the copy against other commands of this machine.

        Raises:
            InputError: another one has it, where ``wait`` does not say to wait for that.
        """
        files.make_folder(self.base)
        with (self.base / ".lock").open("ab") as file:
            if lock(file.fileno(), wait=wait) is False:
                raise InputError(
                    f"Another command of this machine is at work in {self.store}. Wait until it has "
                    "ended, or choose another output folder."
                )
            yield


def each_of(
    work: Callable[[str], str], names: Sequence[str], title: str, show: bool | None
) -> None:
    """Call a function with each name, several at a time; the first error ends it."""
    with ThreadPoolExecutor(TOGETHER) as pool, progress(title, len(names), show=show) as advance:
        try:
            for name in pool.map(work, names):
                advance(note=name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def choose_away(names: Iterable[str]) -> frozenset[str]:
    """Return which files of a folder are fetched only when they are read: images, and tars.

    Those of a run are fetched with it: its pictures are few and small.
    """
    listed = list(names)
    runs = {PurePosixPath(name).parent for name in listed if PurePosixPath(name).name == "run.json"}
    return frozenset(
        name
        for name in listed
        if PurePosixPath(name).suffix.lower() in _STAY_AWAY
        and runs.isdisjoint(PurePosixPath(name).parents)
    )
