"""The base class of adapted detectors and segmenters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from shiftproof.adapt.base.events import Event
from shiftproof.adapt.base.options import check_count
from shiftproof.classes import Classes
from shiftproof.models.any_size import check_images
from shiftproof.models.module import ModelLike
from shiftproof.types import Image, Settings

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.base.adapter import State
    from shiftproof.adapt.base.probabilities import Probabilities
    from shiftproof.adapt.dense.methods import Method

Answer_co = TypeVar("Answer_co", covariant=True)

POINTS = 4
"""Grid points per side at which a guard compares predictions of an image."""


class DenseModel(ModelLike, Protocol[Answer_co]):
    """A detector or segmenter whose network can be replaced."""

    def predict_with(self, network: Any, images: Sequence[Image]) -> Sequence[Answer_co]:
        """Run a batch with ``network`` instead of its own network."""


Model = TypeVar("Model", bound=DenseModel[Any])
Answer = TypeVar("Answer")


class AdaptedModel(Generic[Model, Answer]):
    """A model whose network adapts to its images; the wrapped model is never changed.

    Args:
        model: the model to adapt.
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
        """The settings that reproduce it, for JSON; the wrapped model's under its role."""
        return {**_drop_module(self._method.settings), self._role: self._model.settings}

    @property
    def events(self) -> Sequence[Event]:
        """Skipped steps and batches, and the decisions of a guard."""
        return self._method.events

    def frozen(self) -> AbstractContextManager[None]:
        """Predict without learning; a batch's own statistics are still used."""
        return self._method.frozen()

    def end_epoch(self) -> None:
        """End a pass over all images; used by ``batchnorm:over=set``."""
        self._method.end_epoch()

    def reset(self) -> None:
        """Restore the initial state."""
        self._method.reset()

    def state(self) -> State:
        """Return the learned state as copies on the CPU; this is what ``adapt.save`` writes."""
        return self._method.state()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the state of an instance with the same settings."""
        self._method.load_state(state)

    def _predict(self, images: Sequence[Image], batch_size: int) -> list[Answer]:
        check_count("batch_size", batch_size)
        check_images(images)
        found: list[Answer] = []
        for start in range(0, len(images), batch_size):
            batch = list(images[start : start + batch_size])
            found += self._run(batch)
        return found

    def _run(self, batch: list[Image]) -> Sequence[Answer]:
        """Adapt to a batch and return its predictions; under a guard with the compared
        probabilities.
        """
        from shiftproof.adapt.safeguards.guard import Guard

        if isinstance(self._method, Guard):
            answers, _ = self._method.run_batch(
                lambda network: self._look(network, batch), len(batch), lambda outputs: outputs[1]
            )
            return answers
        return self._method.run_batch(self._predict_with(batch), len(batch))

    def _predict_with(self, batch: list[Image]) -> Callable[[Any], Sequence[Answer]]:
        return lambda network: self._model.predict_with(network, batch)

    @abstractmethod
    def _look(self, network: Any, batch: list[Image]) -> tuple[Sequence[Answer], Probabilities]:
        """Return the predictions, and the probabilities at ``POINTS`` by ``POINTS`` points of each
        image.
        """


def _drop_module(settings: Settings) -> Settings:
    """Remove the network from an adapter's settings, which contain the model anyway."""
    kept = {name: value for name, value in settings.items() if name != "module"}
    if isinstance(kept.get("inner"), Mapping):
        kept["inner"] = _drop_module(cast("Settings", kept["inner"]))
    return kept
