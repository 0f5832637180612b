"""Images in the parts that become shards, whatever they lie in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from shiftproof.data import ImageData, ImageFolder
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.types import Image, Sample, Settings

LONGEST_CAPTION = 1 << 20
"""Bytes of a text beside an image that are read: what is longer is no caption."""


@dataclass(frozen=True)
class Picture:
    """One image that is to be read.

    Attributes:
        name: names it in the metadata, as ``image_path``, and among the broken.
        where: what ``Pictures.read`` needs to find it; small to pickle.
        columns: what else the metadata says of it: texts or numbers.
    """

    name: str
    where: Any
    columns: Mapping[str, str | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The images of one shard.

    Attributes:
        name: what the display and the shard's record call it.
        pictures: in the order of the rows.
        broken: what could not even be listed, with the reason.
    """

    name: str
    pictures: tuple[Picture, ...]
    broken: Mapping[str, str] = field(default_factory=dict)


class Pictures(ABC):
    """Images in parts. Small to pickle: worker processes are sent it once and read by themselves.

    A concrete one is final and gives all below.

    Attributes:
        name: what messages call it.
        parts: how many there are.
        count: how many images, or None where that is known only when a part is opened.
        aside: a sentence for each thing that lies there and is not used.
    """

    name: str
    parts: int
    count: int | None
    aside: tuple[str, ...] = ()

    @abstractmethod
    def part(self, number: int) -> Part:
        """Return the images of part ``number``, from 0 on."""

    @abstractmethod
    def read(self, picture: Picture) -> Image:
        """Return an image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read; the message has its name.
        """

    @abstractmethod
    def settings(self) -> Settings:
        """Return what tells these images from others, as JSON takes it."""


@final
class SplitPictures(Pictures):
    """A data set cut into parts of ``size`` images, the last one shorter.

    A text file beside an image of a folder (``cat.txt`` for ``cat.jpg``) is its caption.
    """

    def __init__(
        self, data: ImageData, size: int, *, captions: Mapping[str, str] | None = None
    ) -> None:
        if size < 1:
            raise InputError(f"Expected a shard size of 1 or more, got {size}.")
        self.data = data
        self.size = size
        self.name = data.name
        self.parts = -(-len(data) // size)
        self.count = len(data)
        self.aside = data.aside
        self._captions = captions

    def part(self, number: int) -> Part:
        """Return the images of part ``number``."""
        start = number * self.size
        samples = self.data.samples[start : start + self.size]
        captions = [self._caption(sample) for sample in samples]
        pictures = []
        for sample, caption in zip(samples, captions, strict=True):
            columns: dict[str, str | int | None] = {}
            if any(text is not None for text in captions):
                columns["caption"] = caption
            if self.data.is_labeled:
                columns["label"] = sample.label
            pictures.append(Picture(sample.id, sample, columns))
        return Part(f"{self.name}, from image {start} on", tuple(pictures))

    def read(self, picture: Picture) -> Image:
        """Return an image as ``(H, W, 3)`` uint8 RGB."""
        return self.data.read(picture.where)

    def settings(self) -> Settings:
        """Return what the data set says of itself, and how it is cut."""
        return {**self.data.settings(), "shard_size": self.size}

    def _caption(self, sample: Sample) -> str | None:
        if self._captions is not None:
            return self._captions.get(sample.id)
        if not isinstance(self.data, ImageFolder):
            return None
        return _text_beside(self.data.root / sample.id)


def _text_beside(image: Path) -> str | None:
    path = image.with_suffix(".txt")
    try:
        if not path.is_file() or path.stat().st_size > LONGEST_CAPTION:
            return None
        return as_caption(path.read_bytes())
    except OSError:
        return None


def as_caption(data: bytes) -> str:
    """Return a caption's text; bytes that are no UTF-8 become U+FFFD."""
    return data.decode("utf-8", errors="replace").strip()


def size_fingerprint(entries: Sequence[tuple[str, int]]) -> str:
    """Return 32 hex digits that change when a file's name or size does."""
    return files.fingerprint(f"{name} {size}".encode() for name, size in entries)
