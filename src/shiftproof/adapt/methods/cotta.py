"""CoTTA: a slow teacher, averaged augmentations and restored weights (Wang et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, final

import torch

from shiftproof.adapt.base.events import FEW_CLASSES, Event, EventLog
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.base.options import check_count, check_number, check_rate
from shiftproof.adapt.base.tensors import check_names, copy_tensors, copy_to_cpu, read_count, widen
from shiftproof.adapt.learning.jitter import apply_jitter, draw_jitter
from shiftproof.adapt.learning.learning_network import NOT_FINITE
from shiftproof.adapt.learning.losses import soft_pseudo_label_loss
from shiftproof.adapt.learning.pixels import PixelSpace
from shiftproof.adapt.learning.source_check import ANSWERS, FEW_CLASSES_KEPT, SourceCheck
from shiftproof.adapt.learning.steps import GradientSteps, find_weights_and_biases
from shiftproof.adapt.normalization.batch_norm_layers import ObservedStatistics
from shiftproof.adapt.normalization.packing import pack, unpack
from shiftproof.adapt.normalization.passes import (
    HookedNetwork,
    StatisticsPolicy,
    are_finite,
    use_batch,
    use_given,
)
from shiftproof.adapt.normalization.priors import Prior, check_prior
from shiftproof.adapt.normalization.statistics import Statistics
from shiftproof.errors import UnknownNameError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.rng import generator
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

Loss = Literal["one-sided", "symmetric"]
LOSSES: tuple[Loss, ...] = ("one-sided", "symmetric")

Optimizer = Literal["adam", "nesterov"]
OPTIMIZERS: tuple[Optimizer, ...] = ("adam", "nesterov")


def symmetric_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return half the cross-entropy to the teacher, and half the teacher's to the student.

    ``-(sum_j t_j log s_j + sum_j s_j log t_j) / 2``: what CoTTA's published code minimizes on
    ImageNet. The gradient flows through the student's probabilities alone.

    Args:
        logits: ``(N, K)`` floating, the student's.
        teacher: ``(N, K)`` floating, the teacher's; no gradient goes there.

    Returns:
        ``(N,)``, 0 or more.
    """
    student = torch.softmax(widen(logits), -1)
    log_teacher = torch.log_softmax(widen(teacher.detach()), -1)
    backward = -(student * log_teacher.masked_fill(student == 0, 0)).sum(-1)
    return (soft_pseudo_label_loss(logits, teacher) + backward) / 2


class _Answer(NamedTuple):
    """The teacher's logits, and the statistics its layers observed.

    ``is_shifted`` is whether to learn from the batch, if it is finite.
    """

    logits: torch.Tensor
    observed: ObservedStatistics
    is_finite: bool = True
    is_shifted: bool = True


def _measure_confidence(logits: torch.Tensor) -> float:
    return float(torch.softmax(logits.float(), -1).amax(-1).mean())


@final
class CoTTA(NetworkAdapter):
    """Learns all weights from a slow teacher, and restores some of them to the source at random.

    Wang et al. 2022 (arXiv 2203.13591), for streams whose shift changes. For each batch:

    1. The teacher, a moving average of the student's weights, predicts. If the mean confidence of
       the source model is below ``threshold``, the prediction is the mean of the teacher's logits
       over ``augmentations`` random augmentations of the batch.
    2. The student takes one step on the cross-entropy to that prediction.
    3. The teacher is updated: ``m teacher + (1 - m) student``.
    4. Each weight of the student is reset to the source with the probability ``restore``.

    The logits are the teacher's. Batch norm normalizes by the batch's own statistics, as ``prior``
    says, in all three networks. A step that is not finite is skipped, and an event says so.

    Cost: 3 forward passes and 1 backward pass per batch, and ``augmentations`` further forward
        passes where the source is not confident; memory for four times the weights (student,
        teacher and two of Adam), which is also the size of ``state()``.

    The augmentations and the restored weights are functions of the seed and of the batch's number
    since the last ``reset()``.

    Differs from the paper: the statistics follow a measured prior, and nothing is learned from
    batches that do not differ from the source; ``prior=0`` is the paper's.

    Differs from the published code: dropout stays off; the augmentations are computed only where
    they are used, as there on ImageNet; and on ImageNet it moves the parameters that a layer calls
    ``weight`` and ``bias``, as here everywhere.

    Args:
        model: a ``Classifier`` on torch, whose ``Preprocess`` tells how to undo the normalization.
        lr: learning rate: 1e-3 with Adam (CIFAR); 0.01 with ``"nesterov"`` (ImageNet).
        optimizer: ``"adam"``, or ``"nesterov"``: SGD with Nesterov momentum 0.9.
        momentum: m of the teacher, from 0 to 1.
        restore: probability that a weight is restored: 0.01; 0.001 on ImageNet.
        threshold: mean confidence of the source below which the batch is augmented. Published: 0.92
            for CIFAR-10, 0.72 for CIFAR-100, 0.1 for ImageNet; 0 never augments.
        augmentations: 1 or more.
        loss: ``"one-sided"``, or ``"symmetric"`` as the published code has it on ImageNet.
        prior: strength of the source statistics in images, or how it is measured, as in
            ``BatchNorm``; 0 as published. With ``"auto"`` a batch of a network with batch norm is
            augmented and learned from only where its statistics count.
        seed: of the augmentations and of what is restored.

    Raises:
        InputError: an option is out of its range.
        UnknownNameError: no such loss or optimizer.
        ModelError: the preprocessing is unknown (a plain module, or a function), the weights are of
            half precision, the graph is fixed (ONNX, TorchScript, compiled), the model cannot be
            copied, or hooks cannot control its batch norm.

    >>> import numpy as np
    >>> from shiftproof.models import load_classifier
    >>> adapted = CoTTA(load_classifier("demo"), augmentations=2)
    >>> adapted
    CoTTA(lr=0.001, restore=0.01, threshold=0.92, 2 augmentations)
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        lr: float = 1e-3,
        optimizer: Optimizer = "adam",
        momentum: float = 0.999,
        restore: float = 0.01,
        threshold: float = 0.92,
        augmentations: int = 32,
        loss: Loss = "one-sided",
        prior: Prior = "auto",
        seed: int = 0,
    ) -> None:
        if loss not in LOSSES:
            raise UnknownNameError.of("loss", str(loss), LOSSES)
        if optimizer not in OPTIMIZERS:
            raise UnknownNameError.of("optimizer", str(optimizer), OPTIMIZERS)
        self.lr = check_rate(lr)
        self.optimizer: Optimizer = optimizer
        self.momentum = check_number("momentum", momentum, 0, 1)
        self.restore = check_number("restore", restore, 0, 1)
        self.threshold = check_number("threshold", threshold, 0, 1)
        self.augmentations = check_count("augmentations", augmentations)
        self.loss: Loss = loss
        self.prior = check_prior(prior)
        self.seed = check_count("seed", seed, minimum=0)
        self._network = AdaptedNetwork(model)
        self._pixels = PixelSpace(self._network.classifier.preprocess, "CoTTA")
        names = list(find_weights_and_biases(self._network.module))
        self._student = HookedNetwork(self._network)
        self._steps = GradientSteps(self._network.own(names), optimizer, self.lr)
        # Its weights are the caller's, with shared memory.
        self._anchor = HookedNetwork(AdaptedNetwork(model))
        judges = self.prior == "auto" and bool(self._anchor.layers)
        self._check = SourceCheck(self._anchor.network) if judges else None
        self._teacher = HookedNetwork(AdaptedNetwork(model))
        self._teacher_parameters = {
            name: parameter.requires_grad_(False)
            for name, parameter in self._teacher.network.own(names).items()
        }
        self._forget()

    def _forget(self) -> None:
        self._last: dict[str, Statistics] = {}
        self._layers_run_twice: list[str] = []
        self._batches = 0
        self._events = EventLog()
        if self._check is not None:
            self._check.forget()

    def __repr__(self) -> str:
        return (
            f"CoTTA(lr={self.lr}, restore={self.restore}, threshold={self.threshold}, "
            f"{self.augmentations} augmentations)"
        )

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "cotta",
            "lr": self.lr,
            "optimizer": self.optimizer,
            "momentum": self.momentum,
            "restore": self.restore,
            "threshold": self.threshold,
            "augmentations": self.augmentations,
            "loss": self.loss,
            "prior": "inf" if self.prior == math.inf else self.prior,
            "seed": self.seed,
            "values": sum(p.numel() for p in self._steps.parameters.values()),
            **self._network.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """Steps that were skipped."""
        return self._events.events

    def end_epoch(self) -> None:
        """Do nothing: the teacher is updated with every batch."""

    def reset(self) -> None:
        """Return to the source model."""
        with self._network.lock, torch.no_grad():
            self._steps.restore(self._steps.first)
            for name, value in self._teacher_parameters.items():
                value.copy_(self._steps.first[f"parameter/{name}"])
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the student's parameters."""
        return iter(self._steps.parameters.values())

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the teacher's weights, and the statistics of the last batch.

        Raises:
            ModelError: a batch norm ran several times in one forward, each time with other
                statistics.
        """
        with self._network.lock:
            return self._teacher.copy_with(self._last, self._layers_run_twice)

    def state(self) -> State:
        """Return student, teacher, the optimizer's moments, and the last statistics."""
        with self._network.lock:
            state = dict(self._steps.capture())
            state |= {f"teacher/{name}": value for name, value in self._teacher_parameters.items()}
            state["batches"] = torch.tensor(self._batches)
            state |= {} if self._check is None else self._check.state()
            return {name: copy_to_cpu(v) for name, v in state.items()} | pack("last", self._last)

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        known = {f"teacher/{name}" for name in self._teacher_parameters}
        own = {"batches"} if self._check is None else {"batches", ANSWERS}
        check_names(state, ("last",), self._steps.names() | known | own)
        answers = None if self._check is None else self._check.read_state(state)
        learned = self._steps.read(state)
        teacher_parameters = copy_tensors(state, "teacher", self._teacher_parameters)
        batches = read_count(state, "batches")
        last, _ = unpack("last", state, self._teacher.source)
        with self._network.lock, torch.no_grad():
            self._forget()
            self._steps.restore(learned)
            for name, value in teacher_parameters.items():
                self._teacher_parameters[name].copy_(value)
            self._batches, self._last = batches, last
            if self._check is not None:
                self._check.restore(answers)

    # ------------------------------------------------------------ one batch

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._check is None:
            return self._take_step(inputs)
        with self._check.judge(inputs, remembers=not self._network.is_frozen):
            return self._take_step(inputs)

    def _take_step(self, inputs: torch.Tensor) -> torch.Tensor:
        answer = self._answer(inputs)
        if self._network.is_frozen:
            return answer.logits
        learns = answer.is_finite and answer.is_shifted
        if answer.is_finite and (not learns or self._learn(inputs, answer.logits)):
            self._last, self._layers_run_twice = (
                answer.observed.used,
                answer.observed.layers_run_twice,
            )
        else:
            self._note("skipped", NOT_FINITE)
        if answer.is_finite and answer.observed.uses_source:
            self._note(FEW_CLASSES, FEW_CLASSES_KEPT)
        self._batches += 1
        return answer.logits

    def _note(self, kind: str, reason: str) -> None:
        self._events.add(kind, self._batches, reason)

    def _answer(self, inputs: torch.Tensor) -> _Answer:
        """Return the teacher's logits, and the statistics its layers observed."""
        anchor, anchor_observed = self._anchor.predict(inputs, self._choose(inputs))
        logits, observed = self._teacher.predict(inputs, self._choose(inputs))
        batch = {name: statistics for name, (statistics, _) in observed.batch.items()}
        if not are_finite(batch, logits) or not are_finite({}, anchor):
            # With the source's statistics, a broken image does not affect the rest of its batch.
            return _Answer(self._answer_by_source(inputs), observed, is_finite=False)
        if self._check is not None and self._check.should_keep_source(
            inputs, anchor, anchor_observed
        ):
            observed.keep(self._teacher.source)
            return _Answer(self._answer_by_source(inputs), observed, is_shifted=False)
        is_shifted = self._check is None or anchor_observed.uses_batch
        if is_shifted and _measure_confidence(anchor) < self.threshold:
            logits = self._average_augmented(inputs)
        return _Answer(logits, observed, is_shifted=is_shifted)

    def _answer_by_source(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._teacher.predict(inputs, use_given(self._teacher.source))[0]

    def _average_augmented(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean of the teacher's logits over augmentations of the batch."""
        pixels = self._pixels.to_pixels(inputs)
        total: torch.Tensor | None = None
        for number in range(self.augmentations):
            rng = generator(self.seed, "cotta", "augmentation", str(self._batches), str(number))
            augmented = apply_jitter(pixels, draw_jitter(rng, *pixels.shape[-2:]))
            augmented_inputs = self._pixels.to_inputs(augmented).to(inputs.dtype)
            logits, _ = self._teacher.predict(augmented_inputs, self._choose(inputs))
            total = logits if total is None else total + logits
        assert total is not None  # one augmentation or more
        return total / self.augmentations

    def _choose(self, inputs: torch.Tensor) -> StatisticsPolicy:
        return use_batch(self.prior, len(inputs))

    def _learn(self, inputs: torch.Tensor, answer: torch.Tensor) -> bool:
        """Update student and teacher and restore weights; False if the step is not finite."""
        with (
            torch.enable_grad(),
            self._student.run(inputs, self._choose(inputs)) as (logits, observed),
        ):
            function = symmetric_loss if self.loss == "symmetric" else soft_pseudo_label_loss
            if not observed.is_finite or not self._steps.take(function(logits, answer).mean()):
                return False
        with torch.no_grad():
            for name, parameter in self._steps.parameters.items():
                self._teacher_parameters[name].mul_(self.momentum).add_(
                    parameter, alpha=1 - self.momentum
                )
            self._restore_weights()
        return True

    def _restore_weights(self) -> None:
        """Reset each weight of the student to the source with the probability ``restore``."""
        rng = generator(self.seed, "cotta", "restore", str(self._batches))
        # On the CPU, so that the choice does not depend on the device.
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for name, parameter in self._steps.parameters.items():
            chosen = (
                torch.rand(parameter.shape, generator=draws, dtype=torch.float32) < self.restore
            )
            first = self._steps.first[f"parameter/{name}"]
            parameter.copy_(torch.where(chosen.to(parameter.device), first, parameter))
