"""Confidence sequences by betting: intervals of a mean that hold at every time of stopping.

Waudby-Smith & Ramdas 2024 (JRSS B 86(1), arXiv 2010.09686), Theorem 3: where Z_t has the conditional
mean m given the past, and every bet b_t is chosen before Z_t is observed and so small that no factor is
negative,

    K_t(m) = prod_{i <= t} (1 + b_i (Z_i - m))

is a nonnegative martingale that starts at 1, so the probability that it ever reaches 1/a is at most a
(Ville 1939). Values of m for which it has reached 1/a are rejected. Two such processes, one for each
side, each at half of the error, give a confidence sequence.

The bets do not depend on m here, so K_t(m) decreases in m, and each confidence bound is a root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from shiftproof.errors import InputError
from shiftproof.metrics.intervals import LEVEL
from shiftproof.types import F64

MAX_BET_SHARE = 0.75
"""Largest share of the capital that one round may lose; at 1 a single round could end the process."""

PRIOR_ROUNDS = 20.0
"""Weight of the predicted variance, as a number of observed rounds."""


@dataclass(frozen=True, eq=False)
class Rounds:
    """The outcomes of T rounds for one estimand.

    Attributes:
        estimates: ``(T,)`` unbiased estimates, each given all previous rounds.
        low: ``(T,)`` lower limits of the estimates, known before their rounds.
        high: ``(T,)`` upper limits.
        variance: ``(T,)`` predicted variances, above 0; they affect the bets, not the validity.
    """

    estimates: F64
    low: F64
    high: F64
    variance: F64


@dataclass(frozen=True, eq=False)
class CapitalProcess:
    """The capital of a bettor against one side of the interval, over all rounds so far."""

    estimates: F64 = field(default_factory=lambda: np.zeros(0))
    bets: F64 = field(default_factory=lambda: np.zeros(0))

    def add(self, estimates: F64, bets: F64) -> CapitalProcess:
        """Return the process with further rounds."""
        return CapitalProcess(
            np.concatenate([self.estimates, estimates]), np.concatenate([self.bets, bets])
        )

    def compute_log_capital(self, mean: float) -> float:
        """Return log K(m); minus infinity if a bet would have lost all capital."""
        factors = self.bets * (self.estimates - mean)
        return float(np.log1p(factors).sum()) if (factors > -1).all() else -math.inf


class ConfidenceSequence:
    """A confidence interval that narrows round by round, and is valid at every stopping time.

    Args:
        low: lower limit of the estimand.
        high: upper limit.
        level: probability that the interval covers the estimand at all times.

    Raises:
        InputError: a level outside 0..1, or ``low`` above ``high``.
    """

    def __init__(self, low: float, high: float, *, level: float = LEVEL) -> None:
        if not 0 < level < 1:
            raise InputError(f"Expected a level between 0 and 1, such as 0.95, got {level}.")
        if not low <= high:
            raise InputError(f"Expected a lower limit up to the upper one, got {low} and {high}.")
        self.level = level
        self.low, self.high = float(low), float(high)
        self._above, self._below = CapitalProcess(), CapitalProcess()
        self._precision_sum, self._weighted_sum = 0.0, 0.0
        self._squares = 0.0
        self._has_missed = False

    def __len__(self) -> int:
        return len(self._above.bets)

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    @property
    def estimate(self) -> float:
        """The precision-weighted mean of the rounds, clipped to the interval."""
        middle = (self.low + self.high) / 2
        mean = self._weighted_sum / self._precision_sum if self._precision_sum else middle
        return min(max(mean, self.low), self.high)

    @property
    def threshold(self) -> float:
        """The log capital at which a value is rejected: log(2 / (1 - level))."""
        return math.log(2 / (1 - self.level))

    def compute_variance_factor(self) -> float:
        """Return the ratio of observed to predicted variance; 1 before any round."""
        return (PRIOR_ROUNDS + self._squares) / (PRIOR_ROUNDS + len(self))

    def add(self, rounds: Rounds, *, aim: float | None = None) -> None:
        """Add rounds, with bets that depend only on earlier rounds.

        Args:
            rounds: the rounds, in order.
            aim: target half-width, for which the bets are optimal; with None they suit any time of
                stopping.
        """
        variance = self.compute_variance_factor() * rounds.variance
        bets = self._choose_bets(variance) if aim is None else aim / variance
        up = np.minimum(bets, MAX_BET_SHARE / np.maximum(self.high - rounds.low, 1e-300))
        down = np.minimum(bets, MAX_BET_SHARE / np.maximum(rounds.high - self.low, 1e-300))
        self._above = self._above.add(rounds.estimates, up)
        self._below = self._below.add(-rounds.estimates, down)
        self._precision_sum += float((1 / rounds.variance).sum())
        self._weighted_sum += float((rounds.estimates / rounds.variance).sum())
        center = self._weighted_sum / self._precision_sum
        self._squares += float(((rounds.estimates - center) ** 2 / rounds.variance).sum())
        self._narrow()

    def clip(self, low: float, high: float) -> None:
        """Clip the interval to limits within which the estimand certainly lies.

        An interval outside of them has missed the estimand, which happens with a probability of at
        most 1 - ``level``. Then the limits take its place, and no bets narrow it any more.
        """
        if low > self.high or high < self.low:
            self._has_missed = True
            self.low, self.high = float(low), float(high)
        else:
            self.low, self.high = float(max(self.low, low)), float(min(self.high, high))

    def compute_evidence(self, value: float) -> float:
        """Return the evidence against ``value``, from 0 to 1; at 1 the interval excludes it."""
        capital = max(
            self._above.compute_log_capital(value), self._below.compute_log_capital(-value)
        )
        return min(max(capital / self.threshold, 0.0), 1.0)

    def _choose_bets(self, variance: F64) -> F64:
        """Return the bets of Waudby-Smith & Ramdas 2024, equation 15."""
        t = len(self) + np.arange(1, len(variance) + 1)
        return np.sqrt(2 * self.threshold / (variance * t * np.log1p(t)))

    def _narrow(self) -> None:
        if self._has_missed:
            return
        low = find_confidence_bound(self._above, self.threshold, self.low, self.high)
        high = -find_confidence_bound(self._below, self.threshold, -self.high, -self.low)
        # Bounds cross only if the interval has missed the estimand already: then a point is left.
        self.low, self.high = float(low), float(max(low, high))


def find_confidence_bound(
    process: CapitalProcess, threshold: float, low: float, high: float
) -> float:
    """Return the bound, between ``low`` and ``high``, below which a process rejects every mean.

    The log capital decreases with the mean and is concave, so Newton's method from above never
    passes the root.
    """
    if process.compute_log_capital(low) < threshold:
        return low
    mean = high
    for _ in range(60):
        gains = 1 + process.bets * (process.estimates - mean)
        shortfall = threshold - float(np.log(gains).sum())
        step = shortfall / float((process.bets / gains).sum())
        mean -= step
        if step <= 1e-9:
            break
    return min(max(mean - 1e-9, low), high)
