"""How a corrupted image is written: formats, what was done, and what a worker needs for it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image as PillowImage

from shiftproof.corruptions import CorruptionFunction
from shiftproof.errors import InputError
from shiftproof.types import Cell, Image

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
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".webp": ("WEBP", {"lossless": True}),
}


@dataclass
class Exported:
    """What ``export_corrupted`` did, and where the time went.

    ``written`` images now, ``kept`` images that were there (of tar files, the shards), ``carried``
    other files that were copied, linked or rewritten now, ``broken`` sources by id with the reason.
    The seconds are CPU time summed over the workers; ``write`` is encoding and writing.
    """

    written: int = 0
    kept: int = 0
    carried: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    decode_seconds: float = 0.0
    corrupt_seconds: float = 0.0
    write_seconds: float = 0.0

    def add(self, other: Exported) -> None:
        """Add what another one did."""
        self.written += other.written
        self.kept += other.kept
        self.carried += other.carried
        self.broken |= other.broken
        self.decode_seconds += other.decode_seconds
        self.corrupt_seconds += other.corrupt_seconds
        self.write_seconds += other.write_seconds


@dataclass(frozen=True)
class Job:
    """What a worker needs to corrupt any image of ``root``; ``cells`` are all of the grid's."""

    root: Path
    target: Path
    corruptions: dict[str, str | CorruptionFunction]
    cells: tuple[Cell, ...]
    seed: int
    image_format: ImageFormat

    def path(self, cell: Cell, name: str) -> Path:
        """Return where a file of a cell lies."""
        return cell_folder(self.target, cell) / name


def cell_folder(target: Path, cell: Cell) -> Path:
    """Return the folder of a cell."""
    return target / cell.corruption / str(cell.severity)


def written_name(name: str, image_format: ImageFormat) -> str:
    """Return what an image is called once it is written.

    Raises:
        InputError: "source" for a format that cannot hold any picture in full colour.
    """
    path = PurePosixPath(name)
    if image_format != "source":
        return str(path.with_suffix(SUFFIX[image_format]))
    if path.suffix.lower() not in _WRITER:
        raise InputError(
            f"{name}: a corrupted image cannot be kept in this format; choose the format png."
        )
    return name


def encode(image: Image, name: str) -> bytes:
    """Return the bytes of an image file in the format that its name says."""
    buffer = io.BytesIO()
    image_format, options = _WRITER[PurePosixPath(name).suffix.lower()]
    PillowImage.fromarray(image).save(buffer, image_format, **options)
    return buffer.getvalue()
