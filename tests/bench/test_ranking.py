"""Models ranked from replicates that they share: places, pairs, and what many pairs cost."""

import numpy as np
import pytest

from shiftproof.bench.tasks.ranking import rank
from shiftproof.runs.scores.grid import Headline

ERROR = Headline("mean", "Error", "", lower_is_better=True, unit="share")
PERFORMANCE = Headline("mean", "mPC", "", lower_is_better=False, unit="share")


def replicates(value, spread, seed, count=1000):
    return np.concatenate(
        [[value], value + spread * np.random.default_rng(seed).normal(size=count)]
    )


def three():
    shared = np.concatenate([[0.0], 0.1 * np.random.default_rng(0).normal(size=1000)])
    return {
        "worst": 0.6 + shared,
        "best": 0.3 + shared + replicates(0, 0.01, 1),
        "middle": 0.31 + shared + replicates(0, 0.01, 2),
    }


def test_the_best_stands_first_whichever_way_the_figure_points():
    assert [one.name for one in rank(ERROR, three()).places] == ["best", "middle", "worst"]
    assert [one.name for one in rank(PERFORMANCE, three()).places] == ["worst", "middle", "best"]


def test_every_two_models_are_a_pair_with_the_better_one_first():
    pairs = rank(ERROR, three()).pairs
    assert [(one.name, one.against) for one in pairs] == [
        ("best", "middle"), ("best", "worst"), ("middle", "worst"),
    ]  # fmt: skip
    assert all(one.difference.value <= 0 for one in pairs)


def test_the_difference_is_paired_and_narrower_than_the_figures():
    ranking = rank(ERROR, three())
    place, pair = ranking.places[0], ranking.pairs[1]
    # What moves both models alike, 0.1 wide, cancels; 0.01 is left.
    assert place.figure.upper - place.figure.lower == pytest.approx(2 * 1.96 * 0.1, rel=0.1)
    assert pair.difference.upper - pair.difference.lower == pytest.approx(2 * 1.96 * 0.01, rel=0.1)
    assert not pair.difference.spans_zero
    assert ranking.pairs[0].difference.spans_zero


def test_places_are_those_that_a_model_takes_in_the_resamples():
    places = {one.name: one for one in rank(ERROR, three()).places}
    assert (places["best"].rank, places["best"].first, places["best"].last) == (1, 1, 2)
    assert (places["worst"].rank, places["worst"].first, places["worst"].last) == (3, 3, 3)


def test_equal_figures_share_a_place():
    same = replicates(0.5, 0.1, 0)
    ranking = rank(ERROR, {"one": same, "two": same, "three": same + 0.1})
    assert [one.rank for one in ranking.places] == [1, 1, 3]
    assert ranking.pairs[0].p == 1.0


def test_of_twenty_models_a_clear_difference_holds_and_a_weak_one_does_not():
    figures = {f"m{at}": replicates(0.5, 0.1, at) for at in range(18)}
    figures["clear"] = replicates(0.1, 0.01, 18)
    ranking = rank(ERROR, figures)
    assert len(ranking.pairs) == 19 * 18 / 2
    clear = [one for one in ranking.pairs if one.name == "clear"]
    others = [one for one in ranking.pairs if one.name != "clear"]
    assert all(one.p < 0.01 and one.p <= one.adjusted for one in clear)
    assert all(one.adjusted == 1.0 for one in others)


def test_without_resamples_there_are_places_and_no_p_values():
    ranking = rank(ERROR, {"one": np.array([0.5]), "two": np.array([0.4])})
    assert [(one.name, one.rank, one.first) for one in ranking.places] == [
        ("two", 1, None), ("one", 2, None),
    ]  # fmt: skip
    assert ranking.pairs[0].p is None
    assert ranking.pairs[0].difference.bare


def test_one_model_has_no_ranking():
    assert rank(ERROR, {"one": np.array([0.5])}) is None
    assert rank(ERROR, {"one": np.array([0.5]), "two": np.array([np.nan])}) is None
