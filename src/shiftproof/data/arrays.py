"""Images that are in memory already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from shiftproof import files
from shiftproof.classes import Classes, numbered
from shiftproof.data.dataset import ImageData
from shiftproof.errors import ImageError, InputError, LabelError
from shiftproof.types import Image, Sample


@final
class ImageArrays(ImageData):
    """Arrays as a data set.

    Args:
        images: ``(N, H, W, 3)`` uint8 RGB in 0..255, or a sequence of ``(H, W, 3)`` of any sizes;
            grey ``(H, W)`` is repeated three times. They are sent to each worker once: for more than
            memory holds, use a folder.
        labels: ``(N,)`` integers, indices into ``classes``; None for no labels.
        classes: None numbers them as far as the labels go.
        ids: unique names, the keys of the noise; by default ``000000``, ``000001``, ...
        name: what tables call the data.
    """

    def __init__(
        self,
        images: Iterable[Image],
        labels: ArrayLike | None = None,
        classes: Classes | None = None,
        *,
        ids: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> None:
        arrays = [_checked(image, number) for number, image in enumerate(images)]
        if not arrays:
            raise InputError(f"{name} has no images.")
        ids = [f"{number:06}" for number in range(len(arrays))] if ids is None else list(ids)
        targets = _targets(labels, len(arrays))
        if len(ids) != len(arrays):
            raise InputError(f"Expected one id per image, got {len(ids)} for {len(arrays)} images.")
        if labels is not None and classes is None:
            classes = numbered(1 + max(t for t in targets if t is not None))
        samples = [Sample(key, target) for key, target in zip(ids, targets, strict=True)]
        super().__init__(name, samples, classes if labels is not None else None)
        self._images = dict(zip(ids, arrays, strict=True))

    def read(self, sample: Sample) -> Image:
        """Return a copy of the image."""
        return self._images[sample.id].copy()

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each array's shape and values."""
        return [
            files.fingerprint([str(image.shape).encode(), image.tobytes()])
            for image in self._images.values()
        ]


def _checked(image: Image, number: int) -> Image:
    array = np.asarray(image)
    if array.dtype != np.uint8 or 0 in array.shape or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    ):
        raise ImageError(
            f"Image {number}: expected (H, W, 3) uint8 RGB in 0..255, got shape {array.shape}, "
            f"{array.dtype}."
        )
    return np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array


def _targets(labels: ArrayLike | None, count: int) -> list[int | None]:
    if labels is None:
        return [None] * count
    array = np.asarray(labels)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise LabelError(
            f"Expected {count} integer labels, one per image, got shape {array.shape}, {array.dtype}."
        )
    if array.min() < 0:
        raise LabelError(f"Expected labels of 0 or more, got {array.min()}.")
    return [int(label) for label in array]
