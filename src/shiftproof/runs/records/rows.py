"""What all records of images have in common."""

from __future__ import annotations

import numpy as np

from shiftproof.types import Flags


class ImageRows:
    """Base of records with one entry per image.

    Attributes:
        ids: image ids, in the order of the dataset.
        error: the reason if a file could not be read, else None.
    """

    ids: list[str]
    error: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def readable(self) -> Flags:
        """``(N,)`` bool: which files could be read."""
        if self.error.count(None) == len(self.error):
            return np.ones(len(self.error), bool)
        return np.array([reason is None for reason in self.error], dtype=bool)
