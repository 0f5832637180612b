"""The URLs that this process has fetched, so that machines of a cluster can fetch them too."""

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
        index: the file of the copy that lists the files at the URL.
        fingerprint: fingerprint of that file.
        fetch: the function that makes the copy.
    """

    url: str
    index: Path
    fingerprint: str
    fetch: Callable[[str], Any]

    def ensure_local(self) -> None:
        """Make the copy on this machine, unless it exists.

        It exists on the machine that fetched it, and on those that share its disk.

        Raises:
            InputError, MissingExtraError, RunError: the URL cannot be read.
        """
        local_fingerprint = file_fingerprint(self.index) if self.index.is_file() else None
        if local_fingerprint != self.fingerprint:
            self.fetch(self.url)


_fetched: dict[str, Fetched] = {}


def note_fetched(url: str, index: Path, fetch: Callable[[str], Any]) -> None:
    """Record that a URL was fetched; ``fetch`` must be picklable, a function of a module."""
    _fetched[url] = Fetched(url, index, file_fingerprint(index), fetch)


def list_fetched(job: bytes | None = None) -> list[Fetched]:
    """Return what this process has fetched.

    URLs with secrets are omitted: what is sent to a cluster may be written to its disks.

    Args:
        job: a pickled job; URLs that it does not read are omitted. None omits none of them.
    """
    return [
        fetched
        for fetched in _fetched.values()
        if redact_urls(fetched.url) == fetched.url and (job is None or _reads(job, fetched))
    ]


def list_secret(job: bytes) -> list[str]:
    """Return the URLs with secrets that a pickled job reads, without these secrets."""
    by_redacted = {redact_urls(fetched.url): fetched for fetched in _fetched.values()}
    return [
        url for url, fetched in by_redacted.items() if url != fetched.url and _reads(job, fetched)
    ]


def _reads(job: bytes, fetched: Fetched) -> bool:
    # The name of the copy's folder is unique, and part of all paths in it.
    return fetched.index.parent.name.encode() in job
