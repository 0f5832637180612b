"""Predicting errors from the difficulty of image and cell: a Rasch model.

The model of Rasch (1960): the log odds of an error are the sum of an image effect and a cell
effect. A cell's effect is the sum of a global effect and those of its corruption, its severity and
the cell itself; an image also has an effect for each family of corruptions. Normal priors shrink
each effect towards 0. Results are valid however good the predictions are; better predictions only
reduce the number of samples that results need.
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

    def count_effects(self) -> list[int]:
        """Return the number of effects of each kind."""
        corruptions, severities = self.corruption.max() + 1, self.severity.max() + 1
        families = self.family.max() + 1
        return [1, corruptions, severities, self.cells, self.images, self.images * families]

    def index_effects(self, images: I64, cells: I64) -> list[I64]:
        """Return, for each kind, the indices of the effects of pairs of image and cell."""
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
        counts = shape.count_effects()
        return cls(
            shape,
            tuple(np.zeros(count) for count in counts),
            (
                np.full(counts[_IMAGE], 1 / _PRECISION[_IMAGE]),
                np.full(counts[_FAMILY], 1 / _PRECISION[_FAMILY]),
            ),
        )

    def fit(self, images: I64, cells: I64, wrong: F64) -> Difficulty:
        """Fit the effects to all M predictions so far.

        Args:
            images: ``(M,)`` image of each prediction.
            cells: ``(M,)`` cell of each prediction.
            wrong: ``(M,)`` 1 if it is wrong, else 0.
        """
        indices = self.shape.index_effects(images, cells)
        effects = [effect.copy() for effect in self.effects]
        log_odds = sum(effect[index] for effect, index in zip(effects, indices, strict=True))
        curvatures: list[F64] = [np.zeros(0)] * len(effects)
        for _ in range(SWEEPS):
            for kind, index in enumerate(indices):
                size, precision = len(effects[kind]), _PRECISION[kind]
                probability = 1 / (1 + np.exp(-log_odds))
                gradient = np.bincount(index, wrong - probability, size) - precision * effects[kind]
                curvature = np.bincount(index, probability * (1 - probability), size) + precision
                curvatures[kind] = np.asarray(curvature, dtype=np.float64)
                step = np.clip(gradient / curvatures[kind], -1.0, 1.0)
                effects[kind] += step
                log_odds = log_odds + step[index]
        return Difficulty(
            self.shape, tuple(effects), (1 / curvatures[_IMAGE], 1 / curvatures[_FAMILY])
        )

    def predict_errors(self) -> F64:
        """Return the ``(N, C)`` probabilities of an error.

        The variance of an image's effect moves its probabilities towards 1/2 (MacKay 1992, equation
        26).
        """
        shape, family = self.shape, self.shape.family
        families = int(family.max()) + 1
        cell_effects = (
            self.effects[_ALL][0]
            + self.effects[_CORRUPTION][shape.corruption]
            + self.effects[_SEVERITY][shape.severity]
            + self.effects[_CELL]
        )
        image_effects = self.effects[_FAMILY].reshape(-1, families) + self.effects[_IMAGE][:, None]
        variances = self.variances[1].reshape(-1, families) + self.variances[0][:, None]
        shrinkage = 1 / np.sqrt(1 + np.pi * variances / 8)
        # In place, as N x C may be large: the logistic function of the scaled log odds.
        values = image_effects[:, family]
        values += cell_effects
        values *= -shrinkage[:, family]
        np.exp(values, out=values)
        values += 1
        np.reciprocal(values, out=values)
        return np.clip(values, MIN_PROBABILITY, 1 - MIN_PROBABILITY, out=values)


def encode_values(values: Iterator[object]) -> I64:
    """Return integer codes of the values, in the order of their first occurrence."""
    codes: dict[object, int] = {}
    return np.array([codes.setdefault(value, len(codes)) for value in values], dtype=np.int64)
