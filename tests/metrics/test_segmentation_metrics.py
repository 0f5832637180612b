"""Pixels counted by class, and mIoU from the counts: against other tools and sums by hand."""

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.metrics import (
    class_ious,
    class_recalls,
    mean_iou,
    pixel_accuracy,
    pixel_confusion,
)
from shiftproof.metrics.segmentation import compute_marginals


def maps(classes, seed=0, size=(40, 60), void=True):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1 if void else 0, classes, size).astype(np.int16)
    guess = rng.integers(0, classes, size)
    right = rng.random(size) < 0.5
    return truth, np.where(right & (truth >= 0), truth, guess).astype(np.int16)


def test_the_counts_are_those_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 2, -1, -1]])
    predicted = np.array([[0, 1, -1, 1], [0, 2, 2, -1]])
    table = pixel_confusion(truth, predicted, 4)
    assert table.tolist() == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5]
    hits, there, predicted = compute_marginals(table)
    ious = class_ious(hits, there, predicted)
    # 0: 1 / (3 + 2 - 1); 1: 1 / (2 + 2 - 1); 2: the pixel said 2 on void does not count; 3: absent.
    np.testing.assert_allclose(ious, [1 / 4, 1 / 3, 1, np.nan])
    assert mean_iou(ious) == pytest.approx((1 / 4 + 1 / 3 + 1) / 3)
    assert pixel_accuracy(hits, there) == pytest.approx(3 / 6)
    np.testing.assert_allclose(class_recalls(hits, there), [1 / 3, 1 / 2, 1, np.nan])


def test_a_class_that_is_only_predicted_has_an_iou_of_zero():
    table = pixel_confusion(np.zeros((2, 2), int), np.array([[0, 0], [0, 1]]), 2)
    assert class_ious(*compute_marginals(table)).tolist() == [0.75, 0.0]


def test_ious_are_those_of_torchmetrics():
    # What torchmetrics 1.9.0 gives for these maps: MulticlassJaccardIndex(7, ignore_index=255,
    # average="none"). Its import takes ten seconds, so the numbers are kept.
    expected = [
        0.336363643,
        0.389400929,
        0.370283008,
        0.401805878,
        0.393364936,
        0.433707863,
        0.380743980,
    ]
    truth, predicted = maps(7)
    actual = class_ious(*compute_marginals(pixel_confusion(truth, predicted, 7)))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_ious_are_those_of_cityscapes_own_tool():
    rule = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    helpers = pytest.importorskip("cityscapesscripts.helpers.labels")
    kept = [label for label in helpers.labels if 0 <= label.trainId < 255]
    ids = np.array([label.id for label in sorted(kept, key=lambda label: label.trainId)])
    truth, predicted = maps(19, seed=1)
    predicted[:4] = -1  # predicted as an id that is not evaluated
    confusion = rule.generateMatrix(rule.args)
    true_ids = np.where(truth < 0, 0, ids[truth])
    predicted_ids = np.where(predicted < 0, 0, ids[predicted])
    np.add.at(confusion, (true_ids.ravel(), predicted_ids.ravel()), np.ulonglong(1))
    expected = [rule.getIouScoreForLabel(int(number), confusion, rule.args) for number in ids]
    actual = class_ious(*compute_marginals(pixel_confusion(truth, predicted, 19)))
    np.testing.assert_allclose(actual, expected)
    assert mean_iou(actual) == pytest.approx(
        rule.getScoreAverage(dict(enumerate(expected)), rule.args)
    )


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"shape \(2, 3\), got \(3, 2\)"),
        (np.zeros((1, 1)), np.zeros((1, 1), int), "truth of integers, got float64"),
        (np.full((1, 1), 3), np.zeros((1, 1), int), "truth of -1 to 2, got 3"),
        (np.zeros((1, 1), int), np.full((1, 1), -2), "prediction of -1 to 2, got -2"),
        (np.full((1, 1), 255, np.uint8), np.zeros((1, 1), int), "truth of -1 to 2, got 255"),
    ],
)
def test_invalid_label_maps_are_refused(truth, predicted, message):
    with pytest.raises(InputError, match=message):
        pixel_confusion(truth, predicted, 3)


def test_counts_of_unsigned_and_small_integers_do_not_overflow():
    truth = np.full((300, 300), 199, np.uint8)
    table = pixel_confusion(truth, truth, 200)
    assert table[199, 199] == 90_000
    assert table.sum() == 90_000
