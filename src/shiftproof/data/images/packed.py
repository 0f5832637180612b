"""Images packed many to a file: members of tars, or rows of tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from shiftproof.classes import Classes
from shiftproof.data.dataset import ImageData
from shiftproof.errors import BrokenFileError
from shiftproof.io.images import read_image
from shiftproof.types import Image, Sample


class PackedImages(ImageData):
    """Images that are rows of an index.

    Args:
        name: name in tables and records.
        ids: the image ids, in row order.
        labels: the image labels, or None.
        classes: the classes that the labels index.
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
    def read_content(self, sample: Sample) -> bytes:
        """Return the encoded bytes of an image.

        Raises:
            BrokenFileError: they are missing or cannot be read.
        """

    @abstractmethod
    def count_bytes(self) -> int:
        """Return the total size of all files."""

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB; see :class:`ImageData`."""
        try:
            return read_image(self.read_content(sample))
        except BrokenFileError as error:
            reason = str(error).removeprefix(f"{sample.id}: ").removeprefix("image: ")
            raise BrokenFileError(f"{sample.id}: {reason}") from error

    def has(self, key: str) -> bool:
        """Return whether an image has this id."""
        return key in self._rows

    def share_ids(self, other: PackedImages) -> None:
        """Share the samples of another dataset with the same ids, to save memory.

        If the ids differ, nothing changes.
        """
        if self._rows == other._rows:
            self._rows, self.samples = other._rows, other.samples
