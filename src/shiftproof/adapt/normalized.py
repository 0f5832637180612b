"""A network's forward pass with the statistics of the batch at hand, for all that learn by gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.adapt.normalization import BatchNormLayers, Choice, Choose, Seen
from shiftproof.adapt.norms import all_batch_norm_layers, is_tracked
from shiftproof.adapt.shares import Prior, Shares
from shiftproof.adapt.statistics import (
    Statistics,
    batch_statistics,
    blend,
    pool_processes,
)


class NormalizedNetwork:
    """A network whose batch norm mixes the batch's statistics with the source's.

    The gradient flows through the batch's own statistics as far as they are in the mixture. With an
    infinite prior nothing is followed, and the statistics are the source's.

    Args:
        network: an adapter's copy.
        prior: as ``BatchNorm`` takes it.

    Attributes:
        source: the statistics that each followed layer came with.

    Raises:
        ModelError: a part of the network has batch norm that cannot be followed.
    """

    def __init__(self, network: AdaptedNetwork, prior: Prior) -> None:
        self._network = network
        self._prior: Prior = prior
        self._norms = None if prior == math.inf else _follow(network)
        self.source: dict[str, Statistics] = {} if self._norms is None else self._norms.source

    @contextmanager
    def run(self, inputs: torch.Tensor) -> Iterator[tuple[torch.Tensor, Seen]]:
        """Give all outputs for a batch, and what the batch norm saw.

        Gradients are taken within the context: checkpointed layers run again for them.
        """
        # Autocast keeps the half-precision copies of parameters for as long as it lasts, also
        # when the parameters have learned meanwhile.
        torch.clear_autocast_cache()
        seen = Seen()
        if self._norms is None:
            yield self._network.forward_all(inputs), seen
            return
        with self._norms.normalizing(self._make_chooser(self._norms, len(inputs), seen)):
            outputs = self._norms.run(lambda: self._network.forward_all(inputs))
            seen.close()
            yield outputs, seen

    def answer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch; with the source's statistics where its own are not finite."""
        with self.run(inputs) as (outputs, seen):
            logits = self._network.of_classes(outputs)
        return logits if seen.is_sound else self._network.forward(inputs)

    def _make_chooser(self, norms: BatchNormLayers, count: int, seen: Seen) -> Choose:
        """Return what gives each layer its statistics for a batch of ``count`` images."""
        shares = Shares(self._prior)

        def choose(name: str, values: torch.Tensor) -> Choice:
            source = norms.source[name]
            with torch.no_grad():
                batch = batch_statistics(values.detach())
                target, images = pool_processes(batch, count, norms.layers[name])
                share = shares.measure(
                    name, source, values, count=images, images=count, again=seen.is_closed
                )
                used = blend(source, target, share) if share > 0 else source
            seen.add(name, target, images, used)
            return Choice(used, target, share)

        return choose


def _follow(network: AdaptedNetwork) -> BatchNormLayers:
    layers = all_batch_norm_layers(network.module)
    tracked = {name: layer for name, layer in layers.items() if is_tracked(layer)}
    return BatchNormLayers(network.module, tracked)
