"""A cache of decoded images in a temporary file of one process."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from typing import IO

import numpy as np

from shiftproof.compute.tuning import count_usable_cores
from shiftproof.types import Image

MAX_BYTES = 8 * 10**9
"""Largest size of a cache: 50,000 images of 224 x 224 pixels are 7.5 GB."""


class ImageCache:
    """Images by name in an unnamed temporary file, which is deleted when the process ends, even if killed.

    For tasks on a cluster, each of which runs the same images in another cell. It is pickled empty: every
    process has its own. Images that do not fit are made again each time.

    Args:
        limit: largest size in bytes; None uses half of the free disk for all cores together, at most
            ``MAX_BYTES`` for each.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._offsets: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[ImageCache], tuple[int | None]]:
        """Pickle without the images."""
        return ImageCache, (self._limit,)

    def get(self, name: str, make: Callable[[], Image]) -> Image:
        """Return the image with this name, cached or made now."""
        with self._lock:
            if name in self._offsets:
                return self._read(*self._offsets[name])
        image = make()
        with self._lock:
            if name not in self._offsets:
                self._store(name, image)
        return image

    def _read(self, start: int, shape: tuple[int, ...]) -> Image:
        assert self._file is not None
        self._file.seek(start)
        data = self._file.read(math.prod(shape))
        return np.frombuffer(bytearray(data), np.uint8).reshape(shape)

    def _store(self, name: str, image: Image) -> None:
        if self._limit is None:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            self._limit = min(MAX_BYTES, free // (2 * count_usable_cores()))
        if self._size + image.nbytes > self._limit:
            return
        if not self._write(image):
            # The cache only saves time: on a full disk it is not used.
            self._limit = 0
            return
        self._offsets[name] = self._size, image.shape
        self._size += image.nbytes

    def _write(self, image: Image) -> bool:
        """Append an image; return whether there was room."""
        try:
            if self._file is None:
                # A buffered file would retry failed writes of a full disk, even when reading.
                self._file = tempfile.TemporaryFile("w+b", 0)  # noqa: SIM115 (ends with this object)
                weakref.finalize(self, self._file.close)
            self._file.seek(self._size)
            return self._file.write(np.ascontiguousarray(image).data) == image.nbytes
        except OSError:
            return False
