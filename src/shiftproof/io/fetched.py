"""The URLs that this process has fetched, so that machines of a cluster can fetch them, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.io.files import file_fingerprint
from shiftproof.io.urls import redact_urls


@dataclass(frozen=True)
class Fetched:
    """A URL whose local copy is read; small to pickle.

    Attributes:
        url: as it was given.
        index: the file of the copy that lists what was there.
        state: fingerprint of that file.
        fetch: makes the copy again.
    """

    url: str
    index: Path
    state: str
    fetch: Callable[[str], Any]

    def provide(self) -> None:
        """Make the copy on this machine, unless it is there.

        It is there on the machine that fetched it, and on those that share its disk.

        Raises:
            InputError, MissingExtraError, RunError: the URL cannot be read.
        """
        there = file_fingerprint(self.index) if self.index.is_file() else None
        if there != self.state:
            self.fetch(self.url)


_fetched: dict[str, Fetched] = {}


def note_fetched(url: str, index: Path, fetch: Callable[[str], Any]) -> None:
    """Record that a URL was fetched; ``fetch`` is a function of a module."""
    _fetched[url] = Fetched(url, index, file_fingerprint(index), fetch)


def list_fetched(job: bytes | None = None) -> list[Fetched]:
    """Return what this process has fetched.

    URLs with secrets are left out: what is sent to a cluster may be written to its disks.

    Args:
        job: a pickled job, to which what it does not read is left out. None leaves out nothing.
    """
    return [
        one
        for one in _fetched.values()
        if redact_urls(one.url) == one.url and (job is None or _reads(job, one))
    ]


def list_secret(job: bytes) -> list[str]:
    """Return the URLs with secrets that a pickled job reads, without these secrets."""
    shown = {redact_urls(one.url): one for one in _fetched.values()}
    return [url for url, one in shown.items() if url != one.url and _reads(job, one)]


def _reads(job: bytes, one: Fetched) -> bool:
    # The folder of a copy has a name that nothing else has, and that paths in it contain.
    return one.index.parent.name.encode() in job
