"""Decoded images of one process, on its disk for as long as it lives."""

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

MOST_BYTES = 8 * 10**9
"""The most that is kept: 50,000 images of 224 x 224 pixels are 7.5 GB."""


class KeptImages:
    """Images by name in a temporary file without a name, which ends with the process, however that ends.

    For tasks on a cluster, each of which shows the same images in another cell. Pickles empty: every
    process keeps its own. What does not fit is made anew each time.

    Args:
        limit: bytes that are kept; None takes half of the free disk for all cores together, at most
            ``MOST_BYTES`` for each.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._end = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[KeptImages], tuple[int | None]]:
        """Leave the images behind."""
        return KeptImages, (self._limit,)

    def get(self, name: str, make: Callable[[], Image]) -> Image:
        """Return the image of a name, from the file or made now."""
        with self._lock:
            if name in self._places:
                return self._read(*self._places[name])
        image = make()
        with self._lock:
            if name not in self._places:
                self._keep(name, image)
        return image

    def _read(self, start: int, shape: tuple[int, ...]) -> Image:
        assert self._file is not None
        self._file.seek(start)
        data = self._file.read(math.prod(shape))
        return np.frombuffer(bytearray(data), np.uint8).reshape(shape)

    def _keep(self, name: str, image: Image) -> None:
        if self._limit is None:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            self._limit = min(MOST_BYTES, free // (2 * count_usable_cores()))
        if self._end + image.nbytes > self._limit:
            return
        if not self._write(image):
            # Only there for speed: without room it is done without.
            self._limit = 0
            return
        self._places[name] = self._end, image.shape
        self._end += image.nbytes

    def _write(self, image: Image) -> bool:
        """Write an image behind the others; return whether there was room."""
        try:
            if self._file is None:
                # A buffer would go on trying to write what a full disk refused, also on reading.
                self._file = tempfile.TemporaryFile("w+b", 0)  # noqa: SIM115 (ends with this object)
                weakref.finalize(self, self._file.close)
            self._file.seek(self._end)
            return self._file.write(np.ascontiguousarray(image).data) == image.nbytes
        except OSError:
            return False
