"""A diverse shifted Fashion-MNIST, a narrow clean reference, and shifted test sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shiftproof.corruptions import corrupt, scale
from shiftproof.rng import generator
from shiftproof.stylize import DrawnStyles, stylize_keyed
from shiftproof_reproduce.fashion import FashionMNIST

Gray: TypeAlias = NDArray[np.uint8]
"""``(N, 28, 28)`` uint8 in 0..255."""

CLEAN, STYLIZED = "clean", "stylised"
"""Shifts of an image besides corruptions: none, and a drawn style."""

SCALE = "published"
"""Constants of the corruptions: those for photographs, as in the other recipes."""

STYLES = 60
"""Number of drawn styles: as many as are cached."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Some images of Fashion-MNIST, each with its shift.

    Attributes:
        part: training or test images.
        rows: ``(N,)`` int64, indices of the images.
        ways: the shift of each: ``CLEAN``, ``STYLIZED`` or a corruption.
        severities: 1 to 5 for each; only used for corruptions.
    """

    part: Literal["train", "test"]
    rows: NDArray[np.int64]
    ways: Sequence[str]
    severities: Sequence[int]

    def ids(self) -> list[str]:
        """Return the id of each image, which determines its random numbers."""
        return [f"{self.part}-{row:05}" for row in self.rows]


def draw_training_pieces(
    images: int, *, large: int, reference: int, clean: float, ways: Sequence[str], seed: int
) -> dict[str, Piece]:
    """Return the disjoint pieces "large" and "reference", drawn from ``images`` images.

    The share ``clean`` of the large one is clean, and the rest have random shifts and severities;
    the reference is clean.
    """
    random = generator(seed, "training pieces")
    order = random.permutation(images)[: large + reference]
    drawn = np.array([*ways])[random.integers(0, len(ways), large)]
    drawn = np.where(random.random(large) < clean, CLEAN, drawn)
    severities = random.integers(1, 6, large)
    return {
        "large": Piece("train", order[:large], drawn.tolist(), severities.tolist()),
        "reference": Piece(
            "train", order[large:], [CLEAN] * (len(order) - large), [1] * (len(order) - large)
        ),
    }


def draw_test_piece(images: int, count: int, way: str, *, severity: int, seed: int) -> Piece:
    """Return ``count`` of ``images`` test images with one shift; the same images for every
    shift.
    """
    rows = generator(seed, "test piece").permutation(images)[:count]
    return Piece("test", rows, [way] * len(rows), [severity] * len(rows))


def read_labels(data: FashionMNIST, piece: Piece) -> NDArray[np.int64]:
    """Return the labels of a piece ``(N,)``."""
    labels = data.train_labels if piece.part == "train" else data.test_labels
    return labels[piece.rows].astype(np.int64)


def make_images(data: FashionMNIST, piece: Piece, *, seed: int) -> Gray:
    """Return the shifted images of a piece; an image does not depend on its piece."""
    source = data.train_images if piece.part == "train" else data.test_images
    made = np.empty((len(piece.rows), *source.shape[1:]), np.uint8)
    each = zip(piece.rows, piece.ids(), piece.ways, piece.severities, strict=True)
    for place, (row, key, way, severity) in enumerate(each):
        made[place] = _shift(source[row], way, severity, key, seed)
    return made


def _shift(image: Gray, way: str, severity: int, key: str, seed: int) -> Gray:
    if way == CLEAN:
        return image
    if way == STYLIZED:
        color = np.repeat(image[:, :, None], 3, axis=2)
        painted, _ = stylize_keyed(color, DrawnStyles(STYLES), key=key, seed=seed)
        return np.asarray(Image.fromarray(painted).convert("L"))
    return corrupt(image, scale(SCALE)[way], severity=severity, seed=seed, key=key)
