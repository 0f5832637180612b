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

OURS = ".shiftproof"
"""The folder in an output with its commits and claims."""

_ATOMIC_WRITES = frozenset(
    {"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a"}
)
"""Protocols with atomic writes. On others a file is written under a temporary name and then moved."""

_CONDITIONAL_WRITES = frozenset({"gcs", "gs", "memory", "s3", "s3a"})
"""Protocols that create a file only if it does not exist, whoever else tries at the same moment."""

_READ_ONLY = frozenset({"http", "https", "zip", "tar", "github", "gist"})

_UNSENT = ".unsent-"


@dataclass(frozen=True)
class Listed:
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
        """The last part of the URL, as the name of a local folder; of a host alone its name."""
        rest = self.address.partition("?")[0].partition("://")[2]
        last = PurePosixPath(rest).name
        if "/" not in rest.rstrip("/"):
            # Not its user, password and port: names of folders are written to the disk.
            last = last.rpartition("@")[2].partition(":")[0]
        return last if last not in ("", ".", "..") and is_utf8(last) else "data"

    def at(self, name: str) -> str:
        """Return the URL of a file in the folder."""
        return join_url(self.address, name) if name else self.address

    def list(self, inner: str = "") -> dict[str, Listed]:
        """Return all files below the folder, or below its folder ``inner``, by relative name.

        If the URL is that of a file, the result is this file with the name ``""``.

        Raises:
            BrokenFileError: no such bucket.
            InputError: the store refuses to list it, or a name is not possible on this machine.
        """
        place = redact_urls(self.at(inner))
        found = retry(place, lambda: self._find(inner), what="listed")
        for name in found:
            _check_name(name, place)
        return found

    def _find(self, inner: str) -> dict[str, Listed]:
        system, root = find_system(self.at(""))
        system.invalidate_cache()
        root = root.rstrip("/")
        below = f"{root}/{inner}" if inner else root
        found: dict[str, Listed] = {}
        for path, about in self._walk(system, below).items():
            name = path.removeprefix(root).lstrip("/")
            if about.get("type", "file") == "file" and not PurePosixPath(name).name.startswith(
                _UNSENT
            ):
                size = about.get("size")
                size = system.size(path) if size is None else size
                if size is not None:
                    found[name] = Listed(int(size), find_version(about, "created"))
        return found

    @staticmethod
    def _walk(system: Any, below: str) -> dict[str, dict[str, Any]]:
        try:
            found = dict(system.find(below, detail=True))
            if not found and "http" in _list_protocols(system):
                system.ls(below)  # find hides connection errors; ls raises them
            return found
        except FileNotFoundError:
            # Object stores have no folders, so only a missing bucket is an error.
            if {"file", "memory"}.intersection(_list_protocols(system)) or system.exists(
                below.split("/")[0]
            ):
                return {}
            raise

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            BrokenFileError: the file does not exist.
        """
        system, path = find_system(self.at(name))
        return retry(redact_urls(self.at(name)), lambda: bytes(system.cat_file(path)))

    def put(self, local: Path, name: str) -> None:
        """Upload a local file atomically.

        Raises:
            InputError: the store refuses it.
            RunError: the store does not answer.
        """
        place = redact_urls(self.at(name))
        retry(place, lambda: self._put(local, name), what="written")

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
            folder, _, last = path.rpartition("/")
            system.makedirs(folder, exist_ok=True)
            unsent = f"{folder}/{_UNSENT}{secrets.token_hex(4)}-{last}"
            try:
                system.put_file(str(local), unsent)
                system.mv(unsent, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    system.rm_file(unsent)
                raise
        except FileNotFoundError as error:
            raise self._no_bucket(error) from error

    def create(self, name: str, data: bytes) -> bool:
        """Create a small file if it does not exist; return whether it was created.

        Stores with conditional writes (S3, Google Cloud) let only one of two concurrent callers
        succeed; on others both could within a few milliseconds.
        """
        place = redact_urls(self.at(name))
        return retry(place, lambda: self._create(name, data), what="written")

    def put_new(self, local: Path, name: str) -> bool:
        """Upload a local file if there is none of its name; return whether there was none.

        Only for stores that :meth:`check_sharable` lets pass.

        Raises:
            InputError: the store refuses it.
            RunError: the store does not answer.
        """
        place = redact_urls(self.at(name))
        return retry(place, lambda: self._put_new(local, name), what="written")

    def _put_new(self, local: Path, name: str) -> bool:
        system, path = self._find_writable(name)
        try:
            system.put_file(str(local), path, mode="create")
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise self._no_bucket(error) from error
        return True

    def check_sharable(self) -> None:
        """Refuse stores in which several commands cannot tell who was first.

        Raises:
            InputError: it is none of those that create a file only if it does not exist.
        """
        system, _ = self._find_writable("")
        if _CONDITIONAL_WRITES.isdisjoint(_list_protocols(system)):
            raise InputError(
                f"{self} cannot be shared by several commands (--worker): this kind of store does not "
                "say who was first to write a file, as s3 and gs do. Leave --worker out, or give a "
                "folder on a disk that all machines see."
            )

    def _no_bucket(self, error: Exception) -> InputError:
        return InputError(
            f"{self} cannot be written to: there is no such bucket ({error}). Make it before."
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
            raise self._no_bucket(error) from error
        return True

    def check_writable(self) -> None:
        """Refuse stores that are known to be read-only.

        Raises:
            InputError: the store is read-only, or its protocol is unknown.
        """
        self._find_writable("")

    def _find_writable(self, name: str) -> tuple[Any, str]:
        system, path = find_system(self.at(name))
        if not _READ_ONLY.isdisjoint(_list_protocols(system)):
            raise InputError(
                f"{self} cannot be written to: nothing is sent to web servers. Outputs go to stores such "
                "as s3, gs, abfs and hdfs."
            )
        return system, path

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; missing ones are ignored."""
        for name in names:
            system, path = find_system(self.at(name))
            with contextlib.suppress(BrokenFileError):
                retry(redact_urls(self.at(name)), lambda: system.rm_file(path), what="removed")  # noqa: B023


def _has_atomic_writes(system: Any) -> bool:
    return not _ATOMIC_WRITES.isdisjoint(_list_protocols(system))


def _list_protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def _check_name(name: str, place: str) -> None:
    """Refuse names in object stores that would lead out of the local folder."""
    parts = name.split("/")
    strange = "\\" in name or "\0" in name or not is_utf8(name)
    if name and (strange or not {"", ".", ".."}.isdisjoint(parts)):
        raise InputError(
            f"{place} holds {show_name(name)!r}, a name that no file can have here; rename it there."
        )
