"""Weights that follow losses, held against the papers' bounds by trying all there is."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shiftproof.adapt.safeguards.expert_weights import bound_mistakes, follow_losses, weigh_votes


def test_hedge_by_hand():
    """Freund & Schapire 1997: weights in proportion to beta to the power of the losses."""
    weights = follow_losses(
        np.array([0.5, 0.25, 0.25]),
        np.array([2.0, 0.0, 1.0]),
        np.full(3, 1 / 3),
        rate=math.log(2),
        share=0.0,
    )
    # 0.5 / 4, 0.25 / 1 and 0.25 / 2 are 1 : 2 : 1.
    np.testing.assert_allclose(weights, [0.25, 0.5, 0.25])


def test_a_share_goes_back_to_the_start_and_what_has_weight_keeps_some():
    start = np.array([0.8, 0.2])
    weights = follow_losses(np.array([0.0, 1.0]), np.array([0.0, 1e5]), start, rate=1.0, share=0.1)
    np.testing.assert_allclose(weights, [0.08, 0.92])


class TestVotes:
    def test_the_heaviest_of_those_who_give_the_answer_of_most_weight(self):
        answers = np.array([[1, 1], [2, 2], [2, 1]])
        weights = np.array([0.4, 0.35, 0.25])
        # The first image: 2 has 0.6, and the second expert the most of it; the second image: 1 has 0.65.
        np.testing.assert_array_equal(weigh_votes(answers, weights), [1, 0])

    def test_more_than_half_decides_alone(self):
        answers = np.array([[3], [1], [1]])
        np.testing.assert_array_equal(weigh_votes(answers, np.array([0.51, 0.25, 0.24])), [0])


def count_mistakes(answers, labels, start, rate, share):
    """Vote, then learn the label, round after round."""
    weights, wrong = start, 0
    for said, label in zip(answers, labels, strict=True):
        wrong += said[weigh_votes(said[:, None], weights)[0]] != label
        losses = (said != label).astype(float)
        weights = follow_losses(weights, losses, start, rate=rate, share=share)
    return int(wrong)


ROUNDS = st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROUNDS, st.sampled_from([0.3, 1.0, 2.0]), st.sampled_from([0.01, 0.2]))
def test_no_stream_breaks_the_bound_against_any_sequence_of_experts(rounds, rate, share):
    """Three experts and a label in each round; all 3^T sequences are tried."""
    rounds = np.array(rounds)
    answers, labels = rounds[:, :3], rounds[:, 3]
    start = np.array([0.6, 0.3, 0.1])
    wrong = count_mistakes(answers, labels, start, rate, share)
    mistaken = answers != labels[:, None]
    for sequence in itertools.product(range(3), repeat=len(rounds)):
        mistakes = sum(mistaken[t, expert] for t, expert in enumerate(sequence))
        changes = [b for a, b in itertools.pairwise(sequence) if a != b]
        starts = [start[expert] for expert in (sequence[0], *changes)]
        bound = bound_mistakes(mistakes, starts, len(rounds), rate=rate, share=share)
        assert wrong <= bound + 1e-9


def test_the_bound_of_weighted_majority():
    """Littlestone & Warmuth 1994: (m log 1/beta + log n) / log(2 / (1 + beta)) for n equal experts."""
    beta, n, m = 0.5, 8, 10
    expected = (m * math.log(1 / beta) + math.log(n)) / math.log(2 / (1 + beta))
    assert bound_mistakes(m, [1 / n], 50, rate=math.log(2), share=0.0) == pytest.approx(expected)
