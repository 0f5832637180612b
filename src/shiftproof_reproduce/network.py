"""A small ResNet with batch norm for images of 28 x 28 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    2016, arXiv 1512.03385, the basic block), the mean over the image, and one linear layer.

    Args:
        widths: channels of the stem and of each block.

    Returns:
        From ``(N, 1, 28, 28)`` floats to ``(N, 10)`` logits.
    """
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, channels: int, width: int) -> None:
            super().__init__()
            self.path = nn.Sequential(
                nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
            )
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=2, bias=False), nn.BatchNorm2d(width)
            )

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.path(inputs) + self.shortcut(inputs))

    stem, *others = widths
    layers: list[nn.Module] = [
        nn.Conv2d(1, stem, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
    ]
    for channels, width in zip(widths, others, strict=False):
        layers.append(Residual(channels, width))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], len(CLASSES))]
    return nn.Sequential(*layers)


def wrap_classifier(network: torch.nn.Module) -> Classifier:
    """Return the network as what is measured."""
    return Classifier(network, PREPROCESS, CLASSES, name="resnet-fashion")
