"""A network that learns by gradient steps on its predictions, shared by such methods."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import torch

from shiftproof.adapt.base.events import FEW_CLASSES, Event, EventLog
from shiftproof.adapt.base.network import AdaptedNetwork, describe_output
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.base.options import check_number, check_rate_or_auto
from shiftproof.adapt.base.tensors import check_names, copy_tensor, copy_tensors, copy_to_cpu
from shiftproof.adapt.learning.normalized_network import NormalizedNetwork
from shiftproof.adapt.learning.parameters import SELECTIONS, affine_parameters
from shiftproof.adapt.learning.source_check import ANSWERS, FEW_CLASSES_KEPT, SourceCheck
from shiftproof.adapt.learning.steps import check_precision, make_no_gradient_error
from shiftproof.adapt.normalization.batch_norm_layers import ObservedStatistics
from shiftproof.adapt.normalization.layer_choice import LayerChoice
from shiftproof.adapt.normalization.norm_checks import has_reentrant_checkpoint
from shiftproof.adapt.normalization.norm_layers import (
    find_tracked_batch_norm_layers,
    make_several_runs_error,
)
from shiftproof.adapt.normalization.packing import pack, unpack
from shiftproof.adapt.normalization.priors import Prior, check_prior
from shiftproof.adapt.normalization.statistics import Statistics, write_statistics
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io.function_code import identify_function
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

Select: TypeAlias = Callable[[torch.nn.Module], Mapping[str, torch.nn.Parameter]]
"""Chooses parameters of a network by name."""

ParameterChoice: TypeAlias = Literal["affine", "last", "all"] | Select

Gradients: TypeAlias = Sequence["torch.Tensor | None"]
"""Gradients of the learned parameters, in order."""

NOT_FINITE = (
    "The loss, its gradient or the batch's statistics were not finite (NaN or infinite "
    "activations); no step was taken."
)


class Pass(NamedTuple):
    """One forward and backward pass.

    ``logits`` are those of the classes, without a graph. ``gradients`` are empty where there was
    nothing to learn from, and None where they are not finite.
    """

    logits: torch.Tensor
    observed: ObservedStatistics
    gradients: Gradients | None

    @property
    def is_finite(self) -> bool:
        """Whether the batch can be learned from."""
        return self.gradients is not None and self.observed.is_finite


class LearningNetwork:
    """A private copy of a model, of which some parameters learn by SGD, one step a batch.

    Args:
        model: what is adapted.
        parameters: which parameters learn, as ``SelfLearning`` takes it.
        layers: with ``"affine"``, of which norm layers.
        prior: as ``BatchNorm`` takes it.
        lr: a learning rate for every batch, or ``"auto"``.
        auto: from the number of images to the rate of ``"auto"``.
        momentum: of the SGD, from 0 to below 1.
        checks_source: whether to check the source's predictions for few classes; for classifiers.

    Attributes:
        network: the copy.
        check: checks the source's predictions; None without this check.
        forward: its forward pass with the batch's statistics.
        parameters: those that learn, by name.

    Raises:
        InputError: an option is out of its range, or two contradict each other.
        ModelError: there is nothing to learn, the weights are of half precision, the graph is
            fixed, or a part has batch norm that hooks cannot control.
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        parameters: ParameterChoice,
        layers: LayerChoice,
        prior: Prior,
        lr: float | Literal["auto"],
        auto: Callable[[int], float],
        momentum: float,
        checks_source: bool = False,
    ) -> None:
        if not callable(parameters) and parameters not in SELECTIONS:
            raise UnknownNameError.of("parameters", str(parameters), SELECTIONS)
        if layers != "all" and parameters != "affine":
            raise InputError("layers: chooses among norm layers; expected parameters='affine'.")
        self.lr = check_rate_or_auto(lr)
        self.momentum = check_number("momentum", momentum, 0, 1, below=True)
        self.prior = check_prior(prior)
        self.choice = parameters
        self.layers = layers
        self._auto = auto
        self.network = AdaptedNetwork(model)
        self.parameters = self.network.own(_select(self.network.module, parameters, layers))
        judges = checks_source and bool(find_tracked_batch_norm_layers(self.network.module))
        # A network of its own, since the source's predictions are those before anything was
        # learned.
        self.check = SourceCheck(AdaptedNetwork(model)) if judges else None
        self.forward = NormalizedNetwork(self.network, self.prior, self.check)
        self._first = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._is_checkpointed: bool | None = None  # not known before the first batch
        self.forget()

    def forget(self) -> None:
        """Reset everything but the parameters."""
        self._optimizer = torch.optim.SGD(
            self.parameters.values(), lr=self.rate(1), momentum=self.momentum
        )
        self._last: dict[str, Statistics] = {}
        self._layers_run_twice: list[str] = []
        if self.check is not None:
            self.check.forget()

    def reset(self) -> None:
        """Reset everything, including the parameters."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self._first[name])
        self.forget()

    def rate(self, count: int) -> float:
        """Return the learning rate of a batch of ``count`` images."""
        return self._auto(count) if self.lr == "auto" else float(self.lr)

    @property
    def size(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def first(self) -> Mapping[str, torch.Tensor]:
        """The initial parameters, by name."""
        return self._first

    def settings(self) -> Settings:
        """Return the settings that reproduce learning and model, for JSON."""
        choice = self.choice
        named = identify_function(choice) if callable(choice) else choice
        return {
            "lr": self.lr,
            "optimizer": "sgd",
            "momentum": self.momentum,
            "parameters": named,
            "layers": self.layers if isinstance(self.layers, str) else list(self.layers),
            "learnt": len(self.parameters),
            "values": self.size,
            "prior": "inf" if self.prior == math.inf else self.prior,
            "adapted": len(self.forward.source),
            **self.network.settings(),
        }

    # ------------------------------------------------------------ one batch

    def judge(self, inputs: torch.Tensor) -> AbstractContextManager[None]:
        """Context for all passes of one batch, whose few-class check runs once."""
        if self.check is None:
            return nullcontext()
        return self.check.judge(inputs, remembers=not self.network.is_frozen)

    def differentiate(
        self, inputs: torch.Tensor, measure: Callable[[torch.Tensor], torch.Tensor | None]
    ) -> Pass:
        """Run a batch and return the gradients of the loss ``measure(outputs)``.

        A batch for which the source's statistics are used gives no gradients.

        Args:
            inputs: ``(N, ...)``, prepared.
            measure: takes ``(N, K)`` outputs with their graph and returns a loss, or None where
                there is nothing to learn from.

        Raises:
            ModelError: the model returns no logits, or the loss depends on no learned parameter.
        """
        with torch.enable_grad(), self._run_with_graph(inputs) as (outputs, observed):
            if not isinstance(outputs, torch.Tensor) or outputs.shape[:-1] != (len(inputs),):
                raise ModelError(
                    f"Expected logits ({len(inputs)}, K) of the model, got {describe_output(outputs)}."
                )
            loss = measure(outputs)
            if loss is None or observed.uses_source:
                gradients: Gradients | None = []
            else:
                gradients = self._differentiate(loss)
        return Pass(self.network.select_classes(outputs).detach(), observed, gradients)

    def step(self, gradients: Gradients, count: int) -> None:
        """Take one step for a batch of ``count`` images, unless there are no gradients."""
        if not gradients:
            return
        self._optimizer.param_groups[0]["lr"] = self.rate(count)
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        for parameter in self.parameters.values():
            parameter.grad = None

    def remember(self, observed: ObservedStatistics) -> None:
        """Keep the statistics used by batch norm, for ``merge``."""
        self._last, self._layers_run_twice = observed.used, observed.layers_run_twice

    @contextmanager
    def undo_on_error(self) -> Iterator[None]:
        """Restore the parameters if the context raises an error."""
        kept = [parameter.detach().clone() for parameter in self.parameters.values()]
        momenta = {name: buffer.clone() for name, buffer in self._read_momenta().items()}
        try:
            yield
        except BaseException:
            self.set_parameters(kept)
            for name, parameter in self.parameters.items():
                self._optimizer.state[parameter]["momentum_buffer"] = momenta.get(name)
            raise

    def set_parameters(self, values: Sequence[torch.Tensor]) -> None:
        """Set the parameters to earlier values, in order."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters.values(), values, strict=True):
                parameter.copy_(value)

    def _differentiate(self, loss: torch.Tensor) -> list[torch.Tensor | None] | None:
        """Return the gradient of each parameter, or None if the step would not be finite."""
        if not loss.requires_grad:
            raise make_no_gradient_error()
        learned = list(self.parameters.values())
        if self._is_checkpointed:
            # A reentrant checkpoint supports only the backward over all leaves.
            torch.autograd.backward(loss)
            gradients = tuple(parameter.grad for parameter in learned)
            for parameter in learned:
                parameter.grad = None
        else:
            gradients = torch.autograd.grad(loss, learned, allow_unused=True)
        sizes = [loss.detach(), *(g.abs().sum() for g in gradients if g is not None)]
        finite = bool(torch.isfinite(torch.stack(sizes)).all())
        return list(gradients) if finite else None

    @contextmanager
    def _run_with_graph(
        self, inputs: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, ObservedStatistics]]:
        """Run a forward pass with its graph."""
        if self._is_checkpointed is None:
            asking = inputs.detach().requires_grad_()
            with self.forward.run(asking) as (outputs, observed):
                if observed.uses_source:  # it has no graph, and needs none
                    yield outputs, observed
                    return
                self._is_checkpointed = has_reentrant_checkpoint(outputs)
            del (
                outputs,
                observed,
            )  # with its graph, which would be in memory beside that of the next pass
        if self._is_checkpointed:
            # A reentrant checkpoint needs inputs that require a gradient.
            inputs = inputs.detach().requires_grad_()
        with self.forward.run(inputs) as (outputs, observed):
            yield outputs, observed

    # ------------------------------------------------------------ what was learned

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the learned parameters and the statistics of the last batch.

        Raises:
            ModelError: a batch norm ran several times in one forward, each time with other
                statistics.
        """
        with torch.no_grad():
            if self._layers_run_twice:
                raise make_several_runs_error(self._layers_run_twice[0])
            module = self.network.copy()
            write_statistics(module, self._last)
        return module

    def state(self) -> State:
        """Return the learned parameters, the momentum and the last statistics."""
        state = {f"parameter/{name}": copy_to_cpu(p) for name, p in self.parameters.items()}
        for name, buffer in self._read_momenta().items():
            state[f"momentum/{name}"] = copy_to_cpu(buffer)
        known = {} if self.check is None else self.check.state()
        return state | known | pack("last", self._last)

    def read_state(
        self, state: Mapping[str, torch.Tensor], others: Sequence[str] = ()
    ) -> Callable[[], None]:
        """Check a state, and return a function that restores it.

        Args:
            state: the result of ``state()``, with further entries of the adapter.
            others: the names of these entries.

        Raises:
            InputError: the state is that of another adapter or another model.
        """
        kinds = ["parameter", *(["momentum"] if self.momentum > 0 else [])]
        known = {f"{kind}/{name}" for kind in kinds for name in self.parameters}
        answers = None if self.check is None else self.check.read_state(state)
        check_names(state, ("last",), {*known, *others, *([ANSWERS] if self.check else [])})
        learned = list(copy_tensors(state, "parameter", self.parameters).values())
        momenta = {
            name: copy_tensor(state, f"momentum/{name}", value)
            for name, value in self.parameters.items()
            if f"momentum/{name}" in state
        }
        last, _ = unpack("last", state, self.forward.source)

        def restore() -> None:
            self.forget()
            self.set_parameters(learned)
            for name, momentum in momenta.items():
                self._optimizer.state[self.parameters[name]]["momentum_buffer"] = momentum
            self._last = last
            if self.check is not None:
                self.check.restore(answers)

        return restore

    def _read_momenta(self) -> dict[str, torch.Tensor]:
        """Return the optimizer's running means of the gradient, by parameter."""
        buffers = {
            name: self._optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in self.parameters.items()
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def _select(network: torch.nn.Module, choice: ParameterChoice, layers: LayerChoice) -> list[str]:
    """Return the names of the parameters to learn."""
    if choice == "affine":
        chosen: Mapping[str, torch.nn.Parameter] = affine_parameters(network, layers)
    else:
        select = choice if callable(choice) else SELECTIONS[choice]
        chosen = cast("Any", select)(network)
    if not chosen:
        raise ModelError(f"{type(network).__name__} has no parameter to learn.")
    check_precision(chosen)
    return list(chosen)


# ---------------------------------------------------------------- the adapters


PUBLISHED_RATE = 0.00025 / 64
"""Learning rate per image: 0.00025 at a batch of 64, with momentum 0.9, of EATA, SAR, DeYO and ROID
for networks with batch norm.
"""


def scale_published_rate(count: int) -> float:
    """Return the published learning rate for a batch of ``count`` images, in proportion to it.

    SAR's code lets it fall so for batches below 32, too (from twice as much).
    """
    return PUBLISHED_RATE * count


class GradientAdapter(NetworkAdapter):
    """Base class of adapters with a network that learns by gradient."""

    _learner: LearningNetwork
    _events: EventLog

    @abstractmethod
    def _forget(self) -> None:
        """Clear the state outside the network: events, counts, memories."""

    @abstractmethod
    def _own_settings(self) -> Settings:
        """Return the method's own settings, with its name under ``adapter``."""

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {**self._own_settings(), **self._learner.settings()}

    @property
    def events(self) -> Sequence[Event]:
        """Skipped steps, and resets by the method itself."""
        return self._events.events

    def end_epoch(self) -> None:
        """Do nothing at the end of a pass."""

    def reset(self) -> None:
        """Return to the source model."""
        with self._network.lock:
            self._learner.reset()
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the parameters that learn."""
        return iter(self._learner.parameters.values())


class AffineAdapter(GradientAdapter):
    """Base class of adapters that learn by gradient and keep further tensors as a memory.

    Subclasses define how a batch is learned, and the shapes of the memory.
    """

    _memory: dict[str, torch.Tensor]
    """Further tensors by name; missing until they are first set."""

    _correct: Callable[[torch.Tensor], torch.Tensor] | None = None
    """A function that corrects the logits of every batch before they are returned."""

    def _begin(
        self,
        model: Classifier | torch.nn.Module,
        *,
        lr: float | Literal["auto"],
        momentum: float,
        layers: LayerChoice,
        prior: Prior,
    ) -> None:
        """Create the network that learns its affine parameters, with the published rate."""
        self._learner = LearningNetwork(
            model,
            parameters="affine",
            layers=layers,
            prior=prior,
            lr=lr,
            auto=scale_published_rate,
            momentum=momentum,
            checks_source=prior == "auto",
        )
        self._network = self._learner.network
        self._forget()

    def _forget(self) -> None:
        self._memory = {}
        self._batches = 0
        self._events = EventLog()

    @abstractmethod
    def _learn(self, inputs: torch.Tensor) -> Pass:
        """Learn from a batch if it is finite, and return its pass.

        The memory must be changed last, so that an exception changes nothing.
        """

    @abstractmethod
    def _list_memory_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """Return the shapes of the memory's tensors; None is any length."""

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        with self._learner.judge(inputs):
            logits = self._answer(inputs).detach()
        return logits if self._correct is None else self._correct(logits)

    def _answer(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._network.is_frozen:
            return self._learner.forward.answer(inputs)
        result = self._learn(inputs)
        if result.is_finite:
            self._learner.remember(result.observed)
            logits = result.logits
            if result.observed.uses_source:
                self._events.add(FEW_CLASSES, self._batches, FEW_CLASSES_KEPT)
        else:
            # The source's statistics keep a broken image from the others of its batch.
            logits = self._network.forward(inputs)
            self._events.add("skipped", self._batches, NOT_FINITE)
        self._batches += 1
        return logits

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the learned parameters and the statistics of the last batch.

        Raises:
            ModelError: a batch norm ran several times in one forward, each time with other
                statistics.
        """
        with self._network.lock:
            return self._learner.merge()

    def state(self) -> State:
        """Return the learned parameters, the momentum, the last statistics and the memory."""
        with self._network.lock:
            memory = {f"memory/{name}": copy_to_cpu(value) for name, value in self._memory.items()}
            return self._learner.state() | memory

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        shapes = self._list_memory_shapes()
        restore = self._learner.read_state(state, [f"memory/{name}" for name in shapes])
        memory = {
            name: _read_memory(state, name, shape, self._device)
            for name, shape in shapes.items()
            if f"memory/{name}" in state
        }
        with self._network.lock, torch.no_grad():
            restore()
            self._forget()
            self._memory = memory

    @property
    def _device(self) -> torch.device:
        return next(iter(self._learner.parameters.values())).device

    @property
    def _classes(self) -> int | None:
        """The number of classes; None if unknown, for a plain module."""
        try:
            return len(self.classifier.classes)
        except ModelError:
            return None


def _read_memory(
    state: Mapping[str, torch.Tensor],
    name: str,
    shape: tuple[int | None, ...],
    device: torch.device,
) -> torch.Tensor:
    """Read a tensor of the memory from a state, or raise an InputError if its shape is wrong."""
    given = state[f"memory/{name}"]
    like = [
        wanted if wanted is not None else (given.shape[axis] if axis < given.ndim else 1)
        for axis, wanted in enumerate(shape)
    ]
    return copy_tensor(state, f"memory/{name}", torch.zeros(like, device=device))
