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


class Scope:
    """The locks and resources of a running function; ``outer`` has those of its caller."""

    def __init__(self, outer: Scope | None) -> None:
        self.outer = outer
        self.locked: set[Path] = set()
        self.exit_stack = contextlib.ExitStack()
        self._resources: dict[str, list[Any]] = {}

    def list_resources(self, kind: str) -> list[Any]:
        """Return the resources of a kind, for reuse while the function runs."""
        return list(self._resources.get(kind, ()))

    def add_resource(self, kind: str, resource: Any) -> None:
        """Add a resource until :meth:`remove_resource`; register its cleanup with :func:`on_exit`."""
        self._resources.setdefault(kind, []).append(resource)

    def remove_resource(self, kind: str, resource: Any) -> None:
        """Remove a resource."""
        self._resources[kind].remove(resource)

    def holds(self, folder: Path) -> bool:
        """Return whether the function or one of its callers has locked a folder."""
        is_locked = any(folder.is_relative_to(other) for other in self.locked)
        return is_locked or (self.outer is not None and self.outer.holds(folder))


_scope: ContextVar[Scope | None] = ContextVar("_scope", default=None)


def current_scope() -> Scope | None:
    """Return the innermost function that :func:`releases_locks` marks, if any is running."""
    return _scope.get()


def on_exit(callback: Callable[[], None]) -> None:
    """Call a function when the innermost function that :func:`releases_locks` marks ends, before its
    locks are released; outside of such a function never.
    """
    scope = _scope.get()
    if scope is not None:
        scope.exit_stack.callback(callback)


def on_error(callback: Callable[[BaseException], None]) -> None:
    """Call a function with the error that ends the innermost function that :func:`releases_locks`
    marks, while its folders are locked; outside of such a function never.
    """
    scope = _scope.get()
    if scope is None:
        return

    def handle(_: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            callback(error)

    scope.exit_stack.push(handle)


def releases_locks(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that releases all folders locked by :func:`lock_folder` when the function returns."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        scope = Scope(_scope.get())
        token = _scope.set(scope)
        try:
            with scope.exit_stack:
                return function(*args, **kwargs)
        finally:
            _scope.reset(token)

    return run


def lock_folder(folder: Path, *, shared: bool = False) -> None:
    """Lock an existing folder until the function decorated by :func:`releases_locks` returns.

    Unfinished files of dead processes there are removed now, and again at the end, since workers may
    be killed meanwhile. Outside of such a function nothing is locked.

    Args:
        folder: the folder that is written to.
        shared: whether processes that also say so may work there at the same time, as workers of a
            batch scheduler do.

    Raises:
        InputError: another process works there, or the folder cannot be written to.
    """
    scope = _scope.get()
    resolved = folder.resolve()
    if scope is None or scope.holds(resolved):
        return
    scope.exit_stack.enter_context(_lock(folder, shared=shared))
    scope.locked.add(resolved)
    files.clear_unfinished(folder)
    scope.exit_stack.callback(files.clear_unfinished, folder)


@contextlib.contextmanager
def lock_for_setup(folder: Path) -> Iterator[None]:
    """Let one process at a time set up its work in an existing folder; others wait."""
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
        # A full disk is no reason to fail here: the content only describes the owner.
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
            _acquire(descriptor, path, shared=shared)
            if _is_same_file(descriptor, path):
                return descriptor
            os.close(descriptor)  # its owner has removed the file in the meantime
        except BaseException:
            os.close(descriptor)
            raise


def _acquire(descriptor: int, path: Path, *, shared: bool) -> None:
    locked = lock(descriptor, shared=shared)
    if locked:
        return
    owner = _read_owner(descriptor)
    if locked is False:
        raise InputError(_explain_refusal(path, owner, ""))
    # On a disk without locks, only the content of the file shows an owner.
    if owner and not shared and not _is_dead(owner):
        raise InputError(_explain_refusal(path, owner, f", or delete {path} if it has ended"))


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def describe_process() -> dict[str, Any]:
    """Return the id, machine and start of work of this process, for messages of other processes."""
    since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}


def describe_owner(owner: Mapping[str, Any]) -> str:
    """Return ``(process 7 on HOST since TIME)`` with the known parts; empty without any."""
    phrases = [
        f"{label} {str(owner[key])[:80]}"
        for label, key in (("process", "process"), ("on", "host"), ("since", "since"))
        if key in owner
    ]
    return f" ({' '.join(phrases)})" if phrases else ""


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


def _explain_refusal(path: Path, owner: dict[str, Any], hint: str) -> str:
    return (
        f"Another command is running in {path.parent}{describe_owner(owner)}. Wait until it has "
        f"ended{hint}, or choose another output folder."
    )
