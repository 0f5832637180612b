"""What adapters that work on a copy of the network have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Image, Images, Logits

if TYPE_CHECKING:
    import torch


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
