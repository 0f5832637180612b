"""Location of a dense model's class logits in its network: one row per pixel or box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from shiftproof.errors import ModelError

Rows = list[torch.Tensor]
"""``(M, K)`` logits, of each image or of all together; softmax gives probabilities."""


@dataclass(frozen=True)
class DenseLogits:
    """Where class logits are.

    Attributes:
        layer: the name of the module that returns them; "" is the network itself.
        read: from this module's outputs to rows of logits.
        unit: what a row is for: "pixel".
    """

    layer: str
    read: Callable[[Any], Rows]
    unit: str


# ---------------------------------------------------------------- segmentation


def find_pixel_logits() -> DenseLogits:
    """Return where the logits of a segmentation network are: in its outputs."""
    return DenseLogits("", read_pixel_logits, "pixel")


def read_pixel_logits(outputs: Any) -> Rows:
    """Return the logits of each image's pixels, ``(h w, K)``.

    Args:
        outputs: a tensor ``(N, K, h, w)``, or one in "out" or in ``.logits``; or ``(K, h, w)`` of
            each image. A tensor ``(N, K)`` has one row per image.

    Raises:
        ModelError: there are none.
    """
    found = outputs
    if isinstance(outputs, dict) and "out" in outputs:
        found = outputs["out"]
    elif hasattr(outputs, "logits"):
        found = outputs.logits
    rows = list(found) if isinstance(found, (torch.Tensor, list, tuple)) else []
    if not rows or not all(_is_logits(one) for one in rows):
        raise ModelError(
            "Expected logits (N, K, H, W), as a tensor, in 'out' or in .logits, or (K, H, W) of each "
            "image: label maps and other outputs have no gradient to learn from."
        )
    return [one.flatten(1).T if one.ndim > 1 else one[None] for one in rows]


def _is_logits(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim in (1, 3)


# ---------------------------------------------------------------- detection


def find_box_logits(network: torch.nn.Module) -> DenseLogits:
    """Return where a detector has logits of mutually exclusive classes, including the background.

    Torchvision's R-CNNs have them for each proposal, its SSD for each default box, DETR and similar
    models (transformers) for each query.

    Raises:
        ModelError: there are none, or the classes are independent.
    """
    kind = type(network).__name__
    if isinstance(_find(network, "roi_heads.box_predictor"), torch.nn.Module):
        return DenseLogits("roi_heads.box_predictor", lambda outputs: [outputs[0]], "proposal")
    if kind == "SSD" and _find(network, "head.classification_head") is not None:
        return DenseLogits("head.classification_head", lambda outputs: list(outputs), "default box")
    if kind.startswith(("DetrFor", "YolosFor", "TableTransformerFor")):
        return DenseLogits("", lambda outputs: list(outputs.logits), "query")
    raise ModelError(
        f"{kind}: the entropy of a detector is defined for mutually exclusive classes "
        "(torchvision's Faster R-CNN, Mask R-CNN, Keypoint R-CNN and SSD; DETR and YOLOS), and this "
        "one has independent classes, or does not show its logits: take actmad or batchnorm."
    )


def _find(network: torch.nn.Module, name: str) -> torch.nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None
