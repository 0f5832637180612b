"""ROID: weighted likelihood ratios, held near the source (Marsden et al. 2024, arXiv 2306.00650)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, final

import torch

from shiftproof.adapt.checks import check_range
from shiftproof.adapt.filters import similarity_to, update_mean
from shiftproof.adapt.learning import Gradients, LearningAdapter, Pass
from shiftproof.adapt.losses import entropy
from shiftproof.adapt.norms import LayerChoice
from shiftproof.adapt.shares import Prior
from shiftproof.errors import InputError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.rng import generator
from shiftproof.types import Settings

LARGEST = 0.99
"""Probability above which the likelihood ratio has no gradient."""

TEMPERATURE = 1 / 3
"""Of the weights."""

SMALLEST = 1e-5
"""Added to a likelihood ratio within its logarithm."""


def soft_likelihood_ratio(logits: torch.Tensor) -> torch.Tensor:
    """Return ``-sum_j p_j log(p_j / (1 - p_j))`` (Marsden et al. 2024, eq. 2), ``(N,)``.

    Its gradient does not die where an answer is sure, as that of the entropy does; beyond a
    probability of ``LARGEST`` it is cut off.
    """
    p = torch.softmax(logits.float(), 1).clamp(max=LARGEST)
    return -(p * torch.log(p / (1 - p) + SMALLEST)).sum(1)


def weigh_answers(logits: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the weight of each image: more for the sure, and for those unlike the mean answer.

    Both are scaled to 0 to 1 over the batch, and their product goes through an exponential; images
    less unlike the mean than the average one weigh 0 (Marsden et al. 2024, section 4.2). Where all
    are alike, as a single image is, each weighs 1.

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


ENOUGH = 16
"""Images of a batch from which on ``correction="auto"`` corrects its answers by their mean. In batches
of 4 clean images of mixed classes the correction made 1.6 points more errors
(``benchmarks/batch_sizes.py``)."""


def _choose_correction(
    correction: bool | Literal["auto"],
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if correction == "auto":
        return _correct_if_enough
    if not isinstance(correction, bool):
        raise InputError(f"correction: expected True, False or 'auto', got {correction!r}.")
    return correct_prior if correction else None


def _correct_if_enough(logits: torch.Tensor) -> torch.Tensor:
    return correct_prior(logits) if len(logits) >= ENOUGH else logits


def correct_prior(logits: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities times the smoothed mean answer of the batch, not summing to 1.

    ``(p + s) / (1 + s K)`` with the mean p and ``s = max(1 / N, 1 / K) / max p`` (Marsden et al. 2024,
    section 4.4): the fewer images, the less it changes.
    """
    log_p = logits.float().log_softmax(1)
    sound = torch.isfinite(logits.float().logsumexp(1))
    if not bool(sound.any()):
        return log_p
    mean = log_p[sound].exp().mean(0)
    smooth = max(1 / logits.shape[0], 1 / logits.shape[1]) / mean.max()
    return log_p + torch.log((mean + smooth) / (1 + smooth * logits.shape[1]))


@final
class ROID(LearningAdapter):
    """A classifier that learns by likelihood ratios, and is drawn back to the source at each step.

    Each batch's soft likelihood ratio, weighted by how sure and how new an answer is, is minimized
    by a step, together with the symmetric cross-entropy between the answers to the images and to
    the same images mirrored and moved. Then each parameter becomes ``keep`` times itself plus
    ``1 - keep`` times its first value, so that long streams that change cannot lead far astray. The
    answers are multiplied by the smoothed mean answer of the batch, which helps where classes are
    unequal (Marsden et al. 2024, arXiv 2306.00650). Three forward and two backward passes; one of
    each with ``consistency=False``.

    Differs from the published code: the images are mirrored and moved by up to a sixteenth of their
    sides, and not changed in color too; all are, so that statistics of the batch do not depend on
    the weights; answers are multiplied as probabilities, not as logits, and those of small batches not at
    all (``correction=True`` is the paper's); and the statistics follow a measured prior,
    ``prior=0`` is the paper's.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module`` that gives logits.
        keep: share of what was learned that stays at each step, from 0 to 1.
        consistency: whether changed images must be answered alike. Inputs that are no images are
            not changed.
        correction: whether the answers are corrected by the batch's mean. ``"auto"`` does so in
            batches of 16 images and more: the mean of fewer says little of the classes.
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
        self.keep = check_range("keep", keep, 0, 1)
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

    def _memory_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        return {"mean": (self._classes,), "batches": ()}

    def _learn(self, inputs: torch.Tensor) -> Pass:
        number = int(self._memory.get("batches", 0))
        changed = self._change(inputs, number) if self.consistency else None
        answers = None if changed is None else self._learner.forward.answer(changed)
        seen: list[torch.Tensor] = []

        def measure(outputs: torch.Tensor) -> torch.Tensor:
            logits = self._network.of_classes(outputs)
            seen.append(logits.detach())
            losses = soft_likelihood_ratio(logits)
            if answers is not None:
                losses = losses + symmetric_cross_entropy(answers, logits)
            return (losses * self._weigh(seen[0])).mean()

        def measure_changed(outputs: torch.Tensor) -> torch.Tensor:
            logits = self._network.of_classes(outputs)
            return (symmetric_cross_entropy(logits, seen[0]) * self._weigh(seen[0])).mean()

        taken = self._learner.differentiate(inputs, measure)
        if changed is not None and taken.is_sound:
            other = self._learner.differentiate(changed, measure_changed)
            if other.gradients is None or not other.is_sound:
                taken = taken._replace(gradients=None)
            else:
                taken = taken._replace(gradients=_add(taken.gradients or [], other.gradients))
        if taken.gradients is not None and taken.is_sound:
            self._learner.step(taken.gradients, len(inputs))
            self._draw_back()
            answered = torch.softmax(seen[0].float(), 1)
            mean = update_mean(self._mean(seen[0]), answered)
            self._memory = {"mean": mean, "batches": torch.tensor(float(number + 1))}
        return taken

    def _mean(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the mean answer so far; at first all classes alike."""
        classes = logits.shape[1]
        return self._memory.get("mean", logits.new_full((classes,), 1 / classes).float())

    def _weigh(self, logits: torch.Tensor) -> torch.Tensor:
        return weigh_answers(logits, self._mean(logits))

    def _draw_back(self) -> None:
        """Mix the parameters with those that they began with."""
        first = self._learner.first
        with torch.no_grad():
            for name, parameter in self._learner.parameters.items():
                parameter.mul_(self.keep).add_(first[name], alpha=1 - self.keep)

    def _change(self, inputs: torch.Tensor, number: int) -> torch.Tensor | None:
        """Return images mirrored by chance and moved by up to a sixteenth of their sides."""
        if inputs.ndim != 4:
            return None
        random = generator(0, "roid", str(number))
        reach = [side // 16 for side in inputs.shape[2:]]
        padded = torch.nn.functional.pad(
            inputs, (reach[1], reach[1], reach[0], reach[0]), mode="reflect"
        )
        height, width = inputs.shape[2:]
        changed = []
        for image in padded:
            top, left = (int(random.integers(0, 2 * span + 1)) for span in reach)
            image = image[:, top : top + height, left : left + width]
            changed.append(image.flip(2) if random.random() < 0.5 else image)
        return torch.stack(changed)


def _add(first: Gradients, second: Gradients) -> list[torch.Tensor | None]:
    """Return the sum of the gradients of each parameter; None where neither reaches it.

    A pass that is not learned from has none.
    """
    if not first or not second:
        return list(first or second)
    return [
        other if one is None else one if other is None else one + other
        for one, other in zip(first, second, strict=True)
    ]
