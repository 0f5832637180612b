"""Calibration and selective prediction on resamples, sorted once, against one resample at a time."""

import functools

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.metrics import confidence_resamples
from shiftproof.metrics.calibration import BINS, stack_calibration_columns
from shiftproof.metrics.confidence_order import (
    order_by_confidence,
    sum_along_order,
    transpose_weights,
)
from shiftproof.metrics.confidence_resamples import PredictionTable, count_blocks, sum_tables
from shiftproof.metrics.intervals import resample_weights, sum_resamples
from shiftproof.metrics.selective import area_under_risk_coverage, risk_at_coverage

COUNT = 90


def draw_answers(seed, *, digits):
    """Confidences (rounded, so that some are equal), wrong answers, and which images count."""
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.random(COUNT), digits).astype(np.float32)
    return confidence, rng.random(COUNT) < 1 - confidence, rng.random(COUNT) < 0.9


def make(confidence, wrong, counts):
    places = np.flatnonzero(counts)
    order = order_by_confidence(
        confidence[places], wrong[places], places=places, resample_size=COUNT
    )
    return PredictionTable(np.stack([counts, counts & wrong, np.pi * counts], axis=1), order)


@pytest.fixture(params=[1, 7], ids=["many equal", "hardly any equal"])
def table(request):
    return draw_answers(request.param, digits=request.param)


def test_sums_and_bins_are_those_of_plain_columns_to_the_bit(table):
    confidence, wrong, counts = table
    [found] = sum_tables([functools.partial(make, *table)], COUNT, 40, seed=3)
    plain = np.zeros((COUNT, 3 + BINS))
    plain[:, :3] = np.stack([counts, counts & wrong, np.pi * counts], axis=1)
    plain[counts, 3:] = stack_calibration_columns(confidence[counts], ~wrong[counts])
    [expected] = sum_resamples([lambda: plain], COUNT, 40, seed=3)
    np.testing.assert_array_equal(found.sums, expected[:, :3])
    np.testing.assert_array_equal(found.calibration, expected[:, 3:])


def test_figures_are_those_of_copies_of_the_images(table):
    confidence, wrong, counts = table
    [found] = sum_tables([functools.partial(make, *table)], COUNT, 12, seed=3)
    drawn = np.concatenate([np.ones((1, COUNT)), *resample_weights(COUNT, 12, seed=3)])
    for row, weights in enumerate((drawn * counts).astype(int)):
        copies = np.repeat(confidence, weights), np.repeat(wrong, weights)
        assert found.selective.aurc[row] == pytest.approx(area_under_risk_coverage(*copies))
        assert found.selective.risk[row] == pytest.approx(risk_at_coverage(*copies))


def test_nothing_depends_on_blocks_and_groups(table, monkeypatch):
    makers = [
        functools.partial(make, *table),
        functools.partial(make, *draw_answers(5, digits=2)),
    ]
    together = sum_tables(makers, COUNT, 40, seed=3)
    monkeypatch.setattr(confidence_resamples, "BLOCK_BYTES", 1)
    monkeypatch.setattr(confidence_resamples, "GROUP_BYTES", 1)
    monkeypatch.setattr("shiftproof.metrics.intervals.BLOCK_BYTES", 8 * COUNT * 7)
    steps = []
    parts = sum_tables(makers, COUNT, 40, seed=3, done=lambda: steps.append(1))
    assert len(steps) == 2 * count_blocks(COUNT, 40) == 12
    for one, other in zip(together, parts, strict=True):
        np.testing.assert_array_equal(one.sums, other.sums)
        np.testing.assert_array_equal(one.calibration, other.calibration)
        np.testing.assert_array_equal(np.array(one.selective), np.array(other.selective))


def test_a_temperature_that_changes_no_order_changes_no_risk():
    """To the last bit: a change of 0 in every resample is told as none."""
    confidence, wrong, counts = draw_answers(2, digits=7)
    cooler = confidence**2  # other bins, the same order
    makers = [functools.partial(make, one, wrong, counts) for one in (confidence, cooler)]
    one, other = sum_tables(makers, COUNT, 40)
    np.testing.assert_array_equal(np.array(one.selective), np.array(other.selective))
    assert not np.array_equal(one.calibration, other.calibration)


def test_without_an_order_metrics_are_nan():
    [found] = sum_tables([lambda: PredictionTable(np.ones((COUNT, 1)), None)], COUNT, 4)
    assert found.sums[:, 0].tolist() == [COUNT] * 5
    assert np.isnan(found.calibration).all()
    assert np.isnan(np.array(found.selective)).all()


def test_without_images_that_count_nothing_is_summed():
    none = np.zeros(COUNT, bool)
    [found] = sum_tables([lambda: make(np.ones(COUNT, np.float32), none, none)], COUNT, 4)
    assert not found.calibration.any()
    assert np.isnan(np.array(found.selective)).all()


def test_weights_beyond_a_byte_are_counted():
    order = order_by_confidence(np.array([0.9, 0.4]), np.array([False, True]))
    found = sum_along_order(order, transpose_weights([[300, 100]]), np.array([400.0]), coverage=0.8)
    assert (found.total[0], found.errors[0]) == (400, 100)
    assert found.risk[0] == 20 / 320


def test_a_confidence_without_a_bin_is_refused():
    with pytest.raises(InputError, match=r"confidences in 0\.\.1"):
        order_by_confidence(np.array([1.5, 0.5]), np.array([True, False]), resample_size=2)


def test_ties_of_right_and_wrong_answers_are_separate_stretches():
    confidence = np.array([0.9, 0.9, 0.5, 0.3, 0.3, 0.2], np.float32)
    wrong = np.array([True, False, False, True, False, False])
    order = order_by_confidence(confidence, wrong, places=np.arange(6), resample_size=6)
    ones = np.ones((1, 6))
    found = confidence_resamples.average_sums(
        sum_along_order(order, transpose_weights(ones), ones.sum(axis=1), coverage=0.5)
    )
    # By hand: a tie's risk is that of its images in any order, 1/2 and 1/2, then 1/3; the second tie
    # adds half an error per image, and the last image none.
    risks = [1 / 2, 2 / 4, 1 / 3, 1.5 / 4, 2 / 5, 2 / 6]
    assert found.aurc[0] == pytest.approx(np.mean(risks))
    assert found.risk[0] == pytest.approx(1 / 3)
