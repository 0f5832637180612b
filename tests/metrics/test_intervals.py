"""Bootstrap: what a resample is, coverage against the binomial, scipy's interval, the same bits."""

import os
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from shiftproof.errors import InputError
from shiftproof.metrics import (
    CocoEvaluator,
    Interval,
    bootstrap_mean,
    coco_intervals,
    intervals,
    voc_interval,
)
from shiftproof.metrics.intervals import (
    correct_bias,
    count_blocks,
    percentile_interval,
    resample_weights,
    sum_resamples,
)


def test_each_resample_draws_as_many_images_as_the_data_has():
    weights = np.concatenate(list(resample_weights(40, 500)))
    assert weights.shape == (500, 40)
    assert (weights.sum(axis=1) == 40).all()
    assert (weights == np.round(weights)).all()
    assert weights.min() == 0


def test_draws_are_those_of_sampling_with_replacement():
    weights = np.concatenate(list(resample_weights(50, 4000)))
    # Each count is binomial(50, 1/50): mean 1, variance 0.98.
    observed = np.bincount(weights.astype(int).ravel(), minlength=6)[:6]
    expected = stats.binom.pmf(np.arange(6), 50, 1 / 50) * weights.size
    np.testing.assert_allclose(observed, expected, rtol=0.1, atol=60)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.08)


def test_the_seed_decides_the_draws():
    def first(seed):
        return next(iter(resample_weights(30, 5, seed=seed)))

    np.testing.assert_array_equal(first(1), first(1))
    assert (first(1) != first(2)).any()


def test_the_global_random_state_is_not_changed():
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    bootstrap_mean(np.arange(10.0))
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002


@pytest.mark.parametrize("block_bytes", [8 * 40, 8 * 40 * 7, 64_000_000])
def test_blocks_change_nothing(monkeypatch, block_bytes):
    table = np.random.default_rng(0).normal(0, 1, (40, 3))
    expected = sum_resamples([lambda: table], 40, 100)[0]
    monkeypatch.setattr(intervals, "BLOCK_BYTES", block_bytes)
    calls = []
    sums = sum_resamples([lambda: table] * 2, 40, 100, done=lambda: calls.append(1))
    assert len(calls) == 2 * count_blocks(40, 100)
    for values in sums:
        np.testing.assert_array_equal(values, expected)


def test_sums_are_those_of_the_drawn_images():
    rng = np.random.default_rng(1)
    losses = rng.gamma(1, 2, (30, 2))
    sums = sum_resamples([lambda: losses], 30, 50)[0]
    weights = np.concatenate(list(resample_weights(30, 50)))
    assert sums.shape == (51, 2)
    np.testing.assert_allclose(sums[0], losses.sum(axis=0), rtol=1e-12)
    for row, counts in zip(sums[1:], weights, strict=True):
        drawn = np.repeat(losses, counts.astype(int), axis=0)
        np.testing.assert_allclose(row, drawn.sum(axis=0), rtol=1e-12)


def test_counts_of_errors_are_exact():
    wrong = np.random.default_rng(2).random((5000, 4)) < 0.3
    sums = sum_resamples([lambda: wrong], 5000, 40)[0]
    weights = np.concatenate(list(resample_weights(5000, 40))).astype(np.int64)
    np.testing.assert_array_equal(sums[1:], weights @ wrong.astype(np.int64))
    np.testing.assert_array_equal(sums[0], wrong.sum(axis=0))


def test_all_tables_share_the_draws_so_that_differences_are_paired():
    rng = np.random.default_rng(3)
    hard = rng.random(400) < 0.5  # both models fail on the same images ...
    better = hard & (rng.random(400) < 0.9)  # ... the second on fewer of them
    sums = sum_resamples([lambda: hard[:, None], lambda: better[:, None]], 400)
    paired = percentile_interval((sums[1] - sums[0])[:, 0] / 400)
    direct = bootstrap_mean(better.astype(float) - hard.astype(float))
    np.testing.assert_allclose(astuple(paired), astuple(direct), atol=1e-12)
    single = bootstrap_mean(hard.astype(float))
    assert paired.high < 0  # a difference that unpaired intervals could not see
    assert paired.high - paired.low < 0.7 * (single.high - single.low)


def test_sums_are_the_same_bits_whatever_the_threads():
    # Without the rounding, this table's sums differ between one thread and two.
    code = """
import hashlib, numpy as np
from shiftproof.metrics.intervals import sum_resamples
table = np.random.default_rng(0).random((777, 19)) * 5
print(hashlib.sha256(sum_resamples([lambda: table], 777)[0].tobytes()).hexdigest())
"""
    digests = set()
    for extra in ({"OPENBLAS_NUM_THREADS": "1"}, {"OPENBLAS_NUM_THREADS": "2"},
                  {"OPENBLAS_CORETYPE": "Haswell"}):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | extra,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_a_column_that_is_not_finite_does_not_change_the_others():
    table = np.array([[1.0, np.nan, np.inf, -np.inf], [2.0, 1.0, 1.0, np.inf], [3.0, 1.0, 1.0, 0]])
    sums = sum_resamples([lambda: table], 3, 20)[0]
    assert sums[0, 0] == 6
    assert np.isfinite(sums[:, 0]).all()
    assert np.isnan(sums[:, 1:]).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1, 1e12, 1e300])
def test_values_of_any_size_are_kept_to_ten_digits(scale):
    values = np.random.default_rng(4).normal(0, 1, (1000, 1)) * scale
    sums = sum_resamples([lambda: values], 1000, 5)[0]
    exact = np.sum(values.astype(np.longdouble))
    assert abs(float((sums[0, 0] - exact) / (1000 * scale))) < 1e-12


def test_the_interval_is_scipys():
    values = np.random.default_rng(8).gamma(2, 1, 150)
    actual = bootstrap_mean(values, replicates=4000)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000,
        random_state=np.random.default_rng(0), vectorized=True,
    ).confidence_interval  # fmt: skip
    width = expected.high - expected.low
    assert actual.value == pytest.approx(values.mean())
    assert actual.low == pytest.approx(expected.low, abs=0.06 * width)
    assert actual.high == pytest.approx(expected.high, abs=0.06 * width)


def test_for_errors_the_interval_is_that_of_the_binomial():
    # The resampled number of errors is binomial(400, 0.3) by construction.
    wrong = np.arange(400) < 120
    interval = bootstrap_mean(wrong, replicates=4000)
    low, high = stats.binom.ppf([0.025, 0.975], 400, 0.3) / 400
    assert interval.value == 0.3
    assert interval.low == pytest.approx(low, abs=0.006)
    assert interval.high == pytest.approx(high, abs=0.006)


def test_it_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(9)
    covered = 0
    for trial in range(400):
        interval = bootstrap_mean(rng.random(120) < 0.35, replicates=300, seed=trial)
        covered += interval.low <= 0.35 <= interval.high
    # 95 % of 400 give or take three standard errors, and a little for the bootstrap's bias.
    assert 0.90 <= covered / 400 <= 0.985


def test_levels_are_nested():
    values = np.random.default_rng(10).normal(0, 1, 100)
    wide, narrow = bootstrap_mean(values, level=0.99), bootstrap_mean(values, level=0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_the_first_value_is_the_figure_and_the_rest_its_resamples():
    found = percentile_interval([5.0, *np.linspace(0, 1, 101)])
    assert astuple(found) == pytest.approx((5.0, 0.025, 0.975))


def test_resamples_without_a_value_are_ignored():
    assert percentile_interval([1.0, 2.0, np.nan, 2.0]) == Interval(1.0, 2.0, 2.0)
    assert percentile_interval([np.nan, 1.0]) is None
    assert percentile_interval([np.inf, 1.0]) is None


@pytest.mark.parametrize("values", [[], [[1.0]], [np.nan], [1.0, np.inf]])
def test_values_without_a_mean_are_refused(values):
    with pytest.raises(InputError, match="one finite value per image"):
        bootstrap_mean(values)


def test_no_images_no_resamples_and_other_shapes_are_refused():
    with pytest.raises(InputError, match="at least one image"):
        resample_weights(0)
    with pytest.raises(InputError, match="at least one image"):
        sum_resamples([lambda: np.zeros((0, 2))], 0)
    with pytest.raises(InputError, match="at least one resample"):
        bootstrap_mean([1.0], replicates=0)
    with pytest.raises(InputError, match=r"shape \(3, columns\)"):
        sum_resamples([lambda: np.zeros((4, 2))], 3)
    with pytest.raises(InputError, match=r"shape \(3, columns\)"):
        sum_resamples([lambda: np.zeros(3)], 3)
    for level in (0, 1, 95, -0.5):
        with pytest.raises(InputError, match="level between 0 and 1"):
            bootstrap_mean([1.0, 2.0], level=level)
    for replicates in ([1.0], [[1.0, 2.0]]):
        with pytest.raises(InputError, match="a figure and its resamples"):
            percentile_interval(replicates)


def test_the_interval_of_a_calibration_error_contains_the_value():
    """Of a model that is calibrated the plug-in figure is biased upwards; so are its resamples."""
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.3, 1, 60)
    right = rng.uniform(size=60) < confidence
    surplus = np.zeros((60, 15))
    surplus[np.arange(60), (confidence * 15).astype(int).clip(0, 14)] = confidence - right
    [sums] = sum_resamples([lambda: surplus], 60)
    replicates = np.abs(sums).sum(axis=1) / 60
    biased = percentile_interval(replicates)
    assert replicates[1:].mean() > replicates[0] + 0.02
    moved = percentile_interval(correct_bias(replicates))
    assert moved.value == biased.value == replicates[0]
    assert moved.low < moved.value < moved.high
    assert moved.high - moved.low == pytest.approx(biased.high - biased.low)
    assert correct_bias([np.nan, 1.0])[1] == 1.0
    assert list(correct_bias([2.0, 3.0, 5.0, np.nan])[:3]) == [2.0, 1.0, 3.0]


def test_each_table_is_made_once_and_groups_of_them_change_no_bit(monkeypatch):
    rng = np.random.default_rng(2)
    tables = [rng.normal(size=(50, width)) for width in (1, 4, 2, 3)]
    tables[1][3, 2] = np.nan
    made = []

    def make(number):
        made.append(number)
        return tables[number]

    functions = [lambda number=number: make(number) for number in range(4)]
    together = sum_resamples(functions, 50, 30)
    assert made == [0, 1, 2, 3]
    monkeypatch.setattr("shiftproof.metrics.intervals.GROUP_BYTES", 50 * 8 * 5)
    for one, other, table in zip(together, sum_resamples(functions, 50, 30), tables, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == (31, table.shape[1])


def test_one_image_has_no_interval():
    """All resamples of one image are equal: an interval of no width made it look certain."""
    assert bootstrap_mean([0.25]) == Interval(0.25)
    assert not bootstrap_mean([0.3, 0.3]).bare
    [sums] = sum_resamples([lambda: np.ones((1, 2))], 1, 50)
    assert sums[0].tolist() == [1, 1]
    assert np.isnan(sums[1:]).all()
    truth = {
        "images": [{"id": 7}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20]}],
    }
    box = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 15], "score": 0.9}
    evaluator = CocoEvaluator(truth)
    ap = coco_intervals(evaluator, evaluator.match([box]), ["AP"], replicates=20)["AP"]
    assert ap.value == pytest.approx(0.6)
    assert ap.bare
    assert voc_interval(truth, [box], replicates=20).bare


def test_values_that_are_not_finite_are_counted():
    with pytest.raises(InputError, match="got 2 of 3 that are NaN or infinite"):
        bootstrap_mean([1.0, np.nan, np.inf])
    with pytest.raises(InputError, match=r"got shape \(0,\)"):
        bootstrap_mean([])
