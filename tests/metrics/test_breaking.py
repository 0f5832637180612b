"""Bisection for the severity at which an answer breaks."""

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.metrics.breaking import (
    LEVELS,
    STEPS,
    SURVIVES,
    begin_search,
    choose_places,
    compute_mean_error,
    look_up_severities,
    narrow_search,
)


def test_five_evaluations_find_every_place():
    true = np.arange(1, SURVIVES + 1)
    right, wrong = begin_search(len(true))
    for _ in range(STEPS):
        places = choose_places(right, wrong)
        right, wrong = narrow_search(right, wrong, places, places < true)
    assert wrong.tolist() == true.tolist()
    assert not choose_places(right, wrong).any()


def test_the_integer_severities_are_among_the_levels():
    assert {1.0, 2.0, 3.0, 4.0, 5.0} <= set(LEVELS)


def test_the_mean_error_is_the_area_above_the_curve():
    # Two images: one breaks at severity 3, one is wrong clean: errors of 1/2 below 3, and 1 from there.
    severities = look_up_severities([1 + LEVELS.index(3.0), 0])
    assert compute_mean_error(severities.mean(), 0.5) == pytest.approx((0.5 * 2 + 1.0 * 2) / 4)


def test_a_place_out_of_range_is_refused():
    with pytest.raises(InputError, match="places from 0 to"):
        look_up_severities([SURVIVES + 1])
