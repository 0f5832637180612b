"""The image that stands in a cell of the grid: corrupted on the fly, or read from a -C tree.

A view is what worker processes get: it is small to pickle and needs no torch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from PIL import Image as PillowImage

from shiftproof.bench.kept_images import KeptImages
from shiftproof.corruptions import corrupt
from shiftproof.corruptions.depth_sources import bind_image
from shiftproof.data.images.dataset import open_copies, pair_copies
from shiftproof.errors import BrokenFileError, ImageError, InputError, ShiftproofError
from shiftproof.io import files
from shiftproof.io.images import decode_own
from shiftproof.types import Cell, Image, Sample, Settings

if TYPE_CHECKING:
    from shiftproof.data import CorruptedData, DetectionData, ImageData, SegmentationData

Encode = Literal["none", "jpeg"]
Geometry = Callable[[Image], Image]

JPEG_QUALITY = 85
"""The quality at which the published ImageNet-C files were saved after the corruption."""


class View(Protocol):
    """Gives the image of a sample in a cell, as the model gets it: uint8, resized, not normalized."""

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the image, or raise BrokenFileError."""
        ...

    def settings(self) -> Settings:
        """Return what decides the pixels, besides the data and the model's geometry."""
        ...


class OnTheFly:
    """Read, resize and crop as the model wants, then corrupt: the order of ImageNet-C.

    ``corruptions`` maps a name to what ``corrupt`` takes: the name itself or a function.
    ``cache`` is a folder for the resized images, so that each file is decoded once for all cells;
    ``kept`` does that in each process of a cluster, which shares no folder.
    """

    def __init__(
        self,
        data: ImageData,
        geometry: Geometry,
        corruptions: Mapping[str, str | Callable[..., Image]],
        *,
        seed: int,
        encode: Encode = "none",
        cache: Path | None = None,
    ) -> None:
        self.data = data
        self.geometry = geometry
        self.corruptions = dict(corruptions)
        self.seed = seed
        self.encode = encode
        self.cache = cache
        self.kept: KeptImages | None = None

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the corrupted image; a corruption that fails names itself and the image."""
        if cell.is_clean:
            return self._clean(sample)
        return self.load_at(sample, cell.corruption, cell.severity)

    def load_at(self, sample: Sample, corruption: str, severity: float) -> Image:
        """Return the image at any severity, as whole ones are: they share their noise."""
        clean = self._clean(sample)
        try:
            image = corrupt(
                clean,
                bind_image(self.corruptions[corruption], sample.id),
                severity=severity,
                seed=self.seed,
                key=sample.id,
            )
        except ShiftproofError as error:
            # The image was readable, so this is no broken file: scoring the clean image instead,
            # or leaving it out, would falsify the cell.
            error.args = (f"{corruption}-{severity:g} of {sample.id}: {error}",)
            raise
        return through_jpeg(image) if self.encode == "jpeg" else image

    def settings(self) -> Settings:
        """Return what decides the pixels."""
        return {"source": "on the fly", "seed": self.seed, "encode": encode_settings(self.encode)}

    def _clean(self, sample: Sample) -> Image:
        if self.kept is not None:
            return self.kept.get(sample.id, lambda: self._read(sample))
        if self.cache is None:
            return self._read(sample)
        kept = self.cache / f"{files.fingerprint([sample.id.encode()])}.npy"
        try:
            return np.asarray(np.load(kept, allow_pickle=False), dtype=np.uint8)
        except (OSError, ValueError, EOFError):
            image = self._read(sample)
        try:
            buffer = io.BytesIO()
            np.save(buffer, image, allow_pickle=False)
            files.write_bytes(kept, buffer.getvalue(), durable=False)
        except ShiftproofError:
            # The cache is only there for speed: without room it is done without.
            self.cache = None
        return image

    def _read(self, sample: Sample) -> Image:
        return resize(self.geometry, self.data.read(sample), sample)


class FromDisk:
    """Read each cell of a -C dataset as it was published; the clean cell from its clean twin."""

    def __init__(
        self, data: CorruptedData, geometry: Geometry, size: tuple[int, int] | None
    ) -> None:
        self.data = data
        self.geometry = geometry
        self.size = size

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the image that the dataset holds for this cell.

        One that has the model's input size is taken as it is: the files of ImageNet-C were resized
        and cropped before they were corrupted, and are not resized and cropped once more.
        """
        image = self.data.read_cell(sample, cell)
        return image if image.shape[:2] == self.size else resize(self.geometry, image, sample)

    def settings(self) -> Settings:
        """Return what decides the pixels."""
        return {"source": "from disk", "taken as they are": self.size and list(self.size)}


def resize(geometry: Geometry, image: Image, sample: Sample) -> Image:
    """Bring an image into the model's size; one that cannot be (a strip of pixels) is a broken file."""
    try:
        return geometry(image)
    except ImageError as error:
        raise BrokenFileError(f"{sample.id}: {error}") from error


def through_jpeg(image: Image) -> Image:
    """Save to JPEG and read back, as for the published files of ImageNet-C."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return decode_own(buffer.getvalue())


def encode_settings(encode: Encode) -> str:
    """Say in the record what was done between corruption and model."""
    return f"jpeg quality {JPEG_QUALITY}" if encode == "jpeg" else "none"


def as_loaded(image: Image) -> Image:
    """Return an image ``(H, W, 3)`` as it is: detectors take the full size (Michaelis et al. 2019)."""
    return image


class FromTree:
    """Read the cells of a corrupted copy of a dataset; the clean cell from the dataset.

    Args:
        data: the dataset as it was, with its boxes or label maps.
        tree: its corrupted copies, ``corruption/severity/<path of the image>``, whose files may have
            another suffix.

    Raises:
        InputError: the tree has none of the images.
    """

    def __init__(self, data: DetectionData | SegmentationData, tree: CorruptedData) -> None:
        self.data = data
        self.tree = tree
        self.twins = pair_copies(data, tree)

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell, which must have the size that its annotations were made in."""
        if cell.is_clean:
            return self.data.read(sample)
        name = self.twins[sample.id]
        if name is None:
            raise BrokenFileError(f"{sample.id}: {self.tree.name} does not have it.")
        image = self.tree.read_cell(Sample(name), cell)
        height, width = self.data.size_of(sample)
        if image.shape[:2] != (height, width):
            raise BrokenFileError(
                f"{cell}: {name} has {image.shape[1]} x {image.shape[0]} pixels, and its "
                f"{self.data.annotations} in {width} x {height}."
            )
        return image

    def settings(self) -> Settings:
        """Return what decides the pixels."""
        return {"source": "from disk", "tree": self.tree.settings()}


def open_tree(
    corrupted: CorruptedData | str | Path | None, data: DetectionData | SegmentationData
) -> CorruptedData | None:
    """Return the corrupted copies of data with annotations, opened if they are given by path.

    Raises:
        InputError: no such tree, or one that has none of the images.
    """
    if isinstance(corrupted, str | Path):
        return open_copies(corrupted, data)
    return corrupted


def view_full_size(
    data: DetectionData | SegmentationData,
    tree: CorruptedData | None,
    corruptions: Mapping[str, str | Callable[..., Image]],
    seed: int,
    encode: Encode,
) -> View:
    """Return the images of data with annotations as they are loaded: corrupted here, or of a tree.

    Raises:
        InputError: the tree has none of the images, or those are to be encoded.
    """
    if tree is None:
        return OnTheFly(data, as_loaded, corruptions, seed=seed, encode=encode)
    if encode != "none":
        raise InputError("The corrupted copies are read as they are; leave encode out.")
    return FromTree(data, tree)
