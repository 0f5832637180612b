"""Images in webdataset tars, read where they lie: each tar is one shard."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any, final

from shiftproof.data.tars import check_end, is_picture, is_tar
from shiftproof.embed.pictures import (
    LONGEST_CAPTION,
    Part,
    Picture,
    Pictures,
    as_caption,
    size_fingerprint,
)
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.images import read_image
from shiftproof.types import Image, Settings

_FROM_JSON = ("uid", "url", "caption")
"""What is taken over from a sample's JSON, where it is a text."""


@final
class TarPictures(Pictures):
    """The images of one webdataset tar, or of all below a folder.

    A tar is one shard, so that row and tar belong together. Its member list is walked once, and
    the images are read at their places in it. The metadata has ``key``, the sample's key in its
    tar, and ``tar``; of a sample's ``.txt`` the ``caption``, and of its ``.json`` what it has of
    ``caption``, ``uid`` and ``url``.

    Args:
        source: a tar that is not compressed, or a folder of them at any depth; they come in the
            order of the numbers in their names.

    Raises:
        InputError: no such file or folder, or no tar in it.
    """

    def __init__(self, source: str | Path) -> None:
        path = Path(source)
        if path.is_dir():
            self.root = path
            found = [tar for tar in path.rglob("*") if is_tar(tar.name) and tar.is_file()]
        else:
            self.root = path.parent
            found = [path] if path.is_file() else []
        if not found:
            raise InputError(f"{path} is no tar and holds none.")
        names = [tar.relative_to(self.root).as_posix() for tar in found]
        self.tars = tuple(sorted(names, key=_natural))
        self.name = path.name
        self.parts = len(self.tars)
        self.count = None

    def part(self, number: int) -> Part:
        """Return the images of one tar; where it is damaged, those before the damage."""
        name = self.tars[number]
        pictures: list[tuple[str, str, int, int]] = []
        about: dict[str, dict[str, str | int | None]] = {}
        broken: dict[str, str] = {}
        try:
            with tarfile.open(self.root / name, mode="r:") as source:
                for member in source:
                    if not member.isreg():
                        continue
                    key, suffix = _key_of(member.name)
                    if is_picture(member.name):
                        pictures.append((member.name, key, member.offset_data, member.size))
                    elif suffix in ("txt", "json") and member.size <= LONGEST_CAPTION:
                        content = source.extractfile(member)
                        assert content is not None
                        data = content.read()
                        found = {"caption": as_caption(data)} if suffix == "txt" else _facts(data)
                        # A text of its own has the last word over the JSON's.
                        old = about.get(key, {})
                        about[key] = {**found, **old} if suffix == "json" else {**old, **found}
                check_end(source)
        except (tarfile.TarError, EOFError, OSError) as error:
            broken[name] = f"{name}: the tar is damaged ({error}); what is behind is not read."
        columns = {column for facts in about.values() for column in facts}
        return Part(
            name,
            tuple(
                Picture(
                    f"{name}/{member}",
                    (name, offset, size),
                    {
                        "key": key,
                        "tar": name,
                        **{column: about.get(key, {}).get(column) for column in sorted(columns)},
                    },
                )
                for member, key, offset, size in pictures
            ),
            broken,
        )

    def read(self, picture: Picture) -> Image:
        """Return an image as ``(H, W, 3)`` uint8 RGB."""
        name, offset, size = picture.where
        try:
            with (self.root / name).open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise BrokenFileError(f"{picture.name}: cannot be read ({error.strerror}).") from error
        try:
            return read_image(data)
        except BrokenFileError as error:
            reason = str(error).removeprefix("image: ")
            raise BrokenFileError(f"{picture.name}: {reason}") from error

    def settings(self) -> Settings:
        """Return what tells these tars from others: their names and sizes."""
        sizes = [(name, (self.root / name).stat().st_size) for name in self.tars]
        return {
            "name": self.name,
            "kind": "webdataset",
            "tars": self.parts,
            "fingerprint": size_fingerprint(sizes),
        }


def _key_of(member: str) -> tuple[str, str]:
    """Split a member's name as webdataset does: at the first dot of its last part."""
    folder, slash, base = member.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def _facts(data: bytes) -> dict[str, str | int | None]:
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: value[name] for name in _FROM_JSON if isinstance(value.get(name), str)}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which 2 comes before 10."""
    words = re.split(r"(\d+)", name)
    return [(int(word), "") if word.isdigit() else (-1, word) for word in words]
