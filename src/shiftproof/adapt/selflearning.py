"""Self-learning: a classifier that learns from its own answers (Rusak et al. 2021, arXiv 2104.12928)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast, final

import torch

from shiftproof.adapt.batchnorm import check_prior
from shiftproof.adapt.events import Event, EventLog
from shiftproof.adapt.losses import (
    entropy,
    hard_pseudo_label_loss,
    is_confident,
    robust_pseudo_label_loss,
    soft_pseudo_label_loss,
)
from shiftproof.adapt.network import AdaptedNetwork, describe_output
from shiftproof.adapt.networked import NetworkAdapter
from shiftproof.adapt.normalization import BatchNormLayers, Choice, Choose, Seen
from shiftproof.adapt.norms import (
    LayerChoice,
    all_batch_norm_layers,
    is_tracked,
    several_runs_error,
)
from shiftproof.adapt.parameters import SELECTIONS, affine_parameters
from shiftproof.adapt.statistics import Statistics, batch_statistics, mix_with_prior, pool_processes
from shiftproof.adapt.tensors import check_names, copy_tensor, copy_to_cpu, pack, unpack
from shiftproof.adapt.watch import has_reentrant_checkpoint
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.adapter import State

Loss = Literal["rpl", "ent", "hard", "soft"]
Teacher = Literal["step", "epoch"]
Answers = Literal["before", "after"]
Sees = Literal["classes", "all"]

LOSSES: tuple[Loss, ...] = ("rpl", "ent", "hard", "soft")

PAPER_RATE = 1e-3 / 128
"""Learning rate per image of the batch: 1e-3 at a batch of 128 (Rusak et al. 2021)."""


@final
class SelfLearning(NetworkAdapter):
    """A classifier that takes one gradient step per batch on its own answers.

    The losses of Rusak et al. 2021 (arXiv 2104.12928), averaged over the batch:

    - ``"rpl"``: robust pseudo-labels. The generalised cross-entropy ``(1 - p_i^q) / q`` to the
      class i that the teacher answers; tolerates wrong answers.
    - ``"ent"``: entropy minimisation (with one pass over the stream: TENT).
    - ``"hard"``: pseudo-labels, ``-log p_i``, optionally of confident answers only.
    - ``"soft"``: the cross-entropy to the teacher's whole distribution. Its gradient is zero where
      teacher and model agree, so a model that starts as its own teacher stays where it is.

    The teacher of ``"step"`` is the model in the same forward pass; that of ``"epoch"`` is a copy
    which learns only at ``end_epoch()``, so in online use it stays the source (with the batch's
    own statistics). Dropout and stochastic depth stay off and each layer's eps its own, and your
    model is never changed. Batch norm normalises by the batch's own statistics, in whose mean and
    variance the gradient flows, as in the reference; with a ``prior`` above 0 the statistics
    are mixed with the source's and are constants to the gradient; with an infinite one they are
    the source's, as the paper does for EfficientNet-L2.

    Nothing can spoil what was learned at once: a step whose loss or gradient is not finite is left
    out, and an event says so. Whether learning does harm in the long run, ``Guard`` checks.

    A layer that sees a single value per channel keeps its source statistics, as in ``BatchNorm``.
    Threads may share an adapter; their batches run one after another. Under ``torch.autocast`` the
    loss is computed in float32; choose bfloat16, as no gradient is scaled.

    Differs from the published code: the affine parameters alone are given to the optimiser, as
    the paper says; the published example gives it all weights. The learning rate follows the
    images really in the batch, so a smaller last batch weighs less.

    Args:
        model: a ``Classifier`` on torch; or a plain ``torch.nn.Module`` that gives logits
            ``(N, K)``, which is then called with its own normalised batch.
        loss: one of the four; or a function of the student's and the teacher's ``(N, K)`` logits
            to ``(N,)`` losses.
        lr: ``"auto"`` is the paper's 1e-3 at a batch of 128, in proportion to the batch; a
            number is used for every batch.
        momentum: of the SGD, from 0 to below 1. The paper states none and its code uses 0.
        q: of ``"rpl"``, from 0 to 1.
        threshold: of ``"rpl"``, ``"hard"`` and ``"soft"``: rows whose teacher is less sure than
            this are left out of the mean.
        parameters: ``"affine"`` (scale and shift of batch, layer, group, instance and RMS norms),
            ``"last"`` (the layer that gives the logits), ``"all"`` (as the paper does for vision
            transformers); or a function from the network to parameters by name, as in
            ``adapt.parameters``.
        layers: with ``"affine"``, which norm layers learn: ``"all"``, ``"last-33%"`` (cheaper:
            no gradient flows through the layers before), ``"first-10"``, or names.
        prior: strength of the source statistics in images, or ``"auto"``, as in ``BatchNorm``.
        teacher: None takes ``"step"`` for ``"rpl"`` and ``"ent"``, ``"epoch"`` for the others.
        answers: ``"before"`` returns the logits of the pass that the step is made of, ``"after"``
            those of a further pass after it.
        sees: what the loss is computed on, where the classifier is restricted to a data set's
            classes: their logits, or ``"all"`` of the network's. The paper does not say.

    Raises:
        InputError: an option is out of its range, or two contradict each other.
        ModelError: there is nothing to learn, the weights are of half precision, the graph is
            fixed (ONNX, TorchScript, compiled), or the model cannot be copied; or, at the first
            batch at the latest, a part has batch norm that cannot be followed.

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
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.0,
        q: float = 0.8,
        threshold: float = 0.0,
        parameters: Literal["affine", "last", "all"]
        | Callable[[torch.nn.Module], Mapping[str, torch.nn.Parameter]] = "affine",
        layers: LayerChoice = "all",
        prior: float | Literal["auto"] = 0,
        teacher: Teacher | None = None,
        answers: Answers = "before",
        sees: Sees = "classes",
    ) -> None:
        if not callable(loss) and loss not in LOSSES:
            raise UnknownNameError.of("loss", str(loss), LOSSES)
        if teacher not in (None, "step", "epoch"):
            raise UnknownNameError.of("teacher", str(teacher), ["step", "epoch"])
        if answers not in ("before", "after"):
            raise UnknownNameError.of("answers", str(answers), ["before", "after"])
        if sees not in ("classes", "all"):
            raise UnknownNameError.of("sees", str(sees), ["classes", "all"])
        if not callable(parameters) and parameters not in SELECTIONS:
            raise UnknownNameError.of("parameters", str(parameters), SELECTIONS)
        if layers != "all" and parameters != "affine":
            raise InputError("layers: chooses among norm layers; expected parameters='affine'.")
        self.lr = lr if lr == "auto" else _check_range("lr", lr, 0, math.inf, below=True)
        self.momentum = _check_range("momentum", momentum, 0, 1, below=True)
        self.q = _check_range("q", q, 0, 1)
        self.threshold = _check_range("threshold", threshold, 0, 1)
        self.prior = check_prior(prior)
        self.layers = layers
        self.loss = loss
        self.parameter_choice = parameters
        self.teacher: Teacher = teacher or ("epoch" if loss in ("hard", "soft") else "step")
        self.answers: Answers = answers
        self.sees: Sees = sees
        self._network = AdaptedNetwork(model)
        self._parameters = self._network.own(self._select(self._network.module, layers))
        self._norms = self._follow(self._network)
        self._source = {} if self._norms is None else self._norms.source
        self._first = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._teacher_network: AdaptedNetwork | None = None
        self._teacher_norms: BatchNormLayers | None = None
        if self.teacher == "epoch" and loss != "ent":
            self._teacher_network = AdaptedNetwork(model)
            self._teacher_parameters = self._teacher_network.own(list(self._parameters))
            for parameter in self._teacher_parameters.values():
                parameter.requires_grad_(False)
            self._teacher_norms = self._follow(self._teacher_network)
        self._is_checkpointed: bool | None = None  # not known before the first batch
        self._forget()

    def _follow(self, network: AdaptedNetwork) -> BatchNormLayers | None:
        """Return the batch norm of a network that is to normalise by the batch, if any is."""
        if self.prior == math.inf:
            return None
        layers = all_batch_norm_layers(network.module)
        tracked = {name: layer for name, layer in layers.items() if is_tracked(layer)}
        return BatchNormLayers(network.module, tracked)

    def _select(self, network: torch.nn.Module, layers: LayerChoice) -> list[str]:
        choice = self.parameter_choice
        if choice == "affine":
            chosen: Mapping[str, torch.nn.Parameter] = affine_parameters(network, layers)
        else:
            select = choice if callable(choice) else SELECTIONS[choice]
            chosen = cast("Any", select)(network)
        if not chosen:
            raise ModelError(f"{type(network).__name__} has no parameter to learn.")
        for name, parameter in chosen.items():
            if not parameter.is_floating_point() or parameter.element_size() < 4:
                raise ModelError(
                    f"The parameter {name!r} is {parameter.dtype}: steps of self-learning are "
                    "smaller than its precision. Use model.float(), and torch.autocast for speed."
                )
        return list(chosen)

    def _forget(self) -> None:
        rate = PAPER_RATE if self.lr == "auto" else self.lr
        self._optimizer = torch.optim.SGD(
            self._parameters.values(), lr=float(rate), momentum=self.momentum
        )
        self._last: dict[str, Statistics] = {}
        self._layers_run_twice: list[str] = []
        self._batches = 0
        self._events = EventLog()

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self._parameters.values())
        return f"SelfLearning(loss={self._loss_name!r}, lr={self.lr}, {count} parameters)"

    @property
    def _loss_name(self) -> str:
        return getattr(self.loss, "__qualname__", "function") if callable(self.loss) else self.loss

    @property
    def settings(self) -> Settings:
        """What reproduces this adapter, as JSON takes it."""
        choice = self.parameter_choice
        return {
            "adapter": "selflearning",
            "loss": self._loss_name,
            "lr": self.lr,
            "optimizer": "sgd",
            "momentum": self.momentum,
            "q": self.q if self.loss == "rpl" else None,
            "threshold": self.threshold,
            "parameters": getattr(choice, "__qualname__", "function")
            if callable(choice)
            else choice,
            "layers": self.layers if isinstance(self.layers, str) else list(self.layers),
            "learnt": len(self._parameters),
            "values": sum(parameter.numel() for parameter in self._parameters.values()),
            "prior": "inf" if self.prior == math.inf else self.prior,
            "teacher": self.teacher if self.loss != "ent" else None,
            "answers": self.answers,
            "sees": self.sees,
            **self._network.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """Steps that were left out."""
        return self._events.events

    def end_epoch(self) -> None:
        """Let the teacher of pseudo-labels take over what the model has learned."""
        if self._teacher_network is not None:
            with self._network.lock, torch.no_grad():
                for name, parameter in self._teacher_parameters.items():
                    parameter.copy_(self._parameters[name])

    def reset(self) -> None:
        """Forget everything that was learned."""
        with self._network.lock, torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._first[name])
            self.end_epoch()
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the parameters that learn."""
        return iter(self._parameters.values())

    def merge(self) -> torch.nn.Module:
        """Return a plain model with what was learned, and the statistics of the last batch.

        Before any batch, and with an infinite prior, the statistics are the source's.

        Raises:
            ModelError: a batch norm ran several times in one forward, each time with other
                statistics.
        """
        with self._network.lock, torch.no_grad():
            if self._layers_run_twice:
                raise several_runs_error(self._layers_run_twice[0])
            module = self._network.copy()
            for name, statistics in self._last.items():
                layer = cast("Any", module.get_submodule(name))
                layer.running_mean.copy_(statistics.mean)
                layer.running_var.copy_(statistics.variance)
        return module

    def state(self) -> State:
        """Return the learned parameters, the teacher's, the momentum and the last statistics."""
        with self._network.lock:
            state = {
                f"parameter/{name}": copy_to_cpu(value) for name, value in self._parameters.items()
            }
            if self._teacher_network is not None:
                state |= {
                    f"teacher/{name}": copy_to_cpu(value)
                    for name, value in self._teacher_parameters.items()
                }
            for name, buffer in self._momenta().items():
                state[f"momentum/{name}"] = copy_to_cpu(buffer)
            return state | pack("last", self._last)

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what another adapter of the same settings has learned."""
        kinds = ["parameter", *(["teacher"] if self._teacher_network is not None else ())]
        kinds += ["momentum"] if self.momentum > 0 else []
        check_names(
            state, ("last",), {f"{kind}/{name}" for kind in kinds for name in self._parameters}
        )
        learned = {
            n: copy_tensor(state, f"parameter/{n}", value) for n, value in self._parameters.items()
        }
        taught = {}
        if self._teacher_network is not None:
            taught = {
                n: copy_tensor(state, f"teacher/{n}", value)
                for n, value in self._teacher_parameters.items()
            }
        momentum = {
            name: copy_tensor(state, f"momentum/{name}", value)
            for name, value in self._parameters.items()
            if f"momentum/{name}" in state
        }
        last, _ = unpack("last", state, self._source)
        with self._network.lock, torch.no_grad():
            self._forget()
            for name, parameter in self._parameters.items():
                parameter.copy_(learned[name])
                if name in momentum:
                    self._optimizer.state[parameter]["momentum_buffer"] = momentum[name]
            for name, value in taught.items():
                self._teacher_parameters[name].copy_(value)
            self._last = last

    def _momenta(self) -> dict[str, torch.Tensor]:
        """Return the optimiser's running means of the gradient, by parameter."""
        buffers = {
            name: self._optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in self._parameters.items()
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}

    # ------------------------------------------------------------ one batch

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        classes = self._network.of_classes
        if self._network.is_frozen:
            with self._run_network(self._network, self._norms, inputs) as (outputs, seen):
                logits = classes(outputs)
            return logits if seen.is_sound else self._network.forward(inputs)
        teacher = self._answer_of_teacher(inputs)
        with torch.enable_grad(), self._learning(inputs) as (outputs, seen):
            if not isinstance(outputs, torch.Tensor) or outputs.shape[:-1] != (len(inputs),):
                raise ModelError(
                    f"Expected logits ({len(inputs)}, K) of the model, got {describe_output(outputs)}."
                )
            logits = classes(outputs)
            loss = self._compute_loss(outputs if self.sees == "all" else logits, teacher)
            gradients = [] if loss is None else self._gradients(loss)
        if gradients is None or not seen.is_sound:
            # The source's statistics keep a broken image from the others of its batch.
            logits = self._network.forward(inputs)
            self._note(
                "skipped",
                "The loss, its gradient or the batch's statistics were not finite (NaN or "
                "infinite activations); no step was taken.",
            )
        else:
            with self._undo_on_error():
                if gradients:
                    self._optimize(gradients, len(inputs))
                if self.answers == "after":
                    with self._run_network(self._network, self._norms, inputs) as (outputs, seen):
                        logits = classes(outputs)
            self._last, self._layers_run_twice = seen.used, seen.layers_run_twice
        self._batches += 1
        return logits.detach()

    def _answer_of_teacher(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return what the teacher of an epoch answers; None where it is the model itself."""
        if self._teacher_network is None:
            return None
        with self._run_network(self._teacher_network, self._teacher_norms, inputs) as (outputs, _):
            return outputs if self.sees == "all" else self._network.of_classes(outputs)

    def _compute_loss(
        self, logits: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return the batch's mean loss, or None where no row is confident enough to be learned from."""
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

    def _gradients(self, loss: torch.Tensor) -> list[torch.Tensor | None] | None:
        """Return the gradient of each parameter, or None where the step would not be finite."""
        if not loss.requires_grad:
            raise ModelError(
                "The loss depends on none of the parameters that are to be learned: the model "
                "turns gradients off in its forward, or does not use them. Choose other "
                "parameters or layers."
            )
        learned = list(self._parameters.values())
        if self._is_checkpointed:
            # All that asks for a gradient, since a reentrant checkpoint knows no other way.
            torch.autograd.backward(loss)
            gradients = tuple(parameter.grad for parameter in learned)
            for parameter in learned:
                parameter.grad = None
        else:
            gradients = torch.autograd.grad(loss, learned, allow_unused=True)
        sizes = [loss.detach(), *(g.abs().sum() for g in gradients if g is not None)]
        finite = bool(torch.isfinite(torch.stack(sizes)).all())
        return list(gradients) if finite else None

    def _optimize(self, gradients: Sequence[torch.Tensor | None], count: int) -> None:
        """Take one step for a batch of ``count`` images."""
        if self.lr == "auto":
            self._optimizer.param_groups[0]["lr"] = PAPER_RATE * count
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        for parameter in self._parameters.values():
            parameter.grad = None

    @contextmanager
    def _undo_on_error(self) -> Iterator[None]:
        """Take back the step that is made in the context where the pass after it fails."""
        if self.answers == "before":
            yield
            return
        kept = [parameter.detach().clone() for parameter in self._parameters.values()]
        momenta = {name: buffer.clone() for name, buffer in self._momenta().items()}
        try:
            yield
        except BaseException:
            with torch.no_grad():
                for (name, parameter), value in zip(self._parameters.items(), kept, strict=True):
                    parameter.copy_(value)
                    self._optimizer.state[parameter]["momentum_buffer"] = momenta.get(name)
            raise

    def _learning(self, inputs: torch.Tensor) -> AbstractContextManager[tuple[torch.Tensor, Seen]]:
        """Give what ``_run_network`` gives of the network that learns, with its graph."""
        if self._is_checkpointed is None:
            asking = inputs.detach().requires_grad_()
            with self._run_network(self._network, self._norms, asking) as (outputs, _):
                self._is_checkpointed = has_reentrant_checkpoint(outputs)
        if self._is_checkpointed:
            # Such a part learns only where its inputs ask for a gradient.
            inputs = inputs.detach().requires_grad_()
        return self._run_network(self._network, self._norms, inputs)

    @contextmanager
    def _run_network(
        self, network: AdaptedNetwork, norms: BatchNormLayers | None, inputs: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, Seen]]:
        """Give all outputs of a network with the batch's statistics, and what its norms saw.

        Gradients are taken within the context: checkpointed layers run again for them.
        """
        # Autocast keeps the half-precision copies of parameters for as long as it lasts, also
        # when the parameters have learned meanwhile.
        torch.clear_autocast_cache()
        seen = Seen()
        if norms is None:
            yield network.forward_all(inputs), seen
            return
        with norms.normalizing(self._make_chooser(norms, len(inputs), seen)):
            outputs = norms.run(lambda: network.forward_all(inputs))
            seen.close()
            yield outputs, seen

    def _make_chooser(self, norms: BatchNormLayers, count: int, seen: Seen) -> Choose:
        """Return what gives each layer its statistics for a batch of ``count`` images."""

        def choose(name: str, values: torch.Tensor) -> Choice:
            source = norms.source[name]
            with torch.no_grad():
                batch = batch_statistics(values.detach())
                target, images = pool_processes(batch, count, norms.layers[name])
                used = mix_with_prior(
                    source, target, values, prior=self.prior, count=images, images=count
                )
            seen.add(name, target, images, used)
            return Choice(used, of_batch=self.prior == 0 and used is not source)

        return choose

    def _note(self, kind: str, reason: str) -> None:
        self._events.add(kind, self._batches, reason)


def _check_range(what: str, value: float, low: float, high: float, *, below: bool = False) -> float:
    """Return a number that lies in its range, or raise an InputError."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (below and value == high):
        ends = f"{low:g} to {'below ' if below else ''}{high:g}"
        if math.isinf(high):
            ends = f"{low:g} or more"
        raise InputError(f"{what}: expected a number, {ends}, got {value!r}.")
    return value
