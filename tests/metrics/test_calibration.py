"""Expected calibration error: hand calculations, bounds of bins, and a plain loop as in the paper."""

from fractions import Fraction

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.metrics import expected_calibration_error
from shiftproof.metrics.calibration import (
    compute_calibration_error,
    find_bins,
    stack_calibration_columns,
)


def as_in_the_paper(confidence, correct, bins):
    """Guo et al. 2017, eq. 2 and 3, with sets of samples."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [
            i for i, c in enumerate(confidence)
            if (m - 1) / bins < c <= m / bins or (m == 1 and c == 0)
        ]  # fmt: skip
        if inside:
            accuracy = np.mean([correct[i] for i in inside])
            mean_confidence = np.mean([confidence[i] for i in inside])
            total += len(inside) / len(confidence) * abs(accuracy - mean_confidence)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_it_is_the_papers(bins):
    rng = np.random.default_rng(5)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence**2
    assert expected_calibration_error(confidence, correct, bins) == pytest.approx(
        as_in_the_paper(confidence, correct, bins)
    )


def test_by_hand():
    # Bin (0.5, 1]: mean confidence 0.8, accuracy 1/2; bin (0, 0.5]: 0.4 and 1. 2/3 x 0.3 + 1/3 x 0.6
    value = expected_calibration_error([0.9, 0.7, 0.4], [True, False, True], bins=2)
    assert value == pytest.approx(0.4)


def test_perfect_calibration_is_zero():
    assert expected_calibration_error([0.75] * 4, [True, True, True, False]) == 0


def test_certain_and_always_wrong_is_one():
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1


@pytest.mark.parametrize("bins", [3, 7, 10, 15, 49, 100])
def test_bins_are_closed_on_the_right(bins):
    bounds = [float(Fraction(m, bins)) for m in range(1, bins + 1)]
    assert find_bins(bounds, bins).tolist() == list(range(bins))
    just_above = np.nextafter(bounds[:-1], 1)
    assert find_bins(just_above, bins).tolist() == list(range(1, bins))
    assert find_bins([0.0, 1.0], bins).tolist() == [0, bins - 1]


def test_columns_give_the_error_of_any_weighting():
    rng = np.random.default_rng(6)
    confidence, correct = rng.random(60), rng.random(60) < 0.5
    drawn = rng.integers(0, 60, (20, 60))
    weights = np.stack([np.bincount(row, minlength=60) for row in drawn])
    columns = stack_calibration_columns(confidence, correct)
    assert columns.shape == (60, 15)
    values = compute_calibration_error(weights @ columns / 60)
    expected = [expected_calibration_error(confidence[row], correct[row]) for row in drawn]
    np.testing.assert_allclose(values, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("confidence", "correct", "says"),
    [
        ([], [], "one confidence and one answer"),
        ([0.5], [True, False], "one confidence and one answer"),
        ([[0.5]], [[True]], "one confidence and one answer"),
        ([1.01], [True], r"in 0\.\.1"),
        ([-0.01], [True], r"in 0\.\.1"),
        ([float("nan")], [True], r"in 0\.\.1"),
        ([0.5], [0.7], "True or False"),
        ([0.5], [3], "True or False"),
    ],
)
def test_bad_input_is_refused(confidence, correct, says):
    with pytest.raises(InputError, match=says):
        expected_calibration_error(confidence, np.array(correct) if correct else np.zeros(0, bool))


def test_no_bins_are_refused():
    with pytest.raises(InputError, match="at least one bin"):
        expected_calibration_error([0.5], [True], bins=0)
