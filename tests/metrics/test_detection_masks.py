"""COCO's numbers on masks against pycocotools, and masks that must not reach its C code."""

import re
import sys

import numpy as np
import pytest
from pycocotools import mask as library

from shiftproof.errors import InputError, MissingExtraError
from shiftproof.metrics import CocoEvaluator, coco_metrics
from shiftproof.metrics.coco import read_objects
from shiftproof.metrics.faults import NO_BOX
from shiftproof.metrics.masks import compute_areas, encode_masks
from shiftproof.types import Detections
from support.random_detections import HEIGHT, WIDTH, pycocotools, random_set

SIZE = (HEIGHT, WIDTH)


def painted(values, stripes):
    x, y, width, height = (int(value) for value in values)
    pixels = np.zeros(SIZE, dtype=np.uint8, order="F")
    pixels[y : y + height, x : x + width] = 1
    if stripes:
        pixels[::stripes] = 0
    return pixels


def runs(pixels):
    """The uncompressed code: column by column, and the first run is of zeros."""
    flat = pixels.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return {"size": list(SIZE), "counts": [0, *counts] if flat[0] else counts}


def code(pixels):
    coded = library.encode(np.asfortranarray(pixels))
    return {"size": coded["size"], "counts": coded["counts"].decode()}


def with_masks(seed):
    """Polygons and uncompressed codes for objects, compressed codes for detections."""
    random = np.random.default_rng(seed)
    truth, detections = random_set(seed)
    for annotation in truth["annotations"]:
        x, y, w, h = annotation["bbox"]
        if annotation["iscrowd"]:
            annotation["segmentation"] = runs(painted(annotation["bbox"], 7))
        elif random.random() < 0.5:
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        else:
            annotation["segmentation"] = [
                [x, y, x + w, y, x + w * 0.9, y + h], [x, y, x, y + h, x + w / 3, y + h / 2]
            ]  # fmt: skip
    for detection in detections:
        stripes = random.choice([0, 0, 2, 3])
        detection["segmentation"] = code(painted(detection.pop("bbox"), stripes))
    return truth, detections


@pytest.mark.parametrize("seed", range(24))
def test_it_is_pycocotools_on_masks(seed):
    truth, detections = with_masks(seed)
    expected = pycocotools(truth, detections, "segm").stats
    actual = np.array(list(coco_metrics(truth, detections, kind="masks").values()))
    np.testing.assert_allclose(np.nan_to_num(actual, nan=-1), expected, rtol=0, atol=1e-12)


def test_the_area_is_the_masks_even_with_a_box():
    truth, detections = with_masks(2)
    expected = coco_metrics(truth, detections, kind="masks")
    for detection in detections:
        detection["bbox"] = [0, 0, 150, 110]
    np.testing.assert_array_equal(
        list(coco_metrics(truth, detections, kind="masks").values()), list(expected.values())
    )


def test_masks_of_records_are_masks_of_results():
    truth, results = with_masks(21)
    categories = sorted(one["id"] for one in truth["categories"])
    records = {}
    for image in truth["images"]:
        found = [one for one in results if one["image_id"] == image["id"]]
        records[image["id"]] = Detections(
            np.zeros((len(found), 4)),
            [one["score"] for one in found],
            [categories.index(one["category_id"]) for one in found],
            [one["segmentation"] for one in found],
        )
    for one in results:
        one["score"] = float(np.float32(one["score"]))
    assert len(results) > 5
    np.testing.assert_array_equal(
        list(coco_metrics(truth, records, kind="masks").values()),
        list(coco_metrics(truth, results, kind="masks").values()),
    )


def test_boxes_only_are_refused_where_masks_are_measured():
    truth, detections = with_masks(21)
    image = truth["images"][0]["id"]
    evaluator = CocoEvaluator(truth, kind="masks")
    with pytest.raises(InputError, match=f"image {image}: expected masks, got boxes only"):
        evaluator.match({image: Detections([[0, 0, 1, 1]], [0.5], [0])})
    del detections[0]["segmentation"]
    with pytest.raises(InputError, match=r"detections\[0\]: segmentation is missing"):
        evaluator.match(detections)


def test_no_detections_are_no_error():
    truth, _ = with_masks(21)
    assert coco_metrics(truth, [], kind="masks")["AP"] == 0


def test_the_runs_of_a_code_are_counted_as_encoded():
    random = np.random.default_rng(0)
    codes, sizes, filled = [], [], []
    for _ in range(300):
        height, width = random.integers(1, 60, 2).tolist()
        pixels = (random.random((height, width)) < random.random()).astype(np.uint8)
        codes.append(encode(pixels))
        sizes.append((height, width))
        filled.append(pixels.sum())
    codes.append(encode(np.ones((3000, 3000), dtype=np.uint8)))
    sizes.append((3000, 3000))
    filled.append(9_000_000)
    np.testing.assert_array_equal(compute_areas(encode_masks("masks", codes, sizes)), filled)


def encode(pixels):
    return library.encode(np.asfortranarray(pixels))


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ({"size": [HEIGHT, WIDTH], "counts": b"05"}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": "oooo"}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": "o" * 50 + "0"}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": "\x00\x7f"}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "expected the counts of a mask"),
        ({"size": [HEIGHT, WIDTH], "counts": [3, 5]}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": [-5, HEIGHT * WIDTH + 5]}, "expected the counts"),
        ({"size": [HEIGHT, WIDTH], "counts": [1e9]}, "expected the counts"),
        ({"size": [HEIGHT, WIDTH]}, "expected the counts of a mask, got None"),
        ({"size": [WIDTH, HEIGHT], "counts": "0"}, r"height and width, \[120, 160\], got \[160, "),
        ({"size": 3, "counts": "0"}, "height and width"),
        ([[1, 2, 3, 4]], "expected a polygon as x1, y1"),
        ([[1, 2, 3, 4, 5, 6, 7]], "expected a polygon"),
        ([1, 2, 3, 4, 5, 6], "expected a polygon"),
        ([["a"] * 6], "expected a polygon"),
        ([[0, 0, 1e9, 0, 1e9, 5]], "far beyond its 120 x 160 image"),
        ([[0, 0, float("nan"), 0, 5, 5]], "far beyond"),
        ([], "expected segmentation as polygons or a run-length code"),
        ("mask", "expected segmentation as polygons"),
        (None, "expected segmentation as polygons"),
    ],
)
def test_a_mask_that_would_hang_pycocotools_is_refused(segmentation, says):
    good = [[0, 0, 5, 0, 5, 5]]
    with pytest.raises(InputError, match=rf"^found\[1\]: .*{says}"):
        encode_masks("found", [good, segmentation, good], [SIZE] * 3)


def test_a_truncated_code_does_not_continue_in_the_next():
    complete = encode(np.zeros(SIZE, dtype=np.uint8))["counts"]
    cut = {"size": list(SIZE), "counts": complete[:-1]}
    rest = {"size": list(SIZE), "counts": complete[-1:]}
    with pytest.raises(InputError, match=r"^found\[0\]"):
        encode_masks("found", [cut, rest], [SIZE] * 2)


@pytest.mark.parametrize(
    "counts",
    [
        "n0F",  # runs of 30 and -10 pixels
        "dP",  # a run of 20 whose last byte says that more follow
    ],
)
def test_damaged_runs_that_fill_the_image_by_chance_are_refused(counts):
    encode_masks("found", [{"size": [4, 5], "counts": "d0"}], [(4, 5)])
    with pytest.raises(InputError, match=r"^found\[0\].*do not fill its image"):
        encode_masks("found", [{"size": [4, 5], "counts": counts}], [(4, 5)])


def test_an_annotation_without_an_area_has_its_masks():
    # 40 x 40 is of medium size; every second row of it is not.
    mask = runs(painted([10, 10, 40, 40], 2))
    truth = {
        "images": [{"id": 7, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "segmentation": mask}
        ],
    }
    found = [{"image_id": 7, "category_id": 3, "segmentation": mask, "score": 0.9}]
    numbers = coco_metrics(truth, found, kind="masks")
    assert numbers["APs"] == pytest.approx(1, abs=1e-12)
    assert np.isnan(numbers["APm"])


def test_an_image_without_a_size_is_named():
    truth, _ = with_masks(21)
    image = truth["annotations"][0]["image_id"]
    for record in truth["images"]:
        del record["width"]
    with pytest.raises(InputError, match=f"need the height and width of image {image},"):
        CocoEvaluator(truth, kind="masks")


def test_without_pycocotools_masks_say_what_to_install_and_boxes_work(monkeypatch):
    truth, _ = with_masks(21)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingExtraError, match=r"shiftproof\[detection\]"):
        CocoEvaluator(truth, kind="masks")
    CocoEvaluator(truth)


BOUNDED = [
    ({"width": 10**9, "height": 10**9}, [[0, 0, 5, 0, 5, 5]], "more than masks may have"),
    ({"width": "1e9", "height": 1e9}, [[0, 0, 5, 0, 5, 5]], "more than masks may have"),
    ({}, [[0, 0, *[at % 4 // 2 * 1500 for at in range(60_000)]]], "pixels long, more than 4000000"),
    ({}, {"size": [10**9, 10**9], "counts": [10**18]}, "height and width, "),
    ({}, {"size": [HEIGHT, WIDTH], "counts": [3, 4]}, "do not fill its image"),
    ({}, {"size": [HEIGHT, WIDTH], "counts": [10**400]}, "an outline that cannot be read"),
]


@pytest.mark.parametrize(("size", "segmentation", "says"), BOUNDED)
def test_sizes_of_masks_are_bounded_before_encoding(size, segmentation, says):
    truth, _ = with_masks(21)
    for image in truth["images"]:
        if image["id"] == truth["annotations"][0]["image_id"]:
            image.update(size)
    truth["annotations"][0]["segmentation"] = segmentation
    evaluator = CocoEvaluator(truth, kind="masks")
    left_out = [fault for fault in evaluator.faults if not fault.kept]
    assert any("annotations[0]" in fault.where for fault in left_out)
    assert any(says in str(fault) for fault in evaluator.faults)


def test_an_unusable_mask_is_skipped_as_if_missing():
    truth, found = with_masks(2)
    broken = {**truth, "annotations": [dict(one) for one in truth["annotations"]]}
    for at, segmentation in ((0, None), (3, [[1, 2]]), (5, [])):
        broken["annotations"][at]["segmentation"] = segmentation
    without = {
        **truth,
        "annotations": [one for at, one in enumerate(truth["annotations"]) if at not in (0, 3, 5)],
    }
    np.testing.assert_array_equal(
        list(coco_metrics(broken, found, kind="masks").values()),
        list(coco_metrics(without, found, kind="masks").values()),
    )


# ---------------------------------------------------------------- boxes of masks


def enclose(mask):
    """The first and last pixels of a mask, as x, y, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0, 0, 0, 0]
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def draw(annotation):
    """The pixels of polygons or of an uncompressed code."""
    codes = library.frPyObjects(annotation["segmentation"], *SIZE)
    return library.decode(library.merge(codes) if isinstance(codes, list) else codes)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("seed", range(12))
def test_without_boxes_those_of_the_masks_count_as_in_pycocotools(seed):
    truth, detections = with_masks(seed)
    boxed = {
        **truth,
        "annotations": [{**one, "bbox": enclose(draw(one))} for one in truth["annotations"]],
    }
    for annotation in truth["annotations"]:
        del annotation["bbox"]
    expected = pycocotools(boxed, detections).stats  # its loadRes derives those of the results
    actual = np.array(list(coco_metrics(truth, detections).values()))
    np.testing.assert_allclose(np.nan_to_num(actual, nan=-1), expected, rtol=0, atol=1e-12)


def object_with(**fields):
    return {"id": 5, "image_id": 1, "category_id": 1, **fields}


def ground_truth_of(*annotations, **size):
    return {
        "images": [{"id": 1, "file_name": "a.png", **size}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": list(annotations),
    }


TRIANGLE = [[10.5, 10.2, 40.7, 10.2, 40.7, 30.9]]


@pytest.mark.parametrize("absent", [{}, {"bbox": None}, {"bbox": []}])
def test_a_box_of_a_mask_is_listed_and_has_its_area(absent):
    whole, striped = painted([30, 10, 20, 10], 0), painted([30, 12, 20, 8], 3)
    truth = ground_truth_of(
        object_with(segmentation=runs(whole), **absent),
        object_with(segmentation=code(striped), id=6, **absent),
        object_with(segmentation=code(striped), id=7, category_id=2, area=7.5, **absent),
        height=HEIGHT, width=WIDTH,
    )  # fmt: skip
    objects = read_objects(truth)
    # Each third row of the stripes is empty, and so are rows 12, 15 and 18.
    assert objects.boxes.tolist() == [[30, 10, 20, 10], [30, 13, 20, 7], [30, 13, 20, 7]]
    assert objects.area.tolist() == [200, 100, 7.5]
    assert {(fault.reason, fault.kept) for fault in objects.faults} == {(NO_BOX, True)}
    assert "annotations[1] with the id 6" in objects.faults[1].where
    assert objects.faults[1].detail == "bbox 30, 13, 20, 7 of it"


def test_a_code_needs_no_size_of_its_image_and_polygons_do():
    pixels = painted([30, 10, 20, 10], 0)
    truth = ground_truth_of(
        object_with(segmentation=code(pixels)), object_with(segmentation=TRIANGLE)
    )
    objects = read_objects(truth)
    assert objects.boxes.tolist() == [[30, 10, 20, 10]]
    assert "the width and height of its image are not known; write them into images" in str(
        next(fault for fault in objects.faults if not fault.kept)
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "no bbox and no segmentation; expected one of them"),
        ({"segmentation": []}, "no bbox and no segmentation; expected one of them"),
        ({"segmentation": [[1, 2, 3]]}, "none from the segmentation: expected a polygon as x1, y1"),
        (
            {"segmentation": {"size": [9, 9], "counts": [81]}},
            "expected a mask of the image's height",
        ),
        ({"segmentation": "outline"}, "a segmentation that cannot be read"),
        ({"segmentation": TRIANGLE, "bbox": [1, 2, 3]}, r"bbox \[1, 2, 3\]"),
        ({"segmentation": TRIANGLE, "bbox": [1, 2, None, 3]}, r"bbox \[1, 2, None, 3\]"),
    ],
)
def test_an_object_without_any_box_is_left_out_with_the_reason(fields, says):
    truth = ground_truth_of(object_with(**fields), height=HEIGHT, width=WIDTH)
    objects = read_objects(truth)
    assert len(objects.boxes) == 0
    (fault,) = (one for one in objects.faults if not one.kept)
    assert re.search(says, str(fault))


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[1, 2, 3]], "no bbox, and none from the segmentation: expected a polygon"),
        ([], "four numbers"),
    ],
)
def test_a_result_without_any_box_is_refused(segmentation, says):
    truth = ground_truth_of(object_with(bbox=[1, 1, 9, 9]), height=HEIGHT, width=WIDTH)
    found = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": segmentation}
    with pytest.raises(InputError, match=says if segmentation else "bbox is missing"):
        coco_metrics(truth, [found])
    if not segmentation:
        with pytest.raises(InputError, match=says):
            coco_metrics(truth, [{**found, "bbox": None}])
