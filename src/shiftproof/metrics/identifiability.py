"""How well an embedding recovers known latents, and whether each has its own dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.lazy import import_extra
from shiftproof.metrics.intervals import Interval
from shiftproof.rng import generator
from shiftproof.types import F64, I64

CORRELATIONS = ("pearson", "spearman")


class LinearR2(NamedTuple):
    """``mean`` of ``per_latent`` ``(K,)``, each at most 1 and negative if worse than the mean."""

    mean: float
    per_latent: F64


class Correlation(NamedTuple):
    """``mean`` of ``per_latent`` ``(K,)``, each 0 to 1, and the dimension assigned to each latent."""

    mean: float
    per_latent: F64
    assignment: I64


class AffineFit(NamedTuple):
    """How well latents are an affine map of an embedding, and how close that map is to orthogonal.

    ``error`` is the root of the unexplained share of variance; ``orthogonality`` is the deviation
    of the map from a scaled orthogonal one. Both are 0 at best.
    """

    error: float
    orthogonality: float
    matrix: F64
    offset: F64


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness, each up to 1."""

    disentanglement: float
    completeness: float
    informativeness: float


class PrecisionMatch(NamedTuple):
    """A learned precision matched with the true one.

    ``learned`` ``(K,)`` in the order of the true one, scaled by ``scale``; ``error`` the largest
    deviation of any λ, as a fraction of the true one.
    """

    error: float
    learned: F64
    scale: float


# ---------------------------------------------------------------- recovery


def linear_r2(
    embedding: ArrayLike, latents: ArrayLike, *, held_out: float = 0.5, seed: int = 0
) -> LinearR2:
    """Return R² of a linear readout of latents from an embedding, on held-out samples.

    The map, with an offset, is fitted by least squares on the other samples. R² compares with the
    mean of the samples held out, as scikit-learn's ``r2_score`` does.

    >>> latents = np.random.default_rng(0).normal(size=(100, 2))
    >>> rotated = latents @ np.array([[0.6, 0.8], [-0.8, 0.6]])
    >>> round(linear_r2(rotated, latents).mean, 6)
    1.0

    Args:
        embedding: ``(N, D)``.
        latents: ``(N, K)``, the factors; or ``(N,)``, one.
        held_out: share of the samples on which the map is scored.
        seed: random seed of the split.

    Raises:
        InputError: shapes that do not match, values that are not finite, fewer samples than
            coefficients per latent, or a constant latent.
    """
    x, z = _check_pair(embedding, latents)
    x, z = _scale_by_exponent(x)[0], _scale_by_exponent(z, axis=0)[0]
    if not 0 < held_out < 1:
        raise InputError(f"held_out: expected a number between 0 and 1, got {held_out!r}.")
    order = generator(seed, "held out", str(len(x))).permutation(len(x))
    count = max(2, round(held_out * len(x)))
    test, train = order[:count], order[count:]
    if len(train) <= x.shape[1]:
        raise InputError(
            f"{pluralize(len(x), 'sample is', 'samples are')} too few: {len(train)} of "
            f"them to fit a map from "
            f"{pluralize(x.shape[1], 'dimension')}, which has {x.shape[1] + 1} numbers per "
            "latent; give more samples."
        )
    matrix, offset = _fit_affine_map(x[train], z[train])
    residual = ((z[test] - x[test] @ matrix - offset) ** 2).sum(0)
    total = (_center(z[test]) ** 2).sum(0)
    _check_variance(total)
    scores = 1 - residual / total
    return LinearR2(float(scores.mean()), scores)


def mean_correlation_coefficient(
    embedding: ArrayLike,
    latents: ArrayLike,
    *,
    method: Literal["pearson", "spearman"] = "pearson",
) -> Correlation:
    """Return the mean correlation of each latent with the dimension assigned to it.

    The assignment maximizes the sum of absolute correlations, each dimension being used at most
    once (Hyvärinen & Morioka 2016, arXiv 1605.06336). Invariant to sign, scale and order.

    >>> latents = np.random.default_rng(0).normal(size=(50, 2))
    >>> found = mean_correlation_coefficient(-3 * latents[:, ::-1], latents)
    >>> round(found.mean, 6), found.assignment.tolist()
    (1.0, [1, 0])

    Args:
        embedding: ``(N, D)``, D at least K.
        latents: ``(N, K)``, or ``(N,)``.
        method: ``"pearson"``, or ``"spearman"``, of the ranks, which is 1 for any monotone map.

    Raises:
        InputError: shapes that do not match, values that are not finite, fewer dimensions than
            latents, fewer than three samples, or a constant latent.
        MissingExtraError: scipy is not installed.
    """
    if method not in CORRELATIONS:
        raise UnknownNameError.of("method", method, CORRELATIONS)
    x, z = _check_pair(embedding, latents)
    if len(x) < 3:
        raise InputError(f"Expected at least three samples, got {len(x)}.")
    if x.shape[1] < z.shape[1]:
        raise InputError(
            f"Expected at least as many dimensions as latents, got {x.shape[1]} for {z.shape[1]}."
        )
    if method == "spearman":
        stats = _import_scipy("stats")
        # C order: the memory layout determines the order of summation.
        x, z = (np.ascontiguousarray(stats.rankdata(values, axis=0)) for values in (x, z))
    correlations = np.abs(_compute_correlations(x, z))
    assignment = assign(-correlations.T)
    assigned = correlations[assignment, np.arange(z.shape[1])]
    return Correlation(float(assigned.mean()), assigned, assignment)


def affine_fit(embedding: ArrayLike, latents: ArrayLike) -> AffineFit:
    """Return the affine map from embedding to latents, its error, and its deviation from
    orthogonality.

    The orthogonality error is ``|AᵀA / s - 1|`` in the Frobenius norm over the root of K, with s
    the mean of the squared singular values: 0 for scaled rotations and reflections; 1 if one of two
    directions is lost.

    >>> latents = np.random.default_rng(0).normal(size=(100, 2))
    >>> fit = affine_fit(5 * latents[:, ::-1] + 1, latents)
    >>> round(fit.error, 6), round(fit.orthogonality, 6)
    (0.0, 0.0)

    Args:
        embedding: ``(N, D)``.
        latents: ``(N, K)``, or ``(N,)``.

    Raises:
        InputError: as for ``linear_r2``.
    """
    x, z = _check_pair(embedding, latents)
    (x, x_exponent), (z, z_exponent) = _scale_by_exponent(x), _scale_by_exponent(z)
    if len(x) <= x.shape[1] + 1:
        raise InputError(
            f"{pluralize(len(x), 'sample is', 'samples are')} too few for a map from "
            f"{pluralize(x.shape[1], 'dimension')}; give more."
        )
    variance = (_center(z) ** 2).mean(0)
    _check_variance(variance)
    matrix, offset = _fit_affine_map(x, z)
    residual = ((z - x @ matrix - offset) ** 2).mean(0)
    gram = matrix.T @ matrix
    scale = np.trace(gram) / len(gram)
    with np.errstate(over="ignore"):
        fitted = np.ldexp(matrix, z_exponent - x_exponent), np.ldexp(offset, z_exponent)
    if scale == 0:
        return AffineFit(1.0, 1.0, *fitted)
    deviation = np.linalg.norm(gram / scale - np.eye(len(gram))) / np.sqrt(len(gram))
    error = float(np.sqrt(residual.sum() / variance.sum()))
    return AffineFit(error, float(deviation), *fitted)


# ---------------------------------------------------------------- disentanglement


def dci(embedding: ArrayLike, latents: ArrayLike, *, held_out: float = 0.5, seed: int = 0) -> DCI:
    """Return disentanglement, completeness and informativeness of an embedding, by linear maps.

    The importance of a dimension for a latent is the absolute coefficient of the least-squares map
    between both, standardized; informativeness is the mean linear R² on samples held out (Eastwood
    & Williams 2018, "A framework for the quantitative evaluation of disentangled representations",
    which takes a lasso and the error).

    Args:
        embedding: ``(N, D)``.
        latents: ``(N, K)``, K at least 2.
        held_out: as for ``linear_r2``.
        seed: as for ``linear_r2``.

    Raises:
        InputError: as for ``linear_r2``.
    """
    x, z = _check_pair(embedding, latents)
    recovered = linear_r2(x, z, held_out=held_out, seed=seed)
    x, z = _scale_by_exponent(x, axis=0)[0], _scale_by_exponent(z, axis=0)[0]
    is_constant = np.ptp(x, axis=0) == 0
    standardized = _center(x) / np.where(is_constant, 1, x.std(0))
    matrix, _ = _fit_affine_map(standardized, _center(z) / z.std(0))
    return DCI(*disentanglement(np.abs(matrix)), recovered.mean)


def disentanglement(importance: ArrayLike) -> tuple[float, float]:
    """Return disentanglement and completeness of a table of importances.

    A dimension's disentanglement is 1 minus the normalized entropy of its importances over the
    latents; the mean is weighted by the dimensions' total importances. Completeness is the same for
    each latent, over the dimensions.

    >>> disentanglement([[2, 0], [0, 3]])
    (1.0, 1.0)
    >>> [round(value, 6) for value in disentanglement([[1, 1], [1, 1]])]
    [0.0, 0.0]

    Args:
        importance: ``(D, K)``, 0 or more.

    Raises:
        InputError: another shape, negative numbers, or all zeros.
    """
    table = np.asarray(importance, np.float64)
    if table.ndim != 2 or min(table.shape) < 1 or not np.isfinite(table).all():
        raise InputError(f"Expected importances of shape (D, K), got {table.shape}.")
    if (table < 0).any() or table.sum() == 0:
        raise InputError("Expected importances of 0 or more, and one above 0.")
    return _compute_concentration(table), _compute_concentration(table.T)


def _compute_concentration(table: F64) -> float:
    """Return 1 minus the normalized entropy of the rows, weighted by their totals."""
    if table.shape[1] == 1:
        return 1.0
    totals = table.sum(1)
    shares = table[totals > 0] / totals[totals > 0, None]
    logs = np.log(np.where(shares > 0, shares, 1))
    by_row = 1 + (shares * logs).sum(1) / np.log(table.shape[1])
    return float((by_row * totals[totals > 0]).sum() / totals.sum())


# ---------------------------------------------------------------- precision


def match_precision(
    learned: ArrayLike,
    true: ArrayLike,
    *,
    assignment: ArrayLike | None = None,
    scaled: bool = False,
) -> PrecisionMatch:
    """Compare a learned precision with the true one, up to the order of its dimensions.

    >>> match_precision([24.0, 5.5], [5.0, 25.0]).learned.tolist()
    [5.5, 24.0]
    >>> round(match_precision([24.0, 5.5], [5.0, 25.0]).error, 6)
    0.1

    Args:
        learned: ``(D,)``, above 0, D at least K.
        true: ``(K,)``, above 0.
        assignment: ``(K,)``, the dimension of each latent, as returned by
            ``mean_correlation_coefficient``; None sorts both.
        scaled: divide by a common factor first, the geometric mean of the ratios.

    Raises:
        InputError: shapes that do not match, or invalid numbers.
    """
    matched, truth = np.asarray(learned, np.float64), np.asarray(true, np.float64)
    for values in (matched, truth):
        if values.ndim != 1 or len(values) == 0 or not (np.isfinite(values) & (values > 0)).all():
            raise InputError(f"Expected precisions above 0, got {values.tolist()}.")
    if assignment is not None:
        indices = np.asarray(assignment)
        if indices.shape != truth.shape or not np.isin(indices, np.arange(len(matched))).all():
            raise InputError(f"Expected a dimension for each latent ({len(truth):,}).")
        matched = matched[indices]
    elif len(matched) == len(truth):
        ordered = np.empty_like(matched)
        ordered[np.argsort(truth, kind="stable")] = np.sort(matched)
        matched = ordered
    else:
        raise InputError(
            f"Expected as many learned precisions as true ones without an assignment, got "
            f"{len(matched)} and {len(truth)}."
        )
    scale = float(np.exp(np.log(truth / matched).mean())) if scaled else 1.0
    matched = matched * scale
    return PrecisionMatch(float(np.abs(matched / truth - 1).max()), matched, scale)


# ---------------------------------------------------------------- over seeds


def interval_over_seeds(values: Sequence[float]) -> Interval:
    """Return the mean over repetitions with its 95 % interval, by Student's t (Gosset 1908).

    With a single repetition the interval has no width and no meaning.

    >>> found = interval_over_seeds([1.0, 2.0, 3.0])
    >>> found.value, round(found.lower, 3), round(found.upper, 3)
    (2.0, -0.484, 4.484)

    Raises:
        InputError: no values, or some that are not finite.
        MissingExtraError: scipy is not installed, and there are two values or more.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 1 or len(table) == 0 or not np.isfinite(table).all():
        raise InputError(f"Expected one finite value per repetition, got {values!r}.")
    mean = float(table.mean())
    if len(table) == 1:
        return Interval(mean, mean, mean)
    quantile = float(_import_scipy("special").stdtrit(len(table) - 1, 0.975))
    half_width = quantile * float(table.std(ddof=1)) / np.sqrt(len(table))
    return Interval(mean, float(mean - half_width), float(mean + half_width))


# ---------------------------------------------------------------- assignment


def assign(costs: ArrayLike) -> I64:
    """Return the column of each row in the assignment of minimum total cost, without repetition.

    By shortest augmenting paths, as in scipy (Crouse 2016, doi 10.1109/TAES.2016.140952); ties as
    in scipy.

    >>> assign([[4, 1], [2, 3]]).tolist()
    [1, 0]

    Args:
        costs: ``(R, C)``, C at least R, finite.

    Raises:
        InputError: another shape, or costs that are not finite.
        MissingExtraError: scipy is not installed.
    """
    table = np.asarray(costs, np.float64)
    if table.ndim != 2 or table.shape[0] > table.shape[1] or not np.isfinite(table).all():
        raise InputError(
            f"Expected finite costs with at least as many columns as rows, got {table.shape}."
        )
    return np.asarray(_import_scipy("optimize").linear_sum_assignment(table)[1], np.int64)


# ---------------------------------------------------------------- parts


def _import_scipy(part: str) -> Any:
    return import_extra(f"scipy.{part}", "identifiability")


def _check_pair(embedding: ArrayLike, latents: ArrayLike) -> tuple[F64, F64]:
    x, z = np.asarray(embedding, np.float64), np.asarray(latents, np.float64)
    z = z[:, None] if z.ndim == 1 else z
    if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or 0 in (*x.shape, *z.shape):
        raise InputError(
            "Expected an embedding of shape (N, D) and latents of shape (N, K), got "
            f"{x.shape} and {np.shape(latents)}."
        )
    for name, values in (("embedding", x), ("latents", z)):
        if not np.isfinite(values).all():
            raise InputError(f"The {name} have NaN or infinite values.")
    return x, z


def _scale_by_exponent(values: F64, axis: int | None = None) -> tuple[F64, I64]:
    """Scale values to at most 1, all or by column, and return the exponents of two.

    Scaling by a power of two is exact, and the squares of very large or small values would over- or
    underflow.
    """
    exponent = np.frexp(np.abs(values).max(axis=axis))[1].astype(np.int64)
    scaled: F64 = np.ldexp(values, -exponent)
    return scaled, exponent


def _fit_affine_map(x: F64, z: F64) -> tuple[F64, F64]:
    """Return the matrix and offset of the least-squares map from ``x`` to ``z``."""
    matrix = np.asarray(np.linalg.lstsq(_center(x), _center(z), rcond=None)[0], np.float64)
    return matrix, z.mean(0) - x.mean(0) @ matrix


def _center(values: F64) -> F64:
    """Subtract the mean of each column; of a constant one, whose mean may be rounded, itself."""
    centered: F64 = values - values.mean(0)
    centered[:, np.ptp(values, axis=0) == 0] = 0
    return centered


def _check_variance(variance: F64) -> None:
    constant = np.flatnonzero(variance == 0)
    if len(constant):
        raise InputError(
            f"Latent {constant[0]} never changes: there is nothing to recover; leave it out."
        )


def _compute_correlations(x: F64, z: F64) -> F64:
    """Return ``(D, K)`` correlations; a constant dimension has correlation 0."""
    x, z = _scale_by_exponent(x, axis=0)[0], _scale_by_exponent(z, axis=0)[0]
    x, z = _center(x), _center(z)
    _check_variance((z**2).sum(0))
    lengths = np.sqrt((x**2).sum(0))
    correlations: F64 = (x / np.where(lengths == 0, 1, lengths)).T @ z / np.sqrt((z**2).sum(0))
    return np.clip(correlations, -1, 1)
