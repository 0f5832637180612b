"""Which pairs are drawn, and what the draws say: unbiased, exact in the end, the same again."""

import numpy as np
import pytest

from shiftproof.bench.other_runs.pair_sampling import Block, Estimand, PairSampler, draw_pairs
from shiftproof.types import Cell

CELLS = [Cell("fog", 1), Cell("fog", 5), Cell("snow", 1), Cell("snow", 5)]
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.5])


def make_answers(images=40, models=2, seed=0):
    """``(models, N, C)`` errors of images that differ in how hard they are."""
    random = np.random.default_rng(seed)
    hard = random.random((images, 1))
    return (random.random((models, images, 4)) < hard * [0.4, 0.9, 0.3, 0.8]).astype(float)


def draw(answers, asked, blocks=None, **options):
    sampler = PairSampler(answers.shape[1], CELLS, WEIGHTS, ["a", "b"], asked, **options)
    place = 0
    while not sampler.is_exhausted and (blocks is None or place < blocks):
        block = sampler.draw_block(place)
        sampler.add(block, answers[:, block.images, block.cells])
        place += 1
    return sampler


def truth(answers):
    return answers.mean(axis=1) @ WEIGHTS


def test_all_draws_give_the_number_exactly():
    answers = make_answers()
    sampler = draw(answers, [Estimand("a"), Estimand("b", "a")])
    exact = truth(answers)
    alone, beside = sampler.intervals
    assert alone.low == pytest.approx(exact[0])
    assert alone.high == pytest.approx(exact[0])
    assert (beside.low + beside.high) / 2 == pytest.approx(exact[1] - exact[0])


def test_all_draws_give_the_number_exactly_where_the_interval_had_missed_it():
    """The end of the interval was given in place of the number, though all answers were known."""
    answers = make_answers()
    sampler = draw(answers, [Estimand("a")], blocks=0)
    [interval] = sampler.intervals
    # As after draws of bad luck: the number lies below.
    interval.low = truth(answers)[0] + 0.01
    place = 0
    while not sampler.is_exhausted:
        block = sampler.draw_block(place)
        sampler.add(block, answers[:, block.images, block.cells])
        place += 1
    assert interval.low == interval.high == interval.estimate
    assert interval.low == pytest.approx(truth(answers)[0], abs=1e-12)


def test_the_mean_of_a_draw_is_the_number_whatever_is_foretold():
    answers = make_answers(images=300)
    sampler = draw(answers, [Estimand("a")], blocks=2)
    total = 0.0
    for image, cell in np.argwhere(sampler.draw_weights > 0):
        block = Block(np.array([image]), np.array([cell]))
        [rounds] = sampler.estimate(block, answers[:, [image], [cell]])
        assert rounds.low[0] - 1e-9 <= rounds.estimates[0] <= rounds.high[0] + 1e-9
        total += rounds.estimates[0] * sampler.draw_weights[image, cell]
    assert total / sampler.draw_weights.sum() == pytest.approx(truth(answers)[0])


def test_the_same_answers_lead_to_the_same_draws():
    answers = make_answers(images=200)
    once = draw(answers, [Estimand("a")], blocks=1).draw_block(1)
    again = draw(answers, [Estimand("a")], blocks=1).draw_block(1)
    assert once.images.tolist() == again.images.tolist()
    assert draw(answers, [Estimand("a")], seed=1, blocks=0).draw_block(0).images.tolist() != (
        draw(answers, [Estimand("a")], blocks=0).draw_block(0).images.tolist()
    )


def test_an_image_that_is_left_out_counts_nowhere():
    answers = make_answers()
    sampler = draw(answers, [Estimand("a")], excluded=[3, 7])
    assert sampler.total == 38 * 4
    left = np.delete(answers, [3, 7], axis=1)
    assert sampler.intervals[0].low == pytest.approx(truth(left)[0])


@pytest.mark.parametrize("more", [0, 30])
def test_draws_without_replacement_have_their_chances(more):
    # Of the weights 1, 2, 3 the pair (third, first) has 3/6 x 1/3; the zeros are never drawn.
    chances = np.array([1.0, 2.0, 3.0] + [0.0] * more)
    random = np.random.default_rng(0)
    found = [tuple(draw_pairs(chances, 2, random)) for _ in range(3000)]
    assert found.count((2, 0)) / 3000 == pytest.approx(1 / 6, abs=0.025)
    assert all(first != second and max(first, second) < 3 for first, second in found)


def test_few_draws_of_many_have_their_chances():
    chances = np.concatenate([np.full(50, 1.0), np.full(50, 3.0)])
    random = np.random.default_rng(0)
    found = np.concatenate([draw_pairs(chances, 5, random) for _ in range(600)])
    # One by one without replacement: close to 3/4 while few are drawn.
    assert (found >= 50).mean() == pytest.approx(0.745, abs=0.03)
