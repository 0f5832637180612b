"""Learning from the calls of a network by other code, such as that of a segmenter or detector.

This code prepares images, calls the network once or several times for a batch (windows, images of
different sizes), and reads the outputs. The gradients of each call are computed at once and summed,
so that only the activations of one call are in memory, and each batch takes one step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch

from shiftproof.adapt.base.events import FEW_CLASSES, EventLog
from shiftproof.adapt.base.options import check_count
from shiftproof.adapt.base.tensors import read_count
from shiftproof.adapt.learning.learning_network import (
    NOT_FINITE,
    GradientAdapter,
    Gradients,
    LearningNetwork,
)
from shiftproof.adapt.learning.source_check import FEW_CLASSES_SKIPPED
from shiftproof.adapt.learning.steps import make_no_gradient_error
from shiftproof.adapt.normalization.batch_norm_layers import ObservedStatistics
from shiftproof.adapt.normalization.norm_checks import run_checked
from shiftproof.adapt.normalization.norm_layers import find_all_batch_norm_layers
from shiftproof.adapt.normalization.statistics import Statistics, pool
from shiftproof.errors import ModelError

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

Outputs = TypeVar("Outputs")


class Loss(Protocol):
    """The contribution of one call of the network to the loss of its batch."""

    def begin(self, call: int) -> None:
        """Start a call of the network; ``call`` is its index in the batch."""

    def measure(self, outputs: Any, images: int) -> tuple[torch.Tensor, float] | None:
        """Return a sum of losses with its graph and its total weight, or None without a loss.

        ``images`` is the number of images of the call.
        """

    def remove(self) -> None:
        """Remove all hooks at the end of the batch."""


class CallAdapter(GradientAdapter):
    """Base class of adapters that learn from the calls of their network, with one step per batch.

    For a plain ``torch.nn.Module`` it is an ordinary adapter; ``run_batch`` takes any code that
    calls the network. Subclasses define the loss of a call.
    """

    _watches_norms = False
    """Whether to refuse batch norm that is not called as a module."""

    def _begin(self, learner: LearningNetwork) -> None:
        self._learner = learner
        self._network = learner.network
        self._is_checked = not self._watches_norms
        self._forget()

    def _forget(self) -> None:
        self._batches = 0
        self._events = EventLog()

    @abstractmethod
    def _make_loss(self, images: int) -> Loss:
        """Return the loss for a batch of ``images`` images."""

    def run_batch(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        """Learn while ``run`` passes a batch of images through the network.

        Args:
            run: takes the adapted copy, calls it as a module, and returns anything. The outputs of
                a call have no graph. It runs twice for a batch that is not finite.
            images: number of images of the batch, 1 or more.

        Returns:
            The result of ``run``, from the passes before the step.

        Raises:
            InputError: fewer than 1 image.
            ModelError: ``run`` did not call the network, or its outputs have no loss.
        """
        check_count("images", images)
        with self._network.lock, torch.inference_mode(False), torch.no_grad():
            if self._network.is_frozen:
                return self._answer(run, images)
            return self._learn(run, images)

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        def run(_: torch.nn.Module) -> torch.Tensor:
            return cast("torch.Tensor", detach(self._network.forward(inputs)))

        with self._learner.judge(inputs):
            check = self._learner.check
            if check is None or self._network.is_frozen or not check.finds_few_classes():
                return self.run_batch(run, len(inputs))
            answers = self._answer(run, len(inputs))
        self._events.add(FEW_CLASSES, self._batches, FEW_CLASSES_SKIPPED)
        self._batches += 1
        return answers

    def _answer(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        """Predict a batch without learning; with the source's statistics if its own are not finite."""
        sound = True

        def record(outputs: Any, observed: ObservedStatistics, count: int) -> Any:
            nonlocal sound
            sound = sound and observed.is_finite
            return outputs

        answers = self._learner.forward.run_calls(run, images, record)
        return answers if sound else run(self._network.module)

    def _learn(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        loss = self._make_loss(images)
        calls = _Calls(loss)
        try:
            with torch.enable_grad():
                answers = self._run_checked(
                    lambda: self._learner.forward.run_calls(run, images, calls.take, calls.begin)
                )
            gradients = self._gather(calls)
        except RuntimeError as error:
            if "requires grad" not in str(error):
                raise
            raise ModelError(
                f"{type(self._network.module).__name__} turns tensors into numpy arrays in its "
                "forward, which gradients cannot pass; write .detach().numpy() there."
            ) from error
        finally:
            loss.remove()
            for parameter in self._learner.parameters.values():
                parameter.grad = None
        if gradients is None:
            # With the source's statistics, a broken image does not affect the rest of its batch.
            answers = run(self._network.module)
            self._events.add("skipped", self._batches, NOT_FINITE)
        else:
            self._learner.step(gradients, images)
            self._learner.remember(calls.pool())
        self._batches += 1
        return answers

    def _run_checked(self, forward: Callable[[], Outputs]) -> Outputs:
        """Run a batch; the first one is checked for batch norm that bypasses the hooks."""
        if self._is_checked:
            return forward()
        module = self._network.module
        outputs = run_checked(forward, module, find_all_batch_norm_layers(module), {})
        self._is_checked = True
        return outputs

    def _gather(self, calls: _Calls) -> Gradients | None:
        """Return the gradient of the mean over all calls; empty without any, None if not finite."""
        if not calls.observed:
            raise ModelError(
                f"{type(self._network.module).__name__} was not called as a module, so nothing can be "
                "learned from it."
            )
        if not all(observed.is_finite for observed in calls.observed):
            return None
        if calls.weight == 0:
            return []
        found = [
            None if parameter.grad is None else parameter.grad / calls.weight
            for parameter in self._learner.parameters.values()
        ]
        sizes = [calls.total, *(g.abs().sum().float().cpu() for g in found if g is not None)]
        return found if bool(torch.isfinite(torch.stack(sizes)).all()) else None

    # ------------------------------------------------------------ what was learned

    def merge(self) -> torch.nn.Module:
        """Return a plain model with the learned parameters and the statistics of the last batch.

        For a batch of several calls these are pooled over the calls.

        Raises:
            ModelError: a batch norm ran several times in one call, each time with other statistics.
        """
        with self._network.lock:
            return self._learner.merge()

    def state(self) -> State:
        """Return the learned parameters, the momentum, the last statistics and the number of
        batches.
        """
        with self._network.lock:
            return self._learner.state() | {"batches": torch.tensor(self._batches)}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        restore = self._learner.read_state(state, ["batches"])
        batches = read_count(state, "batches")
        with self._network.lock, torch.no_grad():
            restore()
            self._forget()
            self._batches = batches


class _Calls:
    """The calls of a batch, with their summed gradients and the statistics of their norms."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self.observed: list[ObservedStatistics] = []
        self.total = torch.zeros(())
        self.weight = 0.0

    def begin(self) -> None:
        self._loss.begin(len(self.observed))

    def take(self, outputs: Any, observed: ObservedStatistics, count: int) -> Any:
        measured = self._loss.measure(outputs, count)
        self.observed.append(observed)
        if measured is not None:
            loss, weight = measured
            if not loss.requires_grad:
                raise make_no_gradient_error()
            torch.autograd.backward(loss)
            self.total = self.total + loss.detach().float().cpu()
            self.weight += weight
        return detach(outputs)

    def pool(self) -> ObservedStatistics:
        """Return the statistics of the layers pooled over all calls."""
        if len(self.observed) == 1:
            return self.observed[0]
        pooled = ObservedStatistics()
        for name in dict.fromkeys(name for observed in self.observed for name in observed.used):
            used = [observed.used[name] for observed in self.observed if name in observed.used]
            together = _pool_evenly(used)
            twice = any(name in observed.layers_run_twice for observed in self.observed)
            for _ in range(2 if twice else 1):
                pooled.add(name, together, 1, together)
        return pooled


def _pool_evenly(statistics: Sequence[Statistics]) -> Statistics:
    """Pool statistics with equal weights."""
    together = statistics[0]
    for count, more in enumerate(statistics[1:], start=1):
        together = pool(together, count, more, 1)
    return together


def detach(outputs: Any) -> Any:
    """Detach all tensors in an output of lists, tuples and mappings."""
    if isinstance(outputs, torch.Tensor):
        return outputs.detach()
    if isinstance(outputs, dict):
        for key in list(outputs):
            outputs[key] = detach(outputs[key])
        return outputs
    if isinstance(outputs, list):
        return [detach(one) for one in outputs]
    if type(outputs) is tuple:
        return tuple(detach(one) for one in outputs)
    return outputs
