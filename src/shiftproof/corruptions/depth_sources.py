"""Where depth maps come from: files beside the images, or a model of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from shiftproof.corruptions.checks import CorruptionFunction, Random
from shiftproof.corruptions.depth import FUNCTIONS, METERS, check_depth
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io.arrays import read_array
from shiftproof.io.files import file_fingerprints, fingerprint, is_file
from shiftproof.io.images import read_sixteen_bits
from shiftproof.types import F32, Image

TASKONOMY = 8000
"""The 16-bit value of a depth of 1, at 512 a meter; values from it on are invalid."""


class DepthSource(Protocol):
    """Provides the depth maps of images, 0 at the camera, 1 at 15.6 m."""

    @property
    def identity(self) -> str:
        """Its name in records."""

    def find(self, image: Image, key: str) -> F32:
        """Return the depth map ``(H, W)`` of the image that ``key`` names.

        Raises:
            InputError: no depth map.
            BrokenFileError: it cannot be read.
        """


@dataclass(frozen=True)
class DepthFolder:
    """Depth maps in files: ``FOLDER/<path of the image>.png`` or ``.npy``, the image's suffix
    replaced.

    A PNG has 16 bits a pixel, 512 a meter, as Taskonomy's: values from 8,000 on are invalid, and
    replaced by the largest valid one. An array is floating, in meters.

    Attributes:
        folder: the folder.
    """

    folder: Path

    @property
    def identity(self) -> str:
        """Its name in records: files, with a fingerprint of them all."""
        return f"depth from files ({_fingerprint(self.folder)})"

    def find(self, image: Image, key: str) -> F32:
        """Return the depth map of an image."""
        path = PurePosixPath(key)
        stem = self.folder / path.with_suffix("") if path.suffix else self.folder / path
        for suffix, read in ((".npy", _read_meters), (".png", _read_taskonomy)):
            file = stem.with_name(stem.name + suffix)
            if is_file(file):
                depth = read(file)
                if depth.shape != image.shape[:2]:
                    raise BrokenFileError(
                        f"{file}: expected a depth map of the image's size {image.shape[:2]}, got "
                        f"{depth.shape}."
                    )
                return depth
        raise InputError(
            f"No depth map of {key}: expected {stem.name}.png or {stem.name}.npy in {stem.parent}."
        )


@cache
def _fingerprint(folder: Path) -> str:
    """Return a fingerprint of the names and contents of a folder's depth maps."""
    paths = sorted(path for suffix in ("png", "npy") for path in folder.rglob(f"*.{suffix}"))
    names = [path.relative_to(folder).as_posix() for path in paths]
    entries = zip(names, file_fingerprints(paths), strict=True)
    return fingerprint(f"{name} {digest}\n".encode() for name, digest in entries)


def _read_meters(path: Path) -> F32:
    depth = read_array(path)
    if depth.ndim != 2 or depth.dtype.kind != "f":
        raise BrokenFileError(
            f"{path}: expected meters as a floating array (H, W), got {depth.dtype} {depth.shape}."
        )
    return np.asarray(depth / METERS, dtype=np.float32)


def _read_taskonomy(path: Path) -> F32:
    depth = read_sixteen_bits(path).astype(np.float32) / TASKONOMY
    measured = depth[depth < 1]
    if measured.size == 0:
        raise BrokenFileError(f"{path}: no pixel has a depth below {TASKONOMY}.")
    return np.asarray(np.where(depth < 1, depth, measured.max()), dtype=np.float32)


@dataclass(frozen=True)
class WithDepth:
    """A corruption with a source of its depth maps, called like any other.

    Attributes:
        name: name of the corruption.
        source: source of the depth maps.
        key: name of the image, if the source needs it.
    """

    name: str
    source: DepthSource
    key: str = ""

    def __call__(self, image: Image, severity: float, rng: Random) -> Image:
        """Return a corrupted copy."""
        depth = check_depth(self.source.find(image, self.key), image, self.name)
        return FUNCTIONS[self.name](image, severity, rng, depth)

    def of_image(self, key: str) -> WithDepth:
        """Return the same for the image that ``key`` names."""
        return replace(self, key=key)

    @property
    def __name__(self) -> str:
        """The corruption's own name, by which it is keyed."""
        return self.name

    @property
    def identity(self) -> str:
        """Its name in records."""
        return f"{self.name} with {self.source.identity}"


def with_depth(name: str, source: DepthSource) -> WithDepth:
    """Return a corruption with a source of depth maps, for datasets and runs.

    Raises:
        UnknownNameError: no such corruption, or one that needs no depth.
    """
    if name not in FUNCTIONS:
        raise UnknownNameError.of("corruption by depth", name, FUNCTIONS)
    return WithDepth(name, source)


def bind_image(corruption: str | CorruptionFunction, key: str) -> str | CorruptionFunction:
    """Return a corruption for one image; those that need no depth are unchanged."""
    return corruption.of_image(key) if isinstance(corruption, WithDepth) else corruption
