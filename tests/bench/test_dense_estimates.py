"""AP and mIoU on images without labels, by what labeled ones teach."""

import json

import numpy as np
import pytest

from shiftproof import Detections, Detector, Segmenter
from shiftproof.bench import estimate_unlabeled
from shiftproof.bench.estimates.dense_estimates import write_estimate
from shiftproof.data import open_detection_data, open_segmentation_data
from shiftproof.errors import InputError
from shiftproof.metrics import mirror_boxes
from support.detection_trees import coco_tree, voc_tree
from support.label_map_trees import NAMES, nearest_color, write_folders


class Knowing:
    """Answers images that it was told of, and their mirror images, with the boxes that it was told."""

    def __init__(self):
        self._answers = {}

    def tell(self, image, boxes, labels, score=0.9):
        width = image.shape[1]
        plain = Detections(boxes, np.broadcast_to(score, len(boxes)), labels)
        self._answers[image.tobytes()] = plain
        self._answers[np.ascontiguousarray(image[:, ::-1]).tobytes()] = mirror_boxes(plain, width)

    def __call__(self, images):
        return [self._answers[image.tobytes()] for image in images]


def corners_of(data, sample):
    positions = data.objects[sample.id].positions
    return np.concatenate([positions[:, :2], positions[:, :2] + positions[:, 2:]], axis=1)


def test_half_of_the_boxes_are_half_of_the_precision(tmp_path):
    coco_tree(tmp_path / "data")
    data = open_detection_data(tmp_path / "data")
    knowing = Knowing()
    stream, kept, whole = [], 0, 0
    for sample in data.samples:
        image, corners = data.read(sample), corners_of(data, sample)
        one = data.objects[sample.id]
        counts = ~(np.asarray(one.crowd, bool) | np.asarray(one.difficult, bool))
        knowing.tell(image, corners[counts], one.labels[counts])
        changed = image.copy()
        changed[0, 0] ^= 1
        knowing.tell(changed, corners[counts][:1], one.labels[counts][:1])
        stream.append(changed)
        kept, whole = kept + min(1, counts.sum()), whole + counts.sum()
    estimate = estimate_unlabeled(Detector(knowing, list(data.classes.names)), data, stream)
    assert estimate.clean == pytest.approx(1)
    # All that is found is right, so precision is 1 up to the recall that is reached.
    reached = np.floor(100 * kept / whole + 1e-9) + 1
    assert estimate.estimates["confidence"] == pytest.approx(reached / 101)
    assert estimate.estimates["mirror"] == pytest.approx(1)
    assert estimate.quality == {}


def test_difficult_objects_are_objects_of_coco(tmp_path):
    """AP50 counted them as objects, and the estimate did not expect to find them."""
    data = open_detection_data(voc_tree(tmp_path / "data"))
    knowing, stream = Knowing(), []
    for sample in data.samples:
        image, corners = data.read(sample), corners_of(data, sample)
        one = data.objects[sample.id]
        sure = np.where(one.difficult, 0.3, 0.9)
        knowing.tell(image, corners, one.labels, sure)
        changed = image.copy()
        changed[0, 0] ^= 1
        kept = ~one.difficult
        knowing.tell(changed, corners[kept], one.labels[kept], sure[kept])
        stream.append(changed)
    estimate = estimate_unlabeled(Detector(knowing, list(data.classes.names)), data, stream)
    assert estimate.clean == pytest.approx(1)
    # Half of the objects are found, and all that is found is right: 51 of 101 recalls.
    assert estimate.estimates["confidence"] == pytest.approx(51 / 101)


def test_label_maps_of_a_function_that_knows_no_left_or_right(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data"), classes=list(NAMES))
    model = Segmenter(nearest_color, NAMES)
    images = [data.read(sample) for sample in data.samples]
    estimate = estimate_unlabeled(model, data, images, corruptions=["fog"], severities=[1, 5])
    # It answers pixel by pixel: the mirror image agrees to the last pixel, whatever the shift.
    assert estimate.estimates["mirror"] == pytest.approx(estimate.clean)
    quality = estimate.quality["mirror"]
    assert quality.cells == 2
    # So it is too hopeful wherever fog takes something: 1 - P is estimated too small.
    assert quality.bias <= 0
    write_estimate(tmp_path / "unlabeled.json", {"mine": estimate})
    written = json.loads((tmp_path / "unlabeled.json").read_text())
    assert written["mine"]["quality"]["mirror"]["bias"] == pytest.approx(-quality.bias)
    assert written["mine"]["measure"] == "mIoU"


def test_label_maps_by_how_sure_the_pixels_are(tmp_path):
    """By hand: pixels are answered with 0.9 on clean images and with 0.6 on those without labels."""
    data = open_segmentation_data(write_folders(tmp_path / "data"), classes=list(NAMES))
    images = [data.read(sample) for sample in data.samples]

    def answer(pictures):
        logits = []
        for one, picture in zip(nearest_color(pictures), pictures, strict=True):
            known = (image[:, ::turn] for image in images for turn in (1, -1))
            sure = 0.9 if any(np.array_equal(picture, one) for one in known) else 0.6
            best = one.argmax(0)
            share = np.full(one.shape, 0.0)
            np.put_along_axis(share, best[None], sure, 0)
            np.put_along_axis(share, (best[None] + 1) % len(one), 1 - sure, 0)
            logits.append(np.log(share + 1e-30).astype(np.float32))
        return logits

    model = Segmenter(answer, NAMES)
    sums = np.sum([one for _, one in model.predict_with_sums(images)], axis=0)
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    assert sums.sum(1) == pytest.approx([0.9 * pixels, pixels, pixels], rel=1e-5)
    changed = [image.copy() for image in images]
    for image in changed:
        image[0, 0] ^= 1
    estimate = estimate_unlabeled(model, data, changed)
    before, after = (expected_iou(images, sure) for sure in (0.9, 0.6))
    assert estimate.estimates["confidence"] == pytest.approx(
        estimate.clean * after / before, rel=0.01
    )


def expected_iou(images, sure):
    """Of pixels of which the next class has what the answer lacks."""
    answers = np.concatenate([one.argmax(0).ravel() for one in nearest_color(images)])
    count = np.bincount(answers, minlength=len(NAMES)).astype(float)
    mass = sure * count + (1 - sure) * np.roll(count, 1)
    there = (count > 0) | (mass >= 1)
    return (sure * count / np.maximum(mass + count - sure * count, 1e-9))[there].mean()


def test_without_images_or_labels_it_says_so(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data"), classes=list(NAMES))
    model = Segmenter(nearest_color, NAMES)
    with pytest.raises(InputError, match="at least one unlabeled image"):
        estimate_unlabeled(model, data, [])
