"""Outputs that several machines write: what others have finished is looked for before work counts as
unfinished.

A folder that all machines see shows it at once. The local copy of an output behind a URL does not: who
keeps that copy says here how to look.
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
def looking(folder: Path, look: Look) -> Iterator[None]:
    """Say how to look for what other machines have finished in a folder, while the block runs."""
    token = _looks.set((*_looks.get(), (folder.absolute(), look)))
    try:
        yield
    finally:
        _looks.reset(token)


def fetch_finished(folder: Path, is_all_there: Callable[[], bool]) -> None:
    """Fetch what other machines have finished, if with that nothing is missing."""
    for root, look in _looks.get():
        if folder.absolute().is_relative_to(root):
            look(is_all_there)
