"""Linear readout: predicting values from vectors by cross-validated ridge regression."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from shiftproof.rng import generator
from shiftproof.types import F64, I64, Flags

FOLDS = 5

PENALTIES: tuple[float, ...] = tuple(10.0**power for power in np.arange(-3, 7.5, 0.5).tolist())
"""Ridge penalties for standardized features, from nearly none to predicting the mean."""


def assign_folds(images: int, *, seed: int = 0) -> I64:
    """Return ``(N,)``: the fold of each image, 0 to ``FOLDS - 1``, shared by all its versions."""
    order = generator(seed, "probe folds", str(images)).permutation(images)
    return np.asarray(order % FOLDS, np.int64)


def read_out(
    features: F64,
    values: F64,
    folds: I64,
    *,
    min_deviation: F64 | float = 0.0,
) -> F64:
    """Return cross-validated predictions of ridge regression.

    The penalty for a fold is chosen among ``PENALTIES`` by nested cross-validation over the other
    folds. Features are standardized on the training images; the offset is not penalized.

    Args:
        features: ``(N, V, D)``, V versions of N images.
        values: ``(N, V)``.
        folds: ``(N,)``, as returned by ``assign_folds``.
        min_deviation: ``(D,)`` or a number: minimum standard deviation for standardization, so that
            rounding errors are not amplified.

    Returns:
        ``(N, V)``.
    """
    numbers = np.unique(folds).tolist()
    errors: dict[int, F64] = {number: np.zeros(len(PENALTIES)) for number in numbers}
    for one, other in combinations(numbers, 2):
        fit = Ridge(features, values, ~np.isin(folds, (one, other)), min_deviation)
        for held_out, chosen_for in ((one, other), (other, one)):
            rows = folds == held_out
            read = fit.predict(features[rows], PENALTIES)
            errors[chosen_for] += ((read - values[rows]) ** 2).sum(axis=(1, 2))
    found = np.empty_like(values)
    for number in numbers:
        rows = folds == number
        penalty = PENALTIES[int(np.argmin(errors[number]))]
        found[rows] = Ridge(features, values, ~rows, min_deviation).predict(
            features[rows], [penalty]
        )[0]
    return found


class Ridge:
    """Ridge regression in closed form on standardized features, for any number of penalties.

    It minimizes ``|y - Zw - b|² + penalty |w|²`` with Z the standardized features (Hoerl & Kennard
    1970). One eigendecomposition, of the smaller of the two products, serves every penalty.

    Args:
        features: ``(N, V, D)``.
        values: ``(N, V)``.
        rows: ``(N,)`` bool, the images to fit on.
        min_deviation: as for ``read_out``.
    """

    def __init__(
        self, features: F64, values: F64, rows: Flags, min_deviation: F64 | float = 0.0
    ) -> None:
        flat, target = features[rows].reshape(-1, features.shape[2]), values[rows].reshape(-1)
        self._center, self._scale = flat.mean(axis=0), compute_scale(flat, min_deviation)
        self._offset = float(target.mean())
        standard, rest = (flat - self._center) / self._scale, target - self._offset
        self._wide = standard.shape[1] > standard.shape[0]
        self._basis = standard if self._wide else None
        product = standard @ standard.T if self._wide else standard.T @ standard
        self._eigenvalues, self._vectors = np.linalg.eigh(product)
        self._projections = self._vectors.T @ (rest if self._wide else standard.T @ rest)

    def predict(self, features: F64, penalties: tuple[float, ...] | list[float]) -> F64:
        """Return ``(P, N, V)``, predictions from ``(N, V, D)`` features for each penalty."""
        standard = (features.reshape(-1, features.shape[2]) - self._center) / self._scale
        side = standard if self._basis is None else standard @ self._basis.T
        # Rounding may leave an eigenvalue a little below 0.
        weights = self._projections / (
            np.maximum(self._eigenvalues, 0) + np.array(penalties)[:, None]
        )
        read = weights @ (side @ self._vectors).T + self._offset
        return np.asarray(read.reshape(len(penalties), *features.shape[:2]))


def compute_scale(flat: F64, min_deviation: F64 | float) -> F64:
    """Return ``(D,)`` deviations of ``(R, D)`` features, at least ``min_deviation``; 1 for
    constants.
    """
    scale = np.maximum(flat.std(axis=0), min_deviation)
    return np.where(scale > 0, scale, 1.0)
