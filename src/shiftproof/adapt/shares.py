"""How much a batch's own statistics count in each layer: given by a prior, or measured."""

from __future__ import annotations

import collections
import math
from typing import Literal, TypeAlias

import torch

from shiftproof.adapt.statistics import Statistics, has_single_values, measure_prior
from shiftproof.errors import InputError

Prior: TypeAlias = float | Literal["auto", "layerwise"]
"""N, the strength of the source statistics in images, or how it is measured."""

MARGIN = 3.0
"""How many times what chance alone gives the distance from the source must be, for ``"auto"``, in
large batches."""

FEW = 6.0
"""How much more is asked of few images: ``MARGIN (1 + FEW / (n - 1))``. What chance gives is itself
measured on n images, with n - 1 degrees of freedom, and of few it is often far too small. Both were
chosen on clean images (``benchmarks/batch_sizes.py``)."""


def margin_of(images: int) -> float:
    """Return how many times what chance gives the distance must be in a batch of so many images."""
    return MARGIN * (1 + FEW / max(images - 1, 1))


def check_prior(prior: Prior) -> Prior:
    """Return a prior strength that can be used, or raise an InputError."""
    if prior == "auto" or prior == "layerwise":
        return prior
    if isinstance(prior, bool) or not isinstance(prior, (int, float)):
        raise InputError(
            f"prior: expected a number, 0 or more, or 'auto' or 'layerwise', got {prior!r}."
        )
    if math.isnan(prior) or prior < 0:
        raise InputError(f"prior: expected 0 or more (float('inf') does not adapt), got {prior!r}.")
    return prior


def check_numeric_prior(prior: Prior) -> float:
    """Return a prior strength that is a number, for methods that measure none.

    Raises:
        InputError: it is none, or below 0.
    """
    checked = check_prior(prior)
    if isinstance(checked, str):
        raise InputError(f"prior: expected a number, 0 or more, got {prior!r}.")
    return checked


class Shares:
    """The share ``n / (N + n)`` of a batch's statistics in each layer of one forward pass.

    With a number N is that. ``"layerwise"`` measures it in each layer by itself
    (:func:`~shiftproof.adapt.statistics.measure_prior`). ``"auto"`` asks for more, as a small batch
    looks unlike the source by chance and by what is on its images: the measured distance must
    exceed what chance gives several times over (:func:`margin_of`), and a layer's share is
    multiplied by the mean of the shares measured so far, from the first layer to itself. A corruption
    shows from the first layers on; classes that are missing show in the last ones alone.

    Args:
        prior: N, ``"auto"`` or ``"layerwise"``.
    """

    def __init__(self, prior: Prior) -> None:
        self.prior: Prior = prior
        self._measured: list[float] = []
        self._given: dict[str, list[float]] = {}
        self._repeats: collections.Counter[str] = collections.Counter()

    def measure(
        self,
        name: str,
        source: Statistics,
        inputs: torch.Tensor,
        *,
        count: float,
        images: int,
        again: bool = False,
    ) -> float:
        """Return the share in a layer, from 0 (the source alone) to 1 (the target alone).

        Args:
            name: the layer's.
            source: its running statistics.
            inputs: ``(N, C, ...)``, what it is about to normalise.
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
        return share

    def _choose(self, source: Statistics, inputs: torch.Tensor, count: float, images: int) -> float:
        if isinstance(self.prior, str):
            margin = margin_of(images) if self.prior == "auto" else 1.0
            share = _share(measure_prior(source, inputs, images, margin=margin), count)
            self._measured.append(share)
            if self.prior == "layerwise":
                return share
            return share * sum(self._measured) / len(self._measured)
        if self.prior == 0 and has_single_values(inputs) and count <= 1:
            return 0.0
        return _share(self.prior, count)


def _share(prior: float, count: float) -> float:
    return 0.0 if math.isinf(prior) else count / (prior + count)
