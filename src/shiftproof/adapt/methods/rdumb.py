"""RDumb: periodic resets to the source (Press et al. 2023, arXiv 2306.05401)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, TypeVar, final

import torch

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.adapt.base.events import Event, EventLog
from shiftproof.adapt.base.options import check_count
from shiftproof.adapt.base.tensors import copy_tensor
from shiftproof.adapt.base.wrapper import WrappingAdapter
from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.types import Image, Images, Logits, Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

_COUNT = "rdumb/batches"

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


@final
class RDumb(WrappingAdapter):
    """An adapter that is reset to the source after every ``every`` batches.

    On very long, changing streams, methods of continual adaptation end with a lower accuracy than
    the source; with resets they do not (Press et al. 2023, arXiv 2306.05401, who reset every 1,000
    steps).

    Differs from the paper: it wraps any adapter, where the paper resets entropy minimization with
    weighted samples.

    Args:
        adapter: the adapter to reset.
        every: batches between two resets, 1 or more; predictions made while frozen do not count.

    Raises:
        InputError: ``every`` is below 1, or ``adapter`` is none.

    >>> import torch
    >>> from shiftproof.adapt import SelfLearning
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 3))
    >>> adapted = RDumb(SelfLearning(net), every=2)
    >>> for _ in range(3):
    ...     outputs = adapted(torch.rand(8, 3, 2, 2))
    >>> [event.batch for event in adapted.events]
    [2]
    """

    def __init__(self, adapter: Adapter, *, every: int = 1000) -> None:
        super().__init__(adapter)
        self.every = check_count("every", every)

    def _forget(self) -> None:
        self._since = 0
        self._batches = 0
        self._events = EventLog()

    def __repr__(self) -> str:
        return f"RDumb({self.inner!r}, every={self.every})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return self._settings({"adapter": "rdumb", "every": self.every})

    @property
    def events(self) -> Sequence[Event]:
        """The resets, and the wrapped adapter's events."""
        return self._collect_events().events

    def _collect_events(self) -> EventLog:
        """Return the events so far, with those of the wrapped adapter since the last reset."""
        start = self._batches - self._since
        inner = [dataclasses.replace(e, batch=start + e.batch) for e in self.inner.events]
        return EventLog([*self._events.events, *inner])

    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Predict and learn as the wrapped adapter does."""
        return self._count_batch(images, self.inner.predict)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Predict and learn as the wrapped adapter does."""
        return self._count_batch(batch, self.inner)

    def _count_batch(self, batch: _Batch, predict: Callable[[_Batch], _Result]) -> _Result:
        """Return ``predict(batch)``, after a reset if one is due."""
        with self._lock:
            if self._freezes or not _has_images(batch):
                return predict(batch)
            due = self._since >= self.every
            result = self._reset_and_predict(batch, predict) if due else predict(batch)
            self._since += 1
            self._batches += 1
            return result

    def _reset_and_predict(self, batch: _Batch, predict: Callable[[_Batch], _Result]) -> _Result:
        """Reset and predict; undo the reset if the prediction fails."""
        events, state = self._collect_events(), self.inner.state()
        self.inner.reset()
        try:
            result = predict(batch)
        except BaseException:
            self.inner.load_state(state)
            raise
        self._events = events
        self._events.add("reset", self._batches, f"Reset after {pluralize(self.every, 'batch')}.")
        self._since = 0
        return result

    def merge(self) -> torch.nn.Module:
        """Return the wrapped adapter's plain model."""
        return self.inner.merge()

    def state(self) -> State:
        """Return the wrapped adapter's state and the batches since the last reset."""
        with self._lock:
            return {**self.inner.state(), _COUNT: torch.tensor([self._since, self._batches])}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        since, batches = copy_tensor(state, _COUNT, torch.tensor([0, 0])).tolist()
        if not 0 <= since <= min(batches, self.every):
            raise InputError(
                f"The state is damaged: {since} of {pluralize(batches, 'batch')} since the last reset, which "
                f"comes every {self.every}."
            )
        with self._lock:
            self.inner.load_state({name: value for name, value in state.items() if name != _COUNT})
            self._forget()
            self._since, self._batches = since, batches


def _has_images(batch: object) -> bool:
    """Whether a batch has images; for other types the wrapped adapter raises the error."""
    try:
        return isinstance(batch, Sized) and len(batch) > 0
    except TypeError:
        return False
