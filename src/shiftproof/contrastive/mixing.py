"""Mixing functions from latents to observations; all are injective."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof.types import F64, U8, Settings

SLOPE = 0.2
"""Negative slope of the leaky ReLU in the published experiments."""


@dataclass(frozen=True, eq=False)
class InvertibleMLP:
    """A random network of square layers with leaky ReLUs between them.

    >>> mixing = InvertibleMLP(3, seed=1)
    >>> latents = np.random.default_rng(0).normal(size=(5, 3))
    >>> bool(np.allclose(mixing.inverse(mixing(latents)), latents))
    True

    Args:
        dim: D, of latents and observations alike.
        layers: linear layers, with a leaky ReLU after each but the last.
        slope: negative slope of the leaky ReLU.
        max_condition: upper bound of each layer's condition number: small singular values are
            raised.
        seed: random seed of the weights.

    Raises:
        InputError: a setting is out of its range.
    """

    dim: int
    layers: int = 3
    slope: float = SLOPE
    max_condition: float = 10.0
    seed: int = 0
    weights: tuple[F64, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.dim < 1 or self.layers < 1:
            raise InputError(
                f"Expected a dim and layers of at least 1, got {self.dim} and {self.layers}."
            )
        if not 0 < self.slope <= 1:
            raise InputError(f"slope: expected a number above 0, up to 1, got {self.slope!r}.")
        if not 1 <= self.max_condition < np.inf:
            raise InputError(f"max_condition: expected 1 or more, got {self.max_condition!r}.")
        random = generator(self.seed, "invertible mlp", str(self.dim))
        weights = tuple(
            _draw_layer(self.dim, self.max_condition, random) for _ in range(self.layers)
        )
        object.__setattr__(self, "weights", weights)

    @property
    def settings(self) -> Settings:
        """The settings that define the map, for JSON."""
        return {
            "dim": self.dim,
            "layers": self.layers,
            "slope": self.slope,
            "max_condition": self.max_condition,
            "seed": self.seed,
        }

    def __call__(self, latents: ArrayLike) -> F64:
        """Map ``(N, D)`` latents to ``(N, D)`` observations."""
        values = _check_rows(latents, self.dim)
        for number, weight in enumerate(self.weights):
            values = values @ weight
            if number < len(self.weights) - 1:
                values = np.where(values > 0, values, self.slope * values)
        return values

    def inverse(self, observations: ArrayLike) -> F64:
        """Map observations back."""
        values = _check_rows(observations, self.dim)
        for number, weight in enumerate(reversed(self.weights)):
            if number > 0:
                values = np.where(values > 0, values, values / self.slope)
            values = np.linalg.solve(weight.T, values.T).T
        return values

    def conditions(self, latents: ArrayLike) -> F64:
        """Return ``(N,)``: the condition number of the map's Jacobian at each latent."""
        values = _check_rows(latents, self.dim)
        jacobian = np.broadcast_to(np.eye(self.dim), (len(values), self.dim, self.dim))
        for number, weight in enumerate(self.weights):
            values, jacobian = values @ weight, jacobian @ weight
            if number < len(self.weights) - 1:
                slopes = np.where(values > 0, 1.0, self.slope)
                values, jacobian = values * slopes, jacobian * slopes[:, None, :]
        return np.asarray(np.linalg.cond(jacobian))


@dataclass(frozen=True, eq=False)
class SpiralMap:
    """A random injective map to more dimensions that winds each latent into a spiral.

    Each latent becomes a point on a planar spiral; a random rotation of the higher space then mixes
    the points of all latents.

    >>> mixing = SpiralMap(2, 7)
    >>> latents = np.array([[-1.0, 0.5], [0.2, 1.0]])
    >>> bool(np.allclose(mixing.inverse(mixing(latents)), latents))
    True

    Args:
        dim: D, the number of latents.
        out_dim: dimension of the observations, at least 2 D.
        turns: revolutions of the spiral over a latent's range, -1 to 1.
        seed: random seed of the rotation.

    Raises:
        InputError: a setting is out of its range.
    """

    dim: int
    out_dim: int
    turns: float = 1.5
    seed: int = 0
    frame: F64 = field(init=False)

    def __post_init__(self) -> None:
        if self.dim < 1 or self.out_dim < 2 * self.dim:
            raise InputError(
                f"Expected a dim of at least 1 and an out_dim of at least twice that, got {self.dim} "
                f"and {self.out_dim}."
            )
        if not 0 <= self.turns < np.inf:
            raise InputError(f"turns: expected 0 or more, got {self.turns!r}.")
        random = generator(self.seed, "spiral", str(self.dim), str(self.out_dim))
        frame, _ = np.linalg.qr(random.standard_normal((self.out_dim, 2 * self.dim)))
        object.__setattr__(self, "frame", frame)

    def __call__(self, latents: ArrayLike) -> F64:
        """Map ``(N, D)`` latents of -1 to 1 to ``(N, out_dim)`` observations.

        Raises:
            InputError: a latent is outside -1 to 1, where the map is not injective.
        """
        values = _check_rows(latents, self.dim)
        if not (np.abs(values) <= 1 + 1e-9).all():
            raise InputError("Expected latents of -1 to 1.")
        angle, radius = np.pi * self.turns * values, 1.5 + values
        wound = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        observations: F64 = wound @ self.frame.T
        return observations

    def inverse(self, observations: ArrayLike) -> F64:
        """Map observations back."""
        wound = _check_rows(observations, self.out_dim) @ self.frame
        radius: F64 = np.hypot(wound[:, : self.dim], wound[:, self.dim :])
        return radius - 1.5


# ---------------------------------------------------------------- a rendered scene

SPRITE_FACTORS = ("x", "y", "size", "rotation", "colour", "background")
"""The latents of ``render_sprites``, in their order."""


def render_sprites(latents: ArrayLike, *, side: int = 32) -> U8:
    """Draw an arrowhead for each row of latents: position, size, rotation, color and background.

    Args:
        latents: ``(N, 6)`` of -1 to 1, in the order of ``SPRITE_FACTORS``: the position covers the
            middle half of the image, the size from a fifth to two fifths of it, the rotation over
            half a turn, the hue from red to violet, the background from black to mid gray.
        side: height and width in pixels, at least 8.

    Returns:
        ``(N, side, side, 3)`` uint8 RGB, with antialiased edges.

    Raises:
        InputError: another shape, or latents outside -1 to 1.
    """
    values = _check_rows(latents, len(SPRITE_FACTORS))
    if side < 8:
        raise InputError(f"side: expected at least 8, got {side!r}.")
    if not (np.abs(values) <= 1 + 1e-9).all():
        raise InputError("Expected latents of -1 to 1.")
    x, y, size, rotation, color, background = (values[:, k, None, None] for k in range(6))
    center = (side - 1) / 2
    down, across = np.mgrid[:side, :side].astype(np.float64)
    across = across - (center + x * side / 4)
    down = down - (center + y * side / 4)
    angle = np.pi / 2 * rotation
    along = np.cos(angle) * across + np.sin(angle) * down
    beside = -np.sin(angle) * across + np.cos(angle) * down
    radius = (0.3 + 0.1 * size) * side
    # The arrowhead lies inside three lines; the distance to the farthest, in pixels, antialiases
    # it.
    slant = np.hypot(1.0, 2.5)
    sides = (2.5 * np.abs(beside) + along - radius) / slant
    outside = np.maximum(sides, -along - radius / 2)
    cover = np.clip(0.5 - outside, 0, 1)[..., None]
    hues = 0.75 * (color.ravel() + 1) / 2
    ink = np.array([colorsys.hsv_to_rgb(hue, 0.9, 1.0) for hue in hues])[:, None, None, :]
    paper = np.broadcast_to((0.25 * (background + 1))[..., None], (len(values), 1, 1, 3))
    image: U8 = np.rint(255 * (cover * ink + (1 - cover) * paper)).astype(np.uint8)
    return image


# ---------------------------------------------------------------- parts


def _draw_layer(dim: int, max_condition: float, random: np.random.Generator) -> F64:
    drawn = random.uniform(-1, 1, (dim, dim))
    drawn /= np.linalg.norm(drawn, axis=0)
    left, singular, right = np.linalg.svd(drawn)
    # Slightly below the limit, which rounding could exceed.
    smallest = singular[0] / max_condition * (1 + 1e-12)
    layer: F64 = left * np.maximum(singular, smallest) @ right
    assert np.linalg.cond(layer) <= max_condition * (1 + 1e-9)
    return layer


def _check_rows(values: ArrayLike, dim: int) -> F64:
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InputError(f"Expected the shape (N, {dim}), got {rows.shape}.")
    if not np.isfinite(rows).all():
        raise InputError("Expected finite values, got NaN or infinite ones.")
    return rows
