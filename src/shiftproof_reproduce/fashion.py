"""Reading Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof import Classes
from shiftproof.data import ImageArrays
from shiftproof.errors import BrokenFileError, InputError, MissingExtraError
from shiftproof.io import fingerprint, make_folder
from shiftproof.rng import generator
from shiftproof_reproduce.idx import read_idx

CLASSES = Classes(
    (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ),
    title="fashion-mnist",
)  # fmt: skip
"""The ten classes, in the order of the labels."""

DATA_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"),)
"""Default folders: that of the Debian package ``dataset-fashion-mnist``."""

SIDE = 28
"""Height and width of the images in pixels."""


@dataclass(frozen=True, eq=False)
class FashionMNIST:
    """Gray images ``(N, 28, 28)`` uint8 in 0..255, white on black, and labels ``(N,)`` in 0..9."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]

    def fingerprint(self) -> str:
        """Return 32 hex digits that change with any pixel or label."""
        train, test = (self.train_images, self.train_labels), (self.test_images, self.test_labels)
        return fingerprint(array.tobytes() for array in (*train, *test))

    def test_subset(
        self, count: int, *, seed: int = 0, labels: Sequence[int] | None = None
    ) -> ImageArrays:
        """Return ``count`` random test images as a dataset of RGB images.

        A smaller subset is a prefix of a larger one, and images have the same ids in all subsets.

        Args:
            count: number of images; all if there are fewer.
            seed: random seed.
            labels: use only images of these classes.
        """
        order = generator(seed, "test subset").permutation(len(self.test_images))
        if labels is not None:
            order = order[np.isin(self.test_labels[order], list(labels))]
        chosen = order[:count]
        return ImageArrays(
            list(self.test_images[chosen]),
            self.test_labels[chosen],
            CLASSES,
            ids=[f"test-{index:05}" for index in chosen],
            name="fashion-mnist test",
        )


def load(folder: str | Path | None = None) -> FashionMNIST:
    """Read Fashion-MNIST from the four idx files in ``folder``.

    Args:
        folder: the folder of ``train-images-idx3-ubyte.gz`` and so on, compressed or not; None uses
            that of the Debian package.

    Raises:
        InputError: the folder or files are missing; the message explains how to get them.
        BrokenFileError: a file is damaged, or images and labels do not match.
    """
    places = DATA_FOLDERS if folder is None else (Path(folder),)
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        raise InputError(f"No Fashion-MNIST in {', '.join(map(str, places))}. {_describe_source()}")
    return FashionMNIST(*_read_part(place, "train"), *_read_part(place, "t10k"))


def download(folder: Path) -> Path:
    """Download Fashion-MNIST with torchvision into ``folder``, and return the folder of its files.

    Raises:
        InputError: the download failed.
        MissingExtraError: torchvision is not installed.
    """
    try:
        from torchvision.datasets import FashionMNIST as Published
    except ImportError as error:
        raise MissingExtraError.of("torchvision", "torch") from error
    make_folder(folder)
    try:
        Published(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"Fashion-MNIST could not be fetched ({error}). {_describe_source()}"
        ) from error
    return folder / "FashionMNIST" / "raw"


def _describe_source() -> str:
    return (
        "Install the Debian package dataset-fashion-mnist, let torchvision fetch it (--download), or "
        "give the folder of its four idx files (--data)."
    )


def _read_part(place: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = read_idx(_find_file(place, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find_file(place, f"{part}-labels-idx1-ubyte"))
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or len(images) == 0:
        raise BrokenFileError(
            f"{place}: expected {part} images of the shape (N, {SIDE}, {SIDE}), got {images.shape}."
        )
    if labels.shape != (len(images),) or labels.max() >= len(CLASSES):
        raise BrokenFileError(
            f"{place}: expected {len(images)} {part} labels of 0 to {len(CLASSES) - 1}, got the shape "
            f"{labels.shape} and labels up to {labels.max(initial=0)}."
        )
    return images, labels


def _find_file(place: Path, name: str) -> Path:
    for path in (place / f"{name}.gz", place / name):
        if path.is_file():
            return path
    raise InputError(f"{place} has no {name}.gz. {_describe_source()}")
