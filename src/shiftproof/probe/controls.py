"""Baselines for an encoder: raw pixels, and the same architecture with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast, final

import cv2
import numpy as np

from shiftproof.models import Encoder, EncoderLike, Preprocessing
from shiftproof.models.encoders.encoder import Vectors
from shiftproof.models.structure import copy_structure, is_torch_module
from shiftproof.types import Image, Images, Settings

if TYPE_CHECKING:
    import torch

CALIBRATED_ON = 64
"""Maximum number of images that set the batch-norm statistics of a random network, in one pass."""

SIDE = 16
"""Side of the downscaled image of the pixel control, in pixels."""


@final
class Pixels:
    """An encoder whose vectors are the pixels of the image, downscaled to ``SIDE`` x ``SIDE``.

    Args:
        preprocess: the preprocessing of the encoder that it is compared with.
    """

    name = "pixels"
    width = SIDE * SIDE * 3
    normalize = False

    def __init__(self, preprocess: Preprocessing) -> None:
        self.preprocess = preprocess

    @property
    def settings(self) -> Settings:
        """The settings that reproduce it."""
        return {
            "name": self.name,
            "fingerprint": "pixels",
            "width": self.width,
            "normalize": self.normalize,
            "side": SIDE,
            "preprocess": self.preprocess.settings(),
        }

    def encode(self, images: Images | Sequence[Image]) -> Vectors:
        """Return ``(N, width)`` float32 in 0..1: area means, RGB."""
        small = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
        rows = np.asarray(small, np.float32).reshape(len(images), self.width)
        return np.asarray(rows / np.float32(255))


def randomize_weights(
    encoder: EncoderLike, images: Sequence[Image], *, seed: int, name: str
) -> Encoder | None:
    """Return an encoder of the same architecture with random weights; None if that is not possible.

    Layers are reinitialized. The entries of parameters that no layer initializes (a class token,
    position embeddings) are shuffled. Batch-norm statistics are computed on ``images``: with 0 and
    1, a deep network would give nearly the same vector for every image.

    Only an :class:`~shiftproof.models.Encoder` around a torch module is supported.
    """
    module: Any = getattr(encoder, "module", None)
    if not isinstance(encoder, Encoder) or not is_torch_module(module):
        return None
    import torch

    randomized = copy_structure(cast("torch.nn.Module", module), share="nothing")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        _reinitialize(randomized)
    made = Encoder(
        randomized,
        encoder.preprocess,
        normalize=encoder.normalize,
        device=encoder.device,
        name=name,
    )
    _set_statistics(made, images)
    return made


def _reinitialize(module: torch.nn.Module) -> None:
    import torch

    drawn: set[int] = set()
    for part in module.modules():
        reset: Any = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
            drawn |= {id(parameter) for parameter in part.parameters(recurse=False)}
    for parameter in module.parameters():
        if id(parameter) not in drawn:
            flat = parameter.reshape(-1)
            order = torch.randperm(len(flat)).to(flat.device)
            parameter.copy_(flat[order].reshape(parameter.shape))


def _set_statistics(encoder: Encoder, images: Sequence[Image]) -> None:
    """Set every batch norm's mean and variance to those of the first of ``images``."""
    import torch

    norms = [
        part
        for part in cast("torch.nn.Module", encoder.module).modules()
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = 1.0, True
    try:
        encoder.encode(images[:CALIBRATED_ON])
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum, norm.training = momentum, False
