"""Records of full runs to replay anytime runs on: small networks on Fashion-MNIST, in all 75 cells.

Three networks (two widths, two lengths of training) answer the first 5,000 test images, brought to
32 x 32 pixels, under the 15 corruptions of CIFAR-10-C at five severities. What is kept is whether
each answer is right.

python benchmarks/anytime_records.py --out benchmarks/results/anytime_records.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from shiftproof.corruptions import COMMON, corrupt_batch, scale
from shiftproof_reproduce.fashion import load

IMAGES = 5_000
TRAINED_ON = 20_000
SEVERITIES = (1, 2, 3, 4, 5)
WIDTHS = {"narrow": (12, (2, 3)), "wide": (16, (3,))}
"""Of the first convolution, and after which epochs a network is kept."""


def make_network(width: int) -> nn.Module:
    """Three convolutions, the first two of which halve height and width."""
    layers: list[nn.Module] = []
    channels = 1
    for size, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
        layers += [nn.Conv2d(channels, size, 3, stride, padding=1), nn.BatchNorm2d(size), nn.ReLU()]
        channels = size
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def resize(images: np.ndarray) -> np.ndarray:
    """``(N, 28, 28)`` to ``(N, 32, 32)`` uint8."""
    return np.stack([cv2.resize(one, (32, 32), interpolation=cv2.INTER_LINEAR) for one in images])


def as_input(images: np.ndarray) -> torch.Tensor:
    """``(N, 32, 32)`` uint8 to ``(N, 1, 32, 32)`` float32."""
    return torch.from_numpy(images[:, None].astype(np.float32) / 255 - 0.5)


def train(images: np.ndarray, labels: np.ndarray) -> dict[str, nn.Module]:
    """Return the networks by name, as they are after some epochs."""
    x, y = as_input(images), torch.from_numpy(labels.astype(np.int64))
    kept: dict[str, nn.Module] = {}
    for name, (width, epochs) in WIDTHS.items():
        torch.manual_seed(0)
        network = make_network(width)
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for epoch in range(1, max(epochs) + 1):
            for rows in torch.randperm(len(x)).split(64):
                loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if epoch in epochs:
                copy = make_network(width)
                copy.load_state_dict(network.state_dict())
                kept[f"{name}-{epoch}"] = copy.eval()
    return kept


def predict(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Return the answers, in batches that fit the processor's caches."""
    return torch.cat([network(part).argmax(1) for part in x.split(250)]).numpy()


@torch.inference_mode()
def answer(networks: dict[str, nn.Module], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``(models, cells, images)`` bool: which answers are wrong; severities within corruptions."""
    functions = scale("cifar-10-c")
    keys = [str(number) for number in range(len(images))]
    colored = np.repeat(images[..., None], 3, axis=3)
    cells = []
    for name in COMMON:
        for severity in SEVERITIES:
            shown = np.stack(corrupt_batch(colored, functions[name], severity=severity, keys=keys))
            x = as_input(shown.mean(axis=3).round().astype(np.uint8))
            cells.append([predict(network, x) != labels for network in networks.values()])
        print(name, [f"{np.mean(one):.3f}" for one in cells[-1]], flush=True)
    return np.array(cells).transpose(1, 0, 2)


def main() -> None:
    """Train, answer, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    fashion = load(given.data)
    networks = train(resize(fashion.train_images[:TRAINED_ON]), fashion.train_labels[:TRAINED_ON])
    images, labels = resize(fashion.test_images[:IMAGES]), fashion.test_labels[:IMAGES]
    wrong = answer(networks, images, labels)
    np.savez_compressed(
        given.out, wrong=np.packbits(wrong, axis=2), images=IMAGES, models=list(networks)
    )


if __name__ == "__main__":
    main()
