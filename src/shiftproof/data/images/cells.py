"""Datasets of precomputed corruptions: the same images in many cells."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable

from shiftproof.corruptions import CORRUPTIONS
from shiftproof.data.dataset import ImageData
from shiftproof.data.disk import shorten
from shiftproof.errors import InputError
from shiftproof.types import CLEAN, Cell, Image, Sample

FINGERPRINT_BYTES = 2_000_000_000
"""Maximum size of a dataset that is read completely for its fingerprint; reading the 3.75 million
files of ImageNet-C would take as long as a benchmark of a small model."""

FINGERPRINT_FILES = 20
"""Number of images read per cell of a larger tree."""


class CorruptedData(ImageData):
    """Images in the cells of a corruption grid, read as they are and not corrupted here.

    A sample is one image in all its cells. ``read`` returns the clean one, if there is one.
    """

    @property
    @abstractmethod
    def cells(self) -> tuple[Cell, ...]:
        """The existing corrupted cells: the table's corruptions first, in its order."""

    @property
    @abstractmethod
    def has_clean(self) -> bool:
        """Whether there are clean images."""

    @abstractmethod
    def cell_samples(self, cell: Cell) -> tuple[Sample, ...]:
        """Return the samples of a cell.

        Raises:
            InputError: no such cell.
        """

    @abstractmethod
    def read_cell(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it is missing or cannot be read; the message contains cell and id.
        """

    @property
    def other_corruptions(self) -> tuple[str, ...]:
        """The corruptions that are not in the table: they can be run by name, and do not count in mCE."""
        return tuple(
            dict.fromkeys(c.corruption for c in self.cells if c.corruption not in CORRUPTIONS)
        )

    def read(self, sample: Sample) -> Image:
        """Return the clean image.

        Raises:
            BrokenFileError: it is missing or cannot be read.
        """
        return self.read_cell(sample, CLEAN)

    def _make_cell_error(self, cell: Cell) -> InputError:
        existing = shorten(str(other) for other in self.cells)
        return InputError(f"{self.name} has no cell {cell}; it has {existing}.")

    def _choose_step(self, total_bytes: int) -> int:
        """Return the step between images whose content is read for the fingerprint; 1 for all."""
        if total_bytes <= FINGERPRINT_BYTES:
            return 1
        return -(-len(self) // FINGERPRINT_FILES)


def check_clean(data: ImageData) -> None:
    """Refuse corrupted copies without clean images where clean images are needed.

    Raises:
        InputError: such copies.
    """
    if isinstance(data, CorruptedData) and not data.has_clean:
        raise InputError(
            f"{data.name} holds only corrupted copies; expected clean images. To use the images of one "
            "of its cells, give its folder."
        )


def order_cells(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return the corrupted cells in ``cells``: the table's corruptions first, in its order."""
    ranks = {name: rank for rank, name in enumerate(CORRUPTIONS)}

    def make_key(cell: Cell) -> tuple[int, Cell]:
        return ranks.get(cell.corruption, len(ranks)), cell

    return tuple(sorted((cell for cell in cells if not cell.is_clean), key=make_key))


def canonicalize_corruption(name: str) -> str:
    """Return the name of a known corruption, also for spellings like ``Gaussian Noise``."""
    folded = re.sub(r"[\s-]+", "_", name.strip().lower())
    return folded if folded in CORRUPTIONS else name
