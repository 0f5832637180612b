"""What detectors and segmenters share that adapt their batch-norm statistics and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from shiftproof.adapt.events import Event
from shiftproof.adapt.table import ADAPTERS, make_adapter
from shiftproof.classes import Classes
from shiftproof.errors import InputError
from shiftproof.types import Image, Settings

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.adapter import State
    from shiftproof.adapt.batchnorm import BatchNorm

Answer_co = TypeVar("Answer_co", covariant=True)


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


class StatisticsAlone(Generic[Model, Answer]):
    """A model whose batch-norm layers normalize by the images they see (Schneider et al. 2020).

    What it wraps it never changes.

    Args:
        model: what is adapted.
        batchnorm: adapts the network of ``model``.
        role: the key of the wrapped model's settings among its own: "detector".
    """

    def __init__(self, model: Model, batchnorm: BatchNorm, *, role: str) -> None:
        self._model = model
        self._batchnorm = batchnorm
        self._role = role

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model!r}, {self._batchnorm!r})"

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
        own = {k: v for k, v in self._batchnorm.settings.items() if k != "module"}
        return {**own, self._role: self._model.settings}

    @property
    def events(self) -> Sequence[Event]:
        """Batches that were not finite and so did not count."""
        return self._batchnorm.events

    def frozen(self) -> AbstractContextManager[None]:
        """Predict with what has been learned, and a batch's own statistics as ever."""
        return self._batchnorm.frozen()

    def end_epoch(self) -> None:
        """With ``over="set"``: what this pass has collected is used from now on."""
        self._batchnorm.end_epoch()

    def reset(self) -> None:
        """Forget all images that were seen."""
        self._batchnorm.reset()

    def state(self) -> State:
        """Return the statistics that were learned."""
        return self._batchnorm.state()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up the statistics that another one of the same settings has learned."""
        self._batchnorm.load_state(state)

    def _predict(self, images: Sequence[Image], batch_size: int) -> list[Answer]:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: expected a number of 1 or more, got {batch_size!r}.")
        found: list[Answer] = []
        for start in range(0, len(images), batch_size):
            batch = list(images[start : start + batch_size])
            found += self._batchnorm.run_batch(self._through(batch), len(batch))
        return found

    def _through(self, batch: list[Image]) -> Callable[[Any], Sequence[Answer]]:
        return lambda network: self._model.through(network, batch)


def batch_norm_of(module: object, adapter: BatchNorm | str, *, what: str, gives: str) -> BatchNorm:
    """Return the batch norm that a spec names, or that was handed in.

    A method that learns is refused before it is made: whatever it would lack is beside the point.

    Args:
        module: the network, on torch.
        adapter: the spec, or the batch norm.
        what: the kind of the model, for errors: "detector".
        gives: what such a model answers: "a detector gives boxes".

    Raises:
        InputError: another adapter, or a name that is none.
    """
    from shiftproof.adapt.batchnorm import BatchNorm

    made: object = adapter
    method = adapter.partition(":")[0].strip() if isinstance(adapter, str) else ""
    if method == "batchnorm" or (method and method.split("+")[0] not in ADAPTERS):
        # A name that no adapter has is said there.
        made = make_adapter(str(adapter), cast("torch.nn.Module", module))
    if not isinstance(made, BatchNorm):
        raise InputError(
            f"{adapter!r}: expected batchnorm with its options, which alone adapts a {what}. The "
            f"others learn from one answer per image, and {gives}."
        )
    return made
