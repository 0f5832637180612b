"""Weight of a batch's own statistics in each layer: by a prior, or measured."""

from __future__ import annotations

import collections
import math

from shiftproof.adapt.normalization.priors import MARGIN_PRIORS, Prior, compute_margin
from shiftproof.adapt.normalization.statistics import LayerInput, Statistics


class Shares:
    """The share ``n / (N + n)`` of a batch's statistics in each layer of one forward pass.

    A number is N itself. ``"layerwise"`` measures N in each layer separately
    (:func:`~shiftproof.adapt.normalization.statistics.measure_prior`).
    ``"measured"`` is stricter, since a small
    batch differs from the source by chance and by its content: the distance must exceed the
    expected sampling error several times (:func:`compute_margin`), and a layer's share is
    multiplied by the mean of the shares up to this layer. A corruption changes all layers from the
    first on; missing classes change only the last ones.

    ``"auto"`` is the same here; the source's predictions decide whether the batch's statistics are
    used at all (:class:`~shiftproof.adapt.learning.source_check.SourceCheck`).

    Args:
        prior: N, ``"auto"``, ``"measured"`` or ``"layerwise"``.

    Attributes:
        uses_batch: whether the batch's statistics have weight in any layer so far.
    """

    def __init__(self, prior: Prior) -> None:
        self.prior: Prior = prior
        self.uses_batch = False
        self._measured: list[float] = []
        self._given: dict[str, list[float]] = {}
        self._repeats: collections.Counter[str] = collections.Counter()

    def measure(
        self,
        name: str,
        source: Statistics,
        inputs: LayerInput,
        *,
        count: float,
        images: int,
        again: bool = False,
    ) -> float:
        """Return the share in a layer, from 0 (the source alone) to 1 (the target alone).

        Args:
            name: the layer's.
            source: its running statistics.
            inputs: the layer's input.
            count: n, the number of images of the target statistics, above 0.
            images: number of images of ``inputs``.
            again: the layer runs once more for a gradient, and must get the same share.

        Returns:
            0 without a variance: a single value per channel, and a prior of 0.
        """
        if again:
            given = self._given[name]
            self._repeats[name] += 1
            return given[(self._repeats[name] - 1) % len(given)]
        share = self._choose(source, inputs, count, images)
        self._given.setdefault(name, []).append(share)
        self.uses_batch = self.uses_batch or share > 0
        return share

    def _choose(self, source: Statistics, inputs: LayerInput, count: float, images: int) -> float:
        if isinstance(self.prior, str):
            margin = compute_margin(images) if self.prior in MARGIN_PRIORS else 1.0
            share = _share(inputs.measure_prior(source, margin), count)
            self._measured.append(share)
            if self.prior == "layerwise":
                return share
            return share * sum(self._measured) / len(self._measured)
        if self.prior == 0 and inputs.has_single_values and count <= 1:
            return 0.0
        return _share(self.prior, count)


def _share(prior: float, count: float) -> float:
    return 0.0 if math.isinf(prior) else count / (prior + count)
