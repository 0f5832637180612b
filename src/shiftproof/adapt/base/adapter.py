"""The base class of adapters: classifiers that learn from the images they predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

from shiftproof.adapt.base.events import Event
from shiftproof.classes import Classes
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.preprocess import Preprocessing
from shiftproof.types import Image, Images, Logits, Settings

if TYPE_CHECKING:
    import torch

    State: TypeAlias = dict[str, torch.Tensor]


class Adapter(ABC):
    """A classifier that adapts to the images it predicts, without labels.

    An adapter wraps a classifier, never changes it, and is itself a classifier, so code for one
    works with the other. ``shiftproof.testing.check_adapter`` holds every adapter to this. A
    concrete adapter is final and implements what is abstract here.
    """

    @property
    @abstractmethod
    def classifier(self) -> Classifier:
        """The classifier that is adapted.

        Raises:
            ModelError: the adapter was put on a plain ``torch.nn.Module``, which knows neither
                classes nor preprocessing.
        """

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings that reproduce it, for JSON; the wrapped classifier's under
        ``classifier``.
        """

    @property
    @abstractmethod
    def events(self) -> Sequence[Event]:
        """Events since the last ``reset()`` that affect the interpretation of results.

        Their number is limited: see ``Event.count``.
        """

    @abstractmethod
    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Adapt to a batch of images and return its logits, as ``Classifier.predict`` does."""

    @abstractmethod
    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Adapt to a batch of tensors and return its logits, as ``Classifier.__call__`` does.

        On a plain ``torch.nn.Module`` the batch is what that module takes, and the result what
        it returns.
        """

    @abstractmethod
    def frozen(self) -> AbstractContextManager[None]:
        """Context in which the adapter predicts without learning.

        What belongs to a single batch and is forgotten after it (its own statistics) is used as
        ever; offline protocols evaluate in here.
        """

    @abstractmethod
    def end_epoch(self) -> None:
        """Notify the adapter of the end of a pass over the target set (offline protocols)."""

    @abstractmethod
    def reset(self) -> None:
        """Restore the initial state exactly."""

    @abstractmethod
    def merge(self) -> torch.nn.Module:
        """Return a plain model with the learned state.

        It is a copy of the wrapped ``torch.nn.Module`` in evaluation mode, of the same class and
        with the same ``state_dict`` keys, takes the same normalized input, shares no tensor with
        it, and needs no shiftproof to run.
        """

    @abstractmethod
    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the parameters learned by gradients: the adapter's own, never the caller's."""

    @abstractmethod
    def state(self) -> State:
        """Return the learned state as copies on the CPU; this is what ``save`` writes."""

    @abstractmethod
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load a state returned by ``state()`` of an adapter with the same settings.

        Raises:
            InputError: it is of another adapter or another model; nothing is changed then.
        """

    @property
    def name(self) -> str:
        """The wrapped classifier's name."""
        return self.classifier.name

    @property
    def classes(self) -> Classes:
        """The wrapped classifier's classes."""
        return self.classifier.classes

    @property
    def preprocess(self) -> Preprocessing:
        """The wrapped classifier's preprocessing."""
        return self.classifier.preprocess
