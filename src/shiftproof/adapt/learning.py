"""A network that learns by gradient steps on its predictions, shared by such methods."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import torch

from shiftproof.adapt.checks import check_range, check_rate
from shiftproof.adapt.events import FEW_CLASSES, Event, EventLog
from shiftproof.adapt.network import AdaptedNetwork, describe_output
from shiftproof.adapt.networked import NetworkAdapter
from shiftproof.adapt.normalization import Seen
from shiftproof.adapt.normalized import NormalizedNetwork
from shiftproof.adapt.norms import LayerChoice, has_statistics, several_runs_error
from shiftproof.adapt.parameters import SELECTIONS, affine_parameters
from shiftproof.adapt.shares import Prior, check_prior
from shiftproof.adapt.source_check import ANSWERS, FEW_CLASSES_KEPT, SourceCheck
from shiftproof.adapt.statistics import Statistics
from shiftproof.adapt.tensors import check_names, copy_tensor, copy_to_cpu, pack, unpack
from shiftproof.adapt.watch import has_reentrant_checkpoint
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.adapter import State

Select: TypeAlias = Callable[[torch.nn.Module], Mapping[str, torch.nn.Parameter]]
"""Chooses parameters of a network by name."""

Chosen: TypeAlias = Literal["affine", "last", "all"] | Select

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
    seen: Seen
    gradients: Gradients | None

    @property
    def is_sound(self) -> bool:
        """Whether the batch can be learned from."""
        return self.gradients is not None and self.seen.is_sound


class LearningNetwork:
    """A private copy of a model, of which some parameters learn by SGD, one step a batch.

    Args:
        model: what is adapted.
        parameters: which parameters learn, as ``SelfLearning`` takes it.
        layers: with ``"affine"``, of which norm layers.
        prior: as ``BatchNorm`` takes it.
        lr: a learning rate for every batch, or ``"auto"``.
        auto: gives the rate of ``"auto"`` for a number of images.
        momentum: of the SGD, from 0 to below 1.
        checks_source: whether batches are judged by the source's answers; for classifiers.

    Attributes:
        network: the copy.
        check: judges batches; None where none is to be judged.
        forward: its forward pass with the batch's statistics.
        parameters: those that learn, by name.

    Raises:
        InputError: an option is out of its range, or two contradict each other.
        ModelError: there is nothing to learn, the weights are of half precision, the graph is
            fixed, or a part has batch norm that cannot be followed.
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        parameters: Chosen,
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
        self.lr = check_rate(lr)
        self.momentum = check_range("momentum", momentum, 0, 1, below=True)
        self.prior = check_prior(prior)
        self.choice = parameters
        self.layers = layers
        self._auto = auto
        self.network = AdaptedNetwork(model)
        self.parameters = self.network.own(_select(self.network.module, parameters, layers))
        judges = checks_source and has_statistics(self.network.module)
        # A network of its own: the source's answers are those before anything was learned.
        self.check = SourceCheck(AdaptedNetwork(model)) if judges else None
        self.forward = NormalizedNetwork(self.network, self.prior, self.check)
        self._first = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._is_checkpointed: bool | None = None  # not known before the first batch
        self.forget()

    def forget(self) -> None:
        """Begin anew with all but the parameters."""
        self._optimizer = torch.optim.SGD(
            self.parameters.values(), lr=self.rate(1), momentum=self.momentum
        )
        self._last: dict[str, Statistics] = {}
        self._layers_run_twice: list[str] = []
        if self.check is not None:
            self.check.forget()

    def reset(self) -> None:
        """Begin anew with all, the parameters too."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self._first[name])
        self.forget()

    def rate(self, count: int) -> float:
        """Return the learning rate of a batch of ``count`` images."""
        return self._auto(count) if self.lr == "auto" else float(self.lr)

    @property
    def size(self) -> int:
        """How many values learn."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def first(self) -> Mapping[str, torch.Tensor]:
        """The parameters as they came, by name."""
        return self._first

    def settings(self) -> Settings:
        """Return what reproduces the learning and the model, as JSON takes it."""
        choice = self.choice
        named = getattr(choice, "__qualname__", "function") if callable(choice) else choice
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
        """Let all passes in the context be of one batch, which is judged once."""
        if self.check is None:
            return nullcontext()
        return self.check.judge(inputs, remembers=not self.network.is_frozen)

    def differentiate(
        self, inputs: torch.Tensor, measure: Callable[[torch.Tensor], torch.Tensor | None]
    ) -> Pass:
        """Run a batch and return the gradients of the loss ``measure(outputs)``.

        A batch for which the source's statistics are kept is not learned from: its gradients are
        empty.

        Args:
            inputs: ``(N, ...)``, prepared.
            measure: takes ``(N, K)`` outputs with their graph and returns a loss, or None where
                there is nothing to learn from.

        Raises:
            ModelError: the model returns no logits, or the loss depends on no learned parameter.
        """
        with torch.enable_grad(), self._run_recording(inputs) as (outputs, seen):
            if not isinstance(outputs, torch.Tensor) or outputs.shape[:-1] != (len(inputs),):
                raise ModelError(
                    f"Expected logits ({len(inputs)}, K) of the model, got {describe_output(outputs)}."
                )
            loss = measure(outputs)
            if loss is None or seen.is_kept:
                gradients: Gradients | None = []
            else:
                gradients = self._differentiate(loss)
        return Pass(self.network.of_classes(outputs).detach(), seen, gradients)

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

    def remember(self, seen: Seen) -> None:
        """Keep the statistics used by batch norm, for ``merge``."""
        self._last, self._layers_run_twice = seen.used, seen.layers_run_twice

    @contextmanager
    def undo_on_error(self) -> Iterator[None]:
        """Restore the parameters if the context raises an error."""
        kept = [parameter.detach().clone() for parameter in self.parameters.values()]
        momenta = {name: buffer.clone() for name, buffer in self._momenta().items()}
        try:
            yield
        except BaseException:
            self.put_back(kept)
            for name, parameter in self.parameters.items():
                self._optimizer.state[parameter]["momentum_buffer"] = momenta.get(name)
            raise

    def put_back(self, values: Sequence[torch.Tensor]) -> None:
        """Set the parameters to earlier values, in order."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters.values(), values, strict=True):
                parameter.copy_(value)

    def _differentiate(self, loss: torch.Tensor) -> list[torch.Tensor | None] | None:
        """Return the gradient of each parameter, or None if the step would not be finite."""
        if not loss.requires_grad:
            raise ModelError(
                "The loss depends on none of the parameters that are to be learned: the model "
                "turns gradients off in its forward, or does not use them. Choose other "
                "parameters or layers."
            )
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
    def _run_recording(self, inputs: torch.Tensor) -> Iterator[tuple[torch.Tensor, Seen]]:
        """Run a forward pass with its graph."""
        if self._is_checkpointed is None:
            asking = inputs.detach().requires_grad_()
            with self.forward.run(asking) as (outputs, seen):
                if seen.is_kept:  # without a graph to look at, and without a need for one
                    yield outputs, seen
                    return
                self._is_checkpointed = has_reentrant_checkpoint(outputs)
            del (
                outputs,
                seen,
            )  # with its graph, which would be in memory beside that of the next pass
        if self._is_checkpointed:
            # A reentrant checkpoint needs inputs that require a gradient.
            inputs = inputs.detach().requires_grad_()
        with self.forward.run(inputs) as (outputs, seen):
            yield outputs, seen

    # ------------------------------------------------------------ what was learned

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the learned parameters and the statistics of the last batch.

        Raises:
            ModelError: a batch norm ran several times in one forward, each time with other
                statistics.
        """
        with torch.no_grad():
            if self._layers_run_twice:
                raise several_runs_error(self._layers_run_twice[0])
            module = self.network.copy()
            for name, statistics in self._last.items():
                layer = cast("Any", module.get_submodule(name))
                layer.running_mean.copy_(statistics.mean)
                layer.running_var.copy_(statistics.variance)
        return module

    def state(self) -> State:
        """Return the learned parameters, the momentum and the last statistics."""
        state = {f"parameter/{name}": copy_to_cpu(p) for name, p in self.parameters.items()}
        for name, buffer in self._momenta().items():
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
        learned = [copy_tensor(state, f"parameter/{n}", p) for n, p in self.parameters.items()]
        momenta = {
            name: copy_tensor(state, f"momentum/{name}", value)
            for name, value in self.parameters.items()
            if f"momentum/{name}" in state
        }
        last, _ = unpack("last", state, self.forward.source)

        def restore() -> None:
            self.forget()
            self.put_back(learned)
            for name, momentum in momenta.items():
                self._optimizer.state[self.parameters[name]]["momentum_buffer"] = momentum
            self._last = last
            if self.check is not None:
                self.check.restore(answers)

        return restore

    def _momenta(self) -> dict[str, torch.Tensor]:
        """Return the optimizer's running means of the gradient, by parameter."""
        buffers = {
            name: self._optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in self.parameters.items()
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def _select(network: torch.nn.Module, choice: Chosen, layers: LayerChoice) -> list[str]:
    """Return the names of the parameters to learn."""
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


# ---------------------------------------------------------------- the adapters


PUBLISHED_RATE = 0.00025 / 64
"""Learning rate per image: 0.00025 at a batch of 64, with momentum 0.9, of EATA, SAR, DeYO and ROID
for networks with batch norm."""


def rate_as_published(count: int) -> float:
    """Return the published learning rate for a batch of ``count`` images, in proportion to it.

    SAR's code lets it fall so for batches below 32, too (from twice as much).
    """
    return PUBLISHED_RATE * count


class LearnerAdapter(NetworkAdapter):
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


class LearningAdapter(LearnerAdapter):
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
            auto=rate_as_published,
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
    def _memory_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """Return the shapes of the memory's tensors; None is any length."""

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        with self._learner.judge(inputs):
            logits = self._answer(inputs).detach()
        return logits if self._correct is None else self._correct(logits)

    def _answer(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._network.is_frozen:
            return self._learner.forward.answer(inputs)
        taken = self._learn(inputs)
        if taken.is_sound:
            self._learner.remember(taken.seen)
            logits = taken.logits
            if taken.seen.is_kept:
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
        shapes = self._memory_shapes()
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
