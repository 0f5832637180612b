"""Confidence sequences by betting: intervals of a mean that hold at every time of stopping.

Waudby-Smith & Ramdas 2024 (JRSS B 86(1), arXiv 2010.09686), Theorem 3: where Z_t has the mean m given
all before it, and every bet b_t is chosen before Z_t is seen and so small that no factor falls
below 0,

    K_t(m) = prod_{i <= t} (1 + b_i (Z_i - m))

is a nonnegative martingale that begins at 1, so it ever reaches 1/a with a probability of at most a
(Ville 1939). The m of which it has reached that are ruled out. One such game for either side, at half
of the error each, makes a confidence sequence.

The bets do not depend on m here, so that K_t(m) falls in m and the ends are roots of one function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from shiftproof.errors import InputError
from shiftproof.types import F64

LEVEL = 0.95

CAUTION = 0.75
"""So much of its money a game may lose in one round: below 1, or one unlucky round would end it."""

PRIOR_ROUNDS = 20.0
"""The predicted variance counts as much as so many rounds that were seen."""


@dataclass(frozen=True, eq=False)
class Rounds:
    """What T rounds have brought, of one number.

    Attributes:
        estimates: ``(T,)`` each with the number as its mean, given all rounds before it.
        low: ``(T,)`` the least that each could have been, known before it.
        high: ``(T,)`` the most.
        variance: ``(T,)`` predicted, above 0; it decides how much is bet, not what is true.
    """

    estimates: F64
    low: F64
    high: F64
    variance: F64


@dataclass(frozen=True, eq=False)
class Game:
    """The rounds that were played for one side."""

    estimates: F64 = field(default_factory=lambda: np.zeros(0))
    bets: F64 = field(default_factory=lambda: np.zeros(0))

    def add(self, estimates: F64, bets: F64) -> Game:
        """Return the game with more rounds."""
        return Game(np.concatenate([self.estimates, estimates]), np.concatenate([self.bets, bets]))

    def log_capital(self, mean: float) -> float:
        """Return log K(m); minus infinity where a bet would have lost everything."""
        factors = self.bets * (self.estimates - mean)
        return float(np.log1p(factors).sum()) if (factors > -1).all() else -math.inf


class ConfidenceSequence:
    """An interval of a number that narrows round by round, and is valid whenever one stops.

    Args:
        low: the least that the number can be.
        high: the most.
        level: with what probability the number is inside at all times together.

    Raises:
        InputError: a level outside 0..1, or ends the wrong way round.
    """

    def __init__(self, low: float, high: float, *, level: float = LEVEL) -> None:
        if not 0 < level < 1:
            raise InputError(f"Expected a level between 0 and 1, such as 0.95, got {level}.")
        if not low <= high:
            raise InputError(f"Expected the least and the most of a number, got {low}, {high}.")
        self.level = level
        self.low, self.high = float(low), float(high)
        self._up, self._down = Game(), Game()
        self._weights, self._weighted = 0.0, 0.0
        self._squares = 0.0

    def __len__(self) -> int:
        return len(self._up.bets)

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    @property
    def estimate(self) -> float:
        """The mean of the rounds, each in proportion to its precision; within the interval."""
        middle = (self.low + self.high) / 2
        mean = self._weighted / self._weights if self._weights else middle
        return min(max(mean, self.low), self.high)

    @property
    def threshold(self) -> float:
        """The log capital from which on a side rules a number out: log(2 / (1 - level))."""
        return math.log(2 / (1 - self.level))

    def spread(self) -> float:
        """Return by what the predicted variances have to be multiplied: 1 before any round."""
        return (PRIOR_ROUNDS + self._squares) / (PRIOR_ROUNDS + len(self))

    def add(self, rounds: Rounds, *, aim: float | None = None) -> None:
        """Play rounds whose bets follow from what was known before the first of them.

        Args:
            rounds: in their order.
            aim: the half-width at which the interval is to be narrowest for the rounds it takes;
                None narrows at all times alike.
        """
        variance = self.spread() * rounds.variance
        stake = self._choose(variance) if aim is None else aim / variance
        up = np.minimum(stake, CAUTION / np.maximum(self.high - rounds.low, 1e-300))
        down = np.minimum(stake, CAUTION / np.maximum(rounds.high - self.low, 1e-300))
        self._up = self._up.add(rounds.estimates, up)
        self._down = self._down.add(-rounds.estimates, down)
        self._weights += float((1 / rounds.variance).sum())
        self._weighted += float((rounds.estimates / rounds.variance).sum())
        center = self._weighted / self._weights
        self._squares += float(((rounds.estimates - center) ** 2 / rounds.variance).sum())
        self._narrow()

    def clip(self, low: float, high: float) -> None:
        """Take note of ends that are certain."""
        low, high = max(self.low, min(low, self.high)), min(self.high, max(high, self.low))
        self.low, self.high = float(low), float(high)

    def evidence(self, value: float) -> float:
        """Return how far the number is told from ``value``: 1 where the interval rules it out."""
        best = max(self._up.log_capital(value), self._down.log_capital(-value))
        return min(max(best / self.threshold, 0.0), 1.0)

    def _choose(self, variance: F64) -> F64:
        """Return the bets of Waudby-Smith & Ramdas 2024, equation 15."""
        t = len(self) + np.arange(1, len(variance) + 1)
        return np.sqrt(2 * self.threshold / (variance * t * np.log1p(t)))

    def _narrow(self) -> None:
        low = find_end(self._up, self.threshold, self.low, self.high)
        high = -find_end(self._down, self.threshold, -self.high, -self.low)
        # Both ends can only cross where the number was outside already; a point is left then.
        self.clip(low, high)


def find_end(game: Game, threshold: float, low: float, high: float) -> float:
    """Return the end below which a game rules every mean out: between ``low`` and ``high``.

    The log capital falls in the mean and is concave, so Newton's steps from the high side never pass
    the root.
    """
    if game.log_capital(low) < threshold:
        return low
    mean = high
    for _ in range(60):
        gains = 1 + game.bets * (game.estimates - mean)
        missing = threshold - float(np.log(gains).sum())
        step = missing / float((game.bets / gains).sum())
        mean -= step
        if step <= 1e-9:
            break
    return min(max(mean - 1e-9, low), high)
