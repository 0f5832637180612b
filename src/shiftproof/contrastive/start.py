"""Initialization by slow features: directions in which pairs vary little, with their precisions.

From a random initialization, strongly varying latents are often lost: nonlinear functions of other
latents lower the loss as well at first, and the lost latents do not come back. Initialized with
slow features, every latent is represented from the first step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.types import F64

MIN_CORRELATION, MAX_CORRELATION = 0.01, 1 - 1e-12
"""Bounds to which a pair's correlation is clipped."""


class SlowStart(NamedTuple):
    """A linear encoder ``(x - mean) @ matrix``, and the precision of each of its dimensions.

    ``mean`` is ``(D,)``, ``matrix`` ``(D, K)``, ``precision`` ``(K,)``, the dimension that varies
    least within a pair first.
    """

    mean: F64
    matrix: F64
    precision: F64


def slow_start(first: ArrayLike, second: ArrayLike, *, dim: int | None = None) -> SlowStart:
    """Return the slow features of observed pairs, as an initialization of encoder and precision.

    Slow feature analysis (Wiskott & Sejnowski 2002, Neural Computation 14): the observations are
    whitened, and rotated to the directions in which the two of a pair differ least, next least, and
    so on. The true latents are not needed.

    The precision is that of the density ``exp(-λ / 2 (z' - z)²)`` of normal pairs with the measured
    correlation ρ and the variance 1 / K, as on the unit sphere: λ = K ρ / (1 - ρ²). The inverse
    mean squared difference, K / (2 - 2 ρ), agrees for a latent that varies little, but is at least
    K / 2 for one that varies strongly; a precision that starts too high fills the dimension with
    another latent.

    >>> random = np.random.default_rng(0)
    >>> z = random.normal(size=(4000, 2))
    >>> partner = z + random.normal(size=(4000, 2)) * [1.0, 0.1]
    >>> start = slow_start(z, partner)
    >>> bool(abs(start.matrix[1, 0]) > 0.9), bool(start.precision[0] > 20 * start.precision[1])
    (True, True)

    Args:
        first: ``(N, D)`` observations.
        second: ``(N, D)``, their partners.
        dim: K, the number of slowest directions to keep; None keeps all.

    Raises:
        InputError: shapes that do not fit, values that are not finite, fewer pairs than
            dimensions, or observations that do not vary in some direction.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.ndim != 2 or x.shape != y.shape or 0 in x.shape:
        raise InputError(
            f"Expected two views of the same shape (N, D), got {x.shape} and {y.shape}."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("Expected finite observations, got NaN or infinite values.")
    count, size = x.shape
    if count <= size:
        raise InputError(
            f"Expected more pairs than dimensions, got {count} of {size}; give more pairs."
        )
    kept = size if dim is None else dim
    if isinstance(kept, bool) or not 1 <= kept <= size:
        raise InputError(f"dim: expected 1 to {size}, got {dim!r}.")
    mean = x.mean(0)
    variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(x.T)))
    if variance[0] <= 1e-12 * variance[-1]:
        raise InputError(
            "The observations do not vary in some direction; take their principal components first."
        )
    whiten = axes / np.sqrt(variance)
    differences = (x - y) @ whiten
    _, turn = np.linalg.eigh(differences.T @ differences / count)
    matrix = whiten @ turn[:, :kept]
    correlation = np.clip(
        _correlate((x - mean) @ matrix, (y - mean) @ matrix), MIN_CORRELATION, MAX_CORRELATION
    )
    return SlowStart(mean, matrix, kept * correlation / (1 - correlation**2))


def _correlate(these: F64, those: F64) -> F64:
    """Return ``(K,)`` the correlation of each column with its partner."""
    these, those = these - these.mean(0), those - those.mean(0)
    spread = np.sqrt((these**2).sum(0) * (those**2).sum(0))
    correlation: F64 = (these * those).sum(0) / spread
    return correlation
