"""SAR: sharpness-aware entropy of reliable answers (Niu et al. 2023, arXiv 2302.12400)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, final

import torch

from shiftproof.adapt.base.options import check_number
from shiftproof.adapt.learning.learning_network import AffineAdapter, Gradients, Pass
from shiftproof.adapt.learning.losses import entropy
from shiftproof.adapt.learning.sample_weights import MOMENTUM, entropy_margin
from shiftproof.adapt.normalization.layer_choice import LayerChoice
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

RECOVERY = 0.2 / math.log(1000)
"""Share of log K of the published entropy of 0.2 nats, which is for ImageNet's 1,000 classes."""


@final
class SAR(AffineAdapter):
    """A classifier adapted by sharpness-aware minimization of the entropy of reliable answers.

    Images with an entropy below ``margin`` log K are used. The gradient of their mean entropy
    perturbs the parameters by ``rho`` in its direction; the gradient of the mean entropy at the
    perturbed parameters, over the images still below the margin, updates the original ones (Niu et
    al. 2023, arXiv 2302.12400, eq. 2 to 5). If the moving average of the second entropy falls below
    ``recovery`` log K, the answers have collapsed: the adapter is reset to the source, and an event
    is recorded.

    The published code excludes the last layers of each architecture by name; here
    ``layers="first-75%"`` does so for any. It is designed for small batches, mixed shifts and
    networks with layer or group norm, and takes two forward and two backward passes.

    Differs from the paper: the prior of the statistics is measured, ``prior=0`` is the paper's; and
    ``recovery`` is relative to log K, equal to the published 0.2 nats for 1,000 classes.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module`` that returns logits.
        margin: share of log K, from 0 to 1.
        rho: length of the perturbation, 0 or more.
        recovery: share of log K, from 0 (never) to 1.
        lr: ``"auto"`` is 0.00025 at a batch size of 64, in proportion to the batch size.
        momentum: momentum of SGD, from 0 to below 1.
        layers: the norm layers that are adapted.
        prior: as in ``BatchNorm``.

    Raises:
        InputError: an option is out of its range.
        ModelError: as for ``SelfLearning``.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 3))
    >>> SAR(net, margin=1.0)(torch.rand(8, 3, 2, 2)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        margin: float = 0.4,
        rho: float = 0.05,
        recovery: float = RECOVERY,
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.9,
        layers: LayerChoice = "first-75%",
        prior: Prior = "auto",
    ) -> None:
        self.margin = check_number("margin", margin, 0, 1)
        self.rho = check_number("rho", rho, 0, math.inf, below=True)
        self.recovery = check_number("recovery", recovery, 0, 1)
        self._begin(model, lr=lr, momentum=momentum, layers=layers, prior=prior)

    def __repr__(self) -> str:
        return f"SAR(rho={self.rho}, {self._learner.size} parameters)"

    def _own_settings(self) -> Settings:
        return {
            "adapter": "sar",
            "margin": self.margin,
            "rho": self.rho,
            "recovery": self.recovery,
        }

    def _list_memory_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        return {"entropy": ()}

    def _learn(self, inputs: torch.Tensor) -> Pass:
        reliable: list[torch.Tensor] = []
        low: list[torch.Tensor] = []
        classes = 0

        def measure(outputs: torch.Tensor) -> torch.Tensor | None:
            nonlocal classes
            logits = self._network.select_classes(outputs)
            classes = logits.shape[1]
            entropies = entropy(logits)
            kept = entropies.detach() < entropy_margin(self.margin, classes)
            # In the second pass only images selected in the first one are used.
            kept = kept & reliable[0] if reliable else kept
            if not bool(kept.any()):
                return None
            loss = entropies[kept].mean()
            if reliable:
                low.append(loss.detach())
            else:
                reliable.append(kept)
            return loss

        first = self._learner.differentiate(inputs, measure)
        if not first.is_finite or not first.gradients:
            return first
        with self._perturb(first.gradients):
            second = self._learner.differentiate(inputs, measure)
        if second.gradients is None or not second.is_finite:
            return Pass(first.logits, first.observed, None)
        self._learner.step(second.gradients, len(inputs))
        if low:
            self._recover(low[0], entropy_margin(self.recovery, classes))
        return first

    @contextmanager
    def _perturb(self, gradients: Gradients) -> Iterator[None]:
        """Perturb the parameters by ``rho`` along a gradient within the context."""
        parameters = list(self._learner.parameters.values())
        kept = [parameter.detach().clone() for parameter in parameters]
        norm = torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.add_(gradient * (self.rho / (norm + 1e-12)))
        try:
            yield
        finally:
            self._learner.set_parameters(kept)

    def _recover(self, value: torch.Tensor, least: float) -> None:
        """Update the average entropy, and reset to the source if it is too low."""
        mean = self._memory.get("entropy")
        value = value.float()
        mean = value if mean is None else MOMENTUM * mean + (1 - MOMENTUM) * value
        self._memory = {"entropy": mean}
        if float(mean) < least:
            self._learner.reset()
            self._memory = {}
            self._events.add(
                "reset",
                self._batches,
                f"The mean entropy of the answers fell to {float(mean):.3f}, below {least:.3f}.",
            )
