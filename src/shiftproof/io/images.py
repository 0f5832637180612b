"""Image files: recognizing them, and decoding upright RGB pixels."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import TiffImagePlugin, UnidentifiedImageError

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import describe_error
from shiftproof.io.placeholders import ensure_local
from shiftproof.io.png import drop_metadata
from shiftproof.types import U16, Image

Pixels = TypeVar("Pixels")

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
        ".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".mpo", ".jp2", ".j2k", ".avif", ".heic", ".heif",
    }
)  # fmt: skip
"""Suffixes of image files; the format is recognized by the first bytes."""

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "TIFF",
    "BMP",
    "DIB",
    "GIF",
    "PPM",
    "MPO",
    "JPEG2000",
    "AVIF",
    "HEIF",
)
"""Pillow's names of the formats that are decoded. Pillow knows more, and for one of them, PostScript, it
runs Ghostscript, whatever the file's suffix: reading an image would start a program."""

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded: a few bytes can claim any size. Pillow's default
limit is the same, so that its setting, which the whole process shares, need not be changed."""


def read_image(source: Path | bytes) -> Image:
    """Decode an image file to ``(H, W, 3)`` uint8 RGB, in upright orientation.

    The EXIF orientation is applied; palettes, CMYK and gray become RGB; 16-bit gray is scaled to
    8 bits, transparency is dropped, and of an animation the first frame is read. Damaged metadata are
    ignored: the image then counts as upright.

    Raises:
        BrokenFileError: the file is missing, empty, truncated, not an image, or above ``MAX_PIXELS``.
    """
    return _read(source, _to_rgb)


def read_indices(source: Path | bytes) -> NDArray[np.integer[Any]]:
    """Decode a label map to ``(H, W)`` integers as stored; for palettes the indices.

    Nothing is rotated, scaled or interpolated: each number is the label of its pixel.

    Raises:
        BrokenFileError: as :func:`read_image`; several channels; or a lossy format, such as JPEG.
    """
    name = source.name if isinstance(source, Path) else "image"
    return _read(source, lambda image: _to_indices(image, name))


def _read(source: Path | bytes, convert: Callable[[PillowImage.Image], Pixels]) -> Pixels:
    name = source.name if isinstance(source, Path) else "image"
    try:
        data = _read_bytes(source) if isinstance(source, Path) else source
    except OSError as error:
        raise BrokenFileError(f"{name}: cannot be read ({describe_error(error)}).") from error
    if not data:
        raise BrokenFileError(f"{name}: the file is empty.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata that does not touch the pixels; size is checked below.
            warnings.simplefilter("ignore")
            image = _open(data)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BrokenFileError(
                    f"{name}: {width} x {height} pixels is {_describe_limit(MAX_PIXELS)}"
                )
            return convert(_decode(image, data))
    except BrokenFileError:
        raise
    except PillowImage.DecompressionBombError as error:
        # Pillow checks first; a program may have lowered Pillow's limit, which then applies.
        limit = min(MAX_PIXELS, 2 * (PillowImage.MAX_IMAGE_PIXELS or MAX_PIXELS))
        raise BrokenFileError(f"{name}: the image is {_describe_limit(limit)}") from error
    except UnidentifiedImageError as error:
        raise BrokenFileError(f"{name}: not an image that can be decoded.") from error
    except Exception as error:
        # Decoders raise many types for damaged files: OSError, SyntaxError, struct.error, ...
        raise BrokenFileError(f"{name}: damaged image ({describe_error(error)}).") from error


def read_sixteen_bits(path: Path) -> U16:
    """Decode a 16-bit gray PNG, such as a depth map, to ``(H, W)`` with unchanged values.

    Raises:
        BrokenFileError: the file is missing, damaged, another kind of image, or above ``MAX_PIXELS``.
    """
    expected = "expected a gray PNG of 16 bits"
    ensure_local(path)
    try:
        image = PillowImage.open(io.BytesIO(_read_bytes(path)), formats=("PNG",))
        if image.mode not in ("I;16", "I"):
            raise BrokenFileError(f"{path}: {expected}, got one of mode {image.mode}.")
        if image.width * image.height > MAX_PIXELS:
            raise BrokenFileError(
                f"{path}: {image.width} x {image.height} pixels is {_describe_limit(MAX_PIXELS)}"
            )
        return np.asarray(image).astype(np.uint16)
    except BrokenFileError:
        raise
    except UnidentifiedImageError as error:
        raise BrokenFileError(f"{path}: {expected}.") from error
    except Exception as error:
        raise BrokenFileError(f"{path}: {expected} ({describe_error(error)}).") from error


def _read_bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file() and not path.is_dir():
        # A pipe would block, and a device might never end.
        raise BrokenFileError(f"{path.name}: not a regular file.")
    return ensure_local(path).read_bytes()


def decode_own(data: bytes) -> Image:
    """Decode a JPEG or PNG file that this process has encoded."""
    with PillowImage.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
        return np.asarray(image, dtype=np.uint8)


def read_size(source: Path | bytes) -> tuple[int, int] | None:
    """Return width and height of an image as it is read, None where it cannot be.

    Only the header is read.
    """
    if isinstance(source, Path):
        ensure_local(source)
    # Damaged headers raise many types of errors; reading the image reports them.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(source, bytes) or source.is_file():
            with _open(source) as image:
                width, height = _read_stored_size(image)
                is_turned = _read_orientation(image) in _QUARTER_TURNS
                return (height, width) if is_turned else (width, height)
    return None


def read_mode(path: Path) -> str | None:
    """Return Pillow's mode of an image ("L", "P", "RGB"); None if it cannot be read.

    Only the header is read.
    """
    ensure_local(path)
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_file():
            with _open(path) as image:
                return str(image.mode)
    return None


def _open(source: bytes | Path) -> PillowImage.Image:
    """Open an image by its header; damaged metadata of a PNG are ignored."""
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        return PillowImage.open(file, formats=_list_formats())
    except Exception:
        data = source if isinstance(source, bytes) else source.read_bytes()
        stripped = drop_metadata(data)
        if stripped == data:
            raise
        return PillowImage.open(io.BytesIO(stripped), formats=_list_formats())


def _decode(image: PillowImage.Image, data: bytes) -> PillowImage.Image:
    """Load the pixels of an opened image; Pillow reads a PNG's last metadata with them."""
    try:
        image.load()
    except Exception:
        stripped = drop_metadata(data)
        if stripped == data:
            raise
        image = PillowImage.open(io.BytesIO(stripped), formats=_list_formats())
        image.load()
    return image


def _read_stored_size(image: PillowImage.Image) -> tuple[int, int]:
    """Return width and height as stored; for a TIFF some versions of Pillow swap them."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2[_WIDTH_TAG]), int(image.tag_v2[_HEIGHT_TAG])
    return image.size


_WIDTH_TAG, _HEIGHT_TAG = 256, 257


def _list_formats() -> list[str]:
    PillowImage.init()
    return [name for name in FORMATS if name in PillowImage.OPEN]


def _describe_limit(pixels: int) -> str:
    return f"more than the limit of {pixels // 1_000_000} megapixels; scale it down first."


_ORIENTATION_TAG = 0x0112

_ORIENTATIONS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
"""Transform that undoes each EXIF orientation; 1 is upright."""

_QUARTER_TURNS = frozenset({5, 6, 7, 8})


def _read_orientation(image: PillowImage.Image) -> int:
    """Return the orientation of EXIF or XMP; upright where neither can be read."""
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        return orientation if isinstance(orientation, int) else 1
    return 1


def _to_rgb(image: PillowImage.Image) -> Image:
    transposition = _ORIENTATIONS.get(_read_orientation(image))
    upright = image if transposition is None else image.transpose(transposition)
    if upright.mode == "F":
        raise ValueError("a floating-point image; save it as 8 or 16 bit")
    if upright.mode.startswith("I"):
        # 16-bit gray, "I;16" or in older Pillow "I": convert("RGB") would clip it at 255.
        gray = np.clip(np.asarray(upright).astype(np.int64) // 257, 0, 255).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    return np.asarray(upright.convert("RGB"), dtype=np.uint8)


_LOSSLESS = frozenset({"PNG", "TIFF", "BMP", "DIB", "GIF", "PPM"})


def _to_indices(image: PillowImage.Image, name: str) -> NDArray[np.integer[Any]]:
    if image.format not in _LOSSLESS:
        raise BrokenFileError(
            f"{name}: expected a label map in a lossless format, got {image.format}; save it as PNG."
        )
    if image.mode in ("1", "L", "P"):
        # Mode "1" gives 0 and 1.
        return np.array(image, dtype=np.uint8)
    if image.mode.startswith("I"):
        return np.array(image).astype(np.int32)
    raise BrokenFileError(
        f"{name}: expected a label map, one number per pixel, got an image of mode {image.mode}; "
        "convert the colors of a painted map to class numbers first."
    )


def is_image(path: Path) -> bool:
    """Return whether a name has the suffix of an image file and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
