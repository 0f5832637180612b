"""Temporary settings of a library, shared by several threads."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One attribute of a library's settings, and its required value."""

    owner: Any
    name: str
    value: Any


@contextlib.contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Suppress deprecation warnings of settings that the caller has not set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class HeldSettings:
    """A context in which settings have required values; the last thread to leave restores them.

    Args:
        list_wanted: returns the required settings, called when the first thread enters. Attributes
            that this version of the library lacks are skipped.
    """

    def __init__(self, list_wanted: Callable[[], Sequence[Setting]]) -> None:
        self._list_wanted = list_wanted
        self._lock = threading.Lock()
        self._within = 0
        self._before: list[Setting] = []

    def __enter__(self) -> None:
        with self._lock, _ignore_warnings():
            if not self._within:
                for owner, name, value in self._list_wanted():
                    if hasattr(owner, name):
                        self._before.append(Setting(owner, name, getattr(owner, name)))
                        setattr(owner, name, value)
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._lock, _ignore_warnings():
            self._within -= 1
            if not self._within:
                while self._before:
                    setattr(*self._before.pop())
