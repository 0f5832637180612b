"""What cannot be measured is refused at the border, in a sentence that says where and what to do."""

import copy

import numpy as np
import pytest

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.metrics import (
    CocoEvaluator,
    VocEvaluator,
    coco_metrics,
    faults,
    voc_average_precision,
)
from shiftproof.metrics.coco import read_detection_columns, read_objects
from shiftproof.types import Detections
from support.random_detections import pycocotools, random_set

NAN = float("nan")


def ground_truth(count=1):
    return {
        "images": [{"id": 7, "height": 100, "width": 200}, {"id": 30, "height": 100, "width": 200}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": at, "image_id": 7, "category_id": 3, "bbox": [90, 10, 20, 20], "area": 300}
            for at in range(1, count + 1)
        ],
    }


def detection(**fields):
    return {"image_id": 7, "category_id": 3, "bbox": [10, 10, 20, 20], "score": 0.5, **fields}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"bbox": [NAN, 0, 1, 1]}, r"expected a finite bbox, got \[nan, 0, 1, 1\]"),
        ({"bbox": [0, 0, float("inf"), 1]}, "expected a finite bbox"),
        ({"bbox": [0, 0, 1]}, r"four numbers, x, y, width, height, got \[0, 0, 1\]"),
        ({"bbox": [0, 0, 1, 1, 1]}, "four numbers"),
        ({"bbox": [0, 0, None, 1]}, "four numbers"),
        ({"bbox": [0, 0, True, [1]]}, "four numbers"),
        ({"bbox": None}, "four numbers"),
        ({"bbox": 5}, "four numbers"),
        ({"bbox": [0, 0, "one", 1]}, "four numbers"),
        ({"score": NAN}, "expected a finite score, got nan"),
        ({"score": [0.5]}, "expected score as a number"),
        ({"score": None}, "expected score as a number"),
        ({"image_id": "007"}, "'007' is no image of the ground truth"),
        ({"image_id": 8}, r"8 is no image of the ground truth, which has 2: 7, 30\."),
        ({"image_id": [7]}, r"\[7\] is no image of the ground truth"),
    ],
)
def test_an_unusable_detection_is_named(fields, says):
    results = [detection(), detection(**fields), detection()]
    with pytest.raises(InputError, match=rf"^detections\[1\].*{says}"):
        coco_metrics(ground_truth(), results)
    with pytest.raises(InputError, match=rf"^detections\[1\].*{says}"):
        voc_average_precision(ground_truth(), results)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_field_is_named(key):
    broken = detection()
    del broken[key]
    with pytest.raises(InputError, match=rf"^detections\[1\]: {key} is missing; it has "):
        coco_metrics(ground_truth(), [detection(), broken])


@pytest.mark.parametrize("results", [[1], ["a"], [None], [[1, 2]]])
def test_a_list_of_something_else_is_refused(results):
    with pytest.raises(InputError, match=r"^detections\[0\]: expected an object, got a "):
        coco_metrics(ground_truth(), results)


def test_swapped_arguments_are_recognized():
    with pytest.raises(InputError, match=r"expected COCO ground truth.*Are these the detections"):
        coco_metrics([detection()], ground_truth())
    with pytest.raises(InputError, match=r"expected COCO results.*Is this the ground truth"):
        coco_metrics(ground_truth(), ground_truth())


@pytest.mark.parametrize("value", [None, 5, "", b"[]", {"a": 1}, {7: [detection()]}])
def test_other_values_are_refused_as_detections(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        coco_metrics(ground_truth(), value)


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_each_part_of_the_ground_truth_must_be_a_list(part):
    truth = ground_truth()
    truth[part] = {"7": 1}
    with pytest.raises(InputError, match=f"expected a list of {part}, got a dictionary with"):
        CocoEvaluator(truth)
    del truth[part]
    with pytest.raises(InputError, match=f"expected a list of {part}, got none"):
        CocoEvaluator(truth)


TAKEN_BY_PYCOCOTOOLS = [
    {"score": 1.0000001192092896},
    {"score": -1e-9},
    {"score": 1.5},
    {"bbox": [90, 10, -1e-6, 20]},
    {"bbox": [90, 10, -20, -20]},
    {"category_id": 4},
    {"category_id": 5.0},
    {"image_id": 7.0},
]


@pytest.mark.parametrize("fields", TAKEN_BY_PYCOCOTOOLS)
def test_a_detection_counts_as_in_pycocotools(fields):
    box = [90, 10, 20, 18]
    results = [detection(bbox=box, score=0.9), detection(bbox=box), detection(bbox=box, score=0.2)]
    results[1].update(fields)
    truth = ground_truth()
    truth["annotations"][0]["iscrowd"] = 0
    expected = pycocotools(truth, results).stats
    actual = coco_metrics(ground_truth(), results)
    np.testing.assert_allclose(
        np.nan_to_num(list(actual.values()), nan=-1), expected, rtol=0, atol=1e-12
    )
    evaluator = CocoEvaluator(ground_truth())
    assert len(evaluator.match(results).faults) == (5.0 not in fields.values()) * (
        7.0 not in fields.values()
    )


def test_numbers_as_text_are_read():
    numbers = coco_metrics(ground_truth(), [detection(bbox=[90, 10, 20, 20])])
    results = [detection(bbox=["90", 10, "20.0", 20], score="0.5", image_id="7")]
    assert coco_metrics(ground_truth(), results) == pytest.approx(numbers, nan_ok=True)
    matches = CocoEvaluator(ground_truth()).match(results)
    assert [(fault.reason, fault.kept) for fault in matches.faults] == [
        (faults.ID_AS_TEXT, True), (faults.NUMBER_AS_TEXT, True), (faults.NUMBER_AS_TEXT, True),
    ]  # fmt: skip


def test_scores_other_than_probabilities_are_refused():
    for scores in ([3.5, -2.0, 0.5], [99.0, 45.0, 0.5]):
        results = [detection(score=score) for score in scores]
        with pytest.raises(
            InputError, match=r"expected scores in 0\.\.1, got .*not logits or per cent"
        ):
            coco_metrics(ground_truth(), results)


def test_an_unusable_detection_may_be_skipped_and_listed():
    results = [
        detection(),
        detection(bbox=[0, 0, NAN, 1]),
        detection(image_id=8),
        5,
        detection(score=None),
        {"image_id": 7},
        detection(category_id=None),
    ]
    found = read_detection_columns(results, read_objects(ground_truth()), strict=False)
    assert len(found.score) == 1
    assert {(fault.where, fault.reason) for fault in found.faults} == {
        ("detections[1]", faults.NOT_FINITE), ("detections[2]", faults.UNKNOWN_IMAGE),
        ("detections[3]", faults.NO_RECORD), ("detections[4]", faults.ODD_SCORE),
        ("detections[5]", faults.NO_FIELD), ("detections[6]", faults.UNKNOWN_CLASS),
    }  # fmt: skip
    assert not any(fault.kept for fault in found.faults)


def test_results_of_other_images_are_refused():
    results = [detection(image_id=8), detection(image_id=9)] * 5
    for strict in (True, False):
        with pytest.raises(
            InputError, match=r"8 is no image of the ground truth, which has 2: 7, 30"
        ):
            read_detection_columns(results, read_objects(ground_truth()), strict=strict)


@pytest.mark.parametrize(
    ("fields", "reason", "kept"),
    [
        ({"image_id": 8}, faults.UNKNOWN_IMAGE, False),
        ({"category_id": 4}, faults.UNKNOWN_CLASS, False),
        ({"category_id": True}, faults.UNKNOWN_CLASS, False),
        ({"bbox": [0, 0, NAN, 1]}, faults.NOT_FINITE, False),
        ({"bbox": [0, 0, 1e300, 1]}, faults.NOT_FINITE, False),
        ({"bbox": [0, 0, 10**400, 1]}, faults.NOT_FINITE, False),
        ({"bbox": []}, faults.NOT_FINITE, False),
        ({"bbox": None}, faults.NOT_FINITE, False),
        ({"bbox": ["x", 0, 1, 1]}, faults.NOT_FINITE, False),
        ({"bbox": [90, 10, -5, 20]}, faults.NEGATIVE, True),
        ({"bbox": ["90", "11", "20", "20"]}, faults.NUMBER_AS_TEXT, True),
        ({"area": NAN}, faults.ODD_AREA, True),
        ({"area": -5.0}, faults.ODD_AREA, True),
        ({"area": []}, faults.ODD_AREA, True),
        ({"area": "300"}, faults.NUMBER_AS_TEXT, True),
        ({"iscrowd": 2}, faults.ODD_FLAG, True),
        ({"iscrowd": "0"}, faults.ODD_FLAG, True),
        ({"iscrowd": None}, faults.ODD_FLAG, True),
        ({"difficult": None}, faults.ODD_FLAG, True),
        ({"image_id": "7"}, faults.ID_AS_TEXT, True),
        ({"id": 1}, faults.ID_TWICE, True),
        ({"segmentation": [[NAN, 0, 1, 1, 2, 2]]}, faults.ODD_OUTLINE, True),
    ],
)
def test_a_wrong_annotation_is_listed(fields, reason, kept):
    truth = ground_truth(3)
    for at, annotation in enumerate(truth["annotations"]):
        annotation["bbox"] = [90, 10 + at, 20, 20]
    truth["annotations"][1].update(fields)
    evaluator = CocoEvaluator(truth)
    [fault] = evaluator.faults
    assert (fault.reason, fault.kept) == (reason, kept)
    assert "annotations[1] with the id" in fault.where
    assert VocEvaluator(truth).faults == evaluator.faults
    assert len(read_objects(truth).boxes) == 2 + kept


@pytest.mark.parametrize(
    "fields",
    [
        {"image_id": 8},
        {"category_id": 4},
        {"image_id": 7.0, "category_id": 3.0},
        {"bbox": [90, 11, -5, 20]},
        {"bbox": [90, 11, 0, 20]},
        {"area": NAN},
        {"area": -5},
        {"area": float("inf")},
        {"iscrowd": 0.0},
        {"iscrowd": 1.0},
        {"iscrowd": 2},
        {"iscrowd": True},
    ],
)
def test_a_wrong_annotation_counts_as_in_pycocotools(fields):
    truth = ground_truth(3)
    results = []
    for at, annotation in enumerate(truth["annotations"]):
        annotation |= {"bbox": [90, 10 + 21 * at, 20, 20], "iscrowd": 0}
        results.append(detection(bbox=[90, 10 + 21 * at, 20, 18], score=0.9 - 0.1 * at))
    truth["annotations"][1].update(fields)
    expected = pycocotools(truth, results).stats
    actual = coco_metrics(truth, results)
    np.testing.assert_allclose(
        np.nan_to_num(list(actual.values()), nan=-1), expected, rtol=0, atol=1e-12
    )


def test_wrong_images_and_categories_are_listed():
    truth = ground_truth()
    truth["images"] += [
        {"id": 7, "height": "100", "width": 200.0}, {"name": "8"}, 3, {"id": True},
        {"id": 40, "width": -1, "height": 5}, {"id": 31.0, "file_name": "a\ud800.jpg"},
    ]  # fmt: skip
    truth["categories"] += [{"id": 3, "name": "lion"}, {"id": 9}, {"id": "11", "name": "\ud800"}]
    objects = read_objects(truth)
    assert objects.image_ids == (7, 30, 31, 40)
    assert objects.sizes == ((100, 200), (100, 200), None, None)
    assert objects.categories == {3: "lion", 5: "dog", 9: "9", 11: "U+D800"}
    assert [fault.reason for fault in objects.faults] == [
        faults.ID_TWICE, faults.NUMBER_AS_TEXT, faults.NO_ID, faults.NO_RECORD, faults.NO_ID,
        faults.NO_SIZE, faults.ID_TWICE, faults.NO_NAME, faults.ID_AS_TEXT,
    ]  # fmt: skip
    numbers = coco_metrics(truth, [detection(bbox=[90, 10, 20, 20])])
    assert numbers["AP"] == pytest.approx(1, abs=1e-12)


def test_a_file_with_every_fault_is_read(tmp_path):
    (tmp_path / "truth.json").write_bytes(
        b"\xef\xbb\xbf"
        b'{"images": [{"id": 7}, {"id": 1e400}, null], "categories": [{"id": 3.0}, []],'
        b'"annotations": [{"image_id": 7.0, "category_id": 3, "bbox": [1, 1, 4, 4], "area": NaN},'
        b'{"image_id": -Infinity}, {"id": {}}, "a", {"image_id": 7, "category_id": 3, "bbox": {}}]}'
    )
    evaluator = CocoEvaluator(tmp_path / "truth.json")
    assert evaluator.wanted == 1
    assert len(evaluator.faults) == 9


def test_no_images_or_no_categories_are_refused():
    for part in ("images", "categories"):
        truth = {**ground_truth(0), part: []}
        for measure in (coco_metrics, voc_average_precision):
            with pytest.raises(InputError, match="at least one image and one category"):
                measure(truth, [])


def test_ids_may_be_text():
    truth = ground_truth()
    for record in truth["images"]:
        record["id"] = f"image {record['id']}"
    truth["annotations"][0]["image_id"] = "image 7"
    numbers = coco_metrics(truth, [detection(image_id="image 7", bbox=[90, 10, 20, 20])])
    assert numbers["AP"] == pytest.approx(1, abs=1e-12)


def corners(count):
    """Boxes in the right half as x1, y1, x2, y2."""
    return [[110 + at, 50, 150 + at, 90] for at in range(count)]


def test_corners_in_place_of_sizes_are_recognized():
    results = [detection(bbox=box) for box in corners(20)]
    advice = r"20 of 20 boxes leave their image.*If they are x1, y1, x2, y2, subtract"
    with pytest.raises(InputError, match=advice):
        coco_metrics(ground_truth(), results)
    truth = ground_truth(20)
    for annotation, box in zip(truth["annotations"], corners(20), strict=True):
        annotation["bbox"] = box
    with pytest.raises(InputError, match=advice):
        CocoEvaluator(truth)


def test_large_boxes_and_few_boxes_are_not_taken_for_corners():
    coco_metrics(ground_truth(), [detection(bbox=box) for box in corners(9)])
    coco_metrics(ground_truth(), [detection(bbox=[0, 0, 200, 100])] * 20)
    # One box of 20 that cannot be corners shows that none are.
    boxes = [*corners(19), [150, 60, 10, 20]]
    coco_metrics(ground_truth(), [detection(bbox=box) for box in boxes])
    truth = ground_truth()
    for record in truth["images"]:
        del record["height"]
    coco_metrics(truth, [detection(bbox=box) for box in corners(20)])


def test_files_of_another_format_are_named(tmp_path):
    with pytest.raises(BrokenFileError, match=r"truth.json: cannot be read"):
        CocoEvaluator(tmp_path / "truth.json")
    (tmp_path / "found.json").write_text("{")
    with pytest.raises(BrokenFileError, match=r"found.json, line 1, column 2: not valid JSON"):
        coco_metrics(ground_truth(), tmp_path / "found.json")
    (tmp_path / "found.json").write_text('[{"image_id": 7}]')
    with pytest.raises(InputError, match=r"^found.json\[0\]: category_id is missing"):
        coco_metrics(ground_truth(), tmp_path / "found.json")
    (tmp_path / "found.json").write_text(
        '[{"image_id": 7, "category_id": 3, "bbox": [NaN, 0, 1, 1], "score": 1}]'
    )
    with pytest.raises(InputError, match=r"^found.json\[0\]: expected a finite bbox"):
        coco_metrics(ground_truth(), tmp_path / "found.json")


def test_labels_and_images_of_records_must_be_of_the_ground_truth():
    one = Detections([[0, 0, 1, 1]], [0.5], [2])
    with pytest.raises(InputError, match=r"labels from 0 to 1, indexes into 2 categories.*got 2"):
        coco_metrics(ground_truth(), {7: one})
    with pytest.raises(InputError, match="8 is no image of the ground truth"):
        coco_metrics(ground_truth(), {8: Detections([], [], [])})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"boxes": [[NAN, 0, 1, 1], [0, 0, 1, 1]]}, "Expected finite boxes"),
        ({"boxes": [[0, 0, 1e300, 1], [0, 0, 1, 1]]}, "Expected finite boxes.*out of range"),
        ({"boxes": [[50, 60, 20, 30], [0, 0, 1, 1]]},
         r"1 of 2 are not, such as \[50.0, 60.0, 20.0, 30.0\]. If they are x, y, width, height, add"),
        ({"boxes": [[0, 5, 1, 4], [0, 0, 1, 1]]}, r"x2 >= x1 and y2 >= y1; 1 of 2 are not"),
        ({"boxes": [[0, 0, 1, 1]]}, r"one score for each box \(1\), got shape \(2,\)"),
        ({"boxes": [[0, 0, 1], [0, 0, 1]]}, r"shape \(N, 4\), x1, y1, x2, y2, got \(2, 3\)"),
        ({"boxes": [[0, 0, 1], [0, 1]]}, "rows of equal length"),
        ({"boxes": [["0", "0", "1", "1"]] * 2}, "Expected boxes as numbers"),
        ({"scores": [0.5, 1.01]}, "scores in 0..1, got 1.01; pass probabilities, not logits"),
        ({"scores": [0.5, NAN]}, "Expected finite scores"),
        ({"scores": [[0.5, 0.5]]}, r"one score for each box \(2\)"),
        ({"labels": [0, -1]}, "integers of 0 or more, got int64"),
        ({"labels": [0.0, 1.0]}, "integers of 0 or more, got float64"),
        ({"labels": [0]}, r"one label for each box \(2\)"),
        ({"masks": [{}]}, r"one mask for each box \(2\), got 1"),
    ],
)  # fmt: skip
def test_detections_are_checked(fields, says):
    good = {"boxes": [[0, 0, 1, 1], [2, 2, 2, 5]], "scores": [0, 1], "labels": [0, 5]}
    Detections(**good)
    with pytest.raises(InputError, match=says):
        Detections(**{**good, **fields})


def test_detections_have_their_types_and_leave_the_callers_arrays():
    boxes = np.array([[0, 0, 1, 1]], dtype=np.float32)
    before = copy.deepcopy(boxes)
    found = Detections(boxes, [1], np.array([3], dtype=np.uint8))
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (
        np.float32, np.float32, np.int64,
    )  # fmt: skip
    found.boxes[:] = 9
    np.testing.assert_array_equal(boxes, before)
    empty = Detections([], [], [])
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert empty.labels.dtype == np.int64


@pytest.mark.parametrize("seed", range(12))
def test_random_sets_with_odd_records_are_pycocotools(seed):
    """Whatever pycocotools takes, all in one file."""
    random = np.random.default_rng(seed)
    truth, detections = random_set(seed)
    for annotation in truth["annotations"]:
        change = [
            {}, {}, {"area": -5.0}, {"area": NAN}, {"iscrowd": 1.0}, {"category_id": 91},
            {"image_id": 1001}, {"bbox": [3, 3, -8, 8]}, {"bbox": [3, 3, 0, 8]},
            {"image_id": float(annotation["image_id"])},
        ][random.integers(10)]  # fmt: skip
        annotation.update(change)
    for found in detections:
        change = [
            {}, {}, {"score": 1.0000001192092896}, {"score": -1e-7}, {"category_id": 91},
            {"bbox": [3, 3, -1e-6, 8]}, {"bbox": [3, 3, -8, -8]},
            {"category_id": float(found["category_id"])},
        ][random.integers(8)]  # fmt: skip
        found.update(change)
    if not truth["annotations"] or not detections:
        return
    expected = pycocotools(truth, detections).stats
    actual = coco_metrics(truth, detections)
    np.testing.assert_allclose(
        np.nan_to_num(list(actual.values()), nan=-1), expected, rtol=0, atol=1e-12
    )
