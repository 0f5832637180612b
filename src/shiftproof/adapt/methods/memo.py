"""MEMO: minimizes the marginal entropy over augmentations of one image (Zhang et al. 2022)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Literal, final

import numpy as np
import torch

from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import EpisodicAdapter
from shiftproof.adapt.base.options import check_count, check_rate
from shiftproof.adapt.learning.augmix import CROPS, Crop, augment_by_mixing
from shiftproof.adapt.learning.losses import marginal_entropy
from shiftproof.adapt.learning.parameters import all_parameters
from shiftproof.adapt.learning.pixels import PixelSpace
from shiftproof.adapt.learning.steps import GradientSteps
from shiftproof.adapt.normalization.passes import HookedNetwork, use_batch
from shiftproof.adapt.normalization.priors import check_numeric_prior
from shiftproof.errors import UnknownNameError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.rng import generator
from shiftproof.types import Image, Settings

Optimizer = Literal["sgd", "adamw"]
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adamw")


@final
class MEMO(EpisodicAdapter):
    """Adapts to each image alone, by augmentations of it, and resets after each.

    Zhang et al. 2022 (arXiv 2110.09506): all weights take ``steps`` steps on the entropy of the
    mean prediction over ``augmentations`` augmentations of one image, so that the predictions
    become consistent and confident; the image is predicted; and the weights are reset to the
    source. So a prediction depends neither on the order of the images nor on their batches.

    Cost: for each image ``steps`` times ``augmentations`` forward and backward passes, and one more
        forward pass: 65 forward and 64 backward as published.

    Batch norm normalizes by the source's statistics mixed with those of the augmentations, or of
    the image when it is predicted: ``N / (N + 1)`` and ``1 / (N + 1)``, constants to the gradient.

    The augmentations are AugMix on a random crop (:mod:`shiftproof.adapt.learning.augmix`). They are
    functions of the seed and of the image's pixels. A step that is not finite is skipped; an event
    says so, and the source predicts.

    Differs from the published code: it crops the network's input, after ``preprocess.geometry``,
    not the loaded image; floating images are rounded to 8 bits for the augmentations; the batch's
    variance is the biased one.

    Args:
        model: a ``Classifier`` on torch, whose ``Preprocess`` tells how to undo the normalization.
        lr: learning rate. Published: 2.5e-4 for ResNets on ImageNet and 0.005 on CIFAR-10, with
            SGD; 1e-5 with AdamW for RVT and ResNeXt-101.
        optimizer: ``"sgd"`` without momentum, or ``"adamw"`` with weight decay 0.01.
        augmentations: 1 or more; published 64 on ImageNet, 32 on CIFAR-10.
        steps: per image, 1 or more.
        crop: ``"resized"`` (ImageNet), or ``"padded"`` (CIFAR), as in ``augmix.CROPS``.
        prior: N, 0 or more; infinity keeps the source's statistics.
        seed: of the augmentations.

    Raises:
        InputError: an option is out of its range.
        UnknownNameError: no such optimizer or crop.
        ModelError: the preprocessing is unknown (a plain module, or a function), the weights are of
            half precision, the graph is fixed (ONNX, TorchScript, compiled), the model cannot be
            copied, or hooks cannot control its batch norm.

    >>> from shiftproof.models import load_classifier
    >>> MEMO(load_classifier("demo"), augmentations=8)
    MEMO(lr=0.00025, 8 augmentations)
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        lr: float = 2.5e-4,
        optimizer: Optimizer = "sgd",
        augmentations: int = 64,
        steps: int = 1,
        crop: Crop = "resized",
        prior: float = 16,
        seed: int = 0,
    ) -> None:
        if optimizer not in OPTIMIZERS:
            raise UnknownNameError.of("optimizer", str(optimizer), OPTIMIZERS)
        if crop not in CROPS:
            raise UnknownNameError.of("crop", str(crop), CROPS)
        self.lr = check_rate(lr)
        self.optimizer: Optimizer = optimizer
        self.augmentations = check_count("augmentations", augmentations)
        self.steps = check_count("steps", steps)
        self.crop: Crop = crop
        self.prior = check_numeric_prior(prior)
        self.seed = check_count("seed", seed, minimum=0)
        self._network = AdaptedNetwork(model)
        self._pixels = PixelSpace(self._network.classifier.preprocess, "MEMO")
        self._hooked = HookedNetwork(self._network)
        names = list(all_parameters(self._network.module))
        self._steps = GradientSteps(self._network.own(names), optimizer, self.lr)
        self.reset()

    def __repr__(self) -> str:
        return f"MEMO(lr={self.lr}, {self.augmentations} augmentations)"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "memo",
            "lr": self.lr,
            "optimizer": self.optimizer,
            "augmentations": self.augmentations,
            "steps": self.steps,
            "crop": self.crop,
            "prior": "inf" if self.prior == math.inf else self.prior,
            "seed": self.seed,
            "values": sum(p.numel() for p in self._steps.parameters.values()),
            **self._network.settings(),
        }

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the learned parameters, which equal the source's between images."""
        return iter(self._steps.parameters.values())

    # ------------------------------------------------------------ one batch

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([self._answer(image[None]) for image in inputs])
        self._count_batch()
        return logits

    def _answer(self, image: torch.Tensor) -> torch.Tensor:
        """Adapt the weights to one image ``(1, C, H, W)``, return its logits, and reset the
        weights.
        """
        alone = use_batch(self.prior, 1, count=1)
        try:
            if self._learn(image):
                logits, observed = self._hooked.predict(image, alone)
                if observed.is_finite and bool(torch.isfinite(logits.float().logsumexp(-1)).all()):
                    return logits
        finally:
            self._steps.restore(self._steps.first)
        self._skip(
            "The loss, its gradient or an image's statistics were not finite; the source "
            "answered for that image."
        )
        return self._network.forward(image)

    def _learn(self, image: torch.Tensor) -> bool:
        """Take the steps for one image; False if one of them is not finite."""
        if not bool(torch.isfinite(image).all()):
            return False
        pixels = self._pixels.to_pixels(image)[0].permute(1, 2, 0).cpu().numpy()
        pixels = np.rint(pixels * 255).astype(np.uint8)
        for step in range(self.steps):
            augmented = self._augment(pixels, step).to(image)
            choose = use_batch(self.prior, self.augmentations, count=1)
            with torch.enable_grad(), self._hooked.run(augmented, choose) as (logits, observed):
                if not observed.is_finite or not self._steps.take(marginal_entropy(logits)):
                    return False
        return True

    def _augment(self, pixels: Image, step: int) -> torch.Tensor:
        """Return augmentations of an image ``(H, W, 3)`` as inputs of the network."""
        key = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
        size = "x".join(map(str, pixels.shape))
        images = [
            augment_by_mixing(
                pixels, generator(self.seed, "memo", size, key, str(step), str(number)), self.crop
            )
            for number in range(self.augmentations)
        ]
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return self._pixels.to_inputs(batch)
