"""Per-sample measures against scikit-learn, and where numbers end."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from shiftproof.errors import InputError
from shiftproof.metrics import confidence, cross_entropy, top_classes, top_k_error


@pytest.fixture
def batch():
    rng = np.random.default_rng(11)
    logits = rng.normal(0, 3, (200, 12)).astype(np.float32)
    return logits, rng.integers(0, 12, 200)


@pytest.mark.parametrize("k", [1, 2, 5, 11])
def test_top_k_error_is_scikit_learns(batch, k):
    logits, targets = batch
    expected = 1 - sk.top_k_accuracy_score(targets, logits, k=k, labels=np.arange(12))
    errors = top_k_error(logits, targets, k)
    assert errors.shape == (200,)
    assert errors.dtype == bool
    assert errors.mean() == pytest.approx(expected)


def test_cross_entropy_is_scikit_learns(batch):
    logits, targets = batch
    exponentials = np.exp(logits.astype(np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = sk.log_loss(targets, probabilities, labels=np.arange(12))
    assert cross_entropy(logits, targets).mean() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(confidence(logits), probabilities.max(axis=1), rtol=1e-12)


def test_by_hand():
    # softmax of (0, ln 3) is (1/4, 3/4)
    logits = [[0.0, np.log(3)]]
    assert confidence(logits) == pytest.approx(0.75)
    assert cross_entropy(logits, [0]) == pytest.approx(np.log(4))
    assert top_k_error(logits, [0]).tolist() == [True]
    assert top_k_error(logits, [1]).tolist() == [False]


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e30, 0, -1e30], [3e38, 3e38, 0]], np.float32)
    np.testing.assert_allclose(confidence(logits), [1, 0.5])
    np.testing.assert_allclose(cross_entropy(logits, [0, 0]), [0, np.log(2)], atol=1e-12)


def test_a_sure_and_wrong_answer_has_a_large_finite_loss():
    assert cross_entropy([[1000.0, 0.0]], [1]) == pytest.approx(1000)


def test_of_equal_scores_the_lower_index_comes_first():
    logits = np.array([[1.0, 2.0, 2.0, 2.0]])
    assert top_classes(logits, 3).tolist() == [[1, 2, 3]]
    assert logits.argmax() == 1
    assert top_k_error(logits, [2], 1).tolist() == [True]
    assert top_k_error(logits, [2], 2).tolist() == [False]


def test_top_classes_are_sorted_and_at_most_all_classes(batch):
    logits, _ = batch
    best = top_classes(logits, 5)
    assert best.dtype == np.int32
    np.testing.assert_array_equal(best, np.argsort(logits, axis=1)[:, ::-1][:, :5])
    assert top_classes(logits, 40).shape == (200, 12)


def test_an_excluded_class_changes_nothing_else():
    logits = [[0.0, -np.inf, 0.0]]
    assert confidence(logits) == pytest.approx(0.5)
    assert cross_entropy(logits, [1]).tolist() == [np.inf]
    assert top_classes(logits, 3).tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(
    "row", [[np.nan, 0.0], [np.nan, np.nan], [np.inf, 0.0], [np.inf, np.inf], [-np.inf, -np.inf]]
)
def test_a_row_with_nan_does_not_change_other_rows(row):
    logits = np.array([row, [0.0, np.log(3)]])
    for values, expected in (
        (confidence(logits), 0.75),
        (cross_entropy(logits, [0, 1]), -np.log(0.75)),
    ):
        assert np.isnan(values[0])
        assert values[1] == pytest.approx(expected)


@pytest.mark.parametrize("target", [0, 1])
def test_nan_is_never_right(target):
    assert top_k_error([[np.nan, np.nan]], [target], 2).tolist() == [True]
    assert top_k_error([[np.nan, 1.0]], [target], 1).tolist() == [True]
    assert top_classes([[1.0, np.nan]], 2).tolist() == [[-1, -1]]


@pytest.mark.parametrize(
    "row", [[np.inf, 0.0], [0.0, np.inf], [np.inf, np.inf], [-np.inf, -np.inf]]
)
def test_where_softmax_gives_nan_there_is_no_prediction(row):
    assert torch.tensor(row).softmax(0).isnan().any()
    assert top_classes([row, [0.0, 1.0]], 2).tolist() == [[-1, -1], [1, 0]]
    for target in (0, 1):
        assert top_k_error([row], [target], 2).tolist() == [True]


def test_an_empty_batch_gives_nothing():
    logits, targets = np.zeros((0, 3)), np.zeros(0, int)
    for values in (
        confidence(logits), cross_entropy(logits, targets), top_k_error(logits, targets),
    ):  # fmt: skip
        assert values.shape == (0,)


def test_inputs_are_not_changed(batch):
    logits, targets = batch[0].astype(np.float64), batch[1]  # a dtype that is not converted
    before = logits.copy()
    cross_entropy(logits, targets)
    confidence(logits)
    top_k_error(logits, targets)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("logits", [np.zeros(3), np.zeros((2, 3, 1)), np.zeros((2, 0))])
def test_logits_of_another_shape_are_refused(logits):
    with pytest.raises(InputError, match=r"shape \(N, K\)"):
        confidence(logits)


@pytest.mark.parametrize("targets", [[0], [0, 1, 2], [[0, 1]], [0.0, 1.0], [True, False]])
def test_targets_other_than_an_integer_per_row_are_refused(targets):
    with pytest.raises(InputError, match="Expected 2 integer targets"):
        cross_entropy(np.zeros((2, 3)), targets)


@pytest.mark.parametrize("targets", [[0, 3], [-1, 0]])
def test_targets_outside_the_classes_are_refused(targets):
    with pytest.raises(InputError, match="from 0 to 2"):
        cross_entropy(np.zeros((2, 3)), targets)
    with pytest.raises(InputError, match="from 0 to 2"):
        top_k_error(np.zeros((2, 3)), targets)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k):
    for measure in (lambda: top_classes(np.zeros((1, 3)), k),
                    lambda: top_k_error(np.zeros((1, 3)), [0], k)):  # fmt: skip
        with pytest.raises(InputError, match="k of 1 or more"):
            measure()


def test_k_above_the_classes_is_all_of_them():
    logits = [[0.1, 0.3, 0.2], [np.nan, 0.0, 0.0]]
    assert top_classes(logits, 5).tolist() == [[1, 2, 0], [-1, -1, -1]]
    assert top_k_error(logits, [0, 0], 5).tolist() == [False, True]
