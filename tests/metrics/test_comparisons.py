"""P-values from resamples, and Holm's correction, against hand calculations and scipy's normal."""

import math

import numpy as np
import pytest
from scipy import stats

from shiftproof.errors import InputError
from shiftproof.metrics.comparisons import adjust_by_holm, bootstrap_p_value


def test_the_p_value_counts_the_rarer_side_of_zero():
    # 3 of 99 resamples on the far side: 2 (3 + 1) / (99 + 1).
    differences = [0.1, *[0.1] * 96, *[-0.05] * 3]
    assert bootstrap_p_value(differences) == pytest.approx(0.08)
    assert bootstrap_p_value([-one for one in differences]) == pytest.approx(0.08)


def test_resamples_of_exactly_zero_are_on_both_sides():
    assert bootstrap_p_value([0.0] * 100) == 1.0
    assert bootstrap_p_value([0.1, *[0.1] * 96, *[0.0] * 3]) == pytest.approx(0.08)


def test_without_a_resample_beyond_zero_the_normal_tail_gives_p():
    drawn = np.linspace(0.5, 1.5, 101)
    expected = 2 * stats.norm.sf(1.0 / drawn.std())
    assert bootstrap_p_value([1.0, *drawn]) == pytest.approx(expected)
    assert expected < 2 / 102


def test_the_normal_tail_never_makes_a_p_value_larger():
    # So wide that the tail would be 0.3, while none of 999 lies beyond 0.
    drawn = np.concatenate([np.full(990, 0.1), np.full(9, 1.0)])
    assert bootstrap_p_value([0.1, *drawn]) == pytest.approx(2 / 1000)


def test_without_finite_resamples_there_is_no_p_value():
    assert math.isnan(bootstrap_p_value([0.1, math.nan]))
    assert math.isnan(bootstrap_p_value([math.nan, 0.1]))
    with pytest.raises(InputError, match=r"shape \(1,\)"):
        bootstrap_p_value([0.1])


def test_holm_multiplies_by_the_number_left_and_never_decreases():
    # The smallest times 4, the next times 3, ...; a later one is no smaller than those before it.
    adjusted = adjust_by_holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_by_holm([0.9, 0.8]) == [1.0, 1.0]
    assert adjust_by_holm([]) == []
