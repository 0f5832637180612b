"""A tiny dataset with boxes, and a real detector for it without a network.

Images are dark with bright blocks in red, green or blue; the detector finds connected bright
pixels. Noise and fog break it.
"""

import json

import cv2
import numpy as np
from PIL import Image

from shiftproof import Detections, Detector

NAMES = ("red", "green", "blue")

GRID = {"corruptions": ["gaussian_noise", "contrast"], "severities": [1, 5], "workers": 0}


def find_blocks(images):
    """Detect bright regions; the score is the share of bright pixels in the box."""
    return [_found(image) for image in images]


def _found(image):
    bright = (image.max(axis=2) > 150).astype(np.uint8)
    count, places, stats, _ = cv2.connectedComponentsWithStats(bright)
    boxes, scores, labels = [], [], []
    for component in range(1, count):
        x, y, w, h, area = stats[component]
        if area < 12:
            continue
        boxes.append([x, y, x + w, y + h])
        scores.append(area / (w * h))
        labels.append(int(image[places == component].mean(axis=0).argmax()))
    return Detections(np.array(boxes, float).reshape(-1, 4), scores, labels)


def make_detector(names=NAMES, name="blocks"):
    return Detector(find_blocks, list(names), name=name)


def write_blocks(root, images=8, side=48):
    """Write ``images/*.png`` and ``annotations/blocks.json``: COCO with sparse ids."""
    rng = np.random.default_rng(3)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    records, annotations = [], []
    for number in range(images):
        pixels = rng.integers(20, 60, (side, side + 8, 3)).astype(np.uint8)
        for corner in range(1 + number % 3):
            label = int(rng.integers(3))
            w, h = (int(v) for v in rng.integers(9, 18, 2))
            x = 2 + 26 * (corner % 2) + int(rng.integers(0, 4))
            y = 2 + 22 * (corner // 2) + int(rng.integers(0, 4))
            colour = np.full(3, 40)
            colour[label] = 210
            pixels[y : y + h, x : x + w] = colour
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + 7 * number,
                    "category_id": (2, 5, 9)[label],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
        Image.fromarray(pixels).save(root / "images" / f"{number:03}.png")
        records.append(
            {
                "id": 10 + 7 * number,
                "file_name": f"{number:03}.png",
                "width": side + 8,
                "height": side,
            }
        )
    truth = {
        "images": records,
        "annotations": annotations,
        "categories": [
            {"id": identity, "name": name} for identity, name in zip((2, 5, 9), NAMES, strict=True)
        ],
    }
    (root / "annotations" / "blocks.json").write_text(json.dumps(truth))
    return root
