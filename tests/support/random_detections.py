"""Small random sets full of edge cases, and the results of pycocotools for them."""

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 120, 160


def pycocotools(truth, detections, kind="bbox"):
    """Run the evaluation: ``stats`` has the twelve numbers, -1 without objects."""
    truth, detections = copy.deepcopy(truth), copy.deepcopy(detections)
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = truth
        objects.createIndex()
        if detections:
            found = objects.loadRes(detections)
        else:  # loadRes fails on an empty list
            found = COCO()
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(objects, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def random_set(seed, *, ties=True):
    """Return a set with sparse ids, empty images and categories, crowds, areas on the bounds, overlaps on
    the thresholds, more than 100 detections of one image and class, and, if asked for, equal scores.
    """
    random = np.random.default_rng(seed)
    images = random.choice(1000, random.integers(1, 6), replace=False).tolist()
    categories = random.choice(90, random.integers(1, 4), replace=False).tolist()
    annotations, detections = [], []
    for image in images:
        boxes = []
        for _ in range(random.integers(0, 10)):
            # A few whole numbers, so that many overlaps are exactly 0.5, 0.75, 0.8 or 1.
            width, height = random.choice([8, 10, 16, 20, 32, 40, 96], 2).tolist()
            boxes.append([*random.integers(0, 40, 2).tolist(), width, height])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": categories[random.integers(len(categories))],
                    "bbox": boxes[-1],
                    "area": random.choice([width * height, 1024, 9216, 1023.5]).item(),
                    "iscrowd": int(random.random() < 0.2),
                }
            )
        for _ in range(random.choice([0, 5, 20, 260], p=[0.15, 0.35, 0.4, 0.1])):
            if boxes and random.random() < 0.8:
                box = list(boxes[random.integers(len(boxes))])
                if random.random() < 0.7:
                    at = random.integers(4)
                    box[at] = max(0, box[at] + int(random.choice([-4, -2, 1, 2, 5])))
            else:
                box = random.integers(1, 100, 4).tolist()
            score = random.integers(0, 5) / 4 if ties and random.random() < 0.5 else random.random()
            detections.append(
                {
                    "image_id": image,
                    "category_id": categories[random.integers(len(categories))],
                    "bbox": box,
                    "score": float(score),
                }
            )
    random.shuffle(detections)
    truth = {
        "images": [{"id": image, "height": HEIGHT, "width": WIDTH} for image in images],
        "categories": [{"id": identity, "name": f"name {identity}"} for identity in categories],
        "annotations": annotations,
    }
    return truth, detections


def resampled(truth, detections, weights):
    """Return the dataset with each image, by rising id, repeated so often; copies have consecutive ids."""
    ids = sorted(image["id"] for image in truth["images"])
    copies = [
        identity for identity, weight in zip(ids, weights, strict=True) for _ in range(weight)
    ]
    sizes = {image["id"]: image for image in truth["images"]}
    drawn = {
        "images": [{**sizes[old], "id": new} for new, old in enumerate(copies)],
        "categories": truth["categories"],
        "annotations": [
            {**annotation, "image_id": new}
            for new, old in enumerate(copies)
            for annotation in truth["annotations"]
            if annotation["image_id"] == old
        ],
    }
    for identity, annotation in enumerate(drawn["annotations"], start=1):
        annotation["id"] = identity
    found = [
        {**detection, "image_id": new}
        for new, old in enumerate(copies)
        for detection in detections
        if detection["image_id"] == old
    ]
    return drawn, found
