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
from shiftproof.io.border import describe_error
from shiftproof.io.locking import lock
from shiftproof.io.placeholders import ensure_local, is_placeholder

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_UNFINISHED = re.compile(r"\..*\.[a-z0-9_]{8}\.part")
"""Names of files that are being written."""

_FILES_AT_ONCE = 1024
"""Files whose fingerprints are computed at a time."""

_FILES_PER_THREAD = 32
"""Files whose fingerprints a thread computes at a time."""

_ABANDONED_AFTER = 24 * 3600
"""Seconds after which an unfinished file counts as abandoned on a disk without locks."""

# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that is written atomically to ``path``.

    ``durable=False`` does not wait for the disk: for caches that a power cut may cost. Errors of the
    block itself, also an OSError, pass unchanged; the file is then not written.

    Raises:
        RunError: the disk is full.
        InputError: the folder is read-only or missing.
    """
    try:
        descriptor, name = _create_temporary(path)
    except OSError as error:
        raise explain_disk_error(path, error) from error
    temporary = Path(name)
    raw = ErrorRecordingFile(descriptor, "wb")
    lock_descriptor: int | None = None
    try:
        with io.BufferedWriter(raw) as file:
            yield file
            file.flush()
            with raw.record_errors():
                if durable:
                    os.fsync(file.fileno())
                if os.name != "nt":  # Windows does not move open files
                    # The lock is held until the file has its name.
                    lock_descriptor = os.dup(file.fileno())
        with raw.record_errors():
            # mkstemp makes files that only the owner may read; set the usual permissions.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    except OSError as error:
        if re.fullmatch(r"\d+ requested and \d+ written", str(error)):
            # NumPy bypasses the file object, and its error does not name a full disk.
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
        if lock_descriptor is not None:
            os.close(lock_descriptor)


def _create_temporary(path: Path) -> tuple[int, str]:
    """Create the locked temporary file for ``path``; the lock shows that its writer is alive."""
    while True:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent
        )
        lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)  # another process removed it as abandoned before it was locked


def clear_unfinished(folder: Path, *, recursive: bool = True) -> None:
    """Remove unfinished files of dead processes in a folder.

    The writer of a file holds a lock on it, so files of living processes stay, also those on other
    machines. On disks without locks, files of the last day stay.
    """
    for directory, subdirectories, names in os.walk(folder):
        if not recursive:
            subdirectories.clear()
        for name in names:
            if _UNFINISHED.fullmatch(name):
                _remove_abandoned(Path(directory, name))


def _remove_abandoned(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # already removed, or another user's
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


class ErrorRecordingFile(io.FileIO):
    """A file object that stores its own write errors, also when the caller wraps it."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, and record an error."""
        with self.record_errors():
            return super().write(data)

    @contextlib.contextmanager
    def record_errors(self) -> Iterator[None]:
        """Record an OSError of the block."""
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
            f"{path.parent} cannot be written to ({describe_error(error)}). Choose another output folder."
        )
    return InputError(f"{path} cannot be written ({describe_error(error)}).")


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically."""
    with atomic(path, durable=durable) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, atomically and deterministically."""
    import msgspec

    # The bytes are those of json.dumps(indent=1), which indents in Python and takes four times as long.
    compact = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_bytes(path, msgspec.json.format(compact.encode("utf-8"), indent=1) + b"\n")


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, and return it.

    Raises:
        InputError: a file has this name, or the folder cannot be created.
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
    """Whether a name is valid for a file or folder on every system, and cannot lead to another folder.

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
        # For a million files, making a Path takes as long as reading the file.
        local = ensure_local(Path(path)) if is_placeholder(path) else path
        with open(local, "rb") as file:  # noqa: PTH123
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        digest.update(f"unreadable: {error.errno}".encode())
    except BrokenFileError:  # deleted from its store
        digest.update(f"unreadable: {errno.ENOENT}".encode())
    return digest.hexdigest()


def file_fingerprints(paths: Iterable[Path | str]) -> list[str]:
    """Return the fingerprints of many files, read in parallel, in the given order.

    Paths are consumed in batches, so that only the digests of a million files are in memory.
    """
    remaining = iter(paths)
    digests: list[str] = []
    with ThreadPoolExecutor() as pool:
        while batch := list(itertools.islice(remaining, _FILES_AT_ONCE)):
            # Scheduling one file on a thread takes as long as reading a small one.
            chunks = [
                batch[start : start + _FILES_PER_THREAD]
                for start in range(0, len(batch), _FILES_PER_THREAD)
            ]
            for chunk_digests in pool.map(_compute_fingerprints, chunks):
                digests += chunk_digests
    return digests


def _compute_fingerprints(paths: Sequence[Path | str]) -> list[str]:
    return [file_fingerprint(path) for path in paths]
