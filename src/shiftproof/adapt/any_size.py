"""What adapted detectors and segmenters share: a model of any sizes whose network adapts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from shiftproof.adapt.events import Event
from shiftproof.classes import Classes
from shiftproof.errors import InputError
from shiftproof.types import Image, Settings

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.adapter import State
    from shiftproof.adapt.dense_methods import Method
    from shiftproof.adapt.probabilities import Probabilities

Answer_co = TypeVar("Answer_co", covariant=True)

POINTS = 4
"""Points to a side of an image that a guard compares: their answers stand for the image."""


class Wrapped(Protocol[Answer_co]):
    """A model of images around a network, which can be run with another network in its place."""

    @property
    def name(self) -> str:
        """What records call it."""

    @property
    def classes(self) -> Classes:
        """What it tells apart."""

    @property
    def settings(self) -> Settings:
        """What reproduces it."""

    def through(self, network: Any, images: Sequence[Image]) -> Sequence[Answer_co]:
        """Take a batch through ``network``, which stands for its own."""


Model = TypeVar("Model", bound=Wrapped[Any])
Answer = TypeVar("Answer")


class AdaptedModel(Generic[Model, Answer]):
    """A model whose network adapts to the images that it sees; what it wraps it never changes.

    Args:
        model: what is adapted.
        method: adapts the network of ``model``.
        role: the key of the wrapped model's settings among its own: "detector".
    """

    def __init__(self, model: Model, method: Method, *, role: str) -> None:
        self._model = model
        self._method = method
        self._role = role

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model!r}, {self._method!r})"

    @property
    def name(self) -> str:
        """The wrapped model's name."""
        return self._model.name

    @property
    def classes(self) -> Classes:
        """The wrapped model's classes."""
        return self._model.classes

    @property
    def settings(self) -> Settings:
        """What reproduces it, as JSON takes it; the wrapped model's under its role."""
        return {**_without_module(self._method.settings), self._role: self._model.settings}

    @property
    def events(self) -> Sequence[Event]:
        """Steps and batches that did not count, and what a guard decided."""
        return self._method.events

    def frozen(self) -> AbstractContextManager[None]:
        """Predict with what has been learned, and a batch's own statistics as ever."""
        return self._method.frozen()

    def end_epoch(self) -> None:
        """Take note that one pass over all images is through: ``batchnorm:over=set`` uses it."""
        self._method.end_epoch()

    def reset(self) -> None:
        """Forget everything that was learned and seen."""
        self._method.reset()

    def state(self) -> State:
        """Return what was learned, as copies on the CPU: what ``adapt.save`` writes."""
        return self._method.state()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what another one of the same settings has learned."""
        self._method.load_state(state)

    def _predict(self, images: Sequence[Image], batch_size: int) -> list[Answer]:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: expected a number of 1 or more, got {batch_size!r}.")
        found: list[Answer] = []
        for start in range(0, len(images), batch_size):
            batch = list(images[start : start + batch_size])
            found += self._run(batch)
        return found

    def _run(self, batch: list[Image]) -> Sequence[Answer]:
        """Adapt to a batch and return its answers; under a guard with what it compares."""
        from shiftproof.adapt.guard import Guard

        if isinstance(self._method, Guard):
            answers, _ = self._method.run_batch(
                lambda network: self._look(network, batch), len(batch), lambda looked: looked[1]
            )
            return answers
        return self._method.run_batch(self._through(batch), len(batch))

    def _through(self, batch: list[Image]) -> Callable[[Any], Sequence[Answer]]:
        return lambda network: self._model.through(network, batch)

    @abstractmethod
    def _look(self, network: Any, batch: list[Image]) -> tuple[Sequence[Answer], Probabilities]:
        """Return the answers, and the probabilities of ``POINTS`` by ``POINTS`` points of each image."""


def _without_module(settings: Settings) -> Settings:
    """Leave the network out of an adapter's settings: the model around it is named beside them."""
    kept = {name: value for name, value in settings.items() if name != "module"}
    if isinstance(kept.get("inner"), Mapping):
        kept["inner"] = _without_module(cast("Settings", kept["inner"]))
    return kept
