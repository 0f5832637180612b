"""The border to the disk: atomic writes, fingerprints, and safe readers for untrusted input."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import pickle
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.types import Image

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}
)

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded: a few bytes can claim to be any size. It is
where Pillow refuses by default, too, so that no setting of the whole process has to be changed."""


# ---------------------------------------------------------------- reading images and arrays


def read_image(source: Path | bytes) -> Image:
    """Decode an image file to ``(H, W, 3)`` uint8 RGB as a person would see it.

    The EXIF orientation is applied, palettes, CMYK and grey become RGB, 16-bit grey is scaled to
    8 bits, transparency is dropped, and of an animation the first frame is taken.

    Raises:
        BrokenFileError: the file is missing, empty, truncated, no image, or above ``MAX_PIXELS``.
    """
    name = source.name if isinstance(source, Path) else "image"
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise BrokenFileError(f"{name}: cannot be read ({_reason(error)}).") from error
    if not data:
        raise BrokenFileError(f"{name}: the file is empty.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata that does not touch the pixels; size is checked below.
            warnings.simplefilter("ignore")
            image = PillowImage.open(io.BytesIO(data))
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BrokenFileError(
                    f"{name}: {width} x {height} pixels is {_above_the_limit(MAX_PIXELS)}"
                )
            image.load()
            return _to_rgb(image)
    except BrokenFileError:
        raise
    except PillowImage.DecompressionBombError as error:
        # Pillow counts the pixels first; its own limit can be lowered, and then it is the one.
        limit = min(MAX_PIXELS, 2 * (PillowImage.MAX_IMAGE_PIXELS or MAX_PIXELS))
        raise BrokenFileError(f"{name}: the image is {_above_the_limit(limit)}") from error
    except UnidentifiedImageError as error:
        raise BrokenFileError(f"{name}: not an image that can be decoded.") from error
    except Exception as error:
        # A decoder that meets a damaged file raises anything: OSError, SyntaxError, struct.error, ...
        raise BrokenFileError(f"{name}: damaged image ({_reason(error)}).") from error


def _above_the_limit(pixels: int) -> str:
    return f"more than the limit of {pixels // 1_000_000} megapixels; scale it down first."


def _to_rgb(image: PillowImage.Image) -> Image:
    oriented = ImageOps.exif_transpose(image)
    if oriented.mode == "F":
        raise ValueError("a floating-point image; save it as 8 or 16 bit")
    if oriented.mode.startswith("I"):
        # 16-bit grey, "I;16" or in older Pillow "I": convert("RGB") would clip it at 255.
        grey = np.clip(np.asarray(oriented).astype(np.int64) // 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if oriented.mode == "P" and "transparency" in oriented.info:
        oriented = oriented.convert("RGBA")
    return np.asarray(oriented.convert("RGB"), dtype=np.uint8)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


@dataclass(frozen=True)
class ArrayFile:
    """A ``.npy`` file that stays on the disk: small to pickle, and read where it is used.

    It is not mapped into memory: a process that meets a mapped file cut short is killed.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    size: int

    def read(self, start: int, count: int) -> NDArray[Any]:
        """Return ``count`` rows from ``start`` on as an array of their own.

        Raises:
            BrokenFileError: the file is gone, or is not the one any more that was opened.
        """
        row = math.prod(self.shape[1:])
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != self.size:
                    raise BrokenFileError(f"{self.path}: it was changed after it was opened.")
                file.seek(self.offset + start * row * self.dtype.itemsize)
                values = np.fromfile(file, self.dtype, count * row)
        except OSError as error:
            raise BrokenFileError(f"{self.path}: cannot be read ({_reason(error)}).") from error
        return values.reshape(count, *self.shape[1:])


def open_array(path: Path) -> ArrayFile:
    """Open a ``.npy`` file of one dimension or more.

    Nothing in the file is executed: arrays of Python objects (pickles) are refused.

    Raises:
        BrokenFileError: it is missing, no ``.npy`` file, damaged, or shorter than it claims.
    """
    try:
        array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="r")
        size = path.stat().st_size
    except OSError as error:
        raise BrokenFileError(f"{path}: cannot be read ({_reason(error)}).") from error
    except Exception as error:
        # As with images, what reads a damaged header raises anything: SyntaxError, TypeError, ...
        raise BrokenFileError(
            f"{path}: no array in NumPy's .npy form ({_reason(error)})."
        ) from error
    if array.ndim == 0 or not array.flags.c_contiguous:
        raise BrokenFileError(
            f"{path}: expected an array that is stored row by row; save it by "
            "numpy.save(path, numpy.ascontiguousarray(array))."
        )
    return ArrayFile(path, array.shape, array.dtype, array.offset, size)


def is_image(path: Path) -> bool:
    """Whether the name ends like an image file; hidden files do not count."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that appears under ``path`` whole or not at all.

    ``durable=False`` does not wait for the disk: for caches that a power cut may cost. An error of
    the block's own, an OSError too, comes out as it is; nothing is left of the file then.

    Raises:
        RunError: the disk is full.
        InputError: the folder is read-only or not there.
    """
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent
        )
    except OSError as error:
        raise disk_error(path, error) from error
    temporary = Path(name)
    raw = _Target(descriptor, "wb")
    try:
        with io.BufferedWriter(raw) as file:
            yield file
            file.flush()
            with raw.watched():
                if durable:
                    os.fsync(file.fileno())
        with raw.watched():
            # mkstemp makes files that only the owner may read; give the usual rights back.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    except OSError as error:
        if raw.failure is None:
            # The caller's own, met while it made what it wanted to write.
            raise
        raise disk_error(path, raw.failure) from error
    finally:
        # After a success it has moved away.
        with contextlib.suppress(OSError):
            temporary.unlink()


class _Target(io.FileIO):
    """A file that remembers the error that its own writing met, also when the caller wraps it."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        with self.watched():
            return super().write(data)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error
            raise


def disk_error(path: Path, error: OSError) -> Exception:
    """Turn an OSError met while writing ``path`` into the sentence that a person can act on."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"The disk is full: {path} could not be written. Free some space and start the same "
            "command again; what is finished is kept."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(
            f"{path.parent} cannot be written to ({_reason(error)}). Choose another output folder."
        )
    return InputError(f"{path} cannot be written ({_reason(error)}).")


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically."""
    with atomic(path, durable=durable) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: the same value gives the same bytes."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode("utf-8") + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BrokenFileError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BrokenFileError(f"{path}: cannot be read ({_reason(error)}).") from error
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{path}: not valid JSON ({_reason(error)}).") from error


def read_plain_pickle(path: Path, allowed: Collection[tuple[str, str]]) -> Any:
    """Read a pickle of plain values, of which nothing runs but what ``allowed`` names.

    Args:
        path: the file.
        allowed: module and name of each function or class that it may name.

    Raises:
        BrokenFileError: it is missing, no pickle, or names anything else.
    """

    class Plain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in allowed:
                raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
            return super().find_class(module, name)

    try:
        with path.open("rb") as file:
            return Plain(file).load()
    except OSError as error:
        raise BrokenFileError(f"{path}: cannot be read ({_reason(error)}).") from error
    except Exception as error:  # a damaged pickle raises anything
        raise BrokenFileError(
            f"{path}: not a pickle of plain values ({_reason(error)})."
        ) from error


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, and return it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{path} is a file; expected a folder.") from error
    except OSError as error:
        raise disk_error(path, error) from error
    return path


# ---------------------------------------------------------------- fingerprints


def fingerprint(parts: Iterable[bytes]) -> str:
    """Return 32 hex digits that change when any of ``parts`` changes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return 32 hex digits of a file's content; one that cannot be read has a digest of its own."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        digest.update(f"unreadable: {error.errno}".encode())
    return digest.hexdigest()


def file_fingerprints(paths: Iterable[Path]) -> list[str]:
    """Return the fingerprints of many files, read in parallel, in the given order."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(file_fingerprint, paths))
