"""Images that are in memory already."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.classes import Classes, number_classes, to_classes
from shiftproof.counts import pluralize
from shiftproof.data.dataset import ImageData
from shiftproof.errors import ImageError, InputError, LabelError
from shiftproof.io import files
from shiftproof.types import Image, Sample

if TYPE_CHECKING:
    from PIL import Image as PillowImage


@final
class ImageArrays(ImageData):
    """Arrays as a dataset.

    The arrays are not copied; do not change them while the dataset is in use. All of them are sent to
    each worker process: if that is more than fits into memory, use a folder.

    Args:
        images: ``(N, H, W, 3)`` uint8 RGB in 0..255, or a sequence of ``(H, W, 3)`` of any sizes,
            or of PIL images of mode RGB or L; gray ``(H, W)`` becomes three equal channels when it is
            read.
        labels: ``(N,)`` integers, indices into ``classes``; None for no labels.
        classes: the classes, or a list of their names; by default numbers up to the largest label.
        ids: unique names, the keys for randomness; by default ``000000``, ``000001``, ...
        name: name in tables and records.

    Raises:
        ImageError: what is not a uint8 image, or a PIL image of another mode.
        LabelError: labels that are not one integer per image, or outside the classes.
        InputError: no images, or ids that are not one unique text per image.
    """

    def __init__(
        self,
        images: Iterable[Image | PillowImage.Image],
        labels: ArrayLike | None = None,
        classes: Classes | Iterable[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> None:
        if isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] == 3:
            # A batch of H gray images of W x 3 pixels is never meant.
            raise ImageError(
                f"Expected images, got one array of shape {images.shape}: for a single image, give "
                "[image]."
            )
        arrays = [_check_image(image, index) for index, image in enumerate(images)]
        keys = [f"{index:06}" for index in range(len(arrays))] if ids is None else list(ids)
        if len(keys) != len(arrays) or not all(isinstance(key, str) and key for key in keys):
            raise InputError(
                f"Expected one text per image as its id, got {pluralize(len(keys), 'id')} for "
                f"{pluralize(len(arrays), 'image')}: {keys!r:.80}."
            )
        own = to_classes(classes)
        targets = _read_targets(labels, len(arrays), own)
        if labels is not None and own is None and targets:
            own = number_classes(1 + max(target for target in targets if target is not None))
        samples = [Sample(key, target) for key, target in zip(keys, targets, strict=True)]
        super().__init__(name, samples, own)
        self._images = dict(zip(keys, arrays, strict=True))

    def read(self, sample: Sample) -> Image:
        """Return a copy of the image as ``(H, W, 3)`` uint8 RGB."""
        image = self._images[sample.id]
        return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image.copy()

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each array's shape and values."""
        return [
            files.fingerprint([str(image.shape).encode(), image.tobytes()])
            for image in (self._images[sample.id] for sample in self.samples)
        ]


def _check_image(image: object, index: int) -> Image:
    if isinstance(image, tuple | dict):
        raise ImageError(
            f"Image {index}: expected an image, got a {type(image).__name__}. Give the images alone, "
            "and their labels as labels=."
        )
    pillow: Any = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(image, pillow.Image) and image.mode not in ("RGB", "L"):
        # The values of other modes are indices of a palette, or colors of another space.
        raise ImageError(
            f"Image {index}: a PIL image is of mode RGB or L; got {image.mode}. "
            'Convert it with image.convert("RGB").'
        )
    array = np.asarray(image)
    is_shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not is_shaped or array.size == 0:
        raise ImageError(
            f"Image {index}: expected (H, W, 3) uint8 RGB in 0..255 or (H, W) gray, got shape "
            f"{array.shape}, {array.dtype}."
        )
    return array


def _read_targets(
    labels: ArrayLike | None, count: int, classes: Classes | None
) -> list[int | None]:
    if labels is None:
        return [None] * count
    array = np.asarray(labels)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise LabelError(
            f"Expected {pluralize(count, 'integer label')}, one per image, got shape {array.shape}, "
            f"{array.dtype}."
        )
    if count and (array.min() < 0 or (classes is not None and array.max() >= len(classes))):
        limit = "0 or more" if classes is None else f"0 to {len(classes) - 1}"
        raise LabelError(f"Expected labels of {limit}, got {array.min()} to {array.max()}.")
    return [int(label) for label in array]
