"""What is seen without labels, by hand."""

import math

import numpy as np
import pytest

from shiftproof.adapt.base.probabilities import compute_entropy, to_probabilities
from shiftproof.adapt.safeguards.error_estimates import (
    COLLAPSE_FACTOR,
    MEMORY,
    UNKNOWN,
    MeanAnswers,
    Shift,
    estimate_errors,
    estimate_source,
    measure_difference,
)


def rows(*answers):
    return np.array(answers, np.float32)


SURE = rows([0.9, 0.1, 0.0], [0.1, 0.8, 0.1])
WIDE = np.array([1.0, 1.0])


def test_softmax_and_entropy():
    np.testing.assert_allclose(to_probabilities(np.log(SURE + 1e-30)), SURE, atol=1e-6)
    np.testing.assert_allclose(compute_entropy(np.array([[0.5, 0.5], [1, 0]])), [math.log(2), 0])


class TestMeanAnswers:
    def test_older_ones_fade(self):
        first = MeanAnswers(np.zeros((1, 0)), 0.0).add([SURE])
        second = first.add([rows([0, 0, 1])])
        kept = math.exp(-1 / MEMORY)
        np.testing.assert_allclose(second.sums[0], [kept, 0.9 * kept, 0.1 * kept + 1], rtol=1e-6)
        assert second.images == pytest.approx(2 * kept + 1)

    def test_spread(self):
        mean = MeanAnswers(np.array([[2.0, 2.0, 0.0], [4.0, 0.0, 0.0]]), 4.0)
        np.testing.assert_allclose(mean.spread(), [math.log(2), 0])


class TestEstimates:
    def test_the_source_s_is_what_its_confidence_lacks(self):
        [error] = estimate_errors([SURE], ["confidence"], np.array([1.0]))
        assert error == pytest.approx(0.15)

    def test_and_more_where_its_answers_collapse(self):
        errors = estimate_errors([SURE, SURE], ["confidence"] * 2, np.array([0.5, 1.0]))
        np.testing.assert_allclose(errors, [0.15 * (1 + COLLAPSE_FACTOR / 2), 0.15], rtol=1e-6)

    def test_a_learner_is_paid_for_its_gain_less_its_changes(self):
        surer = rows([1, 0, 0], [0, 1, 0])
        _, error = estimate_errors([SURE, surer], ["confidence", "gain"], WIDE)
        assert error == pytest.approx(0.15 - 0.15)
        other = rows([0.5, 0.5, 0], [1, 0, 0])
        _, error = estimate_errors([SURE, other], ["confidence", "gain"], WIDE)
        # 0.75 - 0.85 of confidence, and half of the answers changed, of which each costs a half.
        assert error == pytest.approx(0.15 + 0.1 + 0.25)

    def test_a_learner_that_collapses_is_wrong(self):
        surest = rows([1, 0, 0], [1, 0, 0])
        _, error = estimate_errors([SURE, surest], ["confidence", "gain"], np.array([1.0, 0.94]))
        assert error == 1

    def test_what_has_no_confidence_never_looks_better_than_the_source(self):
        assigned = rows([1, 0, 0], [0, 0, 1])
        first, second = estimate_errors([SURE, assigned], ["confidence", "source"], WIDE)
        # The source gives 0.9 and 0.1 to these answers.
        assert second == pytest.approx(0.5)
        assert second >= first

    def test_the_reference_of_a_learner_is_the_best_that_adapts(self):
        unsure = rows([0.4, 0.3, 0.3], [0.3, 0.4, 0.3])
        errors = estimate_errors(
            [unsure, SURE, SURE], ["confidence", "confidence", "gain"], np.ones(3)
        )
        assert errors[2] == pytest.approx(errors[1])


def shift(distance, unshifted):
    return Shift(distance, lambda: unshifted)


def refuse():
    raise AssertionError("asked")


class TestSource:
    """Sixteen images, of which the source gives all to one of four classes, and another expert four to
    each: half of ``3/4 + 3 * 1/4`` of the answers differ on the average."""

    ONE = np.eye(4, dtype=np.float32)[[0] * 16]
    TWO = np.eye(4, dtype=np.float32)[[0, 1] * 8]
    HALF = np.eye(4, dtype=np.float32)[[0] * 9 + [1] * 7]
    ALL = np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 4]

    def test_its_answers_differ_from_another_s_by_half_of_the_sum(self):
        assert measure_difference(self.ONE, self.ALL) == pytest.approx(0.75)
        assert measure_difference(self.TWO, self.ALL) == pytest.approx(0.5)

    @pytest.mark.parametrize("distance", [0.01, 0.9])
    def test_what_spreads_without_the_shift_collapsed_because_of_it(self, distance):
        error = estimate_source(self.ONE, self.ALL, 1.0, shift(distance, self.ALL))
        assert error == pytest.approx(0.75)

    def test_so_did_what_agrees_on_another_class_without_it(self):
        other = np.eye(4, dtype=np.float32)[[1] * 16]
        assert estimate_source(self.ONE, self.ALL, 1.0, shift(0.01, other)) == pytest.approx(0.75)

    @pytest.mark.parametrize("distance", [0.01, 0.9])
    def test_what_still_agrees_without_the_shift_is_of_few_classes(self, distance):
        assert estimate_source(self.ONE, self.ALL, 1.0, shift(distance, self.ONE)) == 0

    def test_between_them_the_distance_decides(self):
        # Of the answers without the shift 9 in 16 are the source's class: 0.5 (9/16 - 1/4) = 0.156,
        # and 9/16 - 1/4 is less than half of 1 - 1/4.
        near, far = (
            estimate_source(self.ONE, self.ALL, 1.0, shift(d, self.HALF)) for d in (0.156, 0.157)
        )
        assert (near, far) == (0, pytest.approx(0.75))

    def test_it_does_where_the_other_answers_spread_too(self):
        # 11 in 16 are the source's class, which is more than half of what agreed before; of pairs of
        # different ones, (11 * 10) / (16 * 15) are alike, which is less.
        spread = np.eye(6, dtype=np.float32)[[0] * 10 + [1, 2, 3, 4, 5, 5]]
        one, every = np.eye(6, dtype=np.float32)[[0] * 16], np.eye(6, dtype=np.float32)[[*range(6)]]
        every = np.resize(every, (16, 6))
        near, far = (estimate_source(one, every, 1.0, shift(d, spread)) for d in (0.22, 0.24))
        assert near == 0
        assert far > 0.5

    def test_an_expert_that_is_unsure_speaks_for_few_classes(self):
        unsure = 0.5 * self.ALL + 0.125  # sure to 0.625, so the distance counts 0.39
        near, far = (
            estimate_source(self.ONE, unsure, 1.0, shift(d, self.HALF)) for d in (0.39, 0.41)
        )
        assert (near, far) == (0, pytest.approx(0.75))

    def test_a_collapse_counts_where_the_reason_is_not_known(self):
        half = 0.5 * self.ONE + 0.125
        for known in (UNKNOWN, Shift(0.9, lambda: None), Shift(math.inf, refuse)):
            error = estimate_source(half, self.ALL, 0.5, known)
            assert error == pytest.approx(0.375 * (1 + COLLAPSE_FACTOR / 2))

    def test_where_the_shift_cannot_be_removed_the_distance_alone_decides(self):
        # One of four classes explains a distance of 0.28 * 3 / 4 = 0.21.
        near, far = (
            estimate_source(self.ONE, self.ALL, 1.0, Shift(d, lambda: None)) for d in (0.20, 0.22)
        )
        assert (near, far) == (0, pytest.approx(0.75))

    def test_of_few_images_the_reason_is_not_asked_for(self):
        asked = Shift(0.9, refuse)
        assert estimate_source(self.ONE[:3], self.ALL[:3], 1.0, asked) == 0

    def test_nor_where_nothing_collapses(self):
        assert estimate_source(self.ALL, self.ALL, 0.0, Shift(0.9, refuse)) == 0

    def test_it_is_the_estimate_of_the_source(self):
        answers, bases = [self.ONE, self.ALL], ["confidence"] * 2
        spread = np.array([0.0, math.log(4)])
        few, collapsed = (
            estimate_errors(answers, bases, spread, shift(0.5, w)) for w in (self.ONE, self.ALL)
        )
        np.testing.assert_allclose(few, [0, 0], atol=1e-6)
        np.testing.assert_allclose(collapsed, [0.75, 0], atol=1e-6)

    def test_of_some_images_it_is_asked_for_theirs(self):
        broken = self.TWO.copy()
        broken[3] = math.nan
        rows = np.arange(16) != 3
        np.testing.assert_array_equal(shift(0.5, broken).select_rows(rows).remove(), self.TWO[rows])
        assert shift(0.5, broken).select_rows(~rows).remove() is None
        assert UNKNOWN.select_rows(rows).remove() is None
