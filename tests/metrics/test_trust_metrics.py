"""Temperature, Brier score, prediction sets and selective prediction, against others and by hand."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import kstest
from sklearn.metrics import log_loss

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics import (
    area_under_risk_coverage,
    brier_scores,
    conformal_threshold,
    excess_area_under_risk_coverage,
    fit_temperature,
    nonconformity,
    prediction_sets,
    risk_at_coverage,
    risk_coverage,
    scale_logits,
)
from shiftproof.metrics.conformal import compute_coverage_floor, compute_minimum_images
from shiftproof.metrics.selective import compute_selective_metrics


def draw_answers(count, classes, seed, sharpness=1.0):
    """Logits whose softmax is the chance of each class, and classes drawn so."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    chances = softmax(logits, axis=1)
    targets = np.array([rng.choice(classes, p=row) for row in chances])
    return sharpness * logits, targets


# ---------------------------------------------------------------- temperature


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_has_the_smallest_log_loss(sharpness):
    logits, targets = draw_answers(400, 7, 1, sharpness)

    def loss(logarithm):
        scaled = softmax(logits / np.exp(logarithm), axis=1)
        return log_loss(targets, scaled, labels=range(7))

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-8})
    assert fit_temperature(logits, targets) == pytest.approx(np.exp(best.x), rel=1e-5)


def test_too_sharp_logits_get_a_high_temperature():
    logits, targets = draw_answers(20_000, 5, 2, sharpness=3.0)
    assert fit_temperature(logits, targets) == pytest.approx(3.0, rel=0.03)


def test_two_classes_by_hand():
    # 3 of 4 right at a margin of 2: the best probability is 3/4, so 2 / T = log 3.
    logits = [[2.0, 0.0]] * 4
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(2 / np.log(3))
    np.testing.assert_allclose(scale_logits(logits, 4.0), [[0.5, 0.0]] * 4)


def test_excluded_classes_and_rows_with_nan_change_nothing():
    logits, targets = draw_answers(300, 4, 3)
    wider = np.concatenate([logits, np.full((300, 1), -np.inf)], axis=1)
    wider = np.concatenate([wider, np.full((1, 5), np.nan)])
    fitted = fit_temperature(wider, np.append(targets, 0))
    assert fitted == pytest.approx(fit_temperature(logits, targets))


@pytest.mark.parametrize(
    ("logits", "targets", "sentence"),
    [
        ([[3.0, 0.0], [0.0, 1.0]], [0, 1], "all are answered right"),
        ([[3.0, 0.0], [0.0, 1.0]], [1, 0], "no better than a guess"),
        (np.zeros((0, 3)), np.zeros(0, int), "at least one image"),
        ([[1.0, 0.0]], [2], "classes from 0 to 1, got 2"),
        ([[1.0, 0.0]], [0.5], "numbers of classes"),
        ([1.0, 0.0], [0], r"logits \(N, K\)"),
    ],
)
def test_logits_without_a_best_temperature_are_refused(logits, targets, sentence):
    with pytest.raises(InputError, match=sentence):
        fit_temperature(logits, targets)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(InputError, match="above 0, got 0"):
        scale_logits([[1.0]], 0.0)


# ---------------------------------------------------------------- Brier score


def test_the_brier_score_is_the_squared_distance_from_the_truth():
    logits, targets = draw_answers(50, 6, 4)
    chances = softmax(logits, axis=1)
    expected = ((chances - np.eye(6)[targets]) ** 2).sum(axis=1)
    np.testing.assert_allclose(brier_scores(chances, targets), expected, atol=1e-12)


def test_the_brier_score_refuses_targets_outside_the_classes():
    with pytest.raises(InputError, match="from 0 to 1, got 5"):
        brier_scores([[0.5, 0.5]], [5])


# ---------------------------------------------------------------- prediction sets

# Sizes of LAC's sets at 90 % by MAPIE 1.6.0 (SplitConformalClassifier, prefit), on the same numbers.
MAPIE = [
    4, 2, 1, 2, 2, 4, 4, 4, 2, 3, 1, 3, 3, 5, 3, 4, 3, 3, 2, 1,
    3, 3, 5, 5, 2, 3, 2, 3, 1, 3, 3, 3, 4, 3, 4, 2, 3, 2, 3, 4,
]  # fmt: skip


def test_lac_gives_the_sets_of_mapie():
    rng = np.random.default_rng(3)

    def draw(count):
        chances = rng.dirichlet(np.full(6, 0.5), count)
        return chances, np.array([rng.choice(6, p=row) for row in chances])

    known, classes = draw(200)
    new, _ = draw(40)
    scores = nonconformity(known)[np.arange(200), classes]
    sets = prediction_sets(nonconformity(new), conformal_threshold(scores, 0.9))
    assert sets.sum(axis=1).tolist() == MAPIE


def test_aps_and_raps_by_hand():
    chances = [[0.1, 0.5, 0.4]]
    # In the order 0.5, 0.4, 0.1, each with a quarter of its own.
    aps = nonconformity(chances, method="aps", uniforms=[0.25])
    np.testing.assert_allclose(aps, [[0.925, 0.125, 0.6]])
    raps = nonconformity(chances, method="raps", uniforms=[0.25], penalty=0.2, free_classes=1)
    np.testing.assert_allclose(raps, [[0.925 + 0.4, 0.125, 0.8]])


def test_aps_of_the_right_class_is_uniform_where_probabilities_are_the_truth():
    """Romano et al. 2020, section 2.1: so the promised coverage is exact, not a bound."""
    logits, targets = draw_answers(4000, 8, 5)
    uniforms = np.random.default_rng(6).random(4000)
    scores = nonconformity(softmax(logits, axis=1), method="aps", uniforms=uniforms)
    assert kstest(scores[np.arange(4000), targets], "uniform").pvalue > 0.01


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_sets_have_the_nominal_coverage(method):
    logits, targets = draw_answers(8000, 10, 7)
    chances = softmax(logits, axis=1) ** 3  # any scores will do: these are no probabilities
    chances /= chances.sum(axis=1, keepdims=True)
    uniforms = np.random.default_rng(8).random(8000)
    scores = nonconformity(chances, method=method, uniforms=uniforms)
    threshold = conformal_threshold(scores[np.arange(4000), targets[:4000]], 0.8)
    sets = prediction_sets(scores[4000:], threshold)
    coverage = sets[np.arange(4000), targets[4000:]].mean()
    # Both halves move it: 3.3 standard deviations of sqrt(0.16 / 4000 + 0.16 / 4000).
    assert coverage == pytest.approx(0.8, abs=0.03)


def test_the_threshold_is_a_rank():
    # ceil(11 x 0.9) = 10th of 10; ceil(10 x 0.9) = 9th of 9, which a product of floats may miss.
    assert conformal_threshold(np.arange(10) / 10, 0.9) == 0.9
    assert conformal_threshold(np.arange(9) / 10, 0.9) == 0.8
    assert conformal_threshold(np.arange(8) / 10, 0.9) == np.inf
    # The first rank is 1, however small the coverage.
    assert conformal_threshold(np.arange(8) / 10, 1e-12) == 0.0
    assert [compute_minimum_images(one) for one in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]


def test_the_floor_is_a_quantile_over_choices_of_images():
    """Drawn: the k-th of N uniform scores is the coverage of all images to come."""
    rng = np.random.default_rng(9)
    kept = np.sort(rng.random((20_000, 48)), axis=1)[:, 44]  # ceil(49 x 0.9) = 45th
    assert compute_coverage_floor(48, 0.9) == pytest.approx(np.quantile(kept, 0.025), abs=0.005)
    assert compute_coverage_floor(8, 0.9) == 1.0
    assert 0 < compute_coverage_floor(8, 1e-12) < 1


def test_invalid_input_of_prediction_sets_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'raps'"):
        nonconformity([[1.0]], method="rap")
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal_threshold([0.1], 1.0)
    with pytest.raises(InputError, match="one finite score"):
        conformal_threshold([], 0.9)
    with pytest.raises(InputError, match="2 uniform numbers"):
        nonconformity([[1.0], [1.0]], method="aps", uniforms=[0.5])
    with pytest.raises(InputError, match="a penalty and free classes"):
        nonconformity([[1.0]], method="raps", penalty=-1)
    with pytest.raises(InputError, match="a penalty and free classes"):
        nonconformity([[1.0]], method="raps", penalty=float("nan"))


# ---------------------------------------------------------------- selective prediction


def average_over_orders(confidence, wrong):
    """AURC and the risks by all orders that fall in confidence, with a plain loop."""
    risks = []
    for order in itertools.permutations(range(len(confidence))):
        sure = [confidence[place] for place in order]
        if sure == sorted(sure, reverse=True):
            errors = np.cumsum([wrong[place] for place in order])
            risks.append(errors / np.arange(1, len(order) + 1))
    return np.mean(risks, axis=0)


@pytest.mark.parametrize(
    ("confidence", "wrong"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 0, 1, 1]),
        ([0.9, 0.9, 0.9, 0.6, 0.6], [1, 0, 0, 1, 0]),
        ([0.5] * 6, [1, 0, 0, 1, 0, 0]),
        ([0.2, 0.9, -np.inf, 0.9], [1, 0, 1, 1]),
    ],
)
def test_risk_is_the_mean_over_the_orders_of_equal_confidences(confidence, wrong):
    flags = np.array(wrong, bool)
    expected = average_over_orders(confidence, wrong)
    np.testing.assert_allclose(risk_coverage(confidence, flags).risk, expected)
    assert area_under_risk_coverage(confidence, flags) == pytest.approx(expected.mean())
    best = average_over_orders(-np.arange(len(wrong)), sorted(wrong)).mean()
    excess = excess_area_under_risk_coverage(confidence, flags)
    assert excess == pytest.approx(expected.mean() - best, abs=1e-12)
    for place, risk in enumerate(expected, 1):
        share = place / len(wrong)
        assert risk_at_coverage(confidence, flags, share) == pytest.approx(risk)


def test_a_weight_is_a_number_of_copies():
    rng = np.random.default_rng(10)
    confidence, wrong = np.round(rng.random(30), 1), rng.random(30) < 0.3
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=4)
    found = compute_selective_metrics(confidence, wrong, weights)
    for row, weight in enumerate(weights):
        copies = np.repeat(confidence, weight), np.repeat(wrong, weight)
        assert found.aurc[row] == pytest.approx(area_under_risk_coverage(*copies))
        assert found.risk[row] == pytest.approx(risk_coverage(*copies).risk[23])  # 0.8 x 30
        best = area_under_risk_coverage(-np.arange(30), np.sort(copies[1]))
        assert found.excess_aurc[row] == pytest.approx(found.aurc[row] - best, abs=1e-12)


def test_the_best_area_is_the_papers_in_the_limit():
    """Geifman et al. 2019, section 3: r + (1 - r) log(1 - r)."""
    wrong = np.arange(20_000) >= 15_000
    area = area_under_risk_coverage(-np.arange(20_000), wrong)
    assert area == pytest.approx(0.25 + 0.75 * np.log(0.75), abs=1e-4)


def test_a_weighting_without_images_has_no_figure():
    found = compute_selective_metrics([0.5, 0.4], np.array([True, False]), np.zeros((1, 2)))
    assert np.isnan([found.aurc[0], found.excess_aurc[0], found.risk[0]]).all()


@pytest.mark.parametrize(
    ("confidence", "wrong", "sentence"),
    [
        ([], np.zeros(0, bool), "one confidence and one answer"),
        ([np.nan], [True], "got NaN"),
        ([0.5], [1], "True or False"),
    ],
)
def test_input_without_a_curve_is_refused(confidence, wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        risk_coverage(confidence, wrong)
