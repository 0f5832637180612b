"""How much a batch's own statistics count in each layer: given by a prior, or measured."""

from __future__ import annotations

import collections
import math

from shiftproof.adapt.priors import FEW as FEW
from shiftproof.adapt.priors import MARGIN as MARGIN
from shiftproof.adapt.priors import MEASURED as MEASURED
from shiftproof.adapt.priors import Prior as Prior
from shiftproof.adapt.priors import check_numeric_prior as check_numeric_prior
from shiftproof.adapt.priors import check_prior as check_prior
from shiftproof.adapt.priors import margin_of as margin_of
from shiftproof.adapt.statistics import LayerInput, Statistics


class Shares:
    """The share ``n / (N + n)`` of a batch's statistics in each layer of one forward pass.

    With a number N is that. ``"layerwise"`` measures it in each layer by itself
    (:func:`~shiftproof.adapt.statistics.measure_prior`). ``"measured"`` asks for more, as a small batch
    looks unlike the source by chance and by what is on its images: the measured distance must
    exceed what chance gives several times over (:func:`margin_of`), and a layer's share is
    multiplied by the mean of the shares measured so far, from the first layer to itself. A corruption
    shows from the first layers on; classes that are missing show in the last ones alone.

    ``"auto"`` is the same here; whether the batch's statistics are used at all is decided by the
    source's answers (:class:`~shiftproof.adapt.source_check.SourceCheck`).

    Args:
        prior: N, ``"auto"``, ``"measured"`` or ``"layerwise"``.

    Attributes:
        uses_batch: whether the batch's statistics count in any layer so far.
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
            count: n, the number of images that the target statistics are of, above 0.
            images: how many images ``inputs`` are of.
            again: the layer runs once more for a gradient, and must get what it got before.

        Returns:
            0 where there is no variance: a single value per channel, and a prior of 0.
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
            margin = margin_of(images) if self.prior in MEASURED else 1.0
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
