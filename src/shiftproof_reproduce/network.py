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
"""Mean and deviation of the training images of Fashion-MNIST, in units of 0..1."""


def build_network(widths: tuple[int, ...] = WIDTHS) -> torch.nn.Module:
    """Return the network with new weights, drawn from torch's global state.

    A stem of 5 x 5 at stride 2, then one residual block at stride 2 per further width (He et al.
    2016, arXiv 1512.03385, the basic block), the mean over the image, and one linear layer. It goes
    from ``(N, 1, 28, 28)`` floats to ``(N, 10)`` logits.
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
    """Return such a network from ``channels`` to ``classes``; ``norm`` makes a layer of a width."""
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
    """Return the network as what is measured."""
    return Classifier(network, PREPROCESS, CLASSES, name="resnet-fashion")


def predict_classes(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return ``(N,)`` the class of each of ``(N, H, W, 3)`` images, or of ``(N, H, W)`` gray ones."""
    answers = []
    for start in range(0, len(images), 500):
        shown = images[start : start + 500]
        color = np.repeat(shown[..., None], 3, axis=3) if shown.ndim == 3 else shown
        answers.append(classifier.predict(color).argmax(1))
    return np.concatenate(answers)
