"""Data-generating processes with known latents: latents and positive pairs.

A latent ``z`` is drawn from the space, its partner ``z'`` near it: ``p(z' | z) ∝ exp(-½ (z' - z)ᵀ Λ
(z' - z))`` with a diagonal precision Λ. A small ``λ`` is a latent that varies strongly within a
pair. The two limits are called content, which never varies (λ infinite), and style, which is
resampled (λ zero).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.rng import generator
from shiftproof.types import F64, I64, Flags

Latents: TypeAlias = NDArray[np.float64]
"""``(N, D)`` float64."""

Space: TypeAlias = Literal["sphere", "box", "gaussian"]
"""The unit sphere, the box of -1 to 1, or all of R^D, with the uniform or the standard normal
distribution.
"""

Conditional: TypeAlias = Literal["normal", "laplace", "von_mises_fisher"]

WIDTH = 0.1
"""Largest distance from the sphere of an accepted proposal, in the published experiments."""

PROPOSALS = 4096
"""Proposals per round; at least one for each latent."""

ROUNDS = 2000
"""Rounds of proposals after which a precision counts as too low for the sampler."""

_SPACES: tuple[Space, ...] = ("sphere", "box", "gaussian")
_CONDITIONALS: tuple[Conditional, ...] = ("normal", "laplace", "von_mises_fisher")


@dataclass(frozen=True)
class PairProcess:
    """Draws latents and their partners.

    >>> process = PairProcess(precision=(25.0, 5.0, 5.0))
    >>> z, partner = process.pairs(4, seed=0)
    >>> z.shape, [round(float(length), 6) for length in np.linalg.norm(partner, axis=1)]
    ((4, 3), [1.0, 1.0, 1.0, 1.0])

    Args:
        precision: λ per latent, all above 0; ignored for content and style.
        space: the latent space.
        conditional: ``"normal"``; or ``"laplace"``, of the same variances ``1 / λ``; or
            ``"von_mises_fisher"``, on the sphere alone and with one λ, its concentration.
        content: indices of the latents that are equal in both.
        style: indices of the latents that are resampled.
        width: largest distance from the sphere of a proposal that is accepted and projected, 0.1 as
            published. The projection changes a latent by up to ``width`` times its value, which
            adds to its variation unless ``1 / sqrt(λ)`` is much larger; a smaller ``width`` is
            closer to the density above.

    Raises:
        InputError: a setting is out of its range.
    """

    precision: tuple[float, ...]
    space: Space = "sphere"
    conditional: Conditional = "normal"
    content: tuple[int, ...] = ()
    style: tuple[int, ...] = ()
    width: float = WIDTH

    def __post_init__(self) -> None:
        if self.space not in _SPACES:
            raise UnknownNameError.of("space", self.space, _SPACES)
        if self.conditional not in _CONDITIONALS:
            raise UnknownNameError.of("conditional", self.conditional, _CONDITIONALS)
        _check_precision(self.precision, len(self.precision))
        if not 0 < self.width < 1:
            raise InputError(f"width: expected a number between 0 and 1, got {self.width!r}.")
        named = [*self.content, *self.style]
        if len(set(named)) < len(named) or not set(named) <= set(range(self.dim)):
            raise InputError(
                f"content and style: expected different numbers of 0 to {self.dim - 1}, got "
                f"{list(self.content)} and {list(self.style)}."
            )
        if self.space == "sphere" and len(self.style) == 1:
            raise InputError(
                "style: on the sphere expected none or at least two; the others determine a single one "
                "up to its sign."
            )
        if self.space == "sphere" and self.dim - len(self.content) == 1:
            raise InputError("content: on the sphere one latent alone cannot vary; leave two out.")
        if self.conditional == "von_mises_fisher":
            if self.space != "sphere" or len(set(self.precision)) > 1 or named:
                raise InputError(
                    "von_mises_fisher: expected the sphere, one precision for all latents, and "
                    "neither content nor style."
                )
        elif self.conditional == "laplace" and self.space == "sphere" and self.style:
            raise InputError("laplace: on the sphere expected no style.")

    @property
    def dim(self) -> int:
        """D, the number of latents."""
        return len(self.precision)

    @property
    def varying(self) -> tuple[int, ...]:
        """Return the latents that are neither content nor style."""
        return tuple(i for i in range(self.dim) if i not in self.content and i not in self.style)

    def latents(self, count: int, random: np.random.Generator) -> Latents:
        """Draw ``count`` latents from the space."""
        return SAMPLERS[self.space](count, self.dim, random)

    def partners(self, z: ArrayLike, random: np.random.Generator) -> Latents:
        """Draw a partner for each of ``(N, D)`` latents.

        Raises:
            InputError: another shape, or a precision too low for the sampler.
        """
        latents = _check_latents(z, self.dim)
        if self.conditional == "von_mises_fisher":
            return von_mises_fisher(latents, self.precision[0], random)
        noise = _NOISE[self.conditional]
        spread = 1 / np.sqrt(np.asarray(self.precision, np.float64))
        if self.space == "sphere":
            return self._draw_on_sphere(latents, spread, noise, random)
        moved: Latents = latents.copy()
        varying, style = list(self.varying), list(self.style)
        if self.space == "gaussian":
            steps = noise((len(latents), len(varying)), random)
            moved[:, varying] += spread[varying] * steps
        else:
            moved[:, varying] = _draw_in_box(latents[:, varying], spread[varying], noise, random)
        moved[:, style] = SAMPLERS[self.space](len(latents), len(style), random)
        return moved

    def pairs(self, count: int, *, seed: int, step: int = 0) -> tuple[Latents, Latents]:
        """Draw latents and their partners; deterministic in seed and step, on any machine.

        Args:
            count: N.
            seed: random seed.
            step: training step, which changes the draws.
        """
        if isinstance(count, bool) or count < 1:
            raise InputError(f"count: expected at least 1, got {count!r}.")
        random = generator(seed, "pairs", str(step))
        z = self.latents(count, random)
        return z, self.partners(z, random)

    def _draw_on_sphere(
        self,
        z: Latents,
        spread: F64,
        noise: Callable[[tuple[int, int], np.random.Generator], F64],
        random: np.random.Generator,
    ) -> Latents:
        varying, style = list(self.varying), list(self.style)
        # Content keeps its share of the norm; the rest belongs to the other latents.
        rest = np.linalg.norm(np.delete(z, list(self.content), axis=1), axis=1)
        near, spread = z[:, varying], spread[varying]
        moved: Latents = z.copy()

        def propose(open_: I64) -> tuple[Latents, Flags]:
            tried = near[open_] + spread * noise((len(open_), len(varying)), random)
            length = np.linalg.norm(tried, axis=1)
            if not style:
                fits = np.abs(length - rest[open_]) <= self.width
                return tried * (rest[open_] / np.maximum(length, 1e-300))[:, None], fits
            # On the sphere the marginal density of the varying latents is (rest² - |v|²)^(k/2 - 1).
            left = 1 - (length / rest[open_]) ** 2
            share = np.maximum(left, 0) ** (len(style) / 2 - 1)
            return tried, (left > 0) & (random.random(len(open_)) < share)

        if varying:
            moved[:, varying] = _sample_by_rejection(len(z), len(varying), propose)
        if style:
            length = np.linalg.norm(moved[:, varying], axis=1)
            radius = np.sqrt(np.maximum(rest**2 - length**2, 0))
            moved[:, style] = sphere(len(z), len(style), random) * radius[:, None]
        return moved


# ---------------------------------------------------------------- spaces


def sphere(count: int, dim: int, random: np.random.Generator) -> Latents:
    """Draw ``(count, dim)`` uniformly from the unit sphere."""
    directions = random.standard_normal((count, dim))
    points: Latents = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return points


def box(count: int, dim: int, random: np.random.Generator) -> Latents:
    """Draw ``(count, dim)`` uniformly from -1 to 1."""
    return random.uniform(-1, 1, (count, dim))


def gaussian(count: int, dim: int, random: np.random.Generator) -> Latents:
    """Draw ``(count, dim)`` from the standard normal distribution."""
    return random.standard_normal((count, dim))


SAMPLERS: dict[str, Callable[[int, int, np.random.Generator], Latents]] = {
    "sphere": sphere,
    "box": box,
    "gaussian": gaussian,
}
"""Samplers of the spaces by name."""


# ---------------------------------------------------------------- conditionals


def von_mises_fisher(z: ArrayLike, concentration: float, random: np.random.Generator) -> Latents:
    """Draw a partner on the sphere for each latent, ``p(z' | z) ∝ exp(κ z · z')``.

    It is exact, by rejection of the cosine (Wood 1994, Communications in Statistics 23).

    Args:
        z: ``(N, D)`` on the unit sphere, D at least 2.
        concentration: κ, above 0.
        random: random generator.

    Raises:
        InputError: a shape or number that does not fit.
    """
    centers = np.asarray(z, np.float64)
    if centers.ndim != 2 or centers.shape[1] < 2:
        raise InputError(f"Expected latents of shape (N, D), D at least 2, got {centers.shape}.")
    _check_precision([concentration], 1)
    count, dim = centers.shape
    free = dim - 1
    # Wood's b in a form that does not cancel at large κ.
    b = free / (2 * concentration + math.sqrt(4 * concentration**2 + free**2))
    x = (1 - b) / (1 + b)
    c = concentration * x + free * math.log(1 - x**2)

    def propose(open_: I64) -> tuple[Latents, Flags]:
        beta = random.beta(free / 2, free / 2, len(open_))
        cosine = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
        level = concentration * cosine + free * np.log(1 - x * cosine) - c
        return cosine[:, None], level >= np.log(1 - random.random(len(open_)))

    cosine = _sample_by_rejection(count, 1, propose)
    across = random.standard_normal((count, dim))
    across -= (across * centers).sum(1, keepdims=True) * centers
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    partners = cosine * centers + np.sqrt(np.maximum(1 - cosine**2, 0)) * across
    normed: Latents = partners / np.linalg.norm(partners, axis=1, keepdims=True)
    return normed


def _normal(shape: tuple[int, int], random: np.random.Generator) -> F64:
    return random.standard_normal(shape)


def _laplace(shape: tuple[int, int], random: np.random.Generator) -> F64:
    return random.laplace(0, math.sqrt(0.5), shape)  # of variance 1


_NOISE = {"normal": _normal, "laplace": _laplace}


def _draw_in_box(
    centers: F64,
    spread: F64,
    noise: Callable[[tuple[int, int], np.random.Generator], F64],
    random: np.random.Generator,
) -> F64:
    """Redraw each coordinate until it lies in the box; coordinates are independent."""
    flat = centers.ravel()
    wide = np.broadcast_to(spread, centers.shape).ravel()

    def propose(open_: I64) -> tuple[F64, Flags]:
        tried = flat[open_, None] + wide[open_, None] * noise((len(open_), 1), random)
        return tried, (np.abs(tried) <= 1)[:, 0]

    return _sample_by_rejection(len(flat), 1, propose).reshape(centers.shape)


def _sample_by_rejection(
    count: int,
    dim: int,
    propose: Callable[[I64], tuple[F64, Flags]],
) -> F64:
    """Propose for all latents that have no partner until each has one."""
    drawn = np.empty((count, dim))
    open_ = np.arange(count)
    tries = 1
    for _ in range(ROUNDS):
        if len(open_) == 0:
            return drawn
        repeated = np.repeat(open_, tries)
        proposed, fits = propose(repeated)
        fits = fits.reshape(-1, tries)
        # Several proposals per latent: rounds are slow, and most of them serve the last few
        # latents.
        wanted = math.ceil(2 / max(fits.mean(), 1 / 64))
        done = fits.any(1)
        first = np.arange(len(open_)) * tries + fits.argmax(1)
        drawn[open_[done]] = proposed[first[done]]
        open_ = open_[~done]
        tries = max(1, min(wanted, 64, max(count, PROPOSALS) // max(len(open_), 1)))
    raise InputError(
        "precision: too low for proposals to be accepted; name latents that are resampled in style."
    )


# ---------------------------------------------------------------- checks


def _check_precision(precision: Sequence[float], dim: int) -> None:
    values = np.asarray(precision, np.float64)
    if dim < 1 or values.shape != (dim,):
        raise InputError(f"precision: expected one number per latent, got {precision!r}.")
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(
            f"precision: expected numbers above 0, got {values.tolist()}; latents that never vary "
            "go to content, those that are resampled to style."
        )


def _check_latents(z: ArrayLike, dim: int) -> Latents:
    latents = np.asarray(z, np.float64)
    if latents.ndim != 2 or latents.shape[1] != dim:
        raise InputError(f"Expected latents of shape (N, {dim}), got {latents.shape}.")
    if not np.isfinite(latents).all():
        raise InputError("Expected finite latents, got NaN or infinite values.")
    return latents
