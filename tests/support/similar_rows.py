"""Clustered rows, their similarities in float64, and the search backends."""

import numpy as np

from shiftproof.similarity.search import kernels
from shiftproof.similarity.search.fp16 import Half

WIDTH = 96

KINDS = ["plain", *([kind] if (kind := kernels.fastest_kind()) else [])]
"""The 8-bit tiles that this processor has."""

HALVES = ["fp16", "bf16"]

TECHNIQUES = ["fp32", *KINDS, *HALVES]


def use(way, monkeypatch):
    """Make all searches use one backend; torch runs on the CPU."""
    half = Half(way, "cpu") if way in HALVES else None
    kind = way if way in KINDS else None
    monkeypatch.setattr("shiftproof.similarity.search.engines.choose_half", lambda *_: half)
    monkeypatch.setattr("shiftproof.similarity.search.engines.choose_kind", lambda *_: kind)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(count, seed, width=WIDTH, clusters=40, noise=0.7, outliers=0.0):
    """Return rows around common centers, away from the origin as encoders' rows are."""
    centres = np.random.default_rng(99).normal(size=(clusters, width))
    draws = np.random.default_rng(seed)
    rows = centres[draws.integers(0, clusters, count)] + noise * draws.normal(size=(count, width))
    rows += 1.0
    rows[:, 3] *= 1 + 8 * outliers
    return unit(rows)


def products(first, second):
    return first.astype(np.float64) @ second.astype(np.float64).T
