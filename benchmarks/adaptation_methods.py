"""What CoTTA, RoTTA, NOTE and MEMO cost over the plain forward pass, and how many passes they take.

python benchmarks/adaptation_methods.py --out benchmarks/results/adaptation_methods.json

CPU time of one thread, ResNet-18 on 64 images of 32 x 32 pixels; each round measures the plain pass
beside every method, and the ratios are medians over the rounds. Passes are counted, per image.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import output
import torch
import torchvision
from machine import time_cpu

from shiftproof.adapt import make_adapter
from shiftproof.models import Classifier, Preprocess
from shiftproof.provenance import provenance

IMAGES = 64
SIZE = 32
CLASSES = 10
ROUNDS = 3
SPECS = {
    "batchnorm:prior=0": IMAGES, "ent:prior=measured": IMAGES, "cotta:prior=0": IMAGES,
    "cotta:prior=0,threshold=0": IMAGES, "rotta": IMAGES, "note:k=4": IMAGES, "memo": 2,
}  # fmt: skip
"""The methods, and on how many of the images each is timed."""


class Passes:
    """Counts the images that go through a network, with a graph for a backward pass and without."""

    def __init__(self) -> None:
        self.forward = self.backward = 0

    def __call__(self, module: object, inputs: Any, logits: torch.Tensor) -> None:
        """Count one pass, as a forward hook."""
        self.forward += len(logits)
        self.backward += len(logits) if logits.requires_grad else 0

    def __deepcopy__(self, memo: object) -> Passes:
        return self  # the adapters' copies count together


def make_images() -> Any:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)


def make_source(passes: Passes | None = None) -> Classifier:
    """Random weights, with the statistics of the images, so that it answers many classes."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=CLASSES)
    classifier = Classifier(network, Preprocess((SIZE, SIZE), SIZE))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        logits = network.train()(classifier.prepare(make_images()))
        network.fc.bias -= logits.mean(0)
    network.eval()
    if passes is not None:
        network.register_forward_hook(passes)
    return Classifier(network, Preprocess((SIZE, SIZE), SIZE))


def time_once(predict: Any, images: Any) -> float:
    """CPU milliseconds per image."""
    spent, _ = time_cpu(predict, images)
    return spent * 1000 / len(images)


def count_passes(spec: str, images: Any) -> dict[str, float]:
    passes = Passes()
    adapter = make_adapter(spec, make_source(passes))
    adapter.predict(images)
    passes.forward = passes.backward = 0
    adapter.predict(images)
    return {
        "forward": passes.forward / len(images),
        "backward": passes.backward / len(images),
    }


def measure() -> dict[str, Any]:
    images = make_images()
    source = make_source()
    adapters = {spec: make_adapter(spec, make_source()) for spec in SPECS}
    for spec, count in SPECS.items():
        source.predict(images)
        adapters[spec].predict(images[:count])  # the first batch is watched, and slower
    rounds: dict[str, list[float]] = {spec: [] for spec in SPECS}
    plain = []
    for number in range(ROUNDS):
        plain.append(time_once(source.predict, images))
        for spec, count in SPECS.items():
            rounds[spec].append(time_once(adapters[spec].predict, images[:count]) / plain[-1])
        print(f"round {number + 1} of {ROUNDS}", flush=True)
    return {
        "plain_ms_per_image": statistics.median(plain),
        "methods": {
            spec: {
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "passes_per_image": count_passes(spec, images[: SPECS[spec]]),
            }
            for spec, ratios in rounds.items()
        },
    }


def summary(result: dict[str, Any]) -> str:
    """Return the table of docs/adaptation-methods.md."""
    lines = [
        "| adapter | forward passes per image | backward passes per image | times a plain pass |",
        "|---|---:|---:|---:|",
    ]
    for spec, found in result["methods"].items():
        passes = found["passes_per_image"]
        low, high = min(found["ratios"]), max(found["ratios"])
        lines.append(
            f"| `{spec}` | {passes['forward']:g} | {passes['backward']:g} | "
            f"{found['ratio']:.3g} ({low:.3g}–{high:.3g}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "network": "torchvision resnet18, random weights",
        "images": IMAGES,
        "classes": CLASSES,
        "size": SIZE,
        **measure(),
        "provenance": provenance("cpu", 0),
    }
    print(summary(result))
    if arguments.out is not None:
        output.write(result, arguments.out)


if __name__ == "__main__":
    main()
