"""Small networks with different norm layers, for color images of 32 x 32 pixels."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal, TypeAlias

from shiftproof import Classes, Classifier
from shiftproof.errors import MissingExtraError
from shiftproof.models import Preprocess
from shiftproof_reproduce.network import build_residual

if TYPE_CHECKING:
    import torch

NetworkKind: TypeAlias = Literal["resnet", "groupnorm", "vit"]

SIDE = 32
"""Height and width of the images in pixels."""

WIDTHS = (24, 48, 96)
"""Channels of the stem and of the residual blocks."""

GROUPS = 8
"""Number of groups of the group norm."""

STEM = (24, 48, 64)
"""Channels of the transformer's stem: three 3 x 3 convolutions with stride 2."""

WIDTH, LAYERS, HEADS = 64, 3, 4
"""Size of the transformer."""

PREPROCESS = Preprocess((SIDE, SIDE), None, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
"""Preprocessing of all networks, not specific to a dataset."""

TITLES: dict[NetworkKind, str] = {
    "resnet": "ResNet, batch norm",
    "groupnorm": "ResNet, group norm",
    "vit": "ViT, layer norm",
}
"""Titles of the networks in tables."""


def build_network(kind: NetworkKind, classes: int) -> torch.nn.Module:
    """Return a network with new weights, drawn from torch's global state.

    "resnet" and "groupnorm" have a 5 x 5 stem with stride 2, a basic block with stride 2 per
    further width (He et al. 2016, arXiv 1512.03385), global average pooling and a linear layer;
    "vit" is torchvision's vision transformer on the 16 positions of a stem of three convolutions
    (Xiao et al. 2021, arXiv 2106.14881), without batch norm. From ``(N, 3, 32, 32)`` floats to
    ``(N, classes)`` logits.
    """
    from torch import nn

    build = functools.partial(
        build_residual, WIDTHS, classes, channels=len(PREPROCESS.mean), biased_stem=True
    )
    if kind == "vit":
        return _build_transformer(classes)
    if kind == "groupnorm":
        return build(lambda width: nn.GroupNorm(GROUPS, width))
    return build(nn.BatchNorm2d)


def wrap_classifier(kind: NetworkKind, network: torch.nn.Module, classes: Classes) -> Classifier:
    """Wrap a network as a classifier."""
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
