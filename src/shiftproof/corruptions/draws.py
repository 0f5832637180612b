"""Random layers of an image's size, from either kind of generator.

A ``Generator`` draws two 32-bit keys; the values are hashes of a counter under the keys, which is
several times faster than numpy's generators and does not depend on the order. A legacy
``RandomState`` draws every value itself, as in the published code.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from shiftproof.corruptions.checks import Random
from shiftproof.types import F32, I32

STEPS = 65_536
"""Quantiles of a 16-bit draw; the outermost lie at 4.3 standard deviations."""


@lru_cache(maxsize=1)
def normal_quantiles() -> F32:
    """Return the ``(65536,)`` mid-point quantiles of the standard normal, ascending."""
    inverse = NormalDist().inv_cdf
    upper = [inverse((i + 0.5) / STEPS) for i in range(STEPS // 2, STEPS)]
    table = np.array([-z for z in reversed(upper)] + upper)
    # Mid-point quantiles have slightly too small a variance: the far tail is missing.
    return np.asarray(table / table.std(), dtype=np.float32)


@lru_cache(maxsize=1)
def _uniform_quantiles() -> F32:
    return np.asarray((np.arange(STEPS) + 0.5) * (2 / STEPS) - 1, dtype=np.float32)


def keys(rng: np.random.Generator) -> tuple[np.uint32, np.uint32]:
    """Draw two keys for the compiled generator."""
    first, second = rng.integers(0, 2**32, size=2, dtype=np.uint32)
    return first, second


def normal(rng: Random, shape: tuple[int, int]) -> F32:
    """Draw standard normal values."""
    if isinstance(rng, np.random.RandomState):
        return rng.normal(size=shape).astype(np.float32)
    return _draw_from_table(rng, shape, normal_quantiles())


def uniform(rng: Random, shape: tuple[int, int]) -> F32:
    """Draw values uniform in -1..1."""
    if isinstance(rng, np.random.RandomState):
        return rng.uniform(-1, 1, size=shape).astype(np.float32)
    return _draw_from_table(rng, shape, _uniform_quantiles())


def _draw_from_table(rng: np.random.Generator, shape: tuple[int, int], table: F32) -> F32:
    from shiftproof.corruptions.kernels import random_words as kernels

    out = np.empty(shape, np.float32)
    kernels.draw_from_table(*keys(rng), *kernels.allocate_words(), table, out.reshape(-1))
    return out


def offsets(rng: Random, delta: int, width: int, count: int) -> I32:
    """Draw ``(count,)`` flat offsets ``dy * width + dx``, integers dx, dy in ``[-delta,
    delta)``.
    """
    if isinstance(rng, np.random.RandomState):
        pairs = rng.randint(-delta, delta, size=(count, 2))
        return (pairs[:, 1] * width + pairs[:, 0]).astype(np.int32)
    from shiftproof.corruptions.kernels import random_words as kernels

    out = np.empty(count, np.int32)
    kernels.draw_offsets(*keys(rng), *kernels.allocate_words(), delta, width, out)
    return out


def index(rng: Random, below: int) -> int:
    """Draw a whole number from 0 to ``below - 1``."""
    if isinstance(rng, np.random.RandomState):
        return int(rng.randint(0, below))
    return int(rng.integers(0, below))


def fork(rng: Random) -> Random:
    """Return a generator for inner draws: a ``Generator`` itself, or a newly seeded
    ``RandomState``.

    Published code that seeds an inner generator from the global one does so with a legacy one.
    """
    if isinstance(rng, np.random.RandomState):
        return np.random.RandomState(rng.randint(0, 2**32, dtype=np.int64))
    return rng
