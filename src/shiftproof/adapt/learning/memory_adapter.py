"""The base class of adapters that learn from a memory of images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import torch

from shiftproof.adapt.base.events import Event, EventLog
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.learning.steps import GradientSteps

Learned = TypeVar("Learned")


class MemoryAdapter(NetworkAdapter, Generic[Learned]):
    """An adapter that takes its ``_steps`` on a memory of images.

    Its constructor ends with ``_first = self._capture()``, the state to which ``reset`` returns.
    """

    _steps: GradientSteps
    _batches: int
    _events: EventLog
    _first: Learned

    @abstractmethod
    def _capture(self) -> Learned:
        """Return the adapted state, immutable."""

    @abstractmethod
    def _restore(self, learned: Learned) -> None:
        """Restore a state of ``_capture``."""

    @property
    def events(self) -> Sequence[Event]:
        """Images and steps that were skipped."""
        return self._events.events

    def end_epoch(self) -> None:
        """Do nothing: the memory is kept after a pass."""

    def reset(self) -> None:
        """Return to the source model."""
        with self._network.lock:
            self._restore(self._first)
            self._events = EventLog()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the parameters that take the steps."""
        return iter(self._steps.parameters.values())

    def _note(self, kind: str, reason: str) -> None:
        self._events.add(kind, self._batches, reason)
