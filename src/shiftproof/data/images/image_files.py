"""Images that are files below a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shiftproof.classes import Classes
from shiftproof.data.dataset import ImageData
from shiftproof.data.disk import fingerprint_below, read_below
from shiftproof.errors import BrokenFileError
from shiftproof.types import Image, Sample


class ImageFiles(ImageData):
    """Images that are files; a sample's id is the path of its file below ``root``.

    Args:
        name, samples, classes: as for :class:`~shiftproof.data.ImageData`.
        root: the folder.
        border: width in pixels of a frame that is cropped from every image.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        samples: Sequence[Sample],
        classes: Classes | None,
        *,
        border: int = 0,
    ) -> None:
        super().__init__(name, samples, classes)
        self.root = root
        self.border = border

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB; see :class:`ImageData`."""
        return crop_border(read_below(self.root, sample.id), self.border, sample.id)

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each file's content."""
        return fingerprint_below(self.root, (sample.id for sample in self.samples))


def crop_border(image: Image, border: int, name: str) -> Image:
    """Return the image without a frame of ``border`` pixels.

    Raises:
        BrokenFileError: the image is not larger than the frame.
    """
    if border == 0:
        return image
    if min(image.shape[:2]) <= 2 * border:
        raise BrokenFileError(
            f"{name}: {image.shape[0]} x {image.shape[1]} pixels are not larger than the frame of "
            f"{border} pixels that the images of its dataset have."
        )
    inner: Image = image[border:-border, border:-border].copy()
    return inner
