"""A network's answers where its first layers alone normalize by the batch."""

from __future__ import annotations

import torch

from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.adapt.normalization import Choice, Choose, Seen
from shiftproof.adapt.passes import ChooseFor, FollowedNetwork, by_batch
from shiftproof.adapt.source_check import FIRST_LAYERS
from shiftproof.errors import ModelError


class FirstLayers:
    """Runs a network whose first :data:`FIRST_LAYERS` batch norms normalize by the batch.

    A corruption shows in the first layers, and classes in the last ones. So this removes most of a
    shift, and leaves most of what few classes are seen by. The network is followed from the first
    pass on, and is as it was after each.

    Args:
        network: a copy of the model whose parameters do not learn.
    """

    def __init__(self, network: AdaptedNetwork) -> None:
        self._network = network
        self._followed: FollowedNetwork | None = None

    def predict(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return the logits ``(N, K)``.

        None if the network has no other batch norms, in which classes would show alone, or some that
        cannot be followed. Processes do not pool their batches: one may ask where another does not.

        Args:
            inputs: ``(N, ...)``, prepared.
        """
        try:
            if self._followed is None:
                self._followed = FollowedNetwork(self._network)
            if len(self._followed.layers) <= FIRST_LAYERS:
                return None
            return self._followed.predict(inputs, by_first_layers(len(inputs)))[0]
        except ModelError:
            return None


def by_first_layers(images: int, count: int = FIRST_LAYERS) -> ChooseFor:
    """Normalize by the batch's statistics in the layers that run first, by the source's in the others.

    Args:
        images: of the batch.
        count: how many layers.
    """
    by_own = by_batch(0, images, pools=False)

    def choose_for(network: FollowedNetwork, seen: Seen) -> Choose:
        choose_own, ran = by_own(network, seen), 0

        def choose(name: str, values: torch.Tensor) -> Choice:
            nonlocal ran
            ran += 1
            return choose_own(name, values) if ran <= count else Choice(network.source[name])

        return choose

    return choose_for
