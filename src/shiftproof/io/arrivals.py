"""Outputs that several machines write: finished parts of other machines are fetched when needed.

A folder on a shared disk shows them at once. For the local copy of an output behind a URL, the owner of the
copy registers here how to fetch them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypeAlias

Look: TypeAlias = Callable[[Callable[[], bool]], None]
"""Puts the names of what others have finished into the folder; their content follows if the function
that it is given then says that nothing is missing."""

_looks: ContextVar[tuple[tuple[Path, Look], ...]] = ContextVar("_looks", default=())


@contextlib.contextmanager
def register_arrivals(folder: Path, look: Look) -> Iterator[None]:
    """Register how to fetch finished files of other machines into a folder, while the block runs."""
    token = _looks.set((*_looks.get(), (folder.absolute(), look)))
    try:
        yield
    finally:
        _looks.reset(token)


def fetch_finished(folder: Path, is_all_there: Callable[[], bool]) -> None:
    """Fetch the finished files of other machines if, with these, nothing is missing."""
    for root, look in _looks.get():
        if folder.absolute().is_relative_to(root):
            look(is_all_there)
