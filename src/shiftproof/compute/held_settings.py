"""Settings of a library that are ours for a while, whichever threads need them."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One attribute of a library's settings, and what it has to be."""

    owner: Any
    name: str
    value: Any


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep to ourselves that a library would like a newer name: the caller has set nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class HeldSettings:
    """A context in which settings have wanted values; the last thread that leaves sets them back.

    Args:
        list_wanted: gives what is wanted, when the first thread comes in. An attribute that this
            version of the library lacks is left out.
    """

    def __init__(self, list_wanted: Callable[[], Sequence[Setting]]) -> None:
        self._list_wanted = list_wanted
        self._lock = threading.Lock()
        self._within = 0
        self._before: list[Setting] = []

    def __enter__(self) -> None:
        with self._lock, _quietly():
            if not self._within:
                for owner, name, value in self._list_wanted():
                    if hasattr(owner, name):
                        self._before.append(Setting(owner, name, getattr(owner, name)))
                        setattr(owner, name, value)
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._lock, _quietly():
            self._within -= 1
            if not self._within:
                while self._before:
                    setattr(*self._before.pop())
