"""Evidence without labels for detectors and segmenters: values by hand, and other people's regression."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from shiftproof import metrics
from shiftproof.errors import InputError
from shiftproof.types import Detections


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.booleans()), min_size=1, max_size=40))
def test_the_hit_rate_is_the_isotonic_regression(rows):
    scores = np.array([score for score, _ in rows])
    hits = np.array([hit for _, hit in rows])
    expected = IsotonicRegression().fit(scores, hits).predict(np.sort(scores))
    rate = metrics.fit_hit_rate(scores, hits)
    pooled = np.repeat(rate.rates, np.unique(expected.round(9), return_counts=True)[1])
    assert pooled == pytest.approx(expected, abs=1e-9)


def test_the_order_of_boxes_of_one_score_does_not_matter():
    # One score that is right in half of its boxes: the rate is a half, in any order.
    for hits in ([True, True, False, False], [False, False, True, True]):
        assert metrics.fit_hit_rate([0.5] * 4, hits).at([0.5]).tolist() == [0.5]
    # Of scores that some of both kinds share, scikit-learn's rates.
    scores, hits = [0.2, 0.8, 0.8, 0.2, 0.5, 0.5], [False, False, True, True, False, True]
    expected = IsotonicRegression().fit(scores, hits).predict([0.2, 0.5, 0.8])
    assert metrics.fit_hit_rate(scores, hits).at([0.2, 0.5, 0.8]) == pytest.approx(expected)


def test_scores_that_are_not_finite_are_refused():
    for score in (np.nan, np.inf):
        with pytest.raises(InputError, match="finite scores"):
            metrics.fit_hit_rate([0.5, score], [True, False])


def test_expect_average_precision_by_hand():
    # Two sure boxes for two objects: precision 1 at every recall.
    assert metrics.expect_average_precision([1, 1], 2) == 1
    # One sure box for two objects: precision 1 up to a recall of 0.5, that is at 51 of 101.
    assert metrics.expect_average_precision([1], 2) == pytest.approx(51 / 101)
    # A half more: hits 1, 1.5; recall 0.5, 0.75; precision 1, 0.75: 51 at 1, 25 at 0.75.
    assert metrics.expect_average_precision([0.5, 1], 2) == pytest.approx((51 + 25 * 0.75) / 101)
    assert metrics.expect_average_precision([], 2) == 0
    with pytest.raises(InputError, match=r"rates in 0\.\.1"):
        metrics.expect_average_precision([1.5], 2)
    with pytest.raises(InputError, match="objects"):
        metrics.expect_average_precision([0.5], 0)


def test_it_is_the_average_precision_of_pycocotools_for_certain_boxes():
    """Rates of 0 and 1 are hits and misses: one class, one image."""
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [20 * i, 0, 10, 10], "area": 100,
             "iscrowd": 0} for i in range(1, 4)
        ],
    }  # fmt: skip
    boxes = [[20, 0, 30, 10], [0, 50, 10, 60], [40, 0, 50, 10]]
    scores = [0.9, 0.8, 0.7]
    found = Detections(boxes, scores, [0, 0, 0])
    objects = Detections([[20 * i, 0, 20 * i + 10, 10] for i in range(1, 4)], [1] * 3, [0] * 3)
    hits = metrics.find_hits(found, objects)
    assert hits.tolist() == [True, False, True]
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [x, y, r - x, b - y], "score": s}
        for (x, y, r, b), s in zip(boxes, scores, strict=True)
    ]
    expected = metrics.coco_metrics(truth, results)["AP50"]
    # The expected form takes boxes by their rates, so the order is given by small differences.
    rates = np.where(hits, 1.0, 0.0)
    ordered = metrics.expect_average_precision(rates, 3)
    assert ordered >= expected
    assert ordered == pytest.approx(67 / 101)


def test_an_object_is_hit_once_and_only_by_its_class():
    objects = Detections([[0, 0, 10, 10]], [1], [1])
    found = Detections([[0, 0, 10, 10]] * 3, [0.5, 0.9, 0.99], [1, 1, 0])
    assert metrics.find_hits(found, objects).tolist() == [False, True, False]
    assert metrics.find_hits(Detections([], [], []), objects).tolist() == []
    assert metrics.find_hits(found, Detections([], [], [])).tolist() == [False] * 3


def test_mirroring_twice_changes_nothing():
    found = Detections([[1, 2, 5, 7], [0, 0, 3, 3]], [0.4, 0.3], [0, 1])
    twice = metrics.mirror_boxes(metrics.mirror_boxes(found, 9), 9)
    assert np.array_equal(twice.boxes, found.boxes)


def test_agreement_of_boxes_by_hand():
    one = Detections([[0, 0, 4, 4], [5, 5, 9, 9]], [0.8, 0.2], [0, 0])
    other = Detections([[0, 0, 4, 3]], [0.5], [0])
    assert metrics.box_agreement([one], [other]) == pytest.approx((0.8 + 0.5) / 1.5, abs=1e-6)
    assert metrics.box_agreement([one], [one]) == 1
    nothing = Detections([], [], [])
    assert metrics.box_agreement([nothing], [nothing]) == 1
    assert metrics.box_agreement([one], [nothing]) == 0


def test_agreement_of_label_maps_by_hand():
    one = np.array([[0, 0, 1, -1]], np.int16)
    other = np.array([[0, 1, 1, 1]], np.int16)
    # Class 0: 1 of 2; class 1: 1 of 2 that count, as a pixel of no class is left out.
    assert metrics.label_agreement([one], [other], 2) == pytest.approx(0.5)


def test_expected_iou_is_the_true_one_for_certain_pixels():
    truth, predicted = np.array([[0, 0, 1, 2]], np.int16), np.array([[0, 1, 1, 2]], np.int16)
    counts = np.zeros((3, 3))
    for t, s in zip(truth.ravel(), predicted.ravel(), strict=True):
        counts[0, s] += t == s
        counts[1, t] += 1
        counts[2, s] += 1
    assert metrics.expect_mean_iou(counts) == pytest.approx((0.5 + 0.5 + 1) / 3)
    with pytest.raises(InputError, match="counts"):
        metrics.expect_mean_iou([[1.0]])


def test_the_ratio():
    assert metrics.estimate_by_ratio(0.6, 0.5, 0.25) == pytest.approx(0.3)
    assert metrics.estimate_by_ratio(0.6, 0.1, 0.9) == 1
    with pytest.raises(InputError, match="nothing is found"):
        metrics.estimate_by_ratio(0.6, 0, 0.9)
