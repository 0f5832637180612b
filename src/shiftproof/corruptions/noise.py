"""Noise: each value is changed by its own random draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.corruptions.checks import Random, get_constants, to_uint8
from shiftproof.types import F64, I16, U8, U64, Image

# All constants for severities 1 to 5: Hendrycks & Dietterich 2019 (arXiv 1903.12261), and
# imagecorruptions 1.1.2, which agrees with it. ``table`` holds the constants of another scale.

GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation, of an image in 0..1."""

SHOT_NOISE = (60, 25, 12, 5, 3)
"""Photons that a white pixel counts on average."""

IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)
"""Share of the values that become black or white."""

SPECKLE_NOISE = (0.15, 0.2, 0.35, 0.45, 0.6)
"""Standard deviation, relative to the value."""

# Not in the benchmark:

LOW_LIGHT = (
    (0.5, 800.0, 0.004),
    (0.3, 400.0, 0.006),
    (0.2, 200.0, 0.008),
    (0.12, 100.0, 0.012),
    (0.07, 60.0, 0.016),
)
"""Remaining share of the light; electrons of white in full light; deviation of the read-out,
relative to white.
"""


@lru_cache(maxsize=16)
def _make_noise_table(sigma: float) -> U8:
    """Return ``floor(|noise|)`` in gray levels, up to 255, where every sum is clipped."""
    upper = draws.normal_quantiles()[draws.STEPS // 2 :].astype(np.float64)
    return np.minimum(upper * sigma * 255, 255).astype(np.uint8)


def gaussian_noise(
    image: Image, severity: float, rng: Random, table: Sequence[float] = GAUSSIAN_NOISE
) -> Image:
    """Add normal noise to every value, as from a hot sensor in the dark."""
    sigma = get_constants(table, severity)
    if isinstance(rng, np.random.RandomState):
        return to_uint8(image / 255.0 + rng.normal(scale=sigma, size=image.shape))
    from shiftproof.corruptions.kernels import noise as kernels
    from shiftproof.corruptions.kernels.random_words import BLOCK, allocate_words

    out = np.empty_like(image)
    kernels.add_noise(
        image.reshape(-1),
        _make_noise_table(sigma),
        *draws.keys(rng),
        *allocate_words(),
        np.empty(BLOCK, np.uint8),
        out.reshape(-1),
    )
    return out


@lru_cache(maxsize=16)
def _make_photon_table(photons: int) -> U64:
    """Return an alias table per gray level of the gray level that is counted, ``(256, 64)``.

    Counts above ``photons`` are white like ``photons`` itself, so 61 outcomes are enough for the
    published constants. From 64 photons on the table has the 128 most likely outcomes,
    ``(256, 128)``: at 127 photons they reach seven deviations on either side.
    """
    slots = 64 if photons < 64 else 128
    table = np.empty((256, slots), np.uint64)
    counts = np.arange(photons + 1)
    # Many photons share a gray level.
    levels, level_of_count = np.unique(to_uint8(counts / float(photons)), return_inverse=True)
    log_factorials = np.array([math.lgamma(k + 1) for k in counts])
    for value in range(256):
        probabilities = np.zeros(photons + 1)
        mean = value / 255.0 * photons
        if mean > 0:
            probabilities[:] = np.exp(counts * math.log(mean) - mean - log_factorials)
            probabilities[photons] = max(0.0, 1 - probabilities[:photons].sum())
        else:
            probabilities[0] = 1
        level_probabilities = np.bincount(level_of_count, probabilities)
        likely = np.sort(np.argsort(-level_probabilities, kind="stable")[:slots])
        share, outcomes = np.zeros(slots), np.zeros(slots, np.uint64)
        share[: len(likely)], outcomes[: len(likely)] = level_probabilities[likely], levels[likely]
        table[value] = _make_alias_row(share / share.sum(), outcomes)
    return table


def _make_alias_row(share: F64, outcomes: U64) -> U64:
    """Return the alias table (Walker 1977) of a distribution, for ``draw_from_alias_tables``."""
    size = len(share)
    scaled = share * size
    alias = np.arange(size)
    small = [i for i in range(size) if scaled[i] < 1]
    large = [i for i in range(size) if scaled[i] >= 1]
    while small and large:
        low, high = small.pop(), large[-1]
        alias[low] = high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            small.append(large.pop())
    for index in small + large:
        scaled[index] = 1
    unit = 2**32 // size
    thresholds = np.minimum(np.round(scaled * unit), unit).astype(np.uint64)
    row = (thresholds << np.uint64(32)) | (outcomes[alias] << np.uint64(8)) | outcomes
    return np.asarray(row, dtype=np.uint64)


def shot_noise(
    image: Image, severity: float, rng: Random, table: Sequence[int] = SHOT_NOISE
) -> Image:
    """Replace every value by a Poisson count with that mean, as when light is scarce."""
    photons = get_constants(table, severity)
    if isinstance(rng, np.random.RandomState):
        return to_uint8(rng.poisson(image / 255.0 * photons) / float(photons))
    from shiftproof.corruptions.kernels import noise as kernels
    from shiftproof.corruptions.kernels.random_words import BLOCK

    out = np.empty_like(image)
    kernels.draw_from_alias_tables(
        image.reshape(-1),
        _make_photon_table(photons),
        *draws.keys(rng),
        np.empty(BLOCK, np.uint32),
        out.reshape(-1),
    )
    return out


def impulse_noise(
    image: Image, severity: float, rng: Random, table: Sequence[float] = IMPULSE_NOISE
) -> Image:
    """Turn a share of the values black or white, half each, independently in every channel."""
    share = get_constants(table, severity)
    if isinstance(rng, np.random.RandomState):
        changed = rng.random_sample(image.shape) <= share
        white = rng.random_sample(image.shape) <= 0.5
        return np.where(changed, np.where(white, np.uint8(255), np.uint8(0)), image)
    from shiftproof.corruptions.kernels import noise as kernels

    out = np.empty_like(image)
    kernels.add_salt_and_pepper(
        image.reshape(-1),
        np.uint16(round(share / 2 * 2**16)),
        np.uint16(round(share * 2**16)),
        *draws.keys(rng),
        out.reshape(-1),
    )
    return out


@lru_cache(maxsize=16)
def _make_factor_table(sigma: float) -> I16:
    upper = draws.normal_quantiles()[draws.STEPS // 2 :].astype(np.float64)
    return np.asarray(np.round(upper * sigma * 8192), dtype=np.int16)


def speckle_noise(
    image: Image, severity: float, rng: Random, table: Sequence[float] = SPECKLE_NOISE
) -> Image:
    """Add normal noise in proportion to the value, as in radar and ultrasound images."""
    sigma = get_constants(table, severity)
    if isinstance(rng, np.random.RandomState):
        values = image / 255.0
        return to_uint8(values + values * rng.normal(scale=sigma, size=image.shape))
    from shiftproof.corruptions.kernels import noise as kernels
    from shiftproof.corruptions.kernels.random_words import BLOCK, allocate_words

    out = np.empty_like(image)
    kernels.scale_by_noise(
        image.reshape(-1),
        _make_factor_table(sigma),
        *draws.keys(rng),
        *allocate_words(),
        np.empty(BLOCK, np.int16),
        out.reshape(-1),
    )
    return out


def low_light(image: Image, severity: float, rng: Random) -> Image:
    """Darken the image, and add a sensor's noise: photon noise and read-out noise.

    Noise is added in linear light (gamma 2.2); photon noise as a normal of the same variance. Not
    in the benchmark.
    """
    light, electrons, readout = get_constants(LOW_LIGHT, severity)
    linear = ((np.arange(256) / 255.0) ** 2.2 * light).astype(np.float32)[image]
    rows = image.reshape(image.shape[0], -1)
    noise = draws.normal(rng, (rows.shape[0], rows.shape[1])).reshape(image.shape)
    noise *= np.sqrt(linear / np.float32(electrons) + np.float32(readout**2))
    return to_uint8(np.maximum(linear + noise, 0) ** np.float32(1 / 2.2))
