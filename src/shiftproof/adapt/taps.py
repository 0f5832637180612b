"""Where in a network the logits are over which an entropy is defined: one row per pixel or box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from shiftproof.errors import ModelError

Rows = list[torch.Tensor]
"""``(M, K)`` logits, of each image or of all together; softmax gives probabilities."""


@dataclass(frozen=True)
class Tap:
    """Where class logits are.

    Attributes:
        layer: the name of the module that gives them; "" is the network itself.
        read: takes what it gave and returns rows of logits.
        of: what a row is of, in words: "pixel".
    """

    layer: str
    read: Callable[[Any], Rows]
    of: str


# ---------------------------------------------------------------- segmentation


def tap_pixels() -> Tap:
    """Return where the logits of a network for segmentation are: what it returns."""
    return Tap("", read_pixel_logits, "pixel")


def read_pixel_logits(outputs: Any) -> Rows:
    """Return the logits of each image's pixels, ``(h w, K)``.

    Args:
        outputs: a tensor ``(N, K, h, w)``, or one in "out" or in ``.logits``; or ``(K, h, w)`` of each
            image. A tensor ``(N, K)`` has one row per image.

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


def tap_boxes(network: torch.nn.Module) -> Tap:
    """Return where a detector has logits of classes that exclude each other, the background among them.

    Torchvision's Faster R-CNN and its kin have them of each proposal, its SSD of each default box,
    DETR and its kin (transformers) of each query.

    Raises:
        ModelError: there are none, or each class is asked for by itself.
    """
    kind = type(network).__name__
    if isinstance(_find(network, "roi_heads.box_predictor"), torch.nn.Module):
        return Tap("roi_heads.box_predictor", lambda outputs: [outputs[0]], "proposal")
    if kind == "SSD" and _find(network, "head.classification_head") is not None:
        return Tap("head.classification_head", lambda outputs: list(outputs), "default box")
    if kind.startswith(("DetrFor", "YolosFor", "TableTransformerFor")):
        return Tap("", lambda outputs: list(outputs.logits), "query")
    raise ModelError(
        f"{kind}: the entropy of a detector is defined where classes exclude each other "
        "(torchvision's Faster R-CNN, Mask R-CNN, Keypoint R-CNN and SSD; DETR and YOLOS), and this "
        "one asks for each class by itself, or hides its logits: take actmad or batchnorm."
    )


def _find(network: torch.nn.Module, name: str) -> torch.nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None
