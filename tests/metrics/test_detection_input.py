"""What cannot be measured is refused at the border, in a sentence that says where and what to do."""

import copy

import numpy as np
import pytest

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.metrics import CocoEvaluator, coco_metrics, voc_average_precision
from shiftproof.types import Detections

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
        ({"bbox": [0, 0, -1, 1]}, r"no negative size, got \[0.0, 0.0, -1.0, 1.0\] \(1 of 3 boxes"),
        ({"bbox": [0, 0, 1]}, r"four numbers, x, y, width, height, got \[0, 0, 1\]"),
        ({"bbox": [0, 0, 1, 1, 1]}, "four numbers"),
        ({"bbox": [0, 0, "1", 1]}, "four numbers"),
        ({"bbox": [0, 0, None, 1]}, "four numbers"),
        ({"bbox": [0, 0, True, [1]]}, "four numbers"),
        ({"bbox": None}, "four numbers"),
        ({"bbox": 5}, "four numbers"),
        ({"score": 1.5}, "expected scores in 0..1, got 1.5; hand in probabilities, not logits"),
        ({"score": -0.1}, "expected scores in 0..1"),
        ({"score": NAN}, "expected a finite score, got nan"),
        ({"score": "0.5"}, "expected score as a number, got '0.5'"),
        ({"score": [0.5]}, "expected score as a number"),
        ({"score": None}, "expected score as a number"),
        ({"image_id": 8}, r"8 is no image of the ground truth, which has 2: 7, 30\."),
        ({"image_id": "7"}, "'7' is no image of the ground truth"),
        ({"image_id": [7]}, r"\[7\] is no image of the ground truth"),
        ({"category_id": 4}, r"4 is no category of the ground truth, which has 2: 3, 5\."),
        ({"category_id": None}, "None is no category"),
    ],
)
def test_a_detection_that_cannot_be_used_is_named(fields, says):
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


def test_swapped_arguments_are_recognised():
    with pytest.raises(InputError, match=r"expected COCO ground truth.*Are these the detections"):
        coco_metrics([detection()], ground_truth())
    with pytest.raises(InputError, match=r"expected COCO results.*Is this the ground truth"):
        coco_metrics(ground_truth(), ground_truth())


@pytest.mark.parametrize("value", [None, 5, "", b"[]", {"a": 1}, {7: [detection()]}])
def test_other_values_are_no_detections(value, tmp_path, monkeypatch):
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


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"image_id": 8}, "8 is no image of the ground truth"),
        ({"category_id": 4}, "4 is no category of the ground truth"),
        ({"bbox": [0, 0, NAN, 1]}, "expected a finite bbox"),
        ({"bbox": [0, 0, -5, 1]}, "no negative size"),
        ({"area": NAN}, "expected a finite area, got nan"),
        ({"area": -300.0}, "expected an area of 0 or more, got -300.0"),
        ({"area": "300"}, "expected area as a number, got '300'"),
        ({"iscrowd": 2}, "expected iscrowd as 0 or 1, got 2"),
        ({"iscrowd": "0"}, "expected iscrowd as 0 or 1, got '0'"),
        ({"difficult": None}, "expected difficult as 0 or 1, got None"),
    ],
)
def test_an_annotation_that_cannot_be_used_is_named(fields, says):
    truth = ground_truth(3)
    truth["annotations"][1].update(fields)
    with pytest.raises(InputError, match=rf"^ground truth: annotations\[1\].*{says}"):
        CocoEvaluator(truth)


def test_ids_must_be_there_once_and_of_one_kind():
    truth = ground_truth()
    truth["images"].append({"id": 7})
    with pytest.raises(InputError, match="expected every id once among images, got 7 twice"):
        CocoEvaluator(truth)
    truth["images"][-1]["id"] = "8"
    with pytest.raises(InputError, match="expected the ids of images of one kind"):
        CocoEvaluator(truth)
    truth["images"][-1] = {"name": "8"}
    with pytest.raises(InputError, match=r"images\[2\]: id is missing"):
        CocoEvaluator(truth)


def test_no_images_or_no_categories_are_refused():
    for part in ("images", "categories"):
        truth = {**ground_truth(0), part: []}
        for measure in (coco_metrics, voc_average_precision):
            with pytest.raises(InputError, match="at least one image and one category"):
                measure(truth, [])


def test_text_ids_are_ids_too():
    truth = ground_truth()
    for record in truth["images"]:
        record["id"] = f"image {record['id']}"
    truth["annotations"][0]["image_id"] = "image 7"
    numbers = coco_metrics(truth, [detection(image_id="image 7", bbox=[90, 10, 20, 20])])
    assert numbers["AP"] == pytest.approx(1, abs=1e-12)


def corners(count):
    """Boxes in the right half as x1, y1, x2, y2."""
    return [[110 + at, 50, 150 + at, 90] for at in range(count)]


def test_corners_in_place_of_sizes_are_recognised():
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


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(BrokenFileError, match=r"truth.json: cannot be read"):
        CocoEvaluator(tmp_path / "truth.json")
    (tmp_path / "found.json").write_text("{")
    with pytest.raises(BrokenFileError, match=r"found.json: not valid JSON"):
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
    with pytest.raises(
        InputError, match=r"labels from 0 to 1, indexes into the 2 categories.*got 2"
    ):
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
        ({"boxes": [[0, 0, 1, 1]]}, r"one score for each of 1 boxes, got shape \(2,\)"),
        ({"boxes": [[0, 0, 1], [0, 0, 1]]}, r"shape \(N, 4\), x1, y1, x2, y2, got \(2, 3\)"),
        ({"boxes": [[0, 0, 1], [0, 1]]}, "rows of equal length"),
        ({"boxes": [["0", "0", "1", "1"]] * 2}, "Expected boxes as numbers"),
        ({"scores": [0.5, 1.01]}, "scores in 0..1, got 1.01; hand in probabilities, not logits"),
        ({"scores": [0.5, NAN]}, "Expected finite scores"),
        ({"scores": [[0.5, 0.5]]}, "one score for each of 2 boxes"),
        ({"labels": [0, -1]}, "integers of 0 or more, got int64"),
        ({"labels": [0.0, 1.0]}, "integers of 0 or more, got float64"),
        ({"labels": [0]}, "one label for each of 2 boxes"),
        ({"masks": [{}]}, "one mask for each of 2 boxes, got 1"),
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
