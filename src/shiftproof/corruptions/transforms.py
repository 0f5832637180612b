"""Corruptions as batches, transforms for training, and datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

from shiftproof.corruptions.checks import CorruptionFunction, check_severity
from shiftproof.corruptions.conversion import convert_like, to_array
from shiftproof.corruptions.table import COMMON, corrupt, find_function
from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.rng import check_seed, generator
from shiftproof.types import Image, Images

ImageType = TypeVar("ImageType")
Item = TypeVar("Item", covariant=True)


def corrupt_batch(
    images: Images | Sequence[Image],
    name: str | CorruptionFunction,
    *,
    severity: float,
    keys: Sequence[str],
    seed: int = 0,
    variant: str | None = None,
    threads: int = 1,
) -> list[Image]:
    """Corrupt images one by one, each under its own key.

    The result does not depend on how images are batched nor on the number of threads.

    Args:
        images: ``(N, H, W, 3)``, or N images of any sizes.
        name: as for ``corrupt``.
        severity: as for ``corrupt``.
        keys: one for each image.
        seed: as for ``corrupt``.
        variant: as for ``corrupt``.
        threads: number of threads; the compiled kernels run in parallel.

    Returns:
        N images of their sizes; ``numpy.stack`` makes a batch if they are equal.

    Raises:
        InputError: not one key for each image; and as ``corrupt``.

    >>> import numpy as np
    >>> batch = np.zeros((2, 8, 8, 3), np.uint8)
    >>> np.stack(corrupt_batch(batch, "fog", severity=3, keys=["a", "b"])).shape
    (2, 8, 8, 3)
    """
    if len(images) != len(keys):
        raise InputError(
            f"Each image needs a key: got {pluralize(len(images), 'image')} and "
            f"{pluralize(len(keys), 'key')}."
        )

    def corrupt_one(index: int) -> Image:
        return corrupt(
            images[index], name, severity=severity, seed=seed, key=keys[index], variant=variant
        )

    if threads <= 1:
        return [corrupt_one(index) for index in range(len(images))]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(corrupt_one, range(len(images))))


class Corrupt:
    """A transform that applies a random corruption at a random severity, for training.

    It takes and returns PIL images, uint8 arrays ``(H, W, 3)`` or ``(H, W)``, or uint8 tensors
    ``(3, H, W)``. In ``torchvision.transforms.Compose`` it comes before the conversion to floats.

    The draws for an image depend only on ``seed``, ``epoch`` and the image's content, or a given key,
    so neither the order nor the number of workers changes a pixel. Raise ``epoch`` to get other draws
    for the same image.
    """

    def __init__(
        self,
        *,
        corruptions: Sequence[str | CorruptionFunction] = COMMON,
        severities: Sequence[float] = (1, 2, 3, 4, 5),
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        if isinstance(corruptions, str):
            raise InputError(
                f"Expected a list of one or several corruptions, got {corruptions!r}; "
                f"write [{corruptions!r}]."
            )
        if not corruptions or not severities:
            raise InputError("A transform needs at least one corruption and one severity.")
        if not 0 <= probability <= 1:
            raise InputError(f"A probability is a number from 0 to 1; got {probability!r}.")
        for corruption in corruptions:
            if isinstance(corruption, str):
                find_function(corruption)
        self.corruptions = tuple(corruptions)
        self.severities = tuple(check_severity(severity) for severity in severities)
        self.probability = probability
        self.seed = check_seed(seed)
        self.epoch = 0

    def __call__(self, image: ImageType, key: str | None = None) -> ImageType:
        """Return a corrupted copy of ``image``, of the same type."""
        array = to_array(image)
        if key is None:
            key = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
        key = f"{self.epoch}/{key}"
        rng = generator(self.seed, "choice of corruption", key)
        if rng.random() >= self.probability:
            return image
        corruption = self.corruptions[int(rng.integers(len(self.corruptions)))]
        severity = self.severities[int(rng.integers(len(self.severities)))]
        result = corrupt(array, corruption, severity=severity, seed=self.seed, key=key)
        return cast(ImageType, convert_like(result, image))

    def __repr__(self) -> str:
        return (
            f"Corrupt(corruptions={self.corruptions!r}, severities={self.severities!r}, "
            f"probability={self.probability}, seed={self.seed})"
        )


class CorruptTargets:
    """``Corrupt`` with the interface of albumentations: keyword arguments to a dict.

    Only the image changes; boxes, masks and labels are returned unchanged, since no corruption moves
    an object by more than a few pixels.

    >>> import numpy as np
    >>> transform = CorruptTargets(Corrupt(corruptions=["fog"]))
    >>> sorted(transform(image=np.zeros((8, 8, 3), np.uint8), bboxes=[(0, 0, 4, 4)]))
    ['bboxes', 'image']
    """

    def __init__(self, transform: Corrupt) -> None:
        self.transform = transform

    def __call__(self, *, image: Image, **targets: Any) -> dict[str, Any]:
        """Return the input with its image corrupted."""
        return {**targets, "image": self.transform(image)}


class MapStyle(Protocol[Item]):
    """A map-style dataset, as in torch."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Item: ...


class CorruptedDataset:
    """A dataset with every image corrupted, and the rest unchanged.

    An item of the dataset is the image alone, or a tuple whose first entry is the image. The
    index is the image's key, so item 7 has the same pixels in every worker and every order.
    """

    def __init__(
        self,
        dataset: MapStyle[Any],
        corruption: str | CorruptionFunction,
        *,
        severity: float,
        seed: int = 0,
        variant: str | None = None,
    ) -> None:
        if isinstance(corruption, str):
            find_function(corruption, variant)
        self.dataset = dataset
        self.corruption = corruption
        self.severity = check_severity(severity)
        self.seed = check_seed(seed)
        self.variant = variant

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        # A negative index must have the same key as the positive one of its item.
        if index < 0:
            index += len(self)
            if index < 0:
                raise IndexError("index out of range")
        item = self.dataset[index]
        image = item[0] if isinstance(item, tuple) else item
        result = corrupt(
            to_array(image),
            self.corruption,
            severity=self.severity,
            seed=self.seed,
            key=str(index),
            variant=self.variant,
        )
        corrupted = convert_like(result, image)
        return (corrupted, *item[1:]) if isinstance(item, tuple) else corrupted

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))
