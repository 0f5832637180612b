"""ROID: weighted likelihood ratios and averaging with the source (Marsden et al. 2024, arXiv
2306.00650).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, final

import torch

from shiftproof.adapt.base.options import check_number
from shiftproof.adapt.learning.learning_network import AffineAdapter, Gradients, Pass
from shiftproof.adapt.learning.losses import entropy
from shiftproof.adapt.learning.sample_weights import similarity_to, update_mean
from shiftproof.adapt.normalization.layer_choice import LayerChoice
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.errors import InputError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.rng import generator
from shiftproof.types import Settings

MAX_PROBABILITY = 0.99
"""Probability above which the likelihood ratio has no gradient."""

TEMPERATURE = 1 / 3
"""Temperature of the image weights."""

EPSILON = 1e-5
"""Added to a likelihood ratio within its logarithm."""


def soft_likelihood_ratio(logits: torch.Tensor) -> torch.Tensor:
    """Return ``-sum_j p_j log(p_j / (1 - p_j))`` (Marsden et al. 2024, eq. 2), ``(N,)``.

    Unlike that of the entropy, its gradient does not vanish for confident predictions;
    probabilities are clipped at ``MAX_PROBABILITY``.
    """
    p = torch.softmax(logits.float(), 1).clamp(max=MAX_PROBABILITY)
    return -(p * torch.log(p / (1 - p) + EPSILON)).sum(1)


def weigh_answers(logits: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the weight of each image: larger for confident predictions unlike the mean one.

    Confidence and diversity are scaled to 0 to 1 over the batch, and the weight is an exponential
    of their product; images of less than the average diversity have the weight 0 (Marsden et al.
    2024, section 4.2). If all predictions are equal, as for a single image, all weights are 1.

    Args:
        logits: ``(N, K)``; no gradient goes there.
        mean: ``(K,)``, the moving average of the predicted distributions.
    """
    logits = logits.detach().float()
    novelty = 1 - similarity_to(mean, torch.softmax(logits, 1))
    if float(novelty.max() - novelty.min()) == 0:
        return torch.ones_like(novelty)
    novelty = _scale(novelty)
    weights = torch.exp(novelty * _scale(-entropy(logits)) / TEMPERATURE)
    return weights * (novelty >= novelty.mean())


def _scale(values: torch.Tensor) -> torch.Tensor:
    span = values.max() - values.min()
    return (values - values.min()) / span if float(span) > 0 else torch.ones_like(values)


def symmetric_cross_entropy(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the mean of both cross-entropies between two ``(N, K)`` logits, ``(N,)``."""
    one, other = first.float().log_softmax(1), second.float().log_softmax(1)
    return -0.5 * ((other.exp() * one).sum(1) + (one.exp() * other).sum(1))


MIN_CORRECTED_IMAGES = 16
"""Batch size from which on ``correction="auto"`` corrects the predictions by their mean. In batches
of 4 clean images of mixed classes the correction raised the error by 1.6 points
(``benchmarks/batch_sizes.py``).
"""


def _choose_correction(
    correction: bool | Literal["auto"],
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if correction == "auto":
        return _correct_if_enough
    if not isinstance(correction, bool):
        raise InputError(f"correction: expected True, False or 'auto', got {correction!r}.")
    return correct_prior if correction else None


def _correct_if_enough(logits: torch.Tensor) -> torch.Tensor:
    return correct_prior(logits) if len(logits) >= MIN_CORRECTED_IMAGES else logits


def correct_prior(logits: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities plus the log of the batch's smoothed mean prediction, not
    normalized.

    ``(p + s) / (1 + s K)`` with the mean p and ``s = max(1 / N, 1 / K) / max p`` (Marsden et al.
    2024, section 4.4): the fewer images, the less it changes.
    """
    log_p = logits.float().log_softmax(1)
    sound = torch.isfinite(logits.float().logsumexp(1))
    if not bool(sound.any()):
        return log_p
    mean = log_p[sound].exp().mean(0)
    smooth = max(1 / logits.shape[0], 1 / logits.shape[1]) / mean.max()
    return log_p + torch.log((mean + smooth) / (1 + smooth * logits.shape[1]))


@final
class ROID(AffineAdapter):
    """A classifier that learns by likelihood ratios, and is averaged with the source at each step.

    One step minimizes the batch's soft likelihood ratio, weighted by the confidence and diversity
    of each prediction, plus the symmetric cross-entropy between the predictions for the images and
    for the same images mirrored and shifted. Then each parameter becomes ``keep`` times itself plus
    ``1 - keep`` times its initial value, which prevents drift on long, changing streams. The
    probabilities are multiplied by the smoothed mean prediction of the batch, which helps for
    imbalanced classes (Marsden et al. 2024, arXiv 2306.00650). Three forward and two backward
    passes; one of each with ``consistency=False``.

    Differs from the published code: the images are mirrored and shifted by up to a sixteenth of
    their sides, without color changes; all are, so that the batch's statistics do not depend on the
    weights; the correction multiplies probabilities, not logits, and is off for small batches
    (``correction=True`` is the paper's); and the statistics follow a measured prior, ``prior=0`` is
    the paper's.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module`` that gives logits.
        keep: weight of the learned parameters in the average with the source, from 0 to 1.
        consistency: whether the loss includes the consistency with augmented images. Inputs that
            are not images are not augmented.
        correction: whether the predictions are corrected by the batch's mean. ``"auto"`` does so in
            batches of 16 images and more: the mean of fewer is a poor estimate of the class
            frequencies.
        lr: ``"auto"`` is 0.00025 at a batch of 64, in proportion to the batch.
        momentum: of the SGD, from 0 to below 1.
        layers: which norm layers learn.
        prior: as in ``BatchNorm``.

    Raises:
        InputError: an option is out of its range.
        ModelError: as for ``SelfLearning``.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 3))
    >>> ROID(net)(torch.rand(8, 3, 2, 2)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        keep: float = 0.99,
        consistency: bool = True,
        correction: bool | Literal["auto"] = "auto",
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.9,
        layers: LayerChoice = "all",
        prior: Prior = "auto",
    ) -> None:
        self.keep = check_number("keep", keep, 0, 1)
        self.consistency = consistency
        self.correction = correction
        self._correct = _choose_correction(correction)
        self._begin(model, lr=lr, momentum=momentum, layers=layers, prior=prior)

    def __repr__(self) -> str:
        return f"ROID(keep={self.keep}, {self._learner.size} parameters)"

    def _own_settings(self) -> Settings:
        return {
            "adapter": "roid",
            "keep": self.keep,
            "consistency": self.consistency,
            "correction": self.correction,
        }

    def _list_memory_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        return {"mean": (self._classes,), "batches": ()}

    def _learn(self, inputs: torch.Tensor) -> Pass:
        number = int(self._memory.get("batches", 0))
        augmented = self._augment(inputs, number) if self.consistency else None
        answers = None if augmented is None else self._learner.forward.answer(augmented)
        student_logits: list[torch.Tensor] = []

        def measure(outputs: torch.Tensor) -> torch.Tensor:
            logits = self._network.select_classes(outputs)
            student_logits.append(logits.detach())
            losses = soft_likelihood_ratio(logits)
            if answers is not None:
                losses = losses + symmetric_cross_entropy(answers, logits)
            return (losses * self._weigh(student_logits[0])).mean()

        def measure_augmented(outputs: torch.Tensor) -> torch.Tensor:
            logits = self._network.select_classes(outputs)
            return (
                symmetric_cross_entropy(logits, student_logits[0]) * self._weigh(student_logits[0])
            ).mean()

        result = self._learner.differentiate(inputs, measure)
        if augmented is not None and result.is_finite:
            other = self._learner.differentiate(augmented, measure_augmented)
            if other.gradients is None or not other.is_finite:
                result = result._replace(gradients=None)
            else:
                result = result._replace(gradients=_add(result.gradients or [], other.gradients))
        if result.gradients is not None and result.is_finite:
            self._learner.step(result.gradients, len(inputs))
            self._pull_to_source()
            answered = torch.softmax(student_logits[0].float(), 1)
            mean = update_mean(self._mean(student_logits[0]), answered)
            self._memory = {"mean": mean, "batches": torch.tensor(float(number + 1))}
        return result

    def _mean(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the mean prediction so far; at first uniform."""
        classes = logits.shape[1]
        return self._memory.get("mean", logits.new_full((classes,), 1 / classes).float())

    def _weigh(self, logits: torch.Tensor) -> torch.Tensor:
        return weigh_answers(logits, self._mean(logits))

    def _pull_to_source(self) -> None:
        """Average the parameters with their initial values."""
        first = self._learner.first
        with torch.no_grad():
            for name, parameter in self._learner.parameters.items():
                parameter.mul_(self.keep).add_(first[name], alpha=1 - self.keep)

    def _augment(self, inputs: torch.Tensor, number: int) -> torch.Tensor | None:
        """Return images randomly mirrored and shifted by up to a sixteenth of their sides."""
        if inputs.ndim != 4:
            return None
        random = generator(0, "roid", str(number))
        reach = [side // 16 for side in inputs.shape[2:]]
        padded = torch.nn.functional.pad(
            inputs, (reach[1], reach[1], reach[0], reach[0]), mode="reflect"
        )
        height, width = inputs.shape[2:]
        augmented = []
        for image in padded:
            top, left = (int(random.integers(0, 2 * span + 1)) for span in reach)
            image = image[:, top : top + height, left : left + width]
            augmented.append(image.flip(2) if random.random() < 0.5 else image)
        return torch.stack(augmented)


def _add(first: Gradients, second: Gradients) -> list[torch.Tensor | None]:
    """Return the sum of the gradients of each parameter; None if neither pass has one."""
    if not first or not second:
        return list(first or second)
    return [
        other if one is None else one if other is None else one + other
        for one, other in zip(first, second, strict=True)
    ]
