"""Confidence sequences by betting, against products that are written out and against known means."""

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.metrics.betting import (
    MAX_BET_SHARE,
    CapitalProcess,
    ConfidenceSequence,
    Rounds,
    find_confidence_bound,
)


def rounds(values):
    values = np.asarray(values, dtype=float)
    return Rounds(values, np.zeros(len(values)), np.ones(len(values)), np.full(len(values), 0.25))


def test_the_bound_is_the_root_found_by_hand():
    # (1 + (1 - m) / 2)^20 = 40 at m = 1 - 2 (40^(1/20) - 1).
    process = CapitalProcess(np.ones(20), np.full(20, 0.5))
    assert find_confidence_bound(process, np.log(40), 0.0, 1.0) == pytest.approx(
        3 - 2 * 40**0.05, abs=1e-7
    )


def test_too_little_capital_excludes_nothing():
    assert (
        find_confidence_bound(CapitalProcess(np.ones(2), np.full(2, 0.5)), np.log(40), 0.0, 1.0)
        == 0.0
    )


def test_the_interval_is_where_neither_product_has_reached_its_threshold():
    values = np.random.default_rng(0).random(60) < 0.3
    sequence = ConfidenceSequence(0.0, 1.0)
    sequence.add(rounds(values), aim=0.1)
    bet = min(0.1 / 0.25, MAX_BET_SHARE)
    means = np.linspace(0.001, 0.999, 999)
    up = np.prod(1 + bet * (values[:, None] - means), axis=0)
    down = np.prod(1 - bet * (values[:, None] - means), axis=0)
    inside = means[(up < 40) & (down < 40)]
    assert sequence.low == pytest.approx(inside.min(), abs=1.1e-3)
    assert sequence.high == pytest.approx(inside.max(), abs=1.1e-3)


def test_the_mean_is_inside_at_all_times_in_95_of_100_sequences():
    random, missed = np.random.default_rng(1), 0
    for _ in range(60):
        sequence = ConfidenceSequence(0.0, 1.0)
        for _ in range(10):
            sequence.add(rounds(random.random(20) < 0.2))
            if not sequence.low <= 0.2 <= sequence.high:
                missed += 1
                break
    # 60 sequences at 5 % or less: more than 7 misses have a chance below 2 %.
    assert missed <= 7


def test_limits_that_are_certain_replace_an_interval_that_has_missed():
    sequence = ConfidenceSequence(0.0, 1.0)
    sequence.add(rounds(np.ones(300)))
    assert sequence.low > 0.9
    sequence.clip(0.2, 0.98)
    assert 0.9 < sequence.low < sequence.high == 0.98
    sequence.clip(0.2, 0.4)
    assert (sequence.low, sequence.high) == (0.2, 0.4)
    sequence.add(rounds(np.ones(300)))
    sequence.clip(0.3, 0.3)
    assert sequence.low == sequence.high == sequence.estimate == 0.3


def test_an_excluded_zero_has_full_evidence():
    sequence = ConfidenceSequence(-1.0, 1.0)
    assert sequence.compute_evidence(0.0) == 0
    half = rounds(np.ones(200))
    sequence.add(Rounds(half.estimates, half.low - 1, half.high, half.variance), aim=0.5)
    assert sequence.low > 0
    assert sequence.compute_evidence(0.0) == 1


@pytest.mark.parametrize("level", [0, 1, -0.5, 2])
def test_a_level_outside_0_to_1_is_refused(level):
    with pytest.raises(InputError, match="level between 0 and 1"):
        ConfidenceSequence(0, 1, level=level)
