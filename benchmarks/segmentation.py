"""Counting the pixels of label maps beside torchmetrics, CPU seconds on one thread.

python -m pip install -e ".[bench]"
python benchmarks/segmentation.py --out benchmarks/results/segmentation.json
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import output
import torch
from machine import time_cpu
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from shiftproof.metrics import class_ious, mean_iou, pixel_confusion
from shiftproof.metrics.segmentation import compute_marginals
from shiftproof.provenance import provenance

CLASSES = 19
SIZE = (512, 1024)
TARGET = 5


def label_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a truth of patches as in street scenes, a tenth of it void, and an answer 85 % right."""
    random = np.random.default_rng(seed)
    patches = random.integers(-2, CLASSES, (SIZE[0] // 32, SIZE[1] // 32)).clip(-1)
    truth = np.kron(patches, np.ones((32, 32), np.int16)).astype(np.int16)
    guess = random.integers(0, CLASSES, SIZE)
    right = (random.random(SIZE) < 0.85) & (truth >= 0)
    return truth, np.where(right, truth, guess).astype(np.int16)


def seconds_of(function: Callable[[], Any], repeats: int) -> float:
    """Return the median of the CPU seconds of one call, after one that does not count."""
    function()
    return statistics.median(time_cpu(function)[0] for _ in range(repeats))


def compare(images: int, repeats: int) -> dict[str, Any]:
    """Count the same label maps by each, and see that the figures are the same."""
    maps = [label_maps(seed) for seed in range(images)]
    as_tensors = [
        (
            torch.from_numpy(said.astype(np.int64))[None],
            torch.from_numpy(np.where(truth < 0, 255, truth).astype(np.int64))[None],
        )
        for truth, said in maps
    ]
    jaccard = MulticlassJaccardIndex(CLASSES, ignore_index=255, average="none")
    unchecked = MulticlassJaccardIndex(
        CLASSES, ignore_index=255, average="none", validate_args=False
    )
    per_image = MeanIoU(CLASSES, input_format="index")

    def ours() -> np.ndarray:
        return sum(pixel_confusion(truth, said, CLASSES) for truth, said in maps)

    def theirs(metric: Any, ignore: bool) -> None:
        metric.reset()
        for said, truth in as_tensors:
            # MeanIoU knows no void, so that it is handed none.
            metric.update(said, truth if ignore else truth.clamp(max=CLASSES - 1))

    times = {
        "shiftproof.metrics.pixel_confusion": seconds_of(ours, repeats),
        "torchmetrics MulticlassJaccardIndex": seconds_of(lambda: theirs(jaccard, True), repeats),
        "torchmetrics MulticlassJaccardIndex, validate_args=False": seconds_of(
            lambda: theirs(unchecked, True), repeats
        ),
        "torchmetrics MeanIoU": seconds_of(lambda: theirs(per_image, False), max(1, repeats // 5)),
    }
    found = class_ious(*compute_marginals(ours()))
    np.testing.assert_allclose(found, jaccard.compute().numpy(), rtol=1e-5)
    own = times["shiftproof.metrics.pixel_confusion"]
    return {
        "label maps": f"{images} of {SIZE[1]} x {SIZE[0]}, {CLASSES} classes",
        "mIoU": float(mean_iou(found)),
        "milliseconds per label map": {k: 1000 * v / images for k, v in times.items()},
        "times as fast as": {k: v / own for k, v in times.items() if v is not own},
        "target": TARGET,
    }


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "benchmark": "segmentation",
        **compare(asked.images, asked.repeats),
        "provenance": provenance("cpu", 0),
    }
    output.show(result, asked.out)


if __name__ == "__main__":
    main()
