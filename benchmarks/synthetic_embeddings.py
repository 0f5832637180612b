"""Rows that lie as those of an image encoder do: a cone, classes in classes, a spectrum that falls.

A row is ``common + class + kind within the class + itself``, scaled to length 1. The parts are normal
with variances that fall over an orthogonal basis as ``1 / (4 + i)``, so that 90 of 512
directions hold half of the variance of what the rows do not share; the common part gives
two rows of different classes a cosine of about 0.5, as CLIP's are; two of the basis' directions are
the coordinates 7 and 133 themselves, with 3 times their share: the outlier dimensions of
transformers (of narrower rows: the remainders). Test rows are moved by one more vector: another style.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINDS = 20
"""Kinds within a class: the same pose, the same product, the same photographer."""


class Encoder:
    """Draws rows; one seed is one world of classes."""

    def __init__(self, width: int, classes: int, seed: int = 0) -> None:
        draws = np.random.default_rng(seed)
        self.width, self.classes = width, classes
        self._seed = seed
        basis, _ = np.linalg.qr(draws.normal(size=(width, width)))
        scale = 1 / np.sqrt(4.0 + np.arange(width))
        self._mix = (basis * (scale / np.linalg.norm(scale))).T.astype(np.float32)
        self._mix[:, np.array([7, 133]) % width] *= 3
        common = draws.normal(size=width)
        self._common = (common / np.linalg.norm(common)).astype(np.float32)
        self._class = self._draw(draws, classes)
        self._style = self._draw(draws, 1)

    def _draw(self, draws: np.random.Generator, count: int) -> NDArray[np.float32]:
        return draws.standard_normal((count, self.width), dtype=np.float32) @ self._mix

    def rows(self, count: int, seed: int, *, classes: int | None = None, style: float = 0.0):
        """Return ``count`` rows as float16; ``classes`` limits them to the first classes."""
        draws = np.random.default_rng([self._seed, seed])
        out = np.empty((count, self.width), dtype=np.float16)
        for start in range(0, count, 20_000):
            size = min(20_000, count - start)
            label = draws.integers(0, classes or self.classes, size)
            kind = draws.integers(0, KINDS, size)
            rows = 0.62 * self._class[label] + 0.45 * self._draw(draws, size)
            rows += 0.35 * self._kinds(label, kind)
            rows += 0.8 * self._common + style * self._style
            out[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return out

    def _kinds(self, label: NDArray[np.int64], kind: NDArray[np.int64]) -> NDArray[np.float32]:
        """A kind's vector is a class' vector of another world, picked by both numbers."""
        pool = self._pool()
        return pool[(label * 7919 + kind * 104_729) % len(pool)]

    def _pool(self) -> NDArray[np.float32]:
        if not hasattr(self, "_kept"):
            self._kept = self._draw(np.random.default_rng([self._seed, 1 << 20]), 20_011)
        return self._kept
