"""Outputs that several machines write: fetching the finished parts of the other machines.

On a shared disk they are visible at once. For the local copy of an output at a URL, the owner of the copy
registers here how to fetch them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypeAlias

FetchFinished: TypeAlias = Callable[[Callable[[], bool]], None]
"""Creates the files that others have finished, first empty; fetches their content if the function it is
given then returns that nothing is missing."""

_fetchers: ContextVar[tuple[tuple[Path, FetchFinished], ...]] = ContextVar("_fetchers", default=())


@contextlib.contextmanager
def register_arrivals(folder: Path, fetch: FetchFinished) -> Iterator[None]:
    """Register how to fetch finished files of other machines into a folder, while the block runs."""
    token = _fetchers.set((*_fetchers.get(), (folder.absolute(), fetch)))
    try:
        yield
    finally:
        _fetchers.reset(token)


def fetch_finished(folder: Path, is_complete: Callable[[], bool]) -> None:
    """Fetch the finished files of other machines if, with these, nothing is missing."""
    for root, fetch in _fetchers.get():
        if folder.absolute().is_relative_to(root):
            fetch(is_complete)
