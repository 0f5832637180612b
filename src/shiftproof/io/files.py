"""Files: atomic writes, folders, and fingerprints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.io.border import reason_of
from shiftproof.io.locking import lock
from shiftproof.io.placeholders import ensure_local, is_placeholder

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_UNFINISHED = re.compile(r"\..*\.[a-z0-9_]{8}\.part")
"""Names of files that are being written."""

_FILES_AT_ONCE = 1024
"""Files whose fingerprints are taken at a time."""

_FILES_PER_THREAD = 32
"""Files whose fingerprints a thread takes at a time."""

_ABANDONED_AFTER = 24 * 3600
"""Seconds after which an unfinished file counts as abandoned, without locks."""

# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that is written atomically to ``path``.

    ``durable=False`` does not wait for the disk: for caches that a power cut may cost. An error of
    the block's own, an OSError too, comes out as it is; nothing is left of the file then.

    Raises:
        RunError: the disk is full.
        InputError: the folder is read-only or not there.
    """
    try:
        descriptor, name = _create_temporary(path)
    except OSError as error:
        raise explain_disk_error(path, error) from error
    temporary = Path(name)
    raw = WatchedFile(descriptor, "wb")
    held: int | None = None
    try:
        with io.BufferedWriter(raw) as file:
            yield file
            file.flush()
            with raw.watch():
                if durable:
                    os.fsync(file.fileno())
                if os.name != "nt":  # which moves no open file
                    held = os.dup(file.fileno())  # and with it the lock, until it has its name
        with raw.watch():
            # mkstemp makes files that only the owner may read; give the usual rights back.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    except OSError as error:
        if re.fullmatch(r"\d+ requested and \d+ written", str(error)):
            # NumPy writes past the file object, and says no more of a full disk.
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise explain_disk_error(path, full) from error
        if raw.failure is None:
            # The caller's own, met while it made what it wanted to write.
            raise
        raise explain_disk_error(path, raw.failure) from error
    finally:
        # After a success it has moved away.
        with contextlib.suppress(OSError):
            temporary.unlink()
        if held is not None:
            os.close(held)


def _create_temporary(path: Path) -> tuple[int, str]:
    """Create the locked temporary file for ``path``; the lock shows that its writer is alive."""
    while True:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent
        )
        lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)  # somebody took it for abandoned before it was locked


def clear_unfinished(folder: Path, *, below: bool = True) -> None:
    """Remove unfinished files of dead processes in a folder.

    The writer of a file holds a lock on it, so that one of a living process stays, on another machine,
    too. Where a disk has no locks, files of the last day stay.
    """
    for place, inner, names in os.walk(folder):
        if not below:
            inner.clear()
        for name in names:
            if _UNFINISHED.fullmatch(name):
                _remove_abandoned(Path(place, name))


def _remove_abandoned(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # gone, or another user's
        return
    try:
        if _is_abandoned(descriptor):
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        os.close(descriptor)


def _is_abandoned(descriptor: int) -> bool:
    locked = lock(descriptor)
    if locked is not None:
        return locked
    return time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_AFTER


class WatchedFile(io.FileIO):
    """A file object that stores its own write errors, also when the caller wraps it."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, and remember the error that this meets."""
        with self.watch():
            return super().write(data)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Remember an OSError of the block."""
        try:
            yield
        except OSError as error:
            self.failure = error
            raise


def explain_disk_error(path: Path, error: OSError) -> Exception:
    """Convert an OSError from writing ``path`` to an error with advice."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"The disk is full: {path} could not be written. Free some space and start the same "
            "command again; what is finished is kept."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(
            f"{path.parent} cannot be written to ({reason_of(error)}). Choose another output folder."
        )
    return InputError(f"{path} cannot be written ({reason_of(error)}).")


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically."""
    with atomic(path, durable=durable) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, atomically and deterministically."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode("utf-8") + b"\n")


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, and return it.

    Raises:
        InputError: a file is called so, or the disk does not let it be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{path} is a file; expected a folder.") from error
    except OSError as error:
        raise explain_disk_error(path, error) from error
    return path


def is_file(path: Path) -> bool:
    """Return whether a file of this name exists; False for invalid names.

    ``Path.is_file`` raises for names of more than 255 letters, which annotations may hold.
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def can_name_files(name: str) -> bool:
    """Whether a name can be that of a file or folder of ours on every system, and lies where it is put.

    >>> can_name_files("fog_2.5"), can_name_files(".."), can_name_files("a/b"), can_name_files("")
    (True, False, False, False)
    """
    return re.fullmatch(r"[\w+-][\w.+-]*", name) is not None


# ---------------------------------------------------------------- fingerprints


def fingerprint(parts: Iterable[bytes]) -> str:
    """Return 32 hex digits that change when any of ``parts`` changes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def file_fingerprint(path: Path | str) -> str:
    """Return 32 hex digits of a file's content; unreadable files have a special digest."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        # Of a million files a Path takes as long as the file.
        here = ensure_local(Path(path)) if is_placeholder(path) else path
        with open(here, "rb") as file:  # noqa: PTH123
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        digest.update(f"unreadable: {error.errno}".encode())
    except BrokenFileError:  # gone from its store
        digest.update(f"unreadable: {errno.ENOENT}".encode())
    return digest.hexdigest()


def file_fingerprints(paths: Iterable[Path | str]) -> list[str]:
    """Return the fingerprints of many files, read in parallel, in the given order.

    Paths are taken a few at a time: of a million files the digests are all that is held.
    """
    left = iter(paths)
    digests: list[str] = []
    with ThreadPoolExecutor() as pool:
        while together := list(itertools.islice(left, _FILES_AT_ONCE)):
            # A thread is handed several: to hand a file over takes as long as to read a small one.
            handed = [
                together[at : at + _FILES_PER_THREAD]
                for at in range(0, len(together), _FILES_PER_THREAD)
            ]
            for found in pool.map(_compute_fingerprints, handed):
                digests += found
    return digests


def _compute_fingerprints(paths: Sequence[Path | str]) -> list[str]:
    return [file_fingerprint(path) for path in paths]
