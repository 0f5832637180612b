"""COCO's numbers against pycocotools, on the images as they are and on resamples of them."""

import json
import pickle

import numpy as np
import pytest

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics import (
    COCO_METRICS,
    CocoEvaluator,
    Interval,
    coco_difference_intervals,
    coco_intervals,
    coco_metrics,
)
from shiftproof.metrics.detection import _count_hits_needed
from shiftproof.types import Detections
from support.random_detections import pycocotools, random_set, resampled

TOLERANCE = {"rtol": 0, "atol": 1e-12}


def replace_nan(values):
    """Our NaN is its -1."""
    return np.nan_to_num(np.asarray(values, dtype=float), nan=-1)


def scores(truth, detections, weights=None):
    evaluator = CocoEvaluator(truth)
    return evaluator.accumulate(evaluator.match(detections), weights)


def one_object(**annotation):
    return {
        "images": [{"id": 7, "height": 100, "width": 100}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 20, 20], **annotation}
        ],
    }


def box(values, score=0.9, image=7, category=3):
    return {"image_id": image, "category_id": category, "bbox": values, "score": score}


@pytest.mark.parametrize("block", range(6))
def test_it_is_pycocotools_on_random_sets(block):
    for seed in range(40 * block, 40 * block + 40):
        truth, detections = random_set(seed)
        expected = pycocotools(truth, detections)
        actual = scores(truth, detections)
        precision = expected.eval["precision"][..., 2].transpose(3, 0, 2, 1)
        np.testing.assert_allclose(replace_nan(actual.precision), precision, **TOLERANCE)
        recall = expected.eval["recall"].transpose(2, 0, 1, 3)
        np.testing.assert_allclose(replace_nan(actual.recall), recall, **TOLERANCE)
        twelve = list(actual.metrics().values())
        np.testing.assert_allclose(replace_nan(twelve), expected.stats, **TOLERANCE)


def test_the_random_sets_have_what_they_promise():
    sets = [random_set(seed) for seed in range(60)]
    assert any(len(detections) == 0 for _, detections in sets)
    assert any(not truth["annotations"] for truth, _ in sets)
    largest, ties = 0, 0
    for _, detections in sets:
        groups = [(one["image_id"], one["category_id"]) for one in detections]
        largest = max([largest, *(groups.count(group) for group in set(groups))])
        found = [one["score"] for one in detections]
        ties = max([ties, *(found.count(score) for score in set(found))])
    assert largest > 100
    assert ties > 10


def test_many_images_and_categories_at_once():
    # Blocks of pairs and groups far from zero: several sets as one.
    truth = {"images": [], "categories": [], "annotations": []}
    detections = []
    for part in range(25):
        more, found = random_set(part)
        for image in more["images"]:
            truth["images"].append({**image, "id": image["id"] + 1000 * part})
        known = {one["id"] for one in truth["categories"]}
        truth["categories"] += [one for one in more["categories"] if one["id"] not in known]
        truth["annotations"] += [
            {**one, "image_id": one["image_id"] + 1000 * part} for one in more["annotations"]
        ]
        detections += [{**one, "image_id": one["image_id"] + 1000 * part} for one in found]
    for annotation_id, annotation in enumerate(truth["annotations"], start=1):
        annotation["id"] = annotation_id
    expected = pycocotools(truth, detections).stats
    np.testing.assert_allclose(
        replace_nan(list(coco_metrics(truth, detections).values())), expected, **TOLERANCE
    )


def test_blocks_of_pairs_do_not_change_a_number(monkeypatch):
    truth, detections = random_set(5)
    at_once = scores(truth, detections)
    monkeypatch.setattr("shiftproof.metrics.matching.BLOCK_PAIRS", 3)
    pieces = scores(truth, detections)
    np.testing.assert_array_equal(at_once.precision, pieces.precision)
    np.testing.assert_array_equal(at_once.recall, pieces.recall)


@pytest.mark.parametrize("seed", range(40))
def test_weights_are_copies_of_the_images(seed):
    truth, detections = random_set(seed, ties=False)
    weights = np.random.default_rng(seed).integers(0, 4, len(truth["images"]))
    weights[0] = max(weights[0], 1)
    expected = pycocotools(*resampled(truth, detections, weights))
    actual = scores(truth, detections, weights)
    twelve = list(actual.metrics().values())
    np.testing.assert_allclose(replace_nan(twelve), expected.stats, **TOLERANCE)
    precision = expected.eval["precision"][..., 2].transpose(3, 0, 2, 1)
    np.testing.assert_allclose(replace_nan(actual.precision), precision, **TOLERANCE)


def test_the_replicates_are_the_scores_under_the_resamples_weights():
    from shiftproof.metrics.intervals import resample_weights

    truth, detections = random_set(197)  # all twelve differ
    evaluator = CocoEvaluator(truth)
    matches = evaluator.match(detections)
    drawn = evaluator.replicates(matches, replicates=20, seed=3)
    assert list(drawn) == list(COCO_METRICS)
    [weights] = resample_weights(len(truth["images"]), 20, seed=3)
    rows = [None, *weights]
    expected = [list(evaluator.accumulate(matches, row).metrics().values()) for row in rows]
    np.testing.assert_allclose(np.array(list(drawn.values())).T, expected, rtol=0, atol=1e-15)


def test_intervals_hold_the_figure_and_differences_are_paired():
    truth, detections = random_set(3, ties=False)
    evaluator = CocoEvaluator(truth)
    matches = evaluator.match(detections)
    intervals = coco_intervals(evaluator, matches, ["AP", "AR100"], replicates=200)
    numbers = coco_metrics(truth, detections)
    for name, interval in intervals.items():
        assert interval.value == pytest.approx(numbers[name], abs=1e-15)
        assert interval.low <= interval.value <= interval.high
        assert interval.low < interval.high
        # Moved by the mean of the resamples: the percentiles alone need not hold the figure.
        drawn = evaluator.replicates(matches, [name], replicates=200)[name][1:]
        ends = np.quantile(drawn - drawn.mean() + numbers[name], [0.025, 0.975])
        np.testing.assert_allclose([interval.low, interval.high], ends, rtol=0, atol=1e-12)
    same = coco_difference_intervals(evaluator, matches, matches, ["AP"], replicates=50)
    assert same["AP"] == Interval(0, 0, 0)
    half = evaluator.match(detections[::2])
    difference = coco_difference_intervals(evaluator, matches, half, ["AP"], replicates=50)
    expected = numbers["AP"] - coco_metrics(truth, detections[::2])["AP"]
    assert difference["AP"].value == pytest.approx(expected, abs=1e-15)


def test_a_size_without_an_object_is_nan_and_has_no_interval():
    evaluator = CocoEvaluator(one_object())
    matches = evaluator.match([box([10, 10, 20, 20])])
    numbers = evaluator.accumulate(matches).metrics()
    assert numbers["APs"] == pytest.approx(1, abs=1e-12)
    assert np.isnan(numbers["APl"])
    assert np.isnan(numbers["ARl"])
    assert coco_intervals(evaluator, matches, ["APl"], replicates=5) == {"APl": None}


def test_per_category_is_the_part_of_that_category():
    truth, detections = random_set(8)
    expected = pycocotools(truth, detections).eval["precision"]
    actual = scores(truth, detections).per_category("AP50")
    assert list(actual) == sorted(one["id"] for one in truth["categories"])
    for index, value in enumerate(actual.values()):
        precision = expected[0, :, index, 0, 2]
        assert replace_nan(value) == pytest.approx(precision.mean(), abs=1e-12)
    with pytest.raises(UnknownNameError, match="Did you mean 'AP50'"):
        scores(truth, detections).per_category("ap50")


def test_zero_detections_have_an_ap_of_zero():
    for nothing in ([], {}, {7: Detections([], [], [])}):
        numbers = coco_metrics(one_object(), nothing)
        assert numbers["AP"] == 0
        assert numbers["AR100"] == 0


def test_an_annotation_with_the_id_zero_counts():
    # pycocotools keeps the id of what a detection matched, and 0 is nothing: known since 2016.
    truth = one_object(id=0, area=400, iscrowd=0)
    assert pycocotools(truth, [box([10, 10, 20, 20])]).stats[0] == 0
    actual = coco_metrics(truth, [box([10, 10, 20, 20])])["AP"]
    assert actual == pytest.approx(1, abs=1e-12)


def test_ids_areas_and_crowds_are_optional():
    truth = one_object()
    del truth["annotations"][0]["id"]
    numbers = coco_metrics(truth, [box([10, 10, 20, 20])])
    assert numbers["APs"] == pytest.approx(1, abs=1e-12)  # 20 x 20 pixels by its box
    assert np.isnan(numbers["APm"])


def test_an_overlap_on_the_threshold_counts_and_one_below_does_not():
    # 15 of 20 rows: exactly 0.75, so 6 of the 10 thresholds are reached.
    numbers = coco_metrics(one_object(), [box([10, 10, 20, 15])])
    assert numbers["AP75"] == pytest.approx(1, abs=1e-12)
    assert numbers["AP"] == pytest.approx(0.6, abs=1e-12)
    assert coco_metrics(one_object(), [box([10, 10, 20, 14.999])])["AP75"] == 0


def test_of_equal_overlaps_the_last_object_matches():
    # The first detection lies half way between both objects and takes one; the second one can only
    # have the first object.
    truth = one_object(area=400, iscrowd=0)
    truth["annotations"].append({**truth["annotations"][0], "id": 2, "bbox": [18, 10, 20, 20]})
    detections = [box([14, 10, 20, 20], 0.9), box([10, 10, 20, 20], 0.8)]
    assert coco_metrics(truth, detections)["AR100"] == pytest.approx(
        pycocotools(truth, detections).stats[8], abs=1e-12
    )
    assert coco_metrics(truth, detections)["AP50"] == pytest.approx(1, abs=1e-12)
    truth["annotations"].reverse()
    assert coco_metrics(truth, detections)["AP50"] == pytest.approx(51 / 101, abs=1e-12)


def test_the_objects_needed_for_a_recall_are_those_of_a_search():
    counts = [*range(1, 1500), 20011, 36781]
    needed = _count_hits_needed(np.array(counts))
    for count, actual in zip(counts, needed, strict=True):
        expected = np.searchsorted(np.arange(count + 1) / count, np.linspace(0, 1, 101), "left")
        np.testing.assert_array_equal(actual, expected)


def test_detections_per_image_are_the_same_as_results():
    truth, results = random_set(21)
    categories = sorted(one["id"] for one in truth["categories"])
    records = {}
    for image in truth["images"]:
        found = [one for one in results if one["image_id"] == image["id"]]
        if not found:
            continue  # an image without any may be left out
        x, y, w, h = np.array([one["bbox"] for one in found], dtype=float).T
        records[image["id"]] = Detections(
            np.stack([x, y, x + w, y + h], axis=1),
            [one["score"] for one in found],
            [categories.index(one["category_id"]) for one in found],
        )
    for one in results:
        one["score"] = float(np.float32(one["score"]))
    np.testing.assert_allclose(
        list(coco_metrics(truth, records).values()),
        list(coco_metrics(truth, results).values()),
        **TOLERANCE,
    )


def test_files_are_read(tmp_path):
    truth, detections = random_set(2)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    numbers = coco_metrics(tmp_path / "truth.json", str(tmp_path / "found.json"))
    np.testing.assert_array_equal(
        list(numbers.values()), list(coco_metrics(truth, detections).values())
    )


def test_inputs_are_not_changed():
    truth, detections = random_set(4)
    before = json.dumps([truth, detections])
    coco_metrics(truth, detections)
    assert json.dumps([truth, detections]) == before


def test_matches_survive_a_pickle_and_know_their_ground_truth():
    truth, detections = random_set(6)
    evaluator = CocoEvaluator(truth)
    matches = pickle.loads(pickle.dumps(evaluator.match(detections)))
    again = CocoEvaluator(truth).accumulate(matches)
    np.testing.assert_array_equal(again.precision, scores(truth, detections).precision)
    other = CocoEvaluator(random_set(7)[0])
    with pytest.raises(InputError, match="match the detections again"):
        other.accumulate(matches)
    with pytest.raises(InputError, match="match the detections again"):
        other.replicates(matches)


@pytest.mark.parametrize(
    "weights", [[1], [[1] * 5], [1, 1, 1, 1, -1], [0.5] * 5, ["1"] * 5, [np.nan] * 5]
)
def test_weights_that_do_not_fit_are_refused(weights):
    seed = next(seed for seed in range(50) if len(random_set(seed)[0]["images"]) == 5)
    truth, detections = random_set(seed)
    with pytest.raises(
        InputError, match="Expected 5 weights, one per image, integers of 0 or more"
    ):
        scores(truth, detections, weights)


def test_unknown_metrics_and_kinds_are_refused():
    with pytest.raises(UnknownNameError, match="Unknown kind 'bbox'"):
        CocoEvaluator(one_object(), kind="bbox")
    evaluator = CocoEvaluator(one_object())
    with pytest.raises(UnknownNameError, match="Unknown metric 'mAP'"):
        evaluator.replicates(evaluator.match([]), ["mAP"])
