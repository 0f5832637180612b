"""A small ResNet with batch norm for images of 28 x 28 pixels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shiftproof.models import Classifier, Preprocess
from shiftproof_reproduce.fashion import CLASSES, SIDE

if TYPE_CHECKING:
    import torch

WIDTHS = (24, 48, 96)
"""Channels of the stem and of the two residual blocks."""

PREPROCESS = Preprocess((SIDE, SIDE), None, mean=(0.286,), std=(0.353,), channels=1)
"""Preprocessing with mean and deviation of Fashion-MNIST's training images."""


def build_network(widths: tuple[int, ...] = WIDTHS) -> torch.nn.Module:
    """Return the network with new weights, drawn from torch's global state.

    A 5 x 5 stem with stride 2, a basic block with stride 2 per further width (He et al. 2016, arXiv
    1512.03385), global average pooling and a linear layer, from ``(N, 1, 28, 28)`` floats to ``(N,
    10)`` logits.
    """
    from torch import nn

    return build_residual(widths, len(CLASSES), nn.BatchNorm2d, channels=1, biased_stem=False)


def build_residual(
    widths: Sequence[int],
    classes: int,
    norm: Callable[[int], torch.nn.Module],
    *,
    channels: int,
    biased_stem: bool,
) -> torch.nn.Module:
    """Return such a network from ``channels`` to ``classes``; ``norm`` creates the norm layers."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, before: int, width: int) -> None:
            super().__init__()
            self.path = nn.Sequential(
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                norm(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                norm(width),
            )
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride=2, bias=False), norm(width)
            )

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.path(inputs) + self.shortcut(inputs))

    stem = nn.Conv2d(channels, widths[0], 5, stride=2, padding=2, bias=biased_stem)
    layers: list[nn.Module] = [stem, norm(widths[0]), nn.ReLU()]
    layers += [Residual(*pair) for pair in itertools.pairwise(widths)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes)]
    return nn.Sequential(*layers)


def wrap_classifier(network: torch.nn.Module) -> Classifier:
    """Wrap the network as a classifier."""
    return Classifier(network, PREPROCESS, CLASSES, name="resnet-fashion")


def predict_classes(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the predicted classes ``(N,)`` of color ``(N, H, W, 3)`` or gray images ``(N, H,
    W)``.
    """
    answers = []
    for start in range(0, len(images), 500):
        shown = images[start : start + 500]
        color = np.repeat(shown[..., None], 3, axis=3) if shown.ndim == 3 else shown
        answers.append(classifier.predict(color).argmax(1))
    return np.concatenate(answers)
