"""Writing changed images: file formats, the result of an export, and the job of a worker."""

from __future__ import annotations

import io
import re
import time
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
    "": _PNG,  # a name without suffix, recognized by its first bytes
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
class ExportResult:
    """What an export of a changed copy has done, with its CPU times.

    ``written`` counts the images written now, ``kept`` the images that existed already (for tars
    and tables, the files), ``carried`` other files that were copied, linked or rewritten now;
    ``broken`` has unreadable sources by id with the reason, ``omissions`` a sentence for everything
    that was not changed or not copied. The seconds are CPU time summed over the workers;
    ``corrupt`` is the change of the image, of any kind, and ``write`` encoding and writing.
    """

    written: int = 0
    kept: int = 0
    carried: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    omissions: list[str] = field(default_factory=list)
    decode_seconds: float = 0.0
    corrupt_seconds: float = 0.0
    write_seconds: float = 0.0

    def add(self, other: ExportResult) -> None:
        """Add the counts of another result."""
        self.written += other.written
        self.kept += other.kept
        self.carried += other.carried
        self.broken |= other.broken
        self.omissions += other.omissions
        self.decode_seconds += other.decode_seconds
        self.corrupt_seconds += other.corrupt_seconds
        self.write_seconds += other.write_seconds

    def pack(self) -> Arrays:
        """Return the result as arrays, for the part of a job: counts, seconds and texts."""
        counts = [self.written, self.kept, self.carried]
        seconds = [self.decode_seconds, self.corrupt_seconds, self.write_seconds]
        return {
            "counts": np.array(counts, np.int64),
            "seconds": np.array(seconds, np.float64),
            "broken": np.array([*self.broken, *self.broken.values()], np.str_),
            "aside": np.array(self.omissions, np.str_),
        }

    @classmethod
    def unpack(cls, part: Arrays) -> ExportResult:
        """Return the result that :meth:`pack` packed."""
        texts = part["broken"].tolist()
        half = len(texts) // 2
        broken = dict(zip(texts[:half], texts[half:], strict=True))
        written, kept, carried = part["counts"].tolist()
        return cls(
            written, kept, carried, broken, part["aside"].tolist(), *part["seconds"].tolist()
        )


@dataclass(frozen=True)
class Version:
    """One version of every image in a copy.

    Attributes:
        folder: folder relative to the target; "." is the target itself.
        mark: suffix of its names that distinguishes it from other versions in the same folder; ""
            if there is none.
    """

    folder: str = "."
    mark: str = ""


class Edit(Protocol):
    """The change of an image; it is pickled and sent to each worker once."""

    def __call__(self, image: Image, version: Version, key: str) -> tuple[Image, Mapping[str, str]]:
        """Return the changed image, and the files that could not be used, with the reason."""


@dataclass(frozen=True)
class Job:
    """The job of a worker: everything to make all versions of an image of ``root``."""

    root: Path
    target: Path
    layout: str
    versions: tuple[Version, ...]
    edit: Edit
    image_format: ImageFormat
    tables: Mapping[str, RowTable] = field(default_factory=dict)

    def locate(self, version: Version, name: str) -> Path:
        """Return the path of an image, named without a mark, in a version."""
        return self.target / version.folder / mark_name(self.layout, name, version.mark)

    def list_missing(self, name: str) -> list[Version]:
        """Return the versions of an image, tar or table that do not exist yet."""
        return [version for version in self.versions if not self.locate(version, name).exists()]

    def make_version(
        self, image: Image, version: Version, key: str, output: str, result: ExportResult
    ) -> bytes:
        """Return a version of an image, encoded for the file name ``output``.

        The image and its CPU time are counted in ``result``.
        """
        start = time.process_time()
        changed, unusable = self.edit(image, version, key)
        result.broken.update(unusable)
        middle = time.process_time()
        encoded = encode(changed, output)
        result.corrupt_seconds += middle - start
        result.write_seconds += time.process_time() - middle
        result.written += 1
        return encoded


def mark_name(layout: str, name: str, mark: str) -> str:
    """Return the name of an image with a mark, placed so that label files still match.

    It is before the suffix, and in Cityscapes after the frame number.
    """
    if not mark:
        return name
    path = PurePosixPath(name)
    before, after = path.stem, ""
    if layout == "cityscapes":
        before, after = split_cityscapes_stem(path.stem)
    return str(path.with_name(before + mark + after + path.suffix))


def split_cityscapes_stem(stem: str) -> tuple[str, str]:
    """Split a Cityscapes file's stem into the part shared by an image's files, and the rest."""
    frame, kind, rest = stem.partition("_leftImg8bit")
    return frame, kind + rest


def name_output(name: str, image_format: ImageFormat) -> str:
    """Return the file name of a changed image.

    An unknown suffix (``frame.0001``) is kept, and the new one is appended.

    Raises:
        InputError: "source" with a format that cannot hold full color.
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
    """Return the file name of a changed image in a row of a table.

    With "source", an image without a name, or whose format cannot be written, stays a JPEG if it is
    one, and becomes a PNG otherwise.
    """
    if image_format != "source":
        return name_output(path or "image", image_format)
    if path is not None and PurePosixPath(path).suffix.lower() in _WRITER.keys() - {""}:
        return path
    suffix = ".jpg" if data[:2] == b"\xff\xd8" else ".png"
    return str(PurePosixPath(path or "image").with_suffix(suffix))


def encode(image: Image, name: str) -> bytes:
    """Encode an image in the format of the name's suffix."""
    buffer = io.BytesIO()
    image_format, options = _WRITER[PurePosixPath(name).suffix.lower()]
    PillowImage.fromarray(image).save(buffer, image_format, **options)
    return buffer.getvalue()
