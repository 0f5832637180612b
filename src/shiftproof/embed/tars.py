"""Images in webdataset tars, read in place: each tar is one shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final

from shiftproof.data.images.tars import TarFiles
from shiftproof.embed.image_source import (
    MAX_CAPTION_BYTES,
    Part,
    Picture,
    Pictures,
    decode_caption,
    fingerprint_sizes,
)
from shiftproof.errors import BrokenFileError
from shiftproof.io.images import read_image
from shiftproof.io.tars import Entry, open_tar
from shiftproof.types import Image, Settings

_FROM_JSON = ("uid", "url", "caption")
"""Text fields of a sample's JSON that are copied to the metadata."""


@final
class TarPictures(Pictures):
    """The images of one webdataset tar, or of all tars below a folder.

    A tar is one shard, so that rows correspond to tars. Its member list is read once, and images
    are read at their offsets. The metadata has ``key``, the sample's key in its tar, and ``tar``;
    ``caption`` from a sample's ``.txt``, and ``caption``, ``uid`` and ``url`` from its ``.json``.

    Args:
        source: an uncompressed tar, or a folder of tars at any depth, sorted by the numbers in
            their names; a brace pattern, or an fsspec URL.

    Raises:
        InputError: no such file or folder, or no tar in it.
    """

    def __init__(self, source: str | Path) -> None:
        files = TarFiles.find(source)
        self.tars = tuple(files.locations)
        self._places = dict(files.locations)
        self.name = files.title
        self.parts = len(self.tars)
        self.count = None

    def part(self, number: int) -> Part:
        """Return the images of one tar; for a damaged one those before the damage."""
        name = self.tars[number]
        pictures: list[tuple[str, str, int, int]] = []
        about: dict[str, dict[str, str | int | None]] = {}
        broken: dict[str, str] = {}
        try:
            with open_tar(self._places[name], name) as source:
                for entry in source.entries():
                    key, size = entry.key, entry.info.size
                    reason = entry.image_fault
                    if reason is not None:
                        broken[f"{name}/{entry.title}"] = f"{name}/{entry.title}: {reason}."
                    elif entry.is_image:
                        pictures.append((entry.info.name, key, entry.info.offset_data, size))
                    elif _is_text(entry):
                        data = source.read(entry.info)
                        is_json = entry.suffix == "json"
                        found = _read_facts(data) if is_json else {"caption": decode_caption(data)}
                        # A separate text file takes precedence over the JSON's caption.
                        old = about.get(key, {})
                        about[key] = {**found, **old} if is_json else {**old, **found}
        except BrokenFileError as error:
            broken[name] = f"{error} The rest is not read."
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
            data = self._places[name].read(offset, size)
        except BrokenFileError as error:
            reason = str(error).removeprefix(f"{self._places[name]}: ")
            raise BrokenFileError(f"{picture.name}: {reason}") from error
        try:
            return read_image(data)
        except BrokenFileError as error:
            reason = str(error).removeprefix("image: ")
            raise BrokenFileError(f"{picture.name}: {reason}") from error

    def settings(self) -> Settings:
        """Return the names and sizes that identify these tars."""
        sizes = [(name, place.size()) for name, place in self._places.items()]
        return {
            "name": self.name,
            "kind": "webdataset",
            "tars": self.parts,
            "fingerprint": fingerprint_sizes(sizes),
        }


def _is_text(entry: Entry) -> bool:
    small = entry.info.isreg() and entry.info.size <= MAX_CAPTION_BYTES
    return small and entry.suffix in ("txt", "json") and entry.fault is None


def _read_facts(data: bytes) -> dict[str, str | int | None]:
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    # JSON may contain lone surrogates, which tables cannot.
    return {
        name: decode_caption(value[name].encode("utf-8", "surrogatepass"))
        for name in _FROM_JSON
        if isinstance(value.get(name), str)
    }
