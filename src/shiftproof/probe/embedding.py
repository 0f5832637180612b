"""Vectors of all versions of all images, stored by family until they are probed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute import processes as engine
from shiftproof.counts import pluralize
from shiftproof.errors import BrokenFileError, InputError, ModelError
from shiftproof.io import files
from shiftproof.io.arrays import open_array
from shiftproof.models import EncoderLike
from shiftproof.probe.versions import UNCHANGED, Versions, load
from shiftproof.types import Image, Sample

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Store:
    """A folder of vectors: ``MODEL/FAMILY.npy``, ``(N, V, width)`` float32; files are written
    atomically.
    """

    path: Path

    def file(self, model: str, family: str) -> Path:
        """The file of the vectors of one model and family."""
        return self.path / model / f"{family}.npy"

    def has(self, model: str, family: str) -> bool:
        """Return whether the vectors exist."""
        return self.file(model, family).is_file()

    def write(self, model: str, family: str, vectors: Array) -> None:
        """Write vectors atomically."""
        path = self.file(model, family)
        files.make_folder(path.parent)
        with files.atomic(path, durable=False) as file:
            np.lib.format.write_array(file, vectors, allow_pickle=False)

    def read(self, model: str, family: str) -> Array:
        """Return the vectors.

        Raises:
            BrokenFileError: the file is missing or damaged.
        """
        stored = open_array(self.file(model, family))
        return np.asarray(stored.read(0, stored.shape[0]), np.float32)


def embed_family(
    store: Store,
    encoders: Mapping[str, EncoderLike],
    family: str,
    samples: Sequence[Sample],
    loaded: Iterator[list[Image] | str],
    *,
    batch_size: int,
    done: Callable[[], None],
) -> None:
    """Embed the versions of all images with encoders that share a geometry, and store the vectors.

    ``loaded`` yields each image's versions, only of this family; ``done`` is called after each
    image.

    Raises:
        BrokenFileError: an image that was readable before no longer is.
        ModelError: a vector that is not finite.
    """
    found: dict[str, list[Array]] = {name: [] for name in encoders}
    waiting: list[Image] = []

    def encode(images: list[Image]) -> None:
        for name, encoder in encoders.items():
            # Copied, since an encoder may reuse its output array.
            found[name].append(np.array(encoder.encode(images), np.float32))

    for _, versions in zip(samples, loaded, strict=False):
        if isinstance(versions, str):
            raise BrokenFileError(f"{versions} It could be read when the probe began.")
        waiting += versions
        while len(waiting) >= batch_size:
            encode(waiting[:batch_size])
            del waiting[:batch_size]
        done()
    if waiting:
        encode(waiting)
    for name, parts in found.items():
        vectors = np.concatenate(parts)
        _check_finite(name, family, vectors)
        store.write(name, family, vectors.reshape(len(samples), -1, vectors.shape[1]))


def load_versions(
    made: Versions, families: Sequence[str], samples: Sequence[Sample], *, workers: int
) -> Iterator[list[Image] | str]:
    """Yield the versions of each image, family by family; workers prefetch across families."""
    items = ((sample, family) for family in families for sample in samples)
    return engine.map_ordered(load, items, context=made, workers=workers, lookahead=4)


def read_unchanged(
    made: Versions, samples: Sequence[Sample], *, workers: int, done: Callable[[], None]
) -> tuple[list[Sample], list[Image], dict[str, str]]:
    """Return samples and pixels of readable images, and the reasons for the others."""
    usable: list[Sample] = []
    images: list[Image] = []
    broken: dict[str, str] = {}
    for sample, found in zip(
        samples, load_versions(made, [UNCHANGED], samples, workers=workers), strict=True
    ):
        if isinstance(found, str):
            broken[sample.id] = found
        else:
            usable.append(sample)
            images += found
        done()
    return usable, images, broken


def check_images_differ(images: Sequence[Image]) -> None:
    """Raise an InputError if all images are identical."""
    if all(np.array_equal(image, images[0]) for image in images[1:]):
        raise InputError(
            f"All {len(images)} images are the same once they are prepared for the encoder, so nothing "
            "can be read out of its vectors. Expected different images."
        )


def check_vectors_differ(name: str, vectors: Array) -> None:
    """Raise a ModelError if an encoder returns the same vector for all images."""
    if float(np.ptp(vectors.reshape(len(vectors), -1), axis=0).max()) == 0:
        raise ModelError(
            f"{name} gives the same vector for all {len(vectors)} images, so nothing can be read out "
            "of it. Check its weights, and that its preprocessing fits it."
        )


def _check_finite(name: str, family: str, vectors: Array) -> None:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise ModelError(
            f"{name} gives NaN or infinity for {int(bad.sum())} of {pluralize(len(vectors), 'image')} "
            f"({family}). Check its weights, and that its preprocessing fits it."
        )
