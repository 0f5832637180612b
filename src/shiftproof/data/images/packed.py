"""Images that are packed, many in a file: at a place in a tar, or in the row of a table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from shiftproof.classes import Classes
from shiftproof.data.dataset import ImageData
from shiftproof.errors import BrokenFileError
from shiftproof.io.images import read_image
from shiftproof.types import Image, Sample


class PackedImages(ImageData):
    """Images of which each is at one row of an index.

    Args:
        name: name in tables and records.
        ids: of the images, row by row.
        labels: of the images, or None.
        classes: the classes that labels index.
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        labels: Sequence[int] | None,
        classes: Classes | None,
    ) -> None:
        self._rows = {key: row for row, key in enumerate(ids)}
        samples = [
            Sample(key, None if labels is None else labels[row]) for row, key in enumerate(ids)
        ]
        super().__init__(name, samples, classes)

    @abstractmethod
    def content(self, sample: Sample) -> bytes:
        """Return the bytes of an image's file.

        Raises:
            BrokenFileError: they are not there, or cannot be read.
        """

    @abstractmethod
    def count_bytes(self) -> int:
        """Return the size of all files together."""

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read; the message has the sample's id.
        """
        try:
            return read_image(self.content(sample))
        except BrokenFileError as error:
            reason = str(error).removeprefix(f"{sample.id}: ").removeprefix("image: ")
            raise BrokenFileError(f"{sample.id}: {reason}") from error

    def has(self, key: str) -> bool:
        """Return whether there is an image of this id."""
        return key in self._rows

    def share_ids(self, other: PackedImages) -> None:
        """Hold the samples of another dataset in place of one's own, which saves the memory of equal ids.

        Nothing changes if the two have other ids.
        """
        if self._rows == other._rows:
            self._rows, self.samples = other._rows, other.samples
