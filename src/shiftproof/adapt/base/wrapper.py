"""The base class of adapters that wrap an adapter."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.errors import InputError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    import torch


class WrappingAdapter(Adapter):
    """An adapter around another, ``inner``, which does the learning.

    Args:
        adapter: the wrapped adapter.

    Raises:
        InputError: it is no adapter.
    """

    def __init__(self, adapter: Adapter) -> None:
        given: object = adapter
        if not isinstance(given, Adapter):
            name = type(self).__name__
            raise InputError(
                f"adapter: expected an adapter to be wrapped, got {type(adapter).__name__}; "
                f"wrap the model first, as in {name}(SelfLearning(model))."
            )
        self.inner = adapter
        self._freezes = 0
        self._lock = threading.RLock()
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """Omit the lock and open contexts, which a copy does not share."""
        kept = {name: value for name, value in vars(self).items() if name != "_lock"}
        return {**kept, "_freezes": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()

    @abstractmethod
    def _forget(self) -> None:
        """Clear the wrapper's own state."""

    @property
    def classifier(self) -> Classifier:
        """The classifier that is adapted."""
        return self.inner.classifier

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Context for predictions without learning; its batches are not counted."""
        with self._lock:
            self._freezes += 1
        try:
            with self.inner.frozen():
                yield
        finally:
            with self._lock:
                self._freezes -= 1

    def end_epoch(self) -> None:
        """End the pass in the wrapped adapter."""
        self.inner.end_epoch()

    def reset(self) -> None:
        """Restore the initial state."""
        with self._lock:
            self.inner.reset()
            self._forget()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the wrapped adapter's parameters."""
        return self.inner.parameters()

    def _settings(self, own: Settings) -> Settings:
        """Return ``own`` settings with the wrapped adapter's, the classifier outermost."""
        inner = dict(self.inner.settings)
        outer = {"classifier": inner.pop("classifier")} if "classifier" in inner else {}
        return {**own, "inner": inner, **outer}
