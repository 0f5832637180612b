"""Self-learning: learning from a classifier's own predictions (Rusak et al. 2021, arXiv
2104.12928).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, final

import torch

from shiftproof.adapt.base.events import FEW_CLASSES, Event, EventLog
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.base.options import check_number, check_preset
from shiftproof.adapt.base.tensors import copy_tensors, copy_to_cpu
from shiftproof.adapt.learning.learning_network import NOT_FINITE, LearningNetwork, ParameterChoice
from shiftproof.adapt.learning.losses import (
    entropy,
    hard_pseudo_label_loss,
    is_confident,
    robust_pseudo_label_loss,
    soft_pseudo_label_loss,
)
from shiftproof.adapt.learning.normalized_network import NormalizedNetwork
from shiftproof.adapt.learning.source_check import FEW_CLASSES_KEPT
from shiftproof.adapt.normalization.layer_choice import LayerChoice
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.function_code import identify_function
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

Loss = Literal["rpl", "ent", "hard", "soft"]
Teacher = Literal["step", "epoch"]
Answers = Literal["before", "after"]
Sees = Literal["classes", "all"]

LOSSES: tuple[Loss, ...] = ("rpl", "ent", "hard", "soft")

PAPER_RATE = 1e-3 / 128
"""Learning rate per image of the batch: 1e-3 at a batch of 128 (Rusak et al. 2021)."""


def paper_rate(count: int) -> float:
    """Return the paper's learning rate for a batch of ``count`` images: in proportion to it.

    A stream then moves the parameters equally far in small and in large batches. A rate that falls
    more slowly moves them further in smaller batches, whose gradients are noisier.
    """
    return PAPER_RATE * count


@final
class SelfLearning(NetworkAdapter):
    """A classifier that takes one gradient step per batch on its own predictions.

    The losses of Rusak et al. 2021 (arXiv 2104.12928), averaged over the batch:

    - ``"rpl"``: robust pseudo-labels. The generalized cross-entropy ``(1 - p_i^q) / q`` to the
      class i that the teacher predicts; it tolerates wrong predictions.
    - ``"ent"``: entropy minimization (with one pass over the stream: TENT).
    - ``"hard"``: pseudo-labels, ``-log p_i``, optionally of confident predictions only.
    - ``"soft"``: the cross-entropy to the teacher's whole distribution. Its gradient is zero where
      teacher and model agree, so a model that starts as its own teacher does not change.

    The teacher of ``"step"`` is the model in the same forward pass; that of ``"epoch"`` is a copy
    which learns only at ``end_epoch()``, so in online use it stays the source (with the batch's
    own statistics). Dropout and stochastic depth stay off and each layer's eps its own, and your
    model is never changed. Batch norm normalizes by the batch's own statistics, mixed
    with the source's as ``prior`` says; the gradient flows through the batch's share of them. With
    an infinite prior they are the source's, as the paper does for EfficientNet-L2.

    A step whose loss or gradient is not finite is skipped, and an event says so. ``Guard`` checks
    whether learning does harm in the long run.

    A layer that sees a single value per channel keeps its source statistics, as in ``BatchNorm``.
    Threads may share an adapter; their batches run one after another. Under ``torch.autocast`` the
    loss is computed in float32; choose bfloat16, as no gradient is scaled.

    Differs from the paper: the statistics follow a measured prior; ``preset="paper"`` takes its
    own. Differs from the published code: the optimizer gets the affine parameters alone, as the
    paper says; in the published example it gets all weights. The learning rate is in proportion to
    the images in the batch, so a smaller last batch weighs less.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module`` that gives logits
            ``(N, K)``, which is then called with its own normalized batch.
        loss: one of the four; or a function of the student's and the teacher's ``(N, K)`` logits
            to ``(N,)`` losses.
        preset: ``"paper"`` uses the paper's settings: the batch's statistics alone (N = 0) and its
            learning rate. They do harm in batches that are small or of few classes.
        lr: ``"auto"`` is the paper's 1e-3 at a batch of 128, in proportion to the batch
            (:func:`paper_rate`); a number is used for every batch.
        momentum: of the SGD, from 0 to below 1. The paper states none and its code uses 0.
        q: of ``"rpl"``, from 0 to 1.
        threshold: of ``"rpl"``, ``"hard"`` and ``"soft"``: images for which the teacher's
            confidence is below this are excluded from the mean.
        parameters: ``"affine"`` (scale and shift of batch, layer, group, instance and RMS norms),
            ``"last"`` (the layer that gives the logits), ``"all"`` (as the paper does for vision
            transformers); or a function from the network to parameters by name, as in
            ``adapt.parameters``.
        layers: with ``"affine"``, which norm layers learn: ``"all"``, ``"last-33%"`` (cheaper:
            no gradient flows through the layers before), ``"first-10"``, or names.
        prior: strength of the source statistics in images, ``"auto"``, ``"measured"`` or
            ``"layerwise"``, as in ``BatchNorm``; 0 is the paper's. With ``"auto"`` no step is taken
            where the source's statistics are kept.
        teacher: None takes ``"step"`` for ``"rpl"`` and ``"ent"``, ``"epoch"`` for the others.
        answers: ``"before"`` returns the logits from before the step, ``"after"`` those of a
            further pass after it.
        sees: the logits for the loss, if the classifier is restricted to a dataset's classes:
            ``"classes"`` for these, or ``"all"`` for all of the network's. The paper does not say.

    Raises:
        InputError: an option is out of its range, or two contradict each other.
        ModelError: there is nothing to learn, the weights are of half precision, the graph is fixed
            (ONNX, TorchScript, compiled), or the model cannot be copied; or, at the first batch at
            the latest, a part has batch norm that hooks cannot control.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 3))
    >>> adapted = SelfLearning(net, loss="ent", lr=0.1)
    >>> images = torch.rand(8, 3, 2, 2)
    >>> first, second = (entropy(adapted(images)).mean() for _ in range(2))
    >>> bool(second < first)
    True
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        loss: Loss | Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = "rpl",
        preset: Literal["paper"] | None = None,
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.0,
        q: float = 0.8,
        threshold: float = 0.0,
        parameters: ParameterChoice = "affine",
        layers: LayerChoice = "all",
        prior: Prior = "auto",
        teacher: Teacher | None = None,
        answers: Answers = "before",
        sees: Sees = "classes",
    ) -> None:
        if not callable(loss) and loss not in LOSSES:
            raise UnknownNameError.of("loss", str(loss), LOSSES)
        if check_preset(preset) and (lr != "auto" or prior != "auto"):
            raise InputError(
                f"preset={preset!r} sets lr and prior; leave those out, or write prior=0 and a "
                "learning rate of your own in its place."
            )
        if teacher not in (None, "step", "epoch"):
            raise UnknownNameError.of("teacher", str(teacher), ["step", "epoch"])
        if answers not in ("before", "after"):
            raise UnknownNameError.of("answers", str(answers), ["before", "after"])
        if sees not in ("classes", "all"):
            raise UnknownNameError.of("sees", str(sees), ["classes", "all"])
        self.preset = preset
        self.q = check_number("q", q, 0, 1)
        self.threshold = check_number("threshold", threshold, 0, 1)
        self.loss = loss
        self.teacher: Teacher = teacher or ("epoch" if loss in ("hard", "soft") else "step")
        self.answers: Answers = answers
        self.sees: Sees = sees
        self._learner = LearningNetwork(
            model,
            parameters=parameters,
            layers=layers,
            prior=0 if preset else prior,
            lr=lr,
            auto=paper_rate,
            momentum=momentum,
            checks_source=prior == "auto" and not preset,
        )
        self._network = self._learner.network
        self._parameters = self._learner.parameters
        self._teacher: NormalizedNetwork | None = None
        self._teacher_parameters: dict[str, torch.nn.Parameter] = {}
        if self.teacher == "epoch" and loss != "ent":
            network = AdaptedNetwork(model)
            self._teacher_parameters = network.own(list(self._parameters))
            for parameter in self._teacher_parameters.values():
                parameter.requires_grad_(False)
            self._teacher = NormalizedNetwork(network, self.prior, self._learner.check)
        self._forget()

    def _forget(self) -> None:
        self._batches = 0
        self._events = EventLog()

    def __repr__(self) -> str:
        return (
            f"SelfLearning(loss={self._loss_name!r}, lr={self.lr}, {self._learner.size} parameters)"
        )

    @property
    def lr(self) -> float | Literal["auto"]:
        """The learning rate, or ``"auto"`` for one in proportion to the batch."""
        return self._learner.lr

    @property
    def momentum(self) -> float:
        """Momentum of the SGD."""
        return self._learner.momentum

    @property
    def prior(self) -> Prior:
        """Strength of the source statistics in images, or how it is measured."""
        return self._learner.prior

    @property
    def _loss_name(self) -> str:
        return getattr(self.loss, "__qualname__", "function") if callable(self.loss) else self.loss

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "selflearning",
            "loss": identify_function(self.loss) if callable(self.loss) else self.loss,
            "preset": self.preset,
            "q": self.q if self.loss == "rpl" else None,
            "threshold": self.threshold,
            "teacher": self.teacher if self.loss != "ent" else None,
            "answers": self.answers,
            "sees": self.sees,
            **self._learner.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """Skipped steps."""
        return self._events.events

    def end_epoch(self) -> None:
        """Update the teacher of pseudo-labels: copy the learned parameters to it."""
        with self._network.lock, torch.no_grad():
            for name, parameter in self._teacher_parameters.items():
                parameter.copy_(self._parameters[name])

    def reset(self) -> None:
        """Return to the source model."""
        with self._network.lock:
            self._learner.reset()
            self.end_epoch()
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the parameters that learn."""
        return iter(self._parameters.values())

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the learned parameters and the statistics of the last batch.

        Before any batch, and with an infinite prior, the statistics are the source's.

        Raises:
            ModelError: a batch norm ran several times in one forward, each time with other
                statistics.
        """
        with self._network.lock:
            return self._learner.merge()

    def state(self) -> State:
        """Return the learned parameters, the teacher's, the momentum and the last statistics."""
        with self._network.lock:
            teacher_parameters = {
                f"teacher/{n}": copy_to_cpu(p) for n, p in self._teacher_parameters.items()
            }
            return self._learner.state() | teacher_parameters

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        names = [f"teacher/{name}" for name in self._teacher_parameters]
        restore = self._learner.read_state(state, names)
        teacher_parameters = copy_tensors(state, "teacher", self._teacher_parameters)
        with self._network.lock, torch.no_grad():
            restore()
            self._forget()
            for name, value in teacher_parameters.items():
                self._teacher_parameters[name].copy_(value)

    # ------------------------------------------------------------ one batch

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        with self._learner.judge(inputs):
            return self._take_step(inputs)

    def _take_step(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._network.is_frozen:
            return self._learner.forward.answer(inputs)
        teacher = self._predict_teacher(inputs)
        result = self._learner.differentiate(
            inputs, lambda outputs: self._compute_loss(self._select_outputs(outputs), teacher)
        )
        logits, observed = result.logits, result.observed
        if result.gradients is None or not result.is_finite:
            # With the source's statistics, a broken image does not affect the rest of its batch.
            logits = self._network.forward(inputs)
            self._events.add("skipped", self._batches, NOT_FINITE)
        else:
            with self._undo_on_error():
                self._learner.step(result.gradients, len(inputs))
                if self.answers == "after":
                    with self._learner.forward.run(inputs) as (outputs, observed):
                        logits = self._network.select_classes(outputs)
            self._learner.remember(observed)
            if observed.uses_source:
                self._events.add(FEW_CLASSES, self._batches, FEW_CLASSES_KEPT)
        self._batches += 1
        return logits.detach()

    def _select_outputs(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs for the loss."""
        return outputs if self.sees == "all" else self._network.select_classes(outputs)

    def _predict_teacher(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return the outputs of the epoch's teacher; None if the model is its own teacher."""
        if self._teacher is None:
            return None
        with self._teacher.run(inputs) as (outputs, _):
            return self._select_outputs(outputs)

    def _undo_on_error(self) -> AbstractContextManager[None]:
        """Context that undoes the step if the pass after it fails."""
        return nullcontext() if self.answers == "before" else self._learner.undo_on_error()

    def _compute_loss(
        self, logits: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return the batch's mean loss, or None if no prediction is confident enough."""
        answers = logits.detach() if teacher is None else teacher
        if callable(self.loss):
            losses = self.loss(logits, answers)
        elif self.loss == "ent":
            losses = entropy(logits)
        elif self.loss == "rpl":
            losses = robust_pseudo_label_loss(logits, answers, self.q)
        elif self.loss == "hard":
            losses = hard_pseudo_label_loss(logits, answers)
        else:
            losses = soft_pseudo_label_loss(logits, answers)
        if self.threshold > 0 and self.loss != "ent":
            losses = losses[is_confident(answers, self.threshold)]
            if len(losses) == 0:
                return None
        return losses.mean()
