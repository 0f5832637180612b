"""Views load the image in a cell of the grid: corrupted on the fly, or read from a -C tree.

Worker processes receive a view: it is small to pickle and needs no torch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from PIL import Image as PillowImage

from shiftproof.bench.cells.image_cache import ImageCache
from shiftproof.corruptions import corrupt
from shiftproof.corruptions.depth_sources import bind_image
from shiftproof.data.images.opening import open_copies, pair_copies
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
    """Loads the image of a sample in a cell as the model's input: uint8, resized, not normalized."""

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the image, or raise BrokenFileError."""
        ...

    def settings(self) -> Settings:
        """Return the settings that determine the pixels, besides the data and the model's geometry."""
        ...


class OnTheFly:
    """Read, resize and crop for the model, then corrupt, in the order of ImageNet-C.

    ``corruptions`` maps names to the names or functions that ``corrupt`` takes. ``cache`` is a folder for
    the resized images, so that each file is decoded only once for all cells; ``process_cache`` is the
    cache of one process on a cluster, where no folder is shared.
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
        self.process_cache: ImageCache | None = None

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the corrupted image; the error of a failed corruption names it and the image."""
        if cell.is_clean:
            return self._load_clean(sample)
        return self.load_at(sample, cell.corruption, cell.severity)

    def load_at(self, sample: Sample, corruption: str, severity: float) -> Image:
        """Return the image at a severity that may be fractional; all severities share their noise."""
        clean = self._load_clean(sample)
        try:
            image = corrupt(
                clean,
                bind_image(self.corruptions[corruption], sample.id),
                severity=severity,
                seed=self.seed,
                key=sample.id,
            )
        except ShiftproofError as error:
            # The image was readable, so this is not a broken file: using the clean image instead, or
            # leaving it out, would falsify the cell.
            error.args = (f"{corruption}-{severity:g} of {sample.id}: {error}",)
            raise
        return round_trip_jpeg(image) if self.encode == "jpeg" else image

    def settings(self) -> Settings:
        """Return the settings that determine the pixels."""
        return {"source": "on the fly", "seed": self.seed, "encode": describe_encoding(self.encode)}

    def _load_clean(self, sample: Sample) -> Image:
        if self.process_cache is not None:
            return self.process_cache.get(sample.id, lambda: self._read(sample))
        if self.cache is None:
            return self._read(sample)
        path = self.cache / f"{files.fingerprint([sample.id.encode()])}.npy"
        try:
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.uint8)
        except (OSError, ValueError, EOFError):
            image = self._read(sample)
        try:
            buffer = io.BytesIO()
            np.save(buffer, image, allow_pickle=False)
            files.write_bytes(path, buffer.getvalue(), durable=False)
        except ShiftproofError:
            # The cache only saves time: on a full disk it is not used.
            self.cache = None
        return image

    def _read(self, sample: Sample) -> Image:
        return resize(self.geometry, self.data.read(sample), sample)


class FromDisk:
    """Read each cell of a -C dataset as published; the clean cell from the clean dataset."""

    def __init__(
        self, data: CorruptedData, geometry: Geometry, size: tuple[int, int] | None
    ) -> None:
        self.data = data
        self.geometry = geometry
        self.size = size

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the dataset's image for this cell.

        An image of the model's input size is unchanged: the files of ImageNet-C were resized and cropped
        before they were corrupted, and are not resized and cropped again.
        """
        image = self.data.read_cell(sample, cell)
        return image if image.shape[:2] == self.size else resize(self.geometry, image, sample)

    def settings(self) -> Settings:
        """Return the settings that determine the pixels."""
        return {"source": "from disk", "taken as they are": self.size and list(self.size)}


def resize(geometry: Geometry, image: Image, sample: Sample) -> Image:
    """Resize an image for the model; one that cannot be resized, such as a thin strip, is a broken file."""
    try:
        return geometry(image)
    except ImageError as error:
        raise BrokenFileError(f"{sample.id}: {error}") from error


def round_trip_jpeg(image: Image) -> Image:
    """Save to JPEG and read back, as for the published files of ImageNet-C."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return decode_own(buffer.getvalue())


def describe_encoding(encode: Encode) -> str:
    """Return how the images were encoded between corruption and model, for the record."""
    return f"jpeg quality {JPEG_QUALITY}" if encode == "jpeg" else "none"


def as_loaded(image: Image) -> Image:
    """Return an image ``(H, W, 3)`` unchanged: detectors take the full size (Michaelis et al. 2019)."""
    return image


class FromTree:
    """Read the cells of a corrupted copy of a dataset; the clean cell from the dataset.

    Args:
        data: the clean dataset, with its boxes or label maps.
        tree: its corrupted copies, ``corruption/severity/<path of the image>``, which may have other
            suffixes.

    Raises:
        InputError: the tree has none of the images.
    """

    def __init__(self, data: DetectionData | SegmentationData, tree: CorruptedData) -> None:
        self.data = data
        self.tree = tree
        self.twins = pair_copies(data, tree)

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell, which must have the size of the annotated image."""
        if cell.is_clean:
            return self.data.read(sample)
        name = self.twins[sample.id]
        if name is None:
            raise BrokenFileError(f"{sample.id}: {self.tree.name} does not have it.")
        image = self.tree.read_cell(Sample(name), cell)
        height, width = self.data.get_size(sample)
        if image.shape[:2] != (height, width):
            raise BrokenFileError(
                f"{cell}: {name} has {image.shape[1]} x {image.shape[0]} pixels, and its "
                f"{self.data.annotations} in {width} x {height}."
            )
        return image

    def settings(self) -> Settings:
        """Return the settings that determine the pixels."""
        return {"source": "from disk", "tree": self.tree.settings()}


def open_tree(
    corrupted: CorruptedData | str | Path | None, data: DetectionData | SegmentationData
) -> CorruptedData | None:
    """Return the corrupted copies of data with annotations; opens a path.

    Raises:
        InputError: no such tree, or a tree with none of the images.
    """
    if isinstance(corrupted, str | Path):
        return open_copies(corrupted, data)
    return corrupted


def make_full_size_view(
    data: DetectionData | SegmentationData,
    tree: CorruptedData | None,
    corruptions: Mapping[str, str | Callable[..., Image]],
    seed: int,
    encode: Encode,
) -> View:
    """Return the view of annotated data at full size: corrupted on the fly, or read from a tree.

    Raises:
        InputError: the tree has none of the images, or ``encode`` is not "none" for a tree.
    """
    if tree is None:
        return OnTheFly(data, as_loaded, corruptions, seed=seed, encode=encode)
    if encode != "none":
        raise InputError("The corrupted copies are read as they are; leave encode out.")
    return FromTree(data, tree)
