"""Remote folders: list, read, write atomically, and remove their files."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.border import is_utf8, show_name
from shiftproof.io.locations import find_version
from shiftproof.io.remote import find_system, retry
from shiftproof.io.urls import join_url, redact_urls

STATE_FOLDER = ".shiftproof"
"""The folder in an output with its commits and claims."""

_ATOMIC_WRITES = frozenset(
    {"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a"}
)
"""Protocols with atomic writes. On others a file is written under a temporary name and then moved."""

_CONDITIONAL_WRITES = frozenset({"gcs", "gs", "memory", "s3", "s3a"})
"""Protocols that create a file only if it does not exist, whoever else tries at the same moment."""

_READ_ONLY = frozenset({"http", "https", "zip", "tar", "github", "gist"})

_TEMPORARY_PREFIX = ".unsent-"


@dataclass(frozen=True)
class ListedFile:
    """A listed file: size in bytes, and an ETag or date that changes with its content, if known."""

    size: int
    state: str | None


@dataclass(frozen=True)
class Store:
    """A remote folder; pickles small, and keeps nothing open.

    Attributes:
        address: the URL with its secrets, without a trailing slash.
    """

    address: str

    def __str__(self) -> str:
        return redact_urls(self.address)

    @property
    def name(self) -> str:
        """The last part of the URL, or the host, as the name of a local folder."""
        rest = self.address.partition("?")[0].partition("://")[2]
        name = PurePosixPath(rest).name
        if "/" not in rest.rstrip("/"):
            # Without user, password and port, since the folder is created on the disk.
            name = name.rpartition("@")[2].partition(":")[0]
        return name if name not in ("", ".", "..") and is_utf8(name) else "data"

    def join(self, name: str) -> str:
        """Return the URL of a file in the folder."""
        return join_url(self.address, name) if name else self.address

    def list(self, inner: str = "") -> dict[str, ListedFile]:
        """Return all files below the folder, or below its folder ``inner``, by relative name.

        If the URL is that of a file, the result is this file with the name ``""``.

        Raises:
            BrokenFileError: no such bucket.
            InputError: the store refuses to list it, or has a name that is invalid on this machine.
        """
        shown_url = redact_urls(self.join(inner))
        found = retry(shown_url, lambda: self._find(inner), what="listed")
        for name in found:
            _check_name(name, shown_url)
        return found

    def _find(self, inner: str) -> dict[str, ListedFile]:
        system, root = find_system(self.join(""))
        system.invalidate_cache()
        root = root.rstrip("/")
        folder = f"{root}/{inner}" if inner else root
        found: dict[str, ListedFile] = {}
        for path, info in self._walk(system, folder).items():
            name = path.removeprefix(root).lstrip("/")
            if info.get("type", "file") == "file" and not PurePosixPath(name).name.startswith(
                _TEMPORARY_PREFIX
            ):
                size = info.get("size")
                size = system.size(path) if size is None else size
                if size is not None:
                    found[name] = ListedFile(int(size), find_version(info, "created"))
        return found

    @staticmethod
    def _walk(system: Any, folder: str) -> dict[str, dict[str, Any]]:
        try:
            found = dict(system.find(folder, detail=True))
            if not found and "http" in _list_protocols(system):
                system.ls(folder)  # find hides connection errors; ls raises them
            return found
        except FileNotFoundError:
            # Object stores have no folders, so only a missing bucket is an error.
            if {"file", "memory"}.intersection(_list_protocols(system)) or system.exists(
                folder.split("/")[0]
            ):
                return {}
            raise

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            BrokenFileError: the file does not exist.
        """
        system, path = find_system(self.join(name))
        return retry(redact_urls(self.join(name)), lambda: bytes(system.cat_file(path)))

    def put(self, local: Path, name: str) -> None:
        """Upload a local file atomically.

        Raises:
            InputError: the store refuses it.
            RunError: the store does not answer.
        """
        shown_url = redact_urls(self.join(name))
        retry(shown_url, lambda: self._put(local, name), what="written")

    def write(self, name: str, data: bytes) -> None:
        """Write a small file atomically."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, "content")
            local.write_bytes(data)
            self.put(local, name)

    def _put(self, local: Path, name: str) -> None:
        system, path = self._find_writable(name)
        try:
            if _has_atomic_writes(system):
                system.put_file(str(local), path)
                return
            folder, _, file_name = path.rpartition("/")
            system.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/{_TEMPORARY_PREFIX}{secrets.token_hex(4)}-{file_name}"
            try:
                system.put_file(str(local), temporary)
                system.mv(temporary, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    system.rm_file(temporary)
                raise
        except FileNotFoundError as error:
            raise self._make_bucket_error(error) from error

    def create(self, name: str, data: bytes) -> bool:
        """Create a small file if it does not exist; return whether it was created.

        Stores with conditional writes (S3, Google Cloud) let only one of two concurrent callers
        succeed; on others both could within a few milliseconds.
        """
        shown_url = redact_urls(self.join(name))
        return retry(shown_url, lambda: self._create(name, data), what="written")

    def put_new(self, local: Path, name: str) -> bool:
        """Upload a local file if none of its name exists; return whether it was uploaded.

        Only for stores that :meth:`check_sharable` accepts.

        Raises:
            InputError: the store refuses it.
            RunError: the store does not answer.
        """
        shown_url = redact_urls(self.join(name))
        return retry(shown_url, lambda: self._put_new(local, name), what="written")

    def _put_new(self, local: Path, name: str) -> bool:
        system, path = self._find_writable(name)
        try:
            system.put_file(str(local), path, mode="create")
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise self._make_bucket_error(error) from error
        return True

    def check_sharable(self) -> None:
        """Refuse stores without conditional writes, in which commands cannot tell who was first.

        Raises:
            InputError: the store may overwrite a file that another command has just created.
        """
        system, _ = self._find_writable("")
        if _CONDITIONAL_WRITES.isdisjoint(_list_protocols(system)):
            raise InputError(
                f"{self} cannot be shared by several commands (--worker): this kind of store does not "
                "say who was first to write a file, as s3 and gs do. Leave --worker out, or give a "
                "folder on a disk that all machines see."
            )

    def _make_bucket_error(self, error: Exception) -> InputError:
        return InputError(
            f"{self} cannot be written to: there is no such bucket ({error}). Create it first."
        )

    def _create(self, name: str, data: bytes) -> bool:
        system, path = self._find_writable(name)
        if not _has_atomic_writes(system):
            if system.exists(path):
                return False
            self.write(name, data)
            return True
        try:
            system.pipe_file(path, data, mode="create")
        except FileExistsError:
            # An earlier attempt may have succeeded although its reply was lost.
            return bytes(system.cat_file(path)) == data
        except FileNotFoundError as error:
            raise self._make_bucket_error(error) from error
        return True

    def check_writable(self) -> None:
        """Refuse stores that are known to be read-only.

        Raises:
            InputError: the store is read-only, or its protocol is unknown.
        """
        self._find_writable("")

    def _find_writable(self, name: str) -> tuple[Any, str]:
        system, path = find_system(self.join(name))
        if not _READ_ONLY.isdisjoint(_list_protocols(system)):
            raise InputError(
                f"{self} cannot be written to: nothing is sent to web servers. Use a store such as s3, "
                "gs, abfs or hdfs for outputs."
            )
        return system, path

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; missing ones are ignored."""
        for name in names:
            system, path = find_system(self.join(name))
            with contextlib.suppress(BrokenFileError):
                retry(redact_urls(self.join(name)), lambda: system.rm_file(path), what="removed")  # noqa: B023


def _has_atomic_writes(system: Any) -> bool:
    return not _ATOMIC_WRITES.isdisjoint(_list_protocols(system))


def _list_protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def _check_name(name: str, shown_url: str) -> None:
    """Refuse names in object stores that would leave the local folder."""
    parts = name.split("/")
    is_invalid = "\\" in name or "\0" in name or not is_utf8(name)
    if name and (is_invalid or not {"", ".", ".."}.isdisjoint(parts)):
        raise InputError(
            f"{shown_url} holds {show_name(name)!r}, which is not a valid file name on this machine; "
            "rename it there."
        )
