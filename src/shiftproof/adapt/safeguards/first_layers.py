"""A network's predictions with only its first layers normalized by the batch."""

from __future__ import annotations

import torch

from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.learning.source_check import FIRST_LAYERS
from shiftproof.adapt.normalization.batch_norm_layers import (
    ChooseStatistics,
    Normalization,
    ObservedStatistics,
)
from shiftproof.adapt.normalization.passes import HookedNetwork, StatisticsPolicy, use_batch
from shiftproof.errors import ModelError


class FirstLayers:
    """Runs a network whose first :data:`FIRST_LAYERS` batch norms normalize by the batch.

    A corruption changes the first layers most, and classes the last ones. So this removes most of a
    shift, but little of the effect of few classes. The network is unchanged after each pass.

    Args:
        network: a copy of the model whose parameters do not learn.
    """

    def __init__(self, network: AdaptedNetwork) -> None:
        self._network = network
        self._hooked: HookedNetwork | None = None

    def predict(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return the logits ``(N, K)``.

        None if the network has no further batch norms, or some that hooks cannot control. Processes
        do not pool their batches, since not all may call this.

        Args:
            inputs: ``(N, ...)``, prepared.
        """
        try:
            if self._hooked is None:
                self._hooked = HookedNetwork(self._network)
            if len(self._hooked.layers) <= FIRST_LAYERS:
                return None
            return self._hooked.predict(inputs, use_batch_in_first_layers(len(inputs)))[0]
        except ModelError:
            return None


def use_batch_in_first_layers(images: int, count: int = FIRST_LAYERS) -> StatisticsPolicy:
    """Normalize by the batch's statistics in the first layers, by the source's in the others.

    Args:
        images: number of images of the batch.
        count: number of first layers.
    """
    use_own = use_batch(0, images, pools=False)

    def make_chooser(network: HookedNetwork, observed: ObservedStatistics) -> ChooseStatistics:
        choose_own, ran = use_own(network, observed), 0

        def choose(name: str, values: torch.Tensor) -> Normalization:
            nonlocal ran
            ran += 1
            return choose_own(name, values) if ran <= count else Normalization(network.source[name])

        return choose

    return make_chooser
