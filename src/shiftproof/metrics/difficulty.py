"""Predicting errors from the difficulty of image and cell: a Rasch model.

The model of Rasch (1960): the log odds of an error are the sum of an image effect and a cell
effect. A cell's effect is the sum of a global effect and those of its corruption, its severity and
the cell itself; an image also has an effect for each family of corruptions. Normal priors shrink
each effect towards 0. The validity of results does not depend on how good the predictions are, only
the number of samples that they need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shiftproof.types import F64, I64

SWEEPS = 4
"""Sweeps of Newton steps over all effects; further predictions refine them anyway."""

MIN_PROBABILITY = 0.003
"""Lower bound of the predicted probabilities of an error and of a correct prediction."""

_ALL, _CORRUPTION, _SEVERITY, _CELL, _IMAGE, _FAMILY = range(6)
_PRECISION = (0.01, 1.0, 1.0, 10.0, 0.25, 1.0)
"""Precisions (inverse variances of the log odds) of the priors, by kind of effect."""


@dataclass(frozen=True, eq=False)
class GridShape:
    """The number of images, and the properties of the C cells.

    Attributes:
        images: N, the number of images.
        corruption: ``(C,)`` index of each cell's corruption.
        severity: ``(C,)`` index of its severity.
        family: ``(C,)`` index of its corruption's family.
    """

    images: int
    corruption: I64
    severity: I64
    family: I64

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.corruption)

    def sizes(self) -> list[int]:
        """Return the number of effects of each kind."""
        corruptions, severities = self.corruption.max() + 1, self.severity.max() + 1
        families = self.family.max() + 1
        return [1, corruptions, severities, self.cells, self.images, self.images * families]

    def effect_indices(self, images: I64, cells: I64) -> list[I64]:
        """Return the effect's index of each kind for pairs of image and cell."""
        families = int(self.family.max()) + 1
        return [
            np.zeros_like(images), self.corruption[cells], self.severity[cells], cells, images,
            images * families + self.family[cells],
        ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Difficulty:
    """The effects by kind, and the variances of the images' effects."""

    shape: GridShape
    effects: tuple[F64, ...]
    variances: tuple[F64, F64]

    @classmethod
    def prior(cls, shape: GridShape) -> Difficulty:
        """Return the prior: all effects are 0."""
        sizes = shape.sizes()
        return cls(
            shape,
            tuple(np.zeros(size) for size in sizes),
            (
                np.full(sizes[_IMAGE], 1 / _PRECISION[_IMAGE]),
                np.full(sizes[_FAMILY], 1 / _PRECISION[_FAMILY]),
            ),
        )

    def fit(self, images: I64, cells: I64, wrong: F64) -> Difficulty:
        """Fit the effects to all M predictions so far.

        Args:
            images: ``(M,)`` image of each prediction.
            cells: ``(M,)`` cell of each prediction.
            wrong: ``(M,)`` 1 if it is wrong, else 0.
        """
        indices = self.shape.effect_indices(images, cells)
        effects = [one.copy() for one in self.effects]
        odds = sum(effect[place] for effect, place in zip(effects, indices, strict=True))
        curvatures: list[F64] = [np.zeros(0)] * len(effects)
        for _ in range(SWEEPS):
            for kind, place in enumerate(indices):
                size, precision = len(effects[kind]), _PRECISION[kind]
                probability = _compute_logistic(odds)
                gradient = np.bincount(place, wrong - probability, size) - precision * effects[kind]
                curvature = np.bincount(place, probability * (1 - probability), size) + precision
                curvatures[kind] = np.asarray(curvature, dtype=np.float64)
                step = np.clip(gradient / curvatures[kind], -1.0, 1.0)
                effects[kind] += step
                odds = odds + step[place]
        return Difficulty(
            self.shape, tuple(effects), (1 / curvatures[_IMAGE], 1 / curvatures[_FAMILY])
        )

    def predict_errors(self) -> F64:
        """Return the ``(N, C)`` probabilities of an error.

        The variance of an image's effect moves its probabilities towards 1/2 (MacKay 1992, equation
        26).
        """
        shape, of_family = self.shape, self.shape.family
        families = int(of_family.max()) + 1
        cell = (
            self.effects[_ALL][0]
            + self.effects[_CORRUPTION][shape.corruption]
            + self.effects[_SEVERITY][shape.severity]
            + self.effects[_CELL]
        )
        own = self.effects[_FAMILY].reshape(-1, families) + self.effects[_IMAGE][:, None]
        variances = self.variances[1].reshape(-1, families) + self.variances[0][:, None]
        shrinkage = 1 / np.sqrt(1 + np.pi * variances / 8)
        odds = own[:, of_family]
        odds += cell
        odds *= -shrinkage[:, of_family]
        np.exp(odds, out=odds)
        odds += 1
        return np.clip(
            np.reciprocal(odds, out=odds), MIN_PROBABILITY, 1 - MIN_PROBABILITY, out=odds
        )


def _compute_logistic(odds: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-odds)))


def encode_values(values: Iterator[object]) -> I64:
    """Return integer codes of the values, by first occurrence."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
