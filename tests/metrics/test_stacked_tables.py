"""Columns of many tables in one product: the sums of each table alone, to the last bit."""

import numpy as np

from shiftproof.metrics.intervals import make_summable, resample_weights
from shiftproof.metrics.stacked_tables import StackedTables

COUNT = 500


def make_tables(rng):
    counts = np.ones(COUNT)
    for number in range(4):
        wrong = rng.random(COUNT) < 0.3
        loss = rng.exponential(size=COUNT) * 10**number
        large = rng.integers(0, 2**40, COUNT)
        counts = np.where(rng.random(COUNT) < 0.5, counts, 0) if number == 2 else counts
        gaps = np.where(wrong, np.nan, 1.0)
        yield np.stack([counts, wrong, loss, large, gaps, np.full(COUNT, np.inf)], axis=1)


def test_sums_are_those_of_each_table_in_float64():
    tables = [make_summable(table, COUNT) for table in make_tables(np.random.default_rng(0))]
    stacked = StackedTables.stack(tables)
    # Once for the tables before the third: who counts; and which are wrong, of each table.
    assert stacked.integers.shape == (COUNT, 2 + 4)
    [weights] = resample_weights(COUNT, 30)
    sums = stacked.sum(weights, np.empty((30, COUNT)))
    for table, indices in zip(tables, stacked.indices, strict=True):
        with np.errstate(invalid="ignore"):
            expected = np.stack([(weights.astype(np.float64) * c).sum(axis=1) for c in table.T], 1)
        np.testing.assert_array_equal(sums[:, indices], expected)
        np.testing.assert_array_equal(stacked.sum_once()[:, indices][0], table.sum(axis=0))


def test_integers_too_large_for_sums_in_float32_are_float64():
    table = np.full((COUNT, 1), 2.0**24 // COUNT + 1)
    assert StackedTables.stack([table]).integers.shape == (COUNT, 0)
    assert StackedTables.stack([table - 2]).integers.shape == (COUNT, 1)
