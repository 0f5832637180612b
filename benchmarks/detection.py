"""COCO's twelve numbers beside pycocotools and faster-coco-eval, CPU seconds in one process.

python -m pip install -e ".[bench]" && python benchmarks/detection.py --out benchmarks/results/detection.json
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import resource
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import output
from machine import time_cpu

from shiftproof.metrics import COCO_METRICS, CocoEvaluator
from shiftproof.provenance import provenance

CATEGORIES = 80
TARGETS = {"pycocotools": 20, "faster-coco-eval": 3}


def synthetic(images: int, per_image: int, seed: int = 0) -> tuple[dict[str, Any], list[Any]]:
    """COCO-val as to its numbers: 7.4 boxes an image, a few frequent categories, 1 % crowds.

    Of the detections, as of a detector without a threshold on the score, most find nothing.
    """
    random = np.random.default_rng(seed)
    frequency = 1 / (3 + np.arange(CATEGORIES))
    frequency /= frequency.sum()
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(images):
        present = random.choice(CATEGORIES, 3, p=frequency)
        count = min(1 + random.geometric(1 / 6.4), 60)
        size = np.exp(random.normal(3.9, 0.9, (count, 2))).clip(4, 400)
        corner = random.random((count, 2)) * (640, 480) * 0.8
        boxes = np.concatenate([corner, size], axis=1).round(2)
        category = random.choice(present, count)
        crowd = random.random(count) < 0.01
        for box, kind, many in zip(boxes.tolist(), category.tolist(), crowd.tolist(), strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": 10 * image, "category_id": kind + 1,
                 "bbox": box, "area": 0.6 * box[2] * box[3], "iscrowd": int(many)}
            )  # fmt: skip
        source = random.integers(0, count, per_image)
        spread = random.choice([0.05, 0.15, 0.6], per_image)[:, None]
        moved = (
            boxes[source]
            + random.normal(0, 1, (per_image, 4)) * spread * size[source][:, [0, 1, 0, 1]]
        )
        moved[:, 2:] = moved[:, 2:].clip(1)
        kinds = np.where(random.random(per_image) < 0.7, category[source],
                         random.choice(CATEGORIES, per_image, p=frequency))  # fmt: skip
        scores = (random.beta(1, 4, per_image) * (1.2 - spread[:, 0])).clip(0, 1).round(3)
        for box, kind, score in zip(
            moved.round(2).tolist(), kinds.tolist(), scores.tolist(), strict=True
        ):
            detections.append(
                {"image_id": 10 * image, "category_id": kind + 1, "bbox": box, "score": score}
            )
    truth = {
        "info": {},
        "images": [{"id": 10 * image, "width": 640, "height": 480} for image in range(images)],
        "categories": [{"id": at + 1, "name": f"category {at}"} for at in range(CATEGORIES)],
        "annotations": annotations,
    }
    return truth, detections


def peer(
    coco: Any, evaluation: Any, truth: dict[str, Any], detections: list[Any]
) -> tuple[float, float, Any]:
    """Seconds to load, seconds to evaluate and accumulate, the twelve numbers."""
    truth, detections = copy.deepcopy(truth), copy.deepcopy(detections)

    def load() -> tuple[Any, Any]:
        one = coco()
        one.dataset = truth
        one.createIndex()
        return one, one.loadRes(detections)

    def evaluate() -> Any:
        run = evaluation(*pair, "bbox")
        run.evaluate()
        run.accumulate()
        return run

    with contextlib.redirect_stdout(io.StringIO()):
        loading, pair = time_cpu(load)
        working, run = time_cpu(evaluate)
        run.summarize()
    return loading, working, np.asarray(run.stats, dtype=float)[:12]


def ours(truth: dict[str, Any], detections: list[Any]) -> tuple[float, float, Any, Any, Any]:
    """Seconds to index the ground truth, seconds to read, match and accumulate, the numbers."""
    indexing, evaluator = time_cpu(lambda: CocoEvaluator(truth))

    def work() -> tuple[Any, Any]:
        matches = evaluator.match(detections)
        return matches, evaluator.accumulate(matches).metrics()

    working, (matches, numbers) = time_cpu(work)
    return indexing, working, np.array(list(numbers.values())), evaluator, matches


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)

    truth, detections = synthetic(options.images, options.detections)
    before = memory()
    own = [ours(truth, detections) for _ in range(options.repeats)]
    grown = memory() - before
    evaluator, matches = own[-1][3:]
    resampling, _ = time_cpu(lambda: evaluator.replicates(matches, ["AP"], replicates=20))
    all_twelve, _ = time_cpu(lambda: evaluator.replicates(matches, replicates=20))
    seconds = {"shiftproof": statistics.median(row[1] for row in own)}
    result: dict[str, Any] = {
        "what": "evaluate + accumulate on synthetic detections, CPU seconds, one thread; ours with "
        "reading and checking the list of results",
        "images": options.images,
        "boxes": len(truth["annotations"]),
        "detections": len(detections),
        "memory_above_the_lists_mb": round(grown),
        "memory_with_the_lists_mb": round(before + grown),
        "index_ground_truth_seconds": round(statistics.median(row[0] for row in own), 3),
        "one_resample_of_AP_ms": round(1000 * resampling / 21, 2),
        "one_resample_of_all_twelve_ms": round(1000 * all_twelve / 21, 2),
        "AP": round(float(own[-1][2][0]), 6),
    }
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    peers = {"faster-coco-eval": (FasterCOCO, COCOeval_faster), "pycocotools": (COCO, COCOeval)}
    for name, (coco, evaluation) in peers.items():
        repeats = options.repeats if name != "pycocotools" else 1
        rows = [peer(coco, evaluation, truth, detections) for _ in range(repeats)]
        seconds[name] = statistics.median(row[1] for row in rows)
        difference = np.abs(np.nan_to_num(own[-1][2], nan=-1) - rows[-1][2]).max()
        result[name] = {
            "load_seconds": round(statistics.median(row[0] for row in rows), 3),
            "ratio": round(seconds[name] / seconds["shiftproof"], 1),
            "target": TARGETS[name],
            "largest_difference_of_the_twelve": float(difference),
        }
    assert len(own[-1][2]) == len(COCO_METRICS)
    result["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
    result["provenance"] = provenance("cpu", 1)
    output.show(result, options.out)


if __name__ == "__main__":
    main()
