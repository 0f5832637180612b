"""What the loop around a detector costs: reading, corrupting, recording, measuring.

The detector stands in for one of 100 ms an image: it computes for so long on one core, and answers
with boxes near those that are there.

python benchmarks/detection_loop.py --out benchmarks/results/detection_loop.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import output

from shiftproof import Detections, Detector, bench
from shiftproof.compute.tuning import tune_own_process
from shiftproof.corruptions import COMMON
from shiftproof.provenance import provenance

SECONDS = 0.1
SIZE = (640, 480)
OBJECTS = 7
FOUND = 100
TARGET = 0.2


def write_images(root: Path, count: int) -> None:
    """COCO data of JPEG pictures of soft noise, with as many boxes as COCO has on average."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "images" / f"{number:04}.jpg"), picture)
        images.append(
            {"id": number, "file_name": f"{number:04}.jpg", "width": SIZE[0], "height": SIZE[1]}
        )
        for _ in range(OBJECTS):
            x, y, w, h = (int(v) for v in rng.integers((0, 0, 20, 20), (440, 280, 200, 200)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(rng.integers(1, 81)),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, 81)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(truth))


class Slow:
    """Computes for a tenth of a second per image and gives a hundred boxes; counts its own time."""

    fingerprint = "slow"

    def __init__(self) -> None:
        self.spent = 0.0
        self.calls = 0
        self._rng = np.random.default_rng(1)
        self._work = self._rng.random((64, 64))

    def __call__(self, images: list[Any]) -> list[Detections]:
        """Return what is found in each image."""
        begun = time.perf_counter()
        answers = []
        for _ in images:
            until = time.perf_counter() + SECONDS
            while time.perf_counter() < until:
                np.matmul(self._work, self._work)
            corner = self._rng.uniform((0, 0), (440, 280), (FOUND, 2))
            size = self._rng.uniform(20, 200, (FOUND, 2))
            answers.append(
                Detections(
                    np.concatenate([corner, corner + size], axis=1),
                    self._rng.random(FOUND),
                    self._rng.integers(0, 80, FOUND),
                )
            )
        self.spent += time.perf_counter() - begun
        self.calls += len(images)
        return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--severities", type=int, nargs="+", default=[3])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tune_own_process()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "data", options.images)
        slow = Slow()
        detector = Detector(slow, [f"class {k}" for k in range(1, 81)])
        begun = time.perf_counter()
        bench.run(
            detector, root / "data", task=bench.Detection(), severities=options.severities,
            out=root / "run", batch_size=8,
        )  # fmt: skip
        whole = time.perf_counter() - begun
    overhead = whole / slow.spent - 1
    result = {
        "images": options.images,
        "size": list(SIZE),
        "cells": 1 + len(COMMON) * len(options.severities),
        "detections_per_image": FOUND,
        "detector_seconds": slow.spent,
        "detector_seconds_per_image": slow.spent / slow.calls,
        "whole_seconds": whole,
        "overhead": overhead,
        "target": TARGET,
        "provenance": provenance("cpu", 1),
    }
    print(
        f"{slow.calls} images, {slow.spent / slow.calls * 1000:.0f} ms each in the detector: "
        f"{slow.spent:.1f} s; all together {whole:.1f} s: {100 * overhead:.1f} % on top"
    )
    if options.out:
        output.write(result, options.out)


if __name__ == "__main__":
    main()
