"""Error without labels: hand calculations, scipy and sklearn beside them, and worlds of known truth."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from shiftproof.errors import InputError
from shiftproof.metrics import agreement, average_thresholded_confidence, difference_of_confidences
from shiftproof.metrics.estimation import compute_error_shares, fit_confidence_threshold


def answers(count, rng, *, decimals=None):
    confidence = rng.beta(4, 1.5, count)
    if decimals is not None:
        confidence = confidence.round(decimals)
    return confidence, rng.random(count) < confidence


def by_interpolation(source, right, target):
    """ATC over scipy's percentile ranks: a target score is as wrong as its rank in the source says.

    A score takes up the ranks from the strict to the weak one; those up to the source error are
    wrong, which splits the tie at the threshold.
    """
    error = 100 * np.mean(~right)
    wrong = []
    for score in target:
        strict = stats.percentileofscore(source, score, kind="strict")
        weak = stats.percentileofscore(source, score, kind="weak")
        if weak == strict:  # between two source scores
            wrong.append(strict <= error + 1e-9)
        else:
            wrong.append(np.clip((error - strict) / (weak - strict), 0, 1))
    return np.mean(wrong)


def test_the_threshold_by_hand():
    # Two of five are wrong: two scores lie below the third smallest.
    threshold = fit_confidence_threshold(
        [0.2, 0.9, 0.5, 0.4, 0.7], [True, True, False, False, True]
    )
    assert threshold == (0.5, 0.0)
    assert compute_error_shares([0.1, 0.45, 0.5, 0.6], threshold).tolist() == [1, 1, 0, 0]


def test_equal_scores_are_split_by_hand():
    # Three of six wrong; one score below 1.0, five equal to it: two of those five count as wrong.
    source, right = [0.3, 1, 1, 1, 1, 1], [False, True, False, True, False, True]
    threshold = fit_confidence_threshold(source, right)
    assert threshold == (1.0, pytest.approx(2 / 5))
    assert average_thresholded_confidence(source, right, [1.0] * 7 + [0.9] * 3) == pytest.approx(
        (7 * 0.4 + 3) / 10
    )


@pytest.mark.parametrize("decimals", [None, 2, 1])
def test_average_thresholded_confidence_beside_scipy(decimals):
    rng = np.random.default_rng(1)
    source, right = answers(300, rng, decimals=decimals)
    target, _ = answers(200, rng, decimals=decimals)
    target = np.clip(target - 0.2, 0, 1)
    expected = by_interpolation(source, right, target)
    assert average_thresholded_confidence(source, right, target) == pytest.approx(expected)
    assert 0.1 < expected < 0.9


@pytest.mark.parametrize("decimals", [None, 3, 1, 0])
def test_on_the_source_itself_the_estimates_are_the_error(decimals):
    source, right = answers(501, np.random.default_rng(2), decimals=decimals)
    error = np.mean(~right)
    assert average_thresholded_confidence(source, right, source) == pytest.approx(error)
    assert difference_of_confidences(source, right, source) == pytest.approx(error)


def test_all_right_and_all_wrong():
    assert fit_confidence_threshold([0.5, 0.7], [True, True]) == (0.5, 0.0)
    assert average_thresholded_confidence([0.5, 0.7], [True, True], [0.6, 0.9]) == 0
    assert average_thresholded_confidence([0.5, 0.7], [False, False], [1.0, 0.9]) == 1


def test_only_the_order_of_the_scores_counts_for_the_threshold():
    rng = np.random.default_rng(3)
    source, right = answers(200, rng)
    target, _ = answers(150, rng)
    plain = average_thresholded_confidence(source, right, target)
    logit = average_thresholded_confidence(special.logit(source), right, special.logit(target))
    assert logit == plain


def test_the_difference_by_hand():
    # Error 1/4 at mean confidence 0.8; the target's is 0.6, so 0.2 more are wrong.
    source, right = [0.9, 0.9, 0.8, 0.6], [True, True, True, False]
    assert difference_of_confidences(source, right, [0.7, 0.5]) == pytest.approx(0.45)


def test_the_difference_stays_an_error():
    assert difference_of_confidences([1.0, 1.0], [False, True], [0.1]) == 1
    assert difference_of_confidences([0.5, 0.5], [True, True], [1.0]) == 0


def world(shift, rng, count=40_000):
    """Two classes, one feature; a shift brings the classes together. Truth and model known."""
    label = rng.integers(0, 2, count)
    feature = rng.normal((2 * label - 1) * (1 - shift), 1)
    return feature[:, None], label


def test_a_calibrated_model_under_a_shift_that_keeps_it_calibrated():
    """Only the inputs are drawn otherwise, p(y|x) stays: the confidence stays true."""
    rng = np.random.default_rng(4)
    features, labels = world(0.0, rng)
    model = LogisticRegression().fit(features, labels)
    confidence = model.predict_proba(features).max(axis=1)
    right = model.predict(features) == labels
    # The target: hard inputs near the border come four times as often (a covariate shift).
    weight = np.where(np.abs(features[:, 0]) < 0.8, 4.0, 1.0)
    drawn = rng.choice(len(labels), 30_000, p=weight / weight.sum())
    truth = np.mean(~right[drawn])
    assert truth - np.mean(~right) > 0.07
    estimate = difference_of_confidences(confidence, right, confidence[drawn])
    assert estimate == pytest.approx(truth, abs=0.01)


def test_classes_that_move_together_are_seen_in_part():
    """Under a shift that makes the model overconfident both fall short, on the right side."""
    rng = np.random.default_rng(5)
    features, labels = world(0.0, rng)
    model = LogisticRegression().fit(features, labels)
    moved, moved_labels = world(0.4, rng)
    confidence = model.predict_proba(features).max(axis=1)
    right = model.predict(features) == labels
    target = model.predict_proba(moved).max(axis=1)
    truth = np.mean(model.predict(moved) != moved_labels)
    # Known in closed form: the error is the normal tail beyond the distance of the means.
    assert np.mean(~right) == pytest.approx(stats.norm.sf(1), abs=0.01)
    assert truth == pytest.approx(stats.norm.sf(0.6), abs=0.01)
    for estimator in (average_thresholded_confidence, difference_of_confidences):
        estimate = estimator(confidence, right, target)
        assert np.mean(~right) + 0.01 < estimate < truth


def test_a_model_that_knows_when_it_is_wrong_is_measured():
    """Where every wrong answer is less sure than every right one, the threshold parts them."""
    rng = np.random.default_rng(6)
    wrong = {"source": rng.random(1000) < 0.2, "target": rng.random(1000) < 0.55}
    score = {name: np.where(w, 0.4, 0.6) + 0.1 * rng.random(1000) for name, w in wrong.items()}
    estimate = average_thresholded_confidence(score["source"], ~wrong["source"], score["target"])
    assert estimate == pytest.approx(wrong["target"].mean(), abs=0.002)


def test_agreement():
    assert agreement([1, 2, 3, 0], [1, 2, 0, 3]) == 0.5
    # No answer agrees with nothing, not even with no answer.
    assert agreement(np.array([-1, 4], np.int32), np.array([-1, 4], np.int32)) == 0.5


@pytest.mark.parametrize(
    ("source", "right", "target", "says"),
    [
        ([], np.zeros(0, bool), [0.5], "one finite source score"),
        ([0.5], [True, False], [0.5], "one score and one answer"),
        ([0.5], [1], [0.5], "True or False"),
        ([0.5], [True], [], "one finite target score"),
        ([0.5], [True], [[0.5]], "one finite target score"),
        ([np.nan], [True], [0.5], "one finite source score"),
        ([0.5], [True], [np.inf], "one finite target score"),
    ],
)
def test_bad_input_is_refused(source, right, target, says):
    for estimator in (average_thresholded_confidence, difference_of_confidences):
        with pytest.raises(InputError, match=says):
            estimator(source, right, target)


def test_the_difference_refuses_scores_outside_0_to_1():
    assert average_thresholded_confidence([-3.0, -1.0], [False, True], [-2.0]) == 1
    with pytest.raises(InputError, match=r"confidences in 0\.\.1"):
        difference_of_confidences([-3.0, -1.0], [False, True], [-2.0])
    with pytest.raises(InputError, match=r"confidences in 0\.\.1"):
        difference_of_confidences([0.3], [True], [1.5])


@pytest.mark.parametrize(
    ("these", "those", "says"),
    [([], [], "two models"), ([1], [1, 2], "two models"), ([0.5], [0.5], "numbers of classes")],
)
def test_invalid_predictions_are_refused(these, those, says):
    with pytest.raises(InputError, match=says):
        agreement(these, those)
