"""Sampling of pairs of image and cell, and the estimate of a number over the whole grid.

The number is a weighted sum over all pairs of an image and a cell, such as mCE. Pairs are drawn one
by one without replacement, with probabilities in proportion to the contribution of each pair to the
variance: its weight times the standard deviation of its predicted error (Neyman 1934). A draw
estimates the number from the errors of the evaluated pairs, the predicted errors of all others, and
the difference of the drawn pair's error from its prediction, divided by its probability. The estimate
is unbiased for any predictions (Shekhar, Xu, Lipton, Liang & Ramdas 2023, arXiv 2305.06884, sections 2 and 3:
weighted sampling without replacement, with side information as a control variate).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.metrics.betting import ConfidenceSequence, Rounds
from shiftproof.metrics.difficulty import Difficulty, GridShape, encode_values
from shiftproof.metrics.intervals import LEVEL
from shiftproof.rng import generator
from shiftproof.types import F64, I64, Cell

FIRST_BLOCK = 256
"""Draws of the first block, which has no predictions."""

GROWTH = 0.1
"""Size of later blocks as a share of the previous draws: predictions cost some forward passes."""

MIN_DEVIATION = 0.07
"""Lower limit of standard deviations, so that wrong predictions do not dominate."""


@dataclass(frozen=True)
class Estimand:
    """A quantity to estimate: the number of a model over the grid, or the difference of two models."""

    model: str
    against: str | None = None

    def factors(self, models: Sequence[str]) -> list[float]:
        """Return the factor of each model's errors."""
        return [float(name == self.model) - float(name == self.against) for name in models]


@dataclass(frozen=True, eq=False)
class Block:
    """Pairs that are drawn with the same predictions.

    Attributes:
        images: ``(B,)`` indices of the images.
        cells: ``(B,)`` indices of the cells.
    """

    images: I64
    cells: I64

    def __len__(self) -> int:
        return len(self.images)


class PairSampler:
    """The draws of a run so far, and the confidence interval of each estimand.

    ``draw_weights`` ``(N, C)`` are proportional to the probabilities of the next pair.

    Args:
        images: number N of images.
        cells: the C cells of the grid.
        weights: ``(C,)`` weights of the cells' mean errors in the number.
        models: names of the models.
        targets: the estimands whose intervals the draws should narrow.
        secondary: further estimands with intervals.
        families: corruption to its family; used only for predicting errors.
        excluded: unreadable images, which are ignored.
        aim: target half-width; None without one.
        level: level of the intervals of ``targets``; that of ``secondary`` is 0.95.
        seed: random seed of the draws.
    """

    def __init__(
        self,
        images: int,
        cells: Sequence[Cell],
        weights: F64,
        models: Sequence[str],
        targets: Sequence[Estimand],
        *,
        secondary: Sequence[Estimand] = (),
        families: Mapping[str, str] | None = None,
        excluded: Collection[int] = (),
        aim: float | None = None,
        level: float = LEVEL,
        seed: int = 0,
    ) -> None:
        self.shape = GridShape(
            images,
            encode_values(cell.corruption for cell in cells),
            encode_values(cell.severity for cell in cells),
            encode_values((families or {}).get(cell.corruption, "other") for cell in cells),
        )
        self.estimands = [*targets, *secondary]
        self._targets = len(targets)
        self.aim, self.seed = aim, seed
        self.models = list(models)
        self._weights = np.asarray(weights, dtype=np.float64) / (images - len(excluded))
        self._open = np.ones((images, len(cells)), dtype=bool)
        self._open[list(excluded)] = False
        self._factors = np.array([one.factors(models) for one in self.estimands])
        self._counted = np.ones(images, dtype=bool)
        self._counted[list(excluded)] = False
        total = self._weights.sum() * self._counted.sum()
        self.intervals = [
            ConfidenceSequence(
                total * np.minimum(row, 0).sum(),
                total * np.maximum(row, 0).sum(),
                level=level if number < len(targets) else LEVEL,
            )
            for number, row in enumerate(self._factors)
        ]
        self._known = np.zeros(len(self.estimands))
        self._difficulty = {name: Difficulty.prior(self.shape) for name in models}
        self._images: list[I64] = []
        self._cells: list[I64] = []
        self._wrong: list[F64] = []
        self._predicted, self.draw_weights = self._predict()

    def __len__(self) -> int:
        return sum(map(len, self._images))

    @property
    def total(self) -> int:
        """Number of pairs."""
        return int(self._counted.sum()) * self.shape.cells

    @property
    def target_intervals(self) -> list[ConfidenceSequence]:
        """The intervals of the targets."""
        return self.intervals[: self._targets]

    @property
    def is_exhausted(self) -> bool:
        """Whether all pairs were evaluated."""
        return not self._open.any()

    def draw_block(self, number: int) -> Block:
        """Return the block with this number; it depends only on the number and earlier answers."""
        size = min(max(FIRST_BLOCK, round(GROWTH * len(self))), int(self._open.sum()))
        random = generator(self.seed, "anytime", str(number))
        drawn = draw_pairs(self.draw_weights.ravel(), size, random)
        images, cells = np.divmod(drawn, self.shape.cells)
        return Block(images, cells)

    def add(self, block: Block, wrong: F64) -> None:
        """Add the answers to the pairs of a block, in its order.

        Args:
            block: a block of :meth:`choose`.
            wrong: ``(models, B)`` 1 where an answer is wrong, else 0.
        """
        rounds = self.estimate(block, wrong)
        self._open[block.images, block.cells] = False
        self._images.append(block.images)
        self._cells.append(block.cells)
        self._wrong.append(np.asarray(wrong, dtype=np.float64))
        weights = self._weights[block.cells]
        self._known += self._factors @ (wrong @ weights)
        left = float(self._open.sum(axis=0) @ self._weights)
        for at, interval in enumerate(self.intervals):
            interval.add(rounds[at], aim=self.aim)
            row = self._factors[at]
            interval.clip(
                self._known[at] + left * np.minimum(row, 0).sum(),
                self._known[at] + left * np.maximum(row, 0).sum(),
            )
        self._refit()

    def cell_errors(self) -> F64:
        """Return ``(models, C)`` mean errors, with predictions for pairs that were not evaluated."""
        errors = self._predicted.copy()
        images, cells = np.concatenate(self._images), np.concatenate(self._cells)
        errors[:, images, cells] = np.concatenate(self._wrong, axis=1)
        return np.asarray(errors[:, self._counted].mean(axis=1))

    def counts(self) -> I64:
        """Return ``(C,)`` the number of evaluated images in each cell."""
        return np.asarray((~self._open[self._counted]).sum(axis=0))

    def estimate(self, block: Block, wrong: F64) -> list[Rounds]:
        """Return the rounds of a block for each number, without storing the answers."""
        at = block.images, block.cells
        weights, draw_weights = self._weights[block.cells], self.draw_weights[at]
        # The remaining mass before each draw.
        mass = self.draw_weights.sum() - np.concatenate([[0.0], np.cumsum(draw_weights)[:-1]])
        mass = np.maximum(mass, draw_weights)
        ratio = np.zeros_like(self.draw_weights)
        np.divide(self._weights, self.draw_weights, out=ratio, where=self._open)
        found = []
        for row, known in zip(self._factors, self._known, strict=True):
            predicted = _combine(row, self._predicted)
            off = row @ wrong - predicted[at]
            moved = np.concatenate([[0.0], np.cumsum(weights * off)[:-1]])
            base = known + np.einsum("nc,nc->c", self._open, predicted) @ self._weights + moved
            most, least = np.maximum(row, 0).sum(), np.minimum(row, 0).sum()
            off_by = ratio * predicted
            variance = _combine(row**2, self._predicted * (1 - self._predicted))
            found.append(
                Rounds(
                    base + mass * weights / draw_weights * off,
                    base + mass * (least * ratio - off_by if least else -off_by).min(),
                    base + mass * (most * ratio - off_by if most else -off_by).max(),
                    mass * (np.einsum("nc,nc->c", ratio, variance) @ self._weights) + 1e-18,
                )
            )
        return found

    # ------------------------------------------------------------ within

    def _predict(self) -> tuple[F64, F64]:
        """Return predicted errors ``(models, N, C)``, and ``(N, C)`` unnormalized draw probabilities."""
        predicted = np.stack([self._difficulty[name].predict_errors() for name in self.models])
        squares = self._factors[: self._targets] ** 2
        variance = _combine(squares.mean(axis=0), predicted * (1 - predicted))
        floor = MIN_DEVIATION**2 * squares.sum(axis=1).mean()
        deviation = np.sqrt(np.maximum(variance, floor))
        deviation *= self._weights
        deviation *= self._open
        return predicted, deviation

    def _refit(self) -> None:
        images, cells = np.concatenate(self._images), np.concatenate(self._cells)
        wrong = np.concatenate(self._wrong, axis=1)
        for at, name in enumerate(self.models):
            self._difficulty[name] = self._difficulty[name].fit(images, cells, wrong[at])
        self._predicted, self.draw_weights = self._predict()


def _combine(factors: F64, tables: F64) -> F64:
    """Return the sum of ``(models, N, C)`` tables, each times its factor."""
    [first, *others] = np.flatnonzero(factors).tolist()
    found = tables[first] if factors[first] == 1 else factors[first] * tables[first]
    for index in others:
        found = found + factors[index] * tables[index]
    return np.asarray(found)


def draw_pairs(draw_weights: F64, size: int, random: np.random.Generator) -> I64:
    """Draw indices one by one without replacement, in proportion to ``draw_weights``.

    Args:
        draw_weights: ``(P,)``, 0 for indices that cannot be drawn.
        size: number of indices, at most that of weights above 0.
        random: the random generator.
    """
    candidates = np.flatnonzero(draw_weights)
    if 4 * size > len(candidates):
        # Sorted by exponential times with the weights as rates (Efraimidis & Spirakis 2006).
        times = random.standard_exponential(len(candidates)) / draw_weights[candidates]
        return candidates[np.argsort(times, kind="stable")[:size]]
    ends = np.cumsum(draw_weights[candidates])
    drawn = np.zeros(0, dtype=np.int64)
    # Skipping repeated draws equals drawing without replacement.
    while len(drawn) < size:
        more = np.searchsorted(ends, random.random(2 * size) * ends[-1], side="right")
        drawn = _keep_first(np.concatenate([drawn, np.minimum(more, len(candidates) - 1)]))
    return candidates[drawn[:size]]


def _keep_first(values: I64) -> I64:
    """Return the values without repetitions."""
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]
