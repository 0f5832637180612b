"""Clustered rows, and what float64 products of all pairs say about them."""

import numpy as np

WIDTH = 96


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(count, seed, width=WIDTH, clusters=40, noise=0.7, outliers=0.0):
    """Rows about common centres, off the origin as those of encoders are."""
    centres = np.random.default_rng(99).normal(size=(clusters, width))
    draws = np.random.default_rng(seed)
    rows = centres[draws.integers(0, clusters, count)] + noise * draws.normal(size=(count, width))
    rows += 1.0
    rows[:, 3] *= 1 + 8 * outliers
    return unit(rows)


def products(first, second):
    return first.astype(np.float64) @ second.astype(np.float64).T
