"""What adapters that work on a copy of the network have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.events import Event, EventLog
from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.adapt.tensors import check_names
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Image, Images, Logits

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.adapter import State


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
        """Predict with what has been learned, and a batch's own statistics as ever."""
        return self._network.frozen()


class EpisodicAdapter(NetworkAdapter):
    """An adapter that carries nothing from batch to batch; its constructor ends with ``reset()``."""

    _batches: int
    _events: EventLog

    @property
    def events(self) -> Sequence[Event]:
        """Images and batches for which no step was taken; none of a method without steps."""
        return self._events.events

    def end_epoch(self) -> None:
        """Do nothing: nothing is kept."""

    def reset(self) -> None:
        """Forget the events: nothing else is kept."""
        with self._network.lock:
            self._batches = 0
            self._events = EventLog()

    def merge(self) -> torch.nn.Module:
        """Return a copy of the model, since nothing is kept."""
        return self._network.copy()

    def state(self) -> State:
        """Return nothing."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up nothing."""
        check_names(state, ())

    def _skip(self, reason: str) -> None:
        """Note that no step was taken, and why, unless frozen: then none was wanted."""
        if not self._network.is_frozen:
            self._events.add("skipped", self._batches, reason)

    def _count_batch(self) -> None:
        """Count a batch that may be learned from: the number that events have."""
        if not self._network.is_frozen:
            self._batches += 1
