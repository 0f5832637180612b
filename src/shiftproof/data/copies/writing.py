"""How a changed image is written: formats, what was done, and what a worker needs for it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image as PillowImage

from shiftproof.data.images.rows import RowTable
from shiftproof.errors import InputError
from shiftproof.shards import Arrays
from shiftproof.types import Image

ImageFormat = Literal["png", "jpeg", "source"]

JPEG_QUALITY = 95

SUFFIX = {"png": ".png", "jpeg": ".jpg"}

ENCODER = {
    "png": "png",
    "jpeg": f"jpeg quality {JPEG_QUALITY}",
    "source": f"as the source: jpeg quality {JPEG_QUALITY}, others lossless",
}

_PNG: tuple[str, dict[str, Any]] = ("PNG", {"compress_level": 1})
_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": JPEG_QUALITY})
_WRITER: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": _PNG,
    "": _PNG,  # a name without suffix, which readers take by the first bytes
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".mpo": _JPEG,
    ".bmp": ("BMP", {}),
    ".dib": ("DIB", {}),
    ".jp2": ("JPEG2000", {"irreversible": False}),
    ".ppm": ("PPM", {}),
    ".pnm": ("PPM", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".webp": ("WEBP", {"lossless": True}),
}


@dataclass
class Exported:
    """What making a changed copy did, and where the time went.

    ``written`` images now, ``kept`` images that were there (of tars and tables, the files), ``carried``
    other files that were copied, linked or rewritten now, ``broken`` sources by id with the reason,
    ``aside`` a sentence for each thing that was not changed, or is not in the copy.
    The seconds are CPU time summed over the workers; ``corrupt`` is the change itself, whichever it
    is, and ``write`` encoding and writing.
    """

    written: int = 0
    kept: int = 0
    carried: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    aside: list[str] = field(default_factory=list)
    decode_seconds: float = 0.0
    corrupt_seconds: float = 0.0
    write_seconds: float = 0.0

    def add(self, other: Exported) -> None:
        """Add what another one did."""
        self.written += other.written
        self.kept += other.kept
        self.carried += other.carried
        self.broken |= other.broken
        self.aside += other.aside
        self.decode_seconds += other.decode_seconds
        self.corrupt_seconds += other.corrupt_seconds
        self.write_seconds += other.write_seconds

    def pack(self) -> Arrays:
        """Return it as the part of a job in parts: counts, seconds and texts."""
        counts = [self.written, self.kept, self.carried]
        seconds = [self.decode_seconds, self.corrupt_seconds, self.write_seconds]
        return {
            "counts": np.array(counts, np.int64),
            "seconds": np.array(seconds, np.float64),
            "broken": np.array([*self.broken, *self.broken.values()], np.str_),
            "aside": np.array(self.aside, np.str_),
        }

    @classmethod
    def unpack(cls, part: Arrays) -> Exported:
        """Return what :meth:`pack` was given."""
        texts = part["broken"].tolist()
        half = len(texts) // 2
        broken = dict(zip(texts[:half], texts[half:], strict=True))
        written, kept, carried = part["counts"].tolist()
        return cls(
            written, kept, carried, broken, part["aside"].tolist(), *part["seconds"].tolist()
        )


@dataclass(frozen=True)
class Version:
    """One of the forms in which a copy has every image.

    Attributes:
        folder: where it lies below the target; "." is the target itself.
        mark: what tells its name from that of the other forms in the same folder; "" where none does.
    """

    folder: str = "."
    mark: str = ""


class Edit(Protocol):
    """What is done to an image; it travels to the workers once, pickled."""

    def __call__(self, image: Image, version: Version, key: str) -> tuple[Image, Mapping[str, str]]:
        """Return the changed image, and by name what could not be used for it, with the reason."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to make all versions of any image of ``root``."""

    root: Path
    target: Path
    layout: str
    versions: tuple[Version, ...]
    edit: Edit
    image_format: ImageFormat
    tables: Mapping[str, RowTable] = field(default_factory=dict)

    def path(self, version: Version, name: str) -> Path:
        """Return where the picture ``name``, as it is called without a mark, lies in a version."""
        return self.target / version.folder / mark_name(self.layout, name, version.mark)


def mark_name(layout: str, name: str, mark: str) -> str:
    """Return the name of a picture with a mark in it, so that its labels are found by theirs.

    It stands before the suffix, and in Cityscapes behind the number of the frame.
    """
    if not mark:
        return name
    path = PurePosixPath(name)
    stem, behind = path.stem, ""
    if layout == "cityscapes":
        stem, behind = cityscapes_stem(path.stem)
    return str(path.with_name(stem + mark + behind + path.suffix))


def cityscapes_stem(stem: str) -> tuple[str, str]:
    """Return what the files of one image of Cityscapes share in their names, and the rest."""
    shared, kind, rest = stem.partition("_leftImg8bit")
    return shared, kind + rest


def output_name(name: str, image_format: ImageFormat) -> str:
    """Return what an image is called once it is written.

    A suffix that is none (``frame.0001``) stays, and the new one stands behind it.

    Raises:
        InputError: "source" for a format that cannot hold any picture in full colour.
    """
    path = PurePosixPath(name)
    if image_format != "source":
        if path.suffix and not re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{0,4}", path.suffix):
            return name + SUFFIX[image_format]
        return str(path.with_suffix(SUFFIX[image_format]))
    if path.suffix.lower() not in _WRITER:
        raise InputError(
            f"{name}: a corrupted image cannot be kept in this format; choose the format png."
        )
    return name


def name_in_table(path: str | None, data: bytes, image_format: ImageFormat) -> str:
    """Return what an image in a row of a table is called once it is written.

    With "source" an image without a name, or with one whose format cannot be written, stays a JPEG
    where it is one, and becomes a PNG otherwise.
    """
    if image_format != "source":
        return output_name(path or "image", image_format)
    if path is not None and PurePosixPath(path).suffix.lower() in _WRITER.keys() - {""}:
        return path
    suffix = ".jpg" if data[:2] == b"\xff\xd8" else ".png"
    return str(PurePosixPath(path or "image").with_suffix(suffix))


def encode(image: Image, name: str) -> bytes:
    """Return the bytes of an image file in the format that its name says."""
    buffer = io.BytesIO()
    image_format, options = _WRITER[PurePosixPath(name).suffix.lower()]
    PillowImage.fromarray(image).save(buffer, image_format, **options)
    return buffer.getvalue()
