"""Small networks by what they normalize with, for colored images of 32 x 32 pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from shiftproof import Classes, Classifier
from shiftproof.errors import MissingExtraError
from shiftproof.models import Preprocess

if TYPE_CHECKING:
    import torch

NetworkKind: TypeAlias = Literal["resnet", "groupnorm", "vit"]

SIDE = 32
"""Height and width of the images in pixels."""

WIDTHS = (24, 48, 96)
"""Channels of the stem and of the residual blocks."""

GROUPS = 8
"""Of the group norm."""

STEM = (24, 48, 64)
"""Channels of the transformer's stem: three convolutions of 3 x 3 at stride 2."""

WIDTH, LAYERS, HEADS = 64, 3, 4
"""Of the transformer."""

PREPROCESS = Preprocess((SIDE, SIDE), None, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
"""What all of them take; data of any mean and deviation."""

TITLES: dict[NetworkKind, str] = {
    "resnet": "ResNet, batch norm",
    "groupnorm": "ResNet, group norm",
    "vit": "ViT, layer norm",
}
"""The networks, and what tables call them."""


def build_network(kind: NetworkKind, classes: int) -> torch.nn.Module:
    """Return a network with new weights, drawn from torch's global state.

    "resnet" and "groupnorm" are a stem of 5 x 5 at stride 2 and one basic block at stride 2 per
    further width (He et al. 2016, arXiv 1512.03385), the mean over the image, and a linear layer;
    "vit" is a vision transformer of torchvision on the 16 places that a stem of
    three convolutions leaves (Xiao et al. 2021, arXiv 2106.14881), without batch norm.

    Args:
        kind: what it normalizes with.
        classes: K.

    Returns:
        From ``(N, 3, 32, 32)`` floats to ``(N, K)`` logits.
    """
    from torch import nn

    if kind == "vit":
        return _build_transformer(classes)
    if kind == "groupnorm":
        return _build_residual(classes, lambda channels: nn.GroupNorm(GROUPS, channels))
    return _build_residual(classes, nn.BatchNorm2d)


def wrap_classifier(kind: NetworkKind, network: torch.nn.Module, classes: Classes) -> Classifier:
    """Return a network as what is measured."""
    return Classifier(network, PREPROCESS, classes, name=f"{kind}-{classes.title}")


def _build_transformer(classes: int) -> torch.nn.Module:
    try:
        from torchvision.models import VisionTransformer
        from torchvision.models.vision_transformer import ConvStemConfig
    except ImportError as error:
        raise MissingExtraError.of("torchvision", "torch") from error
    stem = [ConvStemConfig(width, 3, 2, norm_layer=None) for width in STEM]
    network: torch.nn.Module = VisionTransformer(
        image_size=SIDE, patch_size=2 ** len(STEM), num_layers=LAYERS, num_heads=HEADS,
        hidden_dim=WIDTH, mlp_dim=2 * WIDTH, num_classes=classes, conv_stem_configs=stem,
    )  # fmt: skip
    return network


def _build_residual(classes: int, norm: Callable[[int], torch.nn.Module]) -> torch.nn.Module:
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, channels: int, width: int) -> None:
            super().__init__()
            self.path = nn.Sequential(
                nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
                norm(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                norm(width),
            )
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=2, bias=False), norm(width)
            )

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.path(inputs) + self.shortcut(inputs))

    stem, *others = WIDTHS
    layers: list[nn.Module] = [nn.Conv2d(3, stem, 5, stride=2, padding=2), norm(stem), nn.ReLU()]
    layers += [Residual(a, b) for a, b in zip(WIDTHS, others, strict=False)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], classes)]
    return nn.Sequential(*layers)
