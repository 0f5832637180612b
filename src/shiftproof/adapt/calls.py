"""Learning from a network that somebody else's code calls: a segmenter's, a detector's.

Such code prepares images, calls the network once or several times for a batch (windows, images of
different sizes), and reads the outputs. Each call is a pass of its own: its gradients are taken at
once and added up, so that the activations of one call are held at a time, and one step is made of all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from shiftproof.adapt.events import EventLog
from shiftproof.adapt.learning import NOT_FINITE, Gradients, LearnerAdapter, LearningNetwork
from shiftproof.adapt.normalization import Seen
from shiftproof.adapt.norms import all_batch_norm_layers
from shiftproof.adapt.statistics import Statistics, pool
from shiftproof.adapt.tensors import copy_tensor, read_count
from shiftproof.adapt.watch import run_checked
from shiftproof.errors import InputError, ModelError

if TYPE_CHECKING:
    from shiftproof.adapt.adapter import State

Outputs = TypeVar("Outputs")


class Loss(Protocol):
    """What one call of the network adds to the loss of its batch."""

    def begin(self, call: int) -> None:
        """A call of the network begins; ``call`` counts those of the batch from 0."""

    def measure(self, outputs: Any, images: int) -> tuple[torch.Tensor, float] | None:
        """Return a sum of losses with its graph, and the weight that it is to be divided by.

        None where the call has nothing to learn from. ``images`` are those of the call.
        """

    def remove(self) -> None:
        """The batch is through: take off all hooks."""


class CallAdapter(LearnerAdapter):
    """An adapter that learns from the calls of its network, one step a batch.

    On a plain ``torch.nn.Module`` it is an adapter like all others; ``run_batch`` takes batches
    through whatever code calls the network. A concrete one says how it measures a call.
    """

    _watches_norms = False
    """Whether batch norm that runs otherwise than as a module has to be refused."""

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
        """Return what measures the calls of a batch of ``images`` images."""

    def run_batch(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        """Learn while ``run`` takes a batch of images through the network that it is handed.

        Args:
            run: takes the copy that adapts, calls it as a module, and returns anything. What comes
                of a call holds no graph. A batch that is not finite is run twice.
            images: how many images the batch has, 1 or more.

        Returns:
            What ``run`` returned: answers of the passes that the step is made of.

        Raises:
            InputError: fewer than 1 image.
            ModelError: ``run`` did not call the network, or what it gave cannot be learned from.
        """
        if isinstance(images, bool) or not isinstance(images, int) or images < 1:
            raise InputError(f"images: expected a number of 1 or more, got {images!r}.")
        with self._network.lock, torch.inference_mode(False), torch.no_grad():
            if self._network.is_frozen:
                return self._answer(run, images)
            return self._learn(run, images)

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.run_batch(
            lambda _: detach(self._network.forward(inputs)), len(inputs)
        )
        return answers

    def _answer(self, run: Callable[[torch.nn.Module], Outputs], images: int) -> Outputs:
        """Answer a batch and learn nothing; by the source's statistics where its own are not finite."""
        sound = True

        def look(outputs: Any, seen: Seen, count: int) -> Any:
            nonlocal sound
            sound = sound and seen.is_sound
            return outputs

        answers = self._learner.forward.run_calls(run, images, look)
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
            # The source's statistics keep a broken image from the others of its batch.
            answers = run(self._network.module)
            self._events.add("skipped", self._batches, NOT_FINITE)
        else:
            self._learner.step(gradients, images)
            self._learner.remember(calls.pool())
        self._batches += 1
        return answers

    def _run_checked(self, forward: Callable[[], Outputs]) -> Outputs:
        """Run a batch; the first one is watched for batch norm that no hook sees."""
        if self._is_checked:
            return forward()
        module = self._network.module
        outputs = run_checked(forward, module, all_batch_norm_layers(module), {})
        self._is_checked = True
        return outputs

    def _gather(self, calls: _Calls) -> Gradients | None:
        """Return the gradient of the mean over all calls; empty without any, None if not finite."""
        if not calls.seen:
            raise ModelError(
                f"{type(self._network.module).__name__} was not called as a module, so nothing can be "
                "learned from it."
            )
        if not all(seen.is_sound for seen in calls.seen):
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
        """Return a plain model with what was learned, and the statistics of the last batch.

        Of a batch that took several calls they are those of all calls together.

        Raises:
            ModelError: a batch norm ran several times in one call, each time with other statistics.
        """
        with self._network.lock:
            return self._learner.merge()

    def state(self) -> State:
        """Return the learned parameters, the momentum, the last statistics and a count of batches."""
        with self._network.lock:
            return self._learner.state() | {"batches": torch.tensor(self._batches)}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what another adapter of the same settings has learned."""
        take_up = self._learner.read_state(state, ["batches"])
        batches = read_count(state, "batches")
        with self._network.lock, torch.no_grad():
            take_up()
            self._forget()
            self._batches = batches


class _Calls:
    """The calls of a batch: their gradients are taken one by one, and what the norms saw is kept."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self.seen: list[Seen] = []
        self.total = torch.zeros(())
        self.weight = 0.0

    def begin(self) -> None:
        self._loss.begin(len(self.seen))

    def take(self, outputs: Any, seen: Seen, count: int) -> Any:
        measured = self._loss.measure(outputs, count)
        self.seen.append(seen)
        if measured is not None:
            loss, weight = measured
            if not loss.requires_grad:
                raise ModelError(
                    "The loss depends on none of the parameters that are to be learned: the model "
                    "turns gradients off in its forward, or does not use them. Choose other "
                    "parameters or layers."
                )
            torch.autograd.backward(loss)
            self.total = self.total + loss.detach().float().cpu()
            self.weight += weight
        return detach(outputs)

    def pool(self) -> Seen:
        """Return what the layers normalized by in all calls together."""
        if len(self.seen) == 1:
            return self.seen[0]
        pooled = Seen()
        for name in dict.fromkeys(name for seen in self.seen for name in seen.used):
            used = [seen.used[name] for seen in self.seen if name in seen.used]
            together = _pool_evenly(used)
            twice = any(name in seen.layers_run_twice for seen in self.seen)
            for _ in range(2 if twice else 1):
                pooled.add(name, together, 1, together)
        return pooled


def _pool_evenly(statistics: Sequence[Statistics]) -> Statistics:
    """Return the statistics of as many values of each."""
    together = statistics[0]
    for count, more in enumerate(statistics[1:], start=1):
        together = pool(together, count, more, 1)
    return together


def detach(outputs: Any) -> Any:
    """Return what a network gave, in lists, tuples and mappings, without its graph."""
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


def read_parameters(
    state: Mapping[str, torch.Tensor], kind: str, like: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return of a state the tensors ``kind/NAME`` of each name, checked."""
    return {name: copy_tensor(state, f"{kind}/{name}", value) for name, value in like.items()}
