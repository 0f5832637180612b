"""The values that travel between the layers, with their dtypes, shapes and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""``(H, W, 3)`` uint8 in 0..255, RGB; ``(H, W)`` is grey."""

Images: TypeAlias = NDArray[np.uint8]
"""``(N, H, W, 3)`` uint8 in 0..255, RGB: a batch of images of one size."""

Logits: TypeAlias = NDArray[np.float32]
"""``(N, K)`` float32: one unnormalised log-probability per image and class."""

Settings: TypeAlias = dict[str, Any]
"""What reproduces an object: strings, numbers, booleans, None, and lists and dicts of these."""


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    ``id`` names it within the data set, is unique there, and is the key of its randomness.
    ``label`` is an index into the model's classes; None where the image has no label.
    """

    id: str
    label: int | None = None


@dataclass(frozen=True, order=True)
class Cell:
    """One place of the corruption grid: ``severity`` 1 to 5, or the clean cell with severity 0."""

    corruption: str
    severity: int

    @property
    def is_clean(self) -> bool:
        """Whether this is the cell of the uncorrupted images."""
        return self.severity == 0

    def __str__(self) -> str:
        return self.corruption if self.is_clean else f"{self.corruption}-{self.severity}"


CLEAN = Cell("clean", 0)
