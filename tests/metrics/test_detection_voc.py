"""VOC's average precision by hand, and against its definition written out with loops."""

import random
from fractions import Fraction

import numpy as np
import pytest

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics import voc_average_precision, voc_interval, voc_replicates
from support.random_detections import random_set, resampled


def make_truth(*boxes, images=(1,), difficult=()):
    return {
        "images": [{"id": image} for image in images],
        "categories": [{"id": 5, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [
            {
                "image_id": image,
                "category_id": 5,
                "bbox": list(box),
                "difficult": int(at in difficult),
            }
            for at, (image, box) in enumerate(boxes)
        ],
    }


def found(*rows):
    return [
        {"image_id": image, "category_id": 5, "bbox": list(box), "score": score}
        for image, box, score in rows
    ]


A, B, C, FAR = (0, 0, 10, 10), (20, 0, 10, 10), (40, 0, 10, 10), (80, 80, 5, 5)


def dog(truth, detections, **settings):
    return voc_average_precision(truth, detections, **settings).per_category[5]


def test_by_hand():
    # right, wrong, right of 3 objects: precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3.
    truth = make_truth((1, A), (1, B), (1, C))
    detections = found((1, A, 0.9), (1, FAR, 0.8), (1, B, 0.7))
    # Recalls 0 to 0.3 see 1, 0.4 to 0.6 see 2/3, the rest nothing.
    assert dog(truth, detections) == pytest.approx((4 * 1 + 3 * 2 / 3) / 11, abs=1e-12)
    area = 1 / 3 * 1 + 1 / 3 * 2 / 3
    assert dog(truth, detections, rule="all-point") == pytest.approx(area, abs=1e-12)


def test_the_order_of_the_file_does_not_matter_but_for_equal_scores():
    truth = make_truth((1, A), (1, B), (1, C))
    detections = found((1, B, 0.7), (1, FAR, 0.8), (1, A, 0.9))
    assert dog(truth, detections) == pytest.approx((4 * 1 + 3 * 2 / 3) / 11, abs=1e-12)
    first, then = found((1, A, 0.5)), found((1, FAR, 0.5))
    assert dog(truth, first + then, rule="all-point") == pytest.approx(1 / 3, abs=1e-12)
    assert dog(truth, then + first, rule="all-point") == pytest.approx(1 / 6, abs=1e-12)


def test_a_recall_of_three_tenths_reaches_0_3():
    # As floats 3 * 0.1 > 0.3.
    boxes = [(1, (20 * at, 0, 10, 10)) for at in range(10)]
    detections = found(*((1, box, 0.9) for _, box in boxes[:3]))
    assert dog(make_truth(*boxes), detections) == pytest.approx(4 / 11, abs=1e-12)


def test_a_second_detection_of_an_object_is_wrong():
    detections = found((1, A, 0.9), (1, A, 0.8), (1, B, 0.7))
    truth = make_truth((1, A), (1, B))
    assert dog(truth, detections, rule="all-point") == pytest.approx(0.5 + 0.5 * 2 / 3, abs=1e-12)


def test_only_the_object_of_largest_overlap_is_tried():
    # The second one overlaps A by 9/11 and the object beside it by 8/12; A is taken by then, and
    # COCO's rule would give it the other one.
    beside = (3, 0, 10, 10)
    truth = make_truth((1, A), (1, beside))
    detections = found((1, A, 0.9), (1, (1, 0, 10, 10), 0.8))
    assert dog(truth, detections, rule="all-point") == pytest.approx(0.5, abs=1e-12)


def test_difficult_objects_count_neither_for_nor_against():
    truth = make_truth((1, A), (1, B), difficult=[1])
    twice = found((1, B, 0.9), (1, B, 0.8), (1, A, 0.7))
    for key in ("difficult", "ignore", "iscrowd"):
        for annotation in truth["annotations"]:
            annotation[key] = annotation.pop("difficult", annotation.pop("ignore", 0))
            if key == "iscrowd":
                annotation["ignore"] = 0
        assert dog(truth, twice) == pytest.approx(1, abs=1e-12)


def test_an_overlap_of_half_is_enough_and_no_pixel_is_added():
    truth = make_truth((1, (0, 0, 10, 10)))
    assert dog(truth, found((1, (0, 0, 10, 5), 0.9))) == pytest.approx(1, abs=1e-12)
    # With 1 added to the sides this would be 11 x 5.9 of 11 x 11, above a half.
    assert dog(truth, found((1, (0, 0, 10, 4.9), 0.9))) == 0
    assert dog(truth, found((1, (0, 0, 10, 4.9), 0.9)), overlap=0.4) == pytest.approx(1, abs=1e-12)


def test_images_and_categories_do_not_mix():
    truth = make_truth((1, A), images=(1, 2))
    other = found((2, A, 0.9), (1, A, 0.8))
    assert dog(truth, other, rule="all-point") == pytest.approx(0.5, abs=1e-12)
    cat = [{**one, "category_id": 9} for one in found((1, A, 0.9))]
    assert dog(truth, cat) == 0


def test_a_category_without_objects_is_not_in_the_mean():
    scores = voc_average_precision(make_truth((1, A)), found((1, A, 0.9)))
    assert np.isnan(scores.per_category[9])
    assert scores.mean == pytest.approx(1, abs=1e-12)
    nothing = voc_average_precision(make_truth(), [])
    assert np.isnan(nothing.mean)
    assert voc_interval(make_truth(), [], replicates=5) is None


def test_no_detections_are_an_average_precision_of_zero():
    for rule in ("11-point", "all-point"):
        assert voc_average_precision(make_truth((1, A)), [], rule=rule).mean == 0


def by_definition(truth, detections, rule):
    """Everingham et al. 2010, section 4.2.3, one detection at a time, in fractions."""
    averages = {}
    for category in sorted(one["id"] for one in truth["categories"]):
        objects = [one for one in truth["annotations"] if one["category_id"] == category]
        easy = [one for one in objects if not one["difficult"]]
        taken, right, points = set(), 0, []
        ranked = [one for one in detections if one["category_id"] == category]
        counted = 0
        for one in sorted(ranked, key=lambda one: -one["score"]):
            best, largest = None, Fraction(0)
            for candidate in objects:
                if candidate["image_id"] == one["image_id"]:
                    overlap = in_fractions(one["bbox"], candidate["bbox"])
                    if overlap > largest:
                        best, largest = candidate, overlap
            if best is not None and 2 * largest >= 1:
                if best["difficult"]:
                    continue
                right += best["id"] not in taken
                taken.add(best["id"])
            counted += 1
            if easy:
                points.append((Fraction(right, len(easy)), Fraction(right, counted)))
        if not easy:
            averages[category] = float("nan")
        elif rule == "11-point":
            levels = [Fraction(tenth, 10) for tenth in range(11)]
            averages[category] = float(sum(best_from(points, level) for level in levels) / 11)
        else:
            area, before = Fraction(0), Fraction(0)
            for recall in sorted({recall for recall, _ in points}):
                area += (recall - before) * best_from(points, recall)
                before = recall
            averages[category] = float(area)
    return averages


def best_from(points, level):
    return max((precision for recall, precision in points if recall >= level), default=Fraction(0))


def in_fractions(one, other):
    (x, y, w, h), (a, b, c, d) = one, other
    width, height = min(x + w, a + c) - max(x, a), min(y + h, b + d) - max(y, b)
    if width <= 0 or height <= 0:
        return Fraction(0)
    shared = width * height
    return Fraction(shared, w * h + c * d - shared)


def with_difficult(seed, *, ties=True):
    truth, detections = random_set(seed, ties=ties)
    for annotation in truth["annotations"]:
        annotation["difficult"] = annotation.pop("iscrowd")
    random.Random(seed).shuffle(detections)
    return truth, detections


@pytest.mark.parametrize("rule", ["11-point", "all-point"])
def test_it_is_the_definition_on_random_sets(rule):
    for seed in range(80):
        truth, detections = with_difficult(seed)
        expected = by_definition(truth, detections, rule)
        scores = voc_average_precision(truth, detections, rule=rule)
        np.testing.assert_allclose(
            list(scores.per_category.values()), list(expected.values()), rtol=0, atol=1e-12
        )
        known = [value for value in expected.values() if not np.isnan(value)]
        assert np.isnan(scores.mean) if not known else True
        if known:
            assert scores.mean == pytest.approx(np.mean(known), abs=1e-12)


@pytest.mark.parametrize("rule", ["11-point", "all-point"])
def test_the_replicates_are_the_scores_of_resampled_images(rule):
    from shiftproof.metrics.intervals import resample_weights

    for seed in range(6):
        truth, detections = with_difficult(seed, ties=False)
        drawn = voc_replicates(truth, detections, rule=rule, replicates=8, seed=1)
        [weights] = resample_weights(len(truth["images"]), 8, seed=1)
        for value, row in zip(drawn, [np.ones(len(truth["images"])), *weights], strict=True):
            averages = by_definition(*resampled(truth, detections, row.astype(int)), rule)
            known = [average for average in averages.values() if not np.isnan(average)]
            if known:
                assert value == pytest.approx(np.mean(known), abs=1e-12)
            else:
                assert np.isnan(value)


def test_the_interval_holds_the_mean():
    truth, detections = with_difficult(3)
    interval = voc_interval(truth, detections, replicates=100)
    assert interval.value == voc_average_precision(truth, detections).mean
    drawn = voc_replicates(truth, detections, replicates=100)
    ends = np.quantile(drawn[1:] - drawn[1:].mean() + drawn[0], [0.025, 0.975])
    np.testing.assert_allclose([interval.low, interval.high], ends, rtol=0, atol=1e-12)
    assert interval.low < interval.value < interval.high


def test_bad_settings_are_refused():
    with pytest.raises(
        UnknownNameError, match=r"Unknown rule '11-points'\. Did you mean '11-point'"
    ):
        voc_average_precision(make_truth((1, A)), [], rule="11-points")
    for overlap in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="Expected an overlap above 0 and up to 1"):
            voc_average_precision(make_truth((1, A)), [], overlap=overlap)
