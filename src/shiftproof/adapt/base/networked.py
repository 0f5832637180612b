"""The base classes of adapters with a private copy of the network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.adapt.base.events import Event, EventLog
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.tensors import check_names
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Image, Images, Logits

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.base.adapter import State


class NetworkAdapter(Adapter):
    """An adapter with a copy of the network, ``_network``, and one ``_step`` per batch."""

    _network: AdaptedNetwork

    @abstractmethod
    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        """Take a prepared batch of one image or more, learn unless frozen, and return its logits."""

    @property
    def classifier(self) -> Classifier:
        """The classifier that is adapted."""
        return self._network.classifier

    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Adapt to a batch and return its logits; all else as ``Classifier.predict``."""
        return self._network.predict(images, self._step)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Adapt to a batch and return its logits, without gradients.

        Args:
            batch: on a ``Classifier``, as its ``__call__`` takes it. On a plain module, what
                that module takes, with the images along the first axis.

        Returns:
            What the classifier or the module returns.
        """
        return self._network.call(batch, self._step)

    def frozen(self) -> AbstractContextManager[None]:
        """Predict without learning; a batch's own statistics are still used."""
        return self._network.frozen()


class EpisodicAdapter(NetworkAdapter):
    """An adapter that keeps no state between batches; its constructor ends with ``reset()``."""

    _batches: int
    _events: EventLog

    @property
    def events(self) -> Sequence[Event]:
        """Skipped steps."""
        return self._events.events

    def end_epoch(self) -> None:
        """Do nothing: there is no state."""

    def reset(self) -> None:
        """Clear the events: there is no other state."""
        with self._network.lock:
            self._batches = 0
            self._events = EventLog()

    def merge(self) -> torch.nn.Module:
        """Return a copy of the model, since there is no state."""
        return self._network.copy()

    def state(self) -> State:
        """Return an empty state."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Check that the state is empty."""
        check_names(state, ())

    def _skip(self, reason: str) -> None:
        """Record that a step was skipped, and why, unless frozen."""
        if not self._network.is_frozen:
            self._events.add("skipped", self._batches, reason)

    def _count_batch(self) -> None:
        """Count a batch, unless frozen, for the batch index of events."""
        if not self._network.is_frozen:
            self._batches += 1
