"""Webdataset tars: their members, the keys of samples, and whether a tar is whole."""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import convert_errors, show_name
from shiftproof.io.images import is_image


class TarReader:
    """A tar that is not compressed, read member by member; what it claims is held against its size.

    Attributes:
        name: as messages call it.
    """

    def __init__(self, source: tarfile.TarFile, name: str, size: int) -> None:
        self.name = name
        self._source = source
        self._size = size

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members in order, and see in the end that the tar is whole.

        Raises:
            BrokenFileError: damaged or cut, wherever it is met; what came before has been yielded.
        """
        members = iter(self._source)
        while True:
            with self._damage():
                member = next(members, None)
            if member is None:
                break
            # A sparse member counts by what it would unfold to.
            if member.isreg() and member.offset_data + member.size > self._size:
                raise BrokenFileError(
                    f"{self.name}: the tar is damaged ({show_name(member.name)} claims "
                    f"{member.size} bytes, of which not all are there)."
                )
            yield member
        self._check_end()

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Return the content of a regular file.

        Raises:
            BrokenFileError: the tar is cut before its end.
        """
        with self._damage():
            content = self._source.extractfile(member)
            if content is None:
                raise BrokenFileError(f"{self.name}: {show_name(member.name)} is no regular file.")
            data = content.read()
        if len(data) < member.size:
            raise BrokenFileError(
                f"{self.name}: the tar is damaged ({show_name(member.name)} is cut short)."
            )
        return data

    def _check_end(self) -> None:
        """Refuse a tar that does not end with a block of zeros.

        ``tarfile`` takes what is no header for the end, so that a tar that was cut short seems whole.
        """
        with self._damage():
            assert self._source.fileobj is not None
            self._source.fileobj.seek(self._source.offset)
            end = self._source.fileobj.read(tarfile.BLOCKSIZE)
        if end != tarfile.NUL * tarfile.BLOCKSIZE:
            raise BrokenFileError(
                f"{self.name}: the tar is damaged (it has no end where one is due)."
            )

    def _damage(self) -> contextlib.AbstractContextManager[None]:
        return convert_errors(self.name, "the tar is damaged")


@contextlib.contextmanager
def open_tar(path: Path, name: str | None = None) -> Iterator[TarReader]:
    """Open a tar that is not compressed.

    Args:
        path: the file.
        name: as messages are to call it; the path by default.

    Raises:
        BrokenFileError: it cannot be read as a tar.
    """
    called = str(path) if name is None else name
    with contextlib.ExitStack() as stack:
        with convert_errors(called, "cannot be read as a tar"):
            if path.exists() and not path.is_file():
                raise BrokenFileError(f"{called}: not a regular file.")
            file = stack.enter_context(path.open("rb"))
            size = os.fstat(file.fileno()).st_size
            source = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))
        yield TarReader(source, called, size)


def is_tar(name: str) -> bool:
    """Whether a file is called like a tar that is not compressed."""
    return name.lower().endswith(".tar")


def is_image_member(name: str) -> bool:
    """Whether a member is the image of its sample.

    As webdataset reads names, all after the first dot says what a member is: ``7.jpg`` is an image,
    ``7.seg.png`` something about it, such as a mask.
    """
    base = Path(name).name
    return is_image(Path(name)) and base.count(".") == 1


def split_key(member: str) -> tuple[str, str]:
    """Split a member's name as webdataset does: at the first dot of its last part.

    >>> split_key("train/0001.seg.png")
    ('train/0001', 'seg.png')
    """
    folder, slash, base = member.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def sort_key(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by so that 2 comes before 10.

    >>> sorted(["10.tar", "2.tar"], key=sort_key)
    ['2.tar', '10.tar']
    """
    words = re.split(r"([0-9]+)", name)
    return [(int(word), "") if word.isascii() and word.isdigit() else (-1, word) for word in words]
