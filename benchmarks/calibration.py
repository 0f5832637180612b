"""Do confidence, sets and silence hold under shift? A small net on Fashion-MNIST, two minutes of a CPU.

    python benchmarks/calibration.py --out trust-fashion

Trains on 12,000 images, holds a third of 3,000 test images out, and measures the others clean and
corrupted, the network as it is and under batch-norm adaptation. docs/calibration.md shows what comes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shiftproof import Classifier, Preprocess, bench, report
from shiftproof_reproduce import fashion

CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
MEAN, STD = 0.286, 0.353


def make_network() -> torch.nn.Sequential:
    """Return three convolutions with batch norm, and a linear layer."""
    layers: list[torch.nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [
            torch.nn.Conv2d(before, after, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(after),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
        ]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(64 * 9, 10))


def train(images: NDArray[np.uint8], labels: NDArray[np.uint8], epochs: int) -> torch.nn.Module:
    """Train on ``(N, 28, 28)`` uint8 images."""
    torch.manual_seed(0)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    inputs = torch.from_numpy((images[:, None] / 255 - MEAN) / STD).float()
    targets = torch.from_numpy(labels.astype(np.int64))
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return network.eval()


def main() -> None:
    """Train, measure, and print what the command line prints."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    data = fashion.load()
    network = train(data.train_images[:12_000], data.train_labels[:12_000], given.epochs)
    preprocess = Preprocess((28, 28), None, mean=(MEAN,), std=(STD,), channels=1)
    run = bench.run(
        Classifier(network, preprocess, fashion.CLASSES, name="small CNN"),
        data.test_subset(3000),
        task=bench.Classification(calibrate=1 / 3),
        corruptions=CORRUPTIONS,
        severities=(1, 3, 5),
        adapters=["batchnorm"],
        out=given.out,
    )
    for lines in report.describe_trust(run):
        print(*lines, sep="\n")
    print(report.write_report(given.out))


if __name__ == "__main__":
    main()
