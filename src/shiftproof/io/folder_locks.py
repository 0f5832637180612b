"""Exclusive or shared locks of output folders between commands.

A command locks a file in the folder while it works there. The system releases the lock when the process
ends, also if it is killed.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.locking import lock

P = ParamSpec("P")
R = TypeVar("R")

LOCK_FILE = ".shiftproof.lock"
"""JSON file with process, host and start time of the folder's user."""


class Work:
    """The locks and resources of a running function, and those of its caller."""

    def __init__(self, outer: Work | None) -> None:
        self.outer = outer
        self.held: set[Path] = set()
        self.ending = contextlib.ExitStack()
        self._kept: dict[str, list[Any]] = {}

    def list_kept(self, kind: str) -> list[Any]:
        """Return the stored objects of a kind, for reuse while the function runs."""
        return list(self._kept.get(kind, ()))

    def keep(self, kind: str, thing: Any) -> None:
        """Store an object until :meth:`drop`; register its cleanup with :func:`on_exit`."""
        self._kept.setdefault(kind, []).append(thing)

    def drop(self, kind: str, thing: Any) -> None:
        """Remove a stored object."""
        self._kept[kind].remove(thing)

    def holds(self, folder: Path) -> bool:
        """Return whether the function or one of its callers has locked a folder."""
        held = any(folder.is_relative_to(other) for other in self.held)
        return held or (self.outer is not None and self.outer.holds(folder))


_work: ContextVar[Work | None] = ContextVar("_work", default=None)


def current_scope() -> Work | None:
    """Return the innermost function that :func:`releases_locks` marks, if any is running."""
    return _work.get()


def on_exit(end: Callable[[], None]) -> None:
    """Call a function when the innermost function that :func:`releases_locks` marks ends, before it
    lets go of what it held until now; outside of such a function never.
    """
    work = _work.get()
    if work is not None:
        work.ending.callback(end)


def on_error(tell: Callable[[BaseException], None]) -> None:
    """Call a function with the error that ends the innermost function that :func:`releases_locks`
    marks, while that holds its folders; outside of such a function never.
    """
    work = _work.get()
    if work is None:
        return

    def end(_: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            tell(error)

    work.ending.push(end)


def releases_locks(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that releases all folders locked by :func:`lock_folder` when the function returns."""

    @functools.wraps(function)
    def work(*args: P.args, **kwargs: P.kwargs) -> R:
        own = Work(_work.get())
        token = _work.set(own)
        try:
            with own.ending:
                return function(*args, **kwargs)
        finally:
            _work.reset(token)

    return work


def lock_folder(folder: Path, *, shared: bool = False) -> None:
    """Lock an existing folder until the function decorated by :func:`releases_locks` returns.

    Files that dead processes had begun there are removed now, and once more in the end: workers may
    be killed meanwhile. Outside of such a function nothing is held.

    Args:
        folder: that is written to.
        shared: with others that share it as well, as workers of a batch scheduler do.

    Raises:
        InputError: another process works there, or the folder cannot be written to.
    """
    work = _work.get()
    place = folder.resolve()
    if work is None or work.holds(place):
        return
    work.ending.enter_context(_lock(folder, shared=shared))
    work.held.add(place)
    files.clear_unfinished(folder)
    work.ending.callback(files.clear_unfinished, folder)


@contextlib.contextmanager
def lock_for_setup(folder: Path) -> Iterator[None]:
    """Let one process at a time decide what it begins in an existing folder; others wait."""
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise files.explain_disk_error(folder / LOCK_FILE, error) from error
    try:
        lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock_exclusively(folder: Path) -> Iterator[None]:
    """Lock a folder for the context, before it is shared.

    Raises:
        InputError: another process works there.
    """
    with _lock(folder, shared=False):
        yield


@contextlib.contextmanager
def _lock(folder: Path, *, shared: bool) -> Iterator[None]:
    path = folder / LOCK_FILE
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = _open_locked(path, shared=shared)
    except OSError as error:
        raise files.explain_disk_error(path, error) from error
    try:
        # The owner's details are not worth an error on a full disk.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(describe_process()).encode() + b"\n", 0)
        yield
    finally:
        # The last of several sharing processes removes the file.
        if lock(descriptor) is not False:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(descriptor)


def _open_locked(path: Path, *, shared: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _take(descriptor, path, shared=shared)
            if _is_at(descriptor, path):
                return descriptor
            os.close(descriptor)  # its owner has removed the file meanwhile
        except BaseException:
            os.close(descriptor)
            raise


def _take(descriptor: int, path: Path, *, shared: bool) -> None:
    locked = lock(descriptor, shared=shared)
    if locked:
        return
    owner = _read_owner(descriptor)
    if locked is False:
        raise InputError(_explain_refusal(path, owner, ""))
    # On a disk without locks, only the content of the file shows an owner.
    if owner and not shared and not _is_dead(owner):
        raise InputError(_explain_refusal(path, owner, f", or delete {path} if that has ended"))


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def describe_process() -> dict[str, Any]:
    """Return what tells others of this process: its number, its machine, and since when."""
    since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}


def describe_owner(owner: Mapping[str, Any]) -> str:
    """Return ``process 7 on HOST since TIME`` of what is known, in brackets; empty of nothing."""
    words = [
        f"{before} {str(owner[key])[:80]}"
        for before, key in (("process", "process"), ("on", "host"), ("since", "since"))
        if key in owner
    ]
    return f" ({' '.join(words)})" if words else ""


def _read_owner(descriptor: int) -> dict[str, Any]:
    """Return the content of the lock file; empty if it is invalid."""
    try:
        value = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_dead(owner: dict[str, Any]) -> bool:
    process = owner.get("process")
    if owner.get("host") != socket.gethostname() or not isinstance(process, int) or process < 1:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return process == os.getpid()


def _explain_refusal(path: Path, owner: dict[str, Any], more: str) -> str:
    return (
        f"Another command is at work in {path.parent}{describe_owner(owner)}. Wait until it has "
        f"ended{more}, or choose another output folder."
    )
