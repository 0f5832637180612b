"""EATA: entropy of reliable, non-redundant predictions (Niu et al. 2022, arXiv 2204.02610)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, final

import numpy as np
import torch

from shiftproof.adapt.base.options import check_number
from shiftproof.adapt.learning.learning_network import AffineAdapter, Pass
from shiftproof.adapt.learning.losses import entropy
from shiftproof.adapt.learning.sample_weights import (
    entropy_margin,
    similarity_to,
    update_mean,
    weigh_entropies,
)
from shiftproof.adapt.normalization.layer_choice import LayerChoice
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.errors import InputError
from shiftproof.io import fingerprint
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Images, Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

CLASSES = ((10, 0.4), (1000, 0.05))
"""Numbers of classes, and the published maximum similarity of a new prediction: CIFAR-10 and
ImageNet.
"""


def default_similarity(classes: int) -> float:
    """Return the maximum similarity of a new prediction: a power of K through the published two.

    The mean over many classes is flatter, and every prediction further from it.
    """
    (few, of_few), (many, of_many) = CLASSES
    power = math.log(of_many / of_few) / math.log(many / few)
    return float(of_few * (max(classes, 1) / few) ** power) if classes > few else of_few


@final
class EATA(AffineAdapter):
    """A classifier that minimizes the entropy of reliable and non-redundant predictions.

    It learns from the images of a batch whose entropy is below ``margin`` log K, and whose
    distribution has a cosine below ``similarity`` with the moving average of earlier ones (Niu et
    al. 2022, arXiv 2204.02610, eq. 3 to 6): one step minimizes their mean entropy, weighted by
    ``exp(E0 - H)``.

    With ``source``, batches of images like those of the training set, the loss has a Fisher
    regularizer: ``fisher`` times the sum of ``F (p - p_0)^2`` (eq. 8), where the importance F is
    the mean over the batches of the squared gradient of the cross-entropy to the model's own
    predictions (eq. 9). **Without them it is ETA**, as the paper calls it, and may forget the
    source on long streams; ``settings`` says which it is. On the command line it is ETA.

    Differs from the paper: the statistics follow a measured prior; ``prior=0`` is the paper's.
    Between 10 and 1,000 classes ``similarity`` lies between the published two.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module`` that gives logits.
        source: batches of unlabeled images, as ``predict`` or the call takes them.
        fisher: weight of the Fisher regularizer towards the source, 0 or more.
        margin: share of log K, from 0 to 1.
        similarity: from 0 to 1; ``"auto"`` is 0.4 for 10 classes and 0.05 for 1,000.
        lr: ``"auto"`` is 0.00025 at a batch of 64, in proportion to the batch.
        momentum: of the SGD, from 0 to below 1.
        layers: which norm layers learn.
        prior: as in ``BatchNorm``.

    Raises:
        InputError: an option is out of its range.
        ModelError: as for ``SelfLearning``.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 3))
    >>> EATA(net, margin=1.0)(torch.rand(8, 3, 2, 2)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        source: Sequence[Images | torch.Tensor] = (),
        fisher: float = 2000.0,
        margin: float = 0.4,
        similarity: float | Literal["auto"] = "auto",
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.9,
        layers: LayerChoice = "all",
        prior: Prior = "auto",
    ) -> None:
        self.fisher = check_number("fisher", fisher, 0, math.inf, below=True)
        self.margin = check_number("margin", margin, 0, 1)
        self.similarity: float | Literal["auto"] = (
            "auto" if similarity == "auto" else check_number("similarity", similarity, 0, 1)
        )
        self._begin(model, lr=lr, momentum=momentum, layers=layers, prior=prior)
        self._source: list[bytes] = []
        self._importance = self._measure_importance(source)

    def __repr__(self) -> str:
        return f"EATA({'with' if self._importance else 'without'} Fisher, {self._learner.size} parameters)"

    def _own_settings(self) -> Settings:
        return {
            "adapter": "eata",
            "method": "EATA" if self._importance else "ETA",
            "fisher": self.fisher if self._importance else None,
            # Of the images: the last bits of the importance depend on machine and threads.
            "importance": fingerprint(self._source) if self._importance else None,
            "margin": self.margin,
            "similarity": self.similarity,
        }

    def _list_memory_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        return {"mean": (self._classes,)}

    def _measure_importance(self, source: Sequence[Images | torch.Tensor]) -> State:
        """Return the Fisher information of each parameter over batches like the source's."""
        sums: dict[str, torch.Tensor] = {}
        for batch in source:
            for name, gradient in self._differentiate_answers(batch).items():
                sums[name] = sums.get(name, torch.zeros_like(gradient)) + gradient.square()
        return {name: value / len(source) for name, value in sums.items()}

    def _differentiate_answers(self, batch: Images | torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the gradients of the cross-entropy with the model's own predictions."""
        found: dict[str, torch.Tensor] = {}

        def measure(outputs: torch.Tensor) -> torch.Tensor:
            logits = self._network.select_classes(outputs)
            return torch.nn.functional.cross_entropy(logits.float(), logits.detach().argmax(1))

        def step(inputs: torch.Tensor) -> torch.Tensor:
            result = self._learner.differentiate(inputs, measure)
            if result.gradients is None or not result.is_finite:
                raise InputError("source: a batch gives answers that are not finite.")
            self._source.append(_fingerprint(inputs))
            named = zip(self._learner.parameters, result.gradients, strict=True)
            found.update({name: g for name, g in named if g is not None})
            return result.logits

        if isinstance(batch, np.ndarray):
            self._network.predict(batch, step)
        else:
            self._network.call(batch, step)
        return found

    def _learn(self, inputs: torch.Tensor) -> Pass:
        mean = self._memory.get("mean")
        rows: list[torch.Tensor] = []

        def measure(outputs: torch.Tensor) -> torch.Tensor | None:
            logits = self._network.select_classes(outputs)
            entropies, probabilities = entropy(logits), torch.softmax(logits.detach().float(), 1)
            margin = entropy_margin(self.margin, logits.shape[1])
            kept = entropies.detach() < margin
            if mean is not None:
                most = self.similarity
                most = default_similarity(logits.shape[1]) if most == "auto" else most
                kept &= similarity_to(mean, probabilities).abs() < most
            rows.append(probabilities[kept])
            if not bool(kept.any()):
                return None
            chosen = entropies[kept]
            return (chosen * weigh_entropies(chosen, margin)).mean() + self._fisher_penalty()

        result = self._learner.differentiate(inputs, measure)
        if result.gradients is not None and result.is_finite:
            self._learner.step(result.gradients, len(inputs))
            if len(rows[0]):
                self._memory = {"mean": update_mean(mean, rows[0])}
        return result

    def _fisher_penalty(self) -> torch.Tensor | float:
        """Return the Fisher regularizer, 0 without source images."""
        parts = [
            (
                importance * (self._learner.parameters[name] - self._learner.first[name]).square()
            ).sum()
            for name, importance in self._importance.items()
        ]
        return self.fisher * torch.stack(parts).sum() if parts else 0.0


def _fingerprint(inputs: torch.Tensor) -> bytes:
    values = inputs.detach().float().cpu().contiguous()
    return fingerprint([values.numpy().tobytes()]).encode()
