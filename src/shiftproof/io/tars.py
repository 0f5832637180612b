"""Webdataset tars: their members, the keys of samples, and checks that a tar is complete."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import convert_errors, is_utf8, show_name
from shiftproof.io.images import is_image
from shiftproof.io.locations import Location
from shiftproof.io.placeholders import ensure_local

_REGENERATED_KEYS = frozenset(
    {"gid", "gname", "hdrcharset", "linkpath", "mtime", "path", "size", "uid", "uname"}
)
_LATEST = 2.0**40
"""Seconds since 1970: the year 36,800, beyond all valid dates."""


@dataclass(frozen=True)
class Entry:
    """A member of a webdataset tar, with its sample key and role.

    Attributes:
        info: the member.
        title: its printable name, with a number if it is not the first of that name.
        key: the key of its sample, by webdataset's rule: its name up to the first dot of the last part.
        suffix: the rest after that dot, in lower case.
        is_image: whether it is the image of its sample.
        fault: why it is excluded from rows and copies, or None.
    """

    info: tarfile.TarInfo
    title: str
    key: str
    suffix: str
    is_image: bool
    fault: str | None

    @property
    def image_fault(self) -> str | None:
        """Return why a member with an image's suffix is not the image of its sample, or None."""
        if self.is_image or not is_image(Path(self.info.name)) or self.info.isdir():
            return None
        if self.fault is not None:
            return self.fault
        if not self.info.isreg():
            return "a link is not read as an image"
        return (
            f"by webdataset's rule it is {show_name(self.suffix)!r} of the sample "
            f"{show_name(self.key)!r}, not its image; the last part of its name may have only one dot"
        )


class TarReader:
    """An uncompressed tar, read member by member; sizes are checked against the file's.

    Attributes:
        name: name in messages.
    """

    def __init__(self, source: tarfile.TarFile, name: str, size: int) -> None:
        self.name = name
        self._source = source
        self._size = size

    def entries(self) -> Iterator[Entry]:
        """Yield the members in order, with their roles by webdataset's rules.

        Raises:
            BrokenFileError: as :meth:`members`.
        """
        counts: Counter[str] = Counter()
        for member in self.members():
            counts[member.name] += not member.isdir()
            count = counts[member.name]
            title = show_name(member.name) + (f" ({count})" if count > 1 else "")
            key, suffix = split_key(member.name)
            fault = _find_fault(member) or ("it occurs twice" if count > 1 else None)
            has_image_role = fault is None and member.isreg() and is_image_member(member.name)
            yield Entry(member, title, key, suffix, has_image_role, fault)

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members in order, and check at the end that the tar is complete.

        Raises:
            BrokenFileError: damaged or cut short, when the damage is reached; earlier members have been
                yielded.
        """
        members = iter(self._source)
        end = 0
        while True:
            with self._convert_errors():
                member = next(members, None)
                if member is not None and (member.offset_data <= end or member.size < 0):
                    # A negative size would lead back to an earlier member, in an endless loop.
                    raise ValueError(f"{show_name(member.name)} has a negative size")
            if member is None:
                break
            end = member.offset_data
            # The size of a sparse member is the expanded one.
            if member.isreg() and member.offset_data + member.size > self._size:
                raise BrokenFileError(
                    f"{self.name}: the tar is damaged ({show_name(member.name)} claims "
                    f"{member.size} bytes, more than the file has)."
                )
            yield member
        self._check_end()

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Return the content of a regular file.

        Raises:
            BrokenFileError: the tar is damaged or cut short.
        """
        with self._convert_errors():
            content = self._source.extractfile(member)
            if content is None:
                raise BrokenFileError(
                    f"{self.name}: {show_name(member.name)} is not a regular file."
                )
            data = content.read()
        if len(data) < member.size:
            raise BrokenFileError(
                f"{self.name}: the tar is damaged ({show_name(member.name)} is cut short)."
            )
        return data

    def _check_end(self) -> None:
        """Check that a tar ends with a block of zeros.

        ``tarfile`` treats an invalid header as the end, so that a truncated tar would seem complete.
        """
        with self._convert_errors():
            assert self._source.fileobj is not None
            self._source.fileobj.seek(self._source.offset)
            end = self._source.fileobj.read(tarfile.BLOCKSIZE)
        if end != tarfile.NUL * tarfile.BLOCKSIZE:
            raise BrokenFileError(
                f"{self.name}: the tar is damaged (it does not end with a block of zeros)."
            )

    def _convert_errors(self) -> contextlib.AbstractContextManager[None]:
        return convert_errors(self.name, "the tar is damaged")


@contextlib.contextmanager
def open_tar(path: Path | Location, name: str | None = None) -> Iterator[TarReader]:
    """Open an uncompressed tar.

    Args:
        path: the file, local or at a URL.
        name: its name in messages; the path by default.

    Raises:
        BrokenFileError: it cannot be read as a tar.
    """
    shown_name = str(path) if name is None else name
    location = path if isinstance(path, Location) else Location(str(path))
    with contextlib.ExitStack() as stack:
        with convert_errors(shown_name, "cannot be read as a tar"):
            local = Path(location.address)
            if not location.is_remote and local.exists() and not local.is_file():
                raise BrokenFileError(f"{shown_name}: not a regular file.")
            stream = location.open() if location.is_remote else ensure_local(local).open("rb")
            file = stack.enter_context(stream)
            size = location.size() if location.is_remote else os.fstat(file.fileno()).st_size
            source = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))
        yield TarReader(source, shown_name, size)


def _find_fault(member: tarfile.TarInfo) -> str | None:
    """Return why a member is neither read nor copied, or None; the rules of Python's ``data`` filter."""
    if not is_utf8(member.name):
        return "its name is not UTF-8; rename it"
    if member.issym() or member.islnk():
        target = PureWindowsPath(member.linkname)
        if target.drive or target.root or ".." in target.parts or not is_utf8(member.linkname):
            return "a link that may point outside the folder"
        return None
    if member.issparse():
        return "a sparse file, which is not read"
    return None if member.isreg() or member.isdir() else "a device or a pipe"


def copy_header(member: tarfile.TarInfo, *, name: str | None = None) -> tarfile.TarInfo:
    """Return a member's header for a copy, without extended fields that writing regenerates.

    Sizes, times and long names are written from the member itself; an invalid time becomes 0.

    Args:
        member: the member that was read.
        name: a new name, if it is renamed.
    """
    header = copy.copy(member)
    header.name = member.name if name is None else name
    header.mtime = member.mtime if -_LATEST < member.mtime < _LATEST else 0
    header.uid, header.gid = max(member.uid, 0), max(member.gid, 0)
    header.pax_headers = {
        key: value
        for key, value in member.pax_headers.items()
        if key not in _REGENERATED_KEYS and not key.startswith("GNU.sparse") and is_utf8(key)
    }
    return header


def is_tar(name: str) -> bool:
    """Return whether a name has the suffix of an uncompressed tar."""
    return name.lower().endswith(".tar")


def is_image_member(name: str) -> bool:
    """Return whether a member is the image of its sample.

    By webdataset's rule the text after the first dot is the role of a member: ``7.jpg`` is an image,
    ``7.seg.png`` another part of the sample, such as a mask.
    """
    return is_image(Path(name)) and Path(name).name.count(".") == 1


def split_key(member: str) -> tuple[str, str]:
    """Split a member's name as webdataset does: at the first dot of its last part.

    >>> split_key("train/0001.seg.png")
    ('train/0001', 'seg.png')
    """
    folder, slash, base = member.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def sort_key(name: str) -> list[tuple[int, str]]:
    """Return a key for sorting names in natural order: 2 before 10.

    >>> sorted(["10.tar", "2.tar"], key=sort_key)
    ['2.tar', '10.tar']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts]
