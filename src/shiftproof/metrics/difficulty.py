"""How likely an answer is wrong, from how hard its image and its cell have been so far.

The model of Rasch (1960): the log odds of an error are the sum of an effect of the image and of one
of the cell. A cell's effect is itself a sum (all cells, its corruption, its severity, its own), and
an image may be hard in one family of corruptions and not in another. Each effect is drawn towards 0
by a normal prior, so that few answers say little. Nothing that is valid depends on how well this
foretells; only how few answers are needed does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shiftproof.types import F64, I64

SWEEPS = 4
"""Newton steps over all effects; the next answers make them better anyway."""

LEAST = 0.003
"""No error is foretold as rarer than this, nor a right answer."""

_ALL, _CORRUPTION, _SEVERITY, _CELL, _IMAGE, _FAMILY = range(6)
_PRECISION = (0.01, 1.0, 1.0, 10.0, 0.25, 1.0)
"""Of the priors: one over the variance of the log odds, effect by effect."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How many images there are, and what the C cells are.

    Attributes:
        images: N.
        corruption: ``(C,)`` the number of each cell's corruption.
        severity: ``(C,)`` its severity, from 0.
        family: ``(C,)`` the number of its corruption's family.
    """

    images: int
    corruption: I64
    severity: I64
    family: I64

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.corruption)

    def sizes(self) -> list[int]:
        """Return how many effects of each kind there are."""
        corruptions, severities = self.corruption.max() + 1, self.severity.max() + 1
        families = self.family.max() + 1
        return [1, corruptions, severities, self.cells, self.images, self.images * families]

    def places(self, images: I64, cells: I64) -> list[I64]:
        """Return which effect of each kind the given pairs have."""
        families = int(self.family.max()) + 1
        return [
            np.zeros_like(images), self.corruption[cells], self.severity[cells], cells, images,
            images * families + self.family[cells],
        ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Difficulty:
    """The effects, kind by kind, and how unsure those of images are (variances)."""

    layout: Layout
    effects: tuple[F64, ...]
    unsure: tuple[F64, F64]

    @classmethod
    def unknown(cls, layout: Layout) -> Difficulty:
        """Return what is known before any answer: nothing."""
        sizes = layout.sizes()
        return cls(
            layout,
            tuple(np.zeros(size) for size in sizes),
            (
                np.full(sizes[_IMAGE], 1 / _PRECISION[_IMAGE]),
                np.full(sizes[_FAMILY], 1 / _PRECISION[_FAMILY]),
            ),
        )

    def learn(self, images: I64, cells: I64, wrong: F64) -> Difficulty:
        """Return the effects after all M answers so far.

        Args:
            images: ``(M,)`` of which image each answer is.
            cells: ``(M,)`` in which cell.
            wrong: ``(M,)`` 1 where it is wrong, else 0.
        """
        places = self.layout.places(images, cells)
        effects = [one.copy() for one in self.effects]
        odds = sum(effect[place] for effect, place in zip(effects, places, strict=True))
        curves: list[F64] = [np.zeros(0)] * len(effects)
        for _ in range(SWEEPS):
            for kind, place in enumerate(places):
                size, precision = len(effects[kind]), _PRECISION[kind]
                chance = _logistic(odds)
                slope = np.bincount(place, wrong - chance, size) - precision * effects[kind]
                curve = np.bincount(place, chance * (1 - chance), size) + precision
                curves[kind] = np.asarray(curve, dtype=np.float64)
                step = np.clip(slope / curves[kind], -1.0, 1.0)
                effects[kind] += step
                odds = odds + step[place]
        return Difficulty(self.layout, tuple(effects), (1 / curves[_IMAGE], 1 / curves[_FAMILY]))

    def foretell(self) -> F64:
        """Return ``(N, C)`` how likely each answer is wrong.

        What is unsure of an image draws its chances to the middle (MacKay 1992, equation 26).
        """
        layout, of_family = self.layout, self.layout.family
        families = int(of_family.max()) + 1
        cell = (
            self.effects[_ALL][0]
            + self.effects[_CORRUPTION][layout.corruption]
            + self.effects[_SEVERITY][layout.severity]
            + self.effects[_CELL]
        )
        own = self.effects[_FAMILY].reshape(-1, families) + self.effects[_IMAGE][:, None]
        unsure = self.unsure[1].reshape(-1, families) + self.unsure[0][:, None]
        draw = 1 / np.sqrt(1 + np.pi * unsure / 8)
        odds = own[:, of_family]
        odds += cell
        odds *= -draw[:, of_family]
        np.exp(odds, out=odds)
        odds += 1
        return np.clip(np.reciprocal(odds, out=odds), LEAST, 1 - LEAST, out=odds)


def _logistic(odds: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-odds)))


def number(values: Iterator[object]) -> I64:
    """Return for each value the number of the first one that is equal."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
