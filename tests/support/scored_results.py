"""Result files as from another framework, for every kind of data that ``score`` takes."""

import json

import numpy as np

from shiftproof.data import open_data, open_detection_data, open_segmentation_data
from support import tiny
from support.detection_trees import coco_tree, voc_tree, yolo_tree
from support.label_map_trees import NAMES, save, write_folders

CELLS = ("clean", "fog/1", "fog/3")
MODELS = ("ours", "theirs")


def write_answers(photos, root):
    """Write logits for every photograph that mostly favor the true class."""
    data = open_data(photos, classes=tiny.make_model().classes)
    labels = np.array([sample.label for sample in data.samples])
    for draws, path in _each_file(root, ".npy"):
        np.save(path, np.eye(3, dtype=np.float32)[labels] + draws.normal(size=(len(labels), 3)))
    return data


def write_boxes(data, root, image_id):
    """Write the true boxes, slightly moved; one record is for a missing image."""
    truth = data.ground_truth()
    names = {one["id"]: one["file_name"] for one in truth["images"]}
    for draws, path in _each_file(root, ".json"):
        found = [
            {
                "image_id": image_id(one["image_id"], names[one["image_id"]]),
                "category_id": one["category_id"],
                "bbox": (np.array(one["bbox"]) + draws.normal(size=4)).tolist(),
                "score": float(draws.random()),
            }
            for one in truth["annotations"]
            if one["bbox"][2] > 3
        ]
        path.write_text(json.dumps([*found, {**found[0], "image_id": "nowhere"}]))
    return data


def write_label_maps(root):
    data = open_segmentation_data(write_folders(root / "data"), classes=list(NAMES))
    for draws, path in _each_file(root, ""):
        for sample in data.samples:
            labels = np.maximum(data.read_mask(sample), 0)
            wrong = draws.random(labels.shape) < 0.2
            save(path / f"{sample.id}.png", np.where(wrong, 1, labels).astype(np.uint8))
    return data


def make(kind, photos, root):
    """Return the data and the result folders of two models, written once below ``root``."""
    there = root.exists()
    models = {name: root / name for name in MODELS}
    if kind == "answers":
        data = photos if there else write_answers(photos, root)
        return open_data(photos, classes=tiny.make_model().classes) if there else data, models
    if kind == "label maps":
        if there:
            return open_segmentation_data(root / "data", classes=list(NAMES)), models
        return write_label_maps(root), models
    if not there:
        WRITE[kind](root / "data")
    data = open_detection_data(root / "data" / PLACES[kind])
    if not there:
        is_coco = kind == "coco"
        write_boxes(data, root, lambda one, name: one if is_coco else name.rsplit("/")[-1])
    return data, models


WRITE = {"coco": coco_tree, "voc": voc_tree, "yolo": yolo_tree}
PLACES = {"coco": "", "voc": "VOCdevkit/VOC2007", "yolo": "data.yaml"}
KINDS = ("answers", "coco", "voc", "yolo", "label maps")


def _each_file(root, suffix):
    for number, name in enumerate(MODELS):
        for cell in CELLS:
            path = root / name / f"{cell}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            yield np.random.default_rng([number, len(cell), ord(cell[-1])]), path
