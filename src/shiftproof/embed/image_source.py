"""Sources of images, divided into the parts that become shards."""

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

MAX_CAPTION_BYTES = 1 << 20
"""Maximum size of a caption file, in bytes."""


@dataclass(frozen=True)
class Picture:
    """An image to read.

    Attributes:
        name: name in the metadata, as ``image_path``, and among the broken images.
        where: location for ``Pictures.read``; small to pickle.
        columns: further metadata: texts or numbers.
    """

    name: str
    where: Any
    columns: Mapping[str, str | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The images of one shard.

    Attributes:
        name: name in the progress display and in the shard's record.
        pictures: in the order of the rows.
        broken: entries that could not be listed, with the reason.
    """

    name: str
    pictures: tuple[Picture, ...]
    broken: Mapping[str, str] = field(default_factory=dict)


class Pictures(ABC):
    """Images in parts. Small to pickle: worker processes get it once and read the images
    themselves.

    A concrete subclass is final and implements everything below.

    Attributes:
        name: name in messages.
        parts: number of parts.
        count: number of images, or None if it is unknown before parts are opened.
        omissions: a sentence for each thing at the source that is not used.
    """

    name: str
    parts: int
    count: int | None
    omissions: tuple[str, ...] = ()

    @abstractmethod
    def part(self, number: int) -> Part:
        """Return the images of part ``number``, from 0."""

    @abstractmethod
    def read(self, picture: Picture) -> Image:
        """Return an image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read; the message contains its name.
        """

    @abstractmethod
    def settings(self) -> Settings:
        """Return the settings that identify these images, for JSON."""


@final
class SplitPictures(Pictures):
    """A dataset split into parts of ``size`` images; the last one may be smaller.

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
        self.omissions = data.omissions
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
        """Return the dataset's settings and the part size."""
        return {**self.data.settings(), "shard_size": self.size}

    def _caption(self, sample: Sample) -> str | None:
        if self._captions is not None:
            return self._captions.get(sample.id)
        if not isinstance(self.data, ImageFolder):
            return None
        return _read_caption_file(self.data.root / sample.id)


def _read_caption_file(image: Path) -> str | None:
    path = image.with_suffix(".txt")
    try:
        if not path.is_file() or path.stat().st_size > MAX_CAPTION_BYTES:
            return None
        return decode_caption(path.read_bytes())
    except OSError:
        return None


def decode_caption(data: bytes) -> str:
    """Return a caption's text; bytes that are no UTF-8 become U+FFFD."""
    return data.decode("utf-8-sig", errors="replace").strip()


def fingerprint_sizes(entries: Sequence[tuple[str, int]]) -> str:
    """Return 32 hex digits that change with a file's name or size."""
    return files.fingerprint(f"{name} {size}".encode() for name, size in entries)
