"""What an encoder is held against: the pixels, and its own architecture knowing nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast, final

import cv2
import numpy as np

from shiftproof.models import Encoder, EncoderLike, Preprocessing
from shiftproof.models.encoders.encoder import Vectors
from shiftproof.models.structure import is_torch_module, structural_copy
from shiftproof.types import Image, Images, Settings

if TYPE_CHECKING:
    import torch

CALIBRATED_ON = 64
"""Images at most that set the statistics of a random network: in one pass, so that it fits memory."""

SIDE = 16
"""Pixels of the small image whose values are the pixel control."""


@final
class Pixels:
    """The values of the image, shrunk to ``SIDE`` x ``SIDE`` pixels, as an encoder.

    Args:
        preprocess: what brings an image into its form; that of the encoder it stands beside.
    """

    name = "pixels"
    width = SIDE * SIDE * 3
    normalize = False

    def __init__(self, preprocess: Preprocessing) -> None:
        self.preprocess = preprocess

    @property
    def settings(self) -> Settings:
        """What reproduces it."""
        return {
            "name": self.name,
            "fingerprint": "pixels",
            "width": self.width,
            "normalize": self.normalize,
            "side": SIDE,
            "preprocess": self.preprocess.settings(),
        }

    def encode(self, images: Images | Sequence[Image]) -> Vectors:
        """Return ``(N, width)`` float32 in 0..1: means over areas, RGB."""
        small = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
        rows = np.asarray(small, np.float32).reshape(len(images), self.width)
        return np.asarray(rows / np.float32(255))


def random_twin(
    encoder: EncoderLike, images: Sequence[Image], *, seed: int, name: str
) -> Encoder | None:
    """Return an encoder of the same architecture with random weights; None where there is none.

    Layers draw their weights as they do when they are made. A parameter that no layer draws (a class
    token, position embeddings) has its entries shuffled. The statistics of batch norm are those of
    ``images``: left at 0 and 1, a deep network would give nearly the same for every image.

    Args:
        encoder: only an :class:`~shiftproof.models.Encoder` around a torch module has a twin.
        images: through the encoder's ``preprocess.geometry``; not changed.
        seed: of the weights.
        name: of the twin.
    """
    module: Any = getattr(encoder, "module", None)
    if not isinstance(encoder, Encoder) or not is_torch_module(module):
        return None
    import torch

    twin = structural_copy(cast("torch.nn.Module", module), share="nothing")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        _redraw(twin)
    made = Encoder(
        twin, encoder.preprocess, normalize=encoder.normalize, device=encoder.device, name=name
    )
    _set_statistics(made, images)
    return made


def _redraw(module: torch.nn.Module) -> None:
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
    """Give every batch norm the mean and variance that the first of ``images`` have there."""
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
