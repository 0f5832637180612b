"""Instance-aware batch norm: corrects images that differ significantly.

Gong et al. 2022 (arXiv 2208.05117, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from shiftproof.adapt.base.tensors import widen
from shiftproof.adapt.normalization.batch_norm_layers import (
    ChooseStatistics,
    Normalization,
    ObservedStatistics,
    read_eps,
)
from shiftproof.adapt.normalization.passes import (
    HookedNetwork,
    StatisticsPolicy,
    detach,
    pass_normalized,
)
from shiftproof.adapt.normalization.statistics import Statistics, has_single_values


def correct_by_instance(
    values: torch.Tensor, statistics: Statistics, k: float, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and variance of instance-aware batch norm for each image.

    ``mu + shrink(mu_n - mu, k s_mu)`` with ``s_mu = sqrt((sigma^2 + eps) / L)``, and for the
    variance ``sigma^2 + shrink(sigma_n^2 - sigma^2, k s_sigma)``, not below 0, with
    ``s_sigma = (sigma^2 + eps) sqrt(2 / (L - 1))``: the statistics of the layer move towards an
    image's own, ``mu_n`` and ``sigma_n^2`` (unbiased) over its L positions, by the excess over k
    standard errors.

    Args:
        values: ``(N, C, ...)`` floating, a layer's input.
        statistics: ``(C,)`` each, the layer's.
        k: threshold in standard errors; infinity corrects nothing.
        eps: the layer's.

    Returns:
        ``(N, C)`` each; ``(C,)``, the layer's own, where an image has a single position or k is
        infinite.
    """
    positions = values[0, 0].numel() if len(values) else 1
    if positions <= 1 or math.isinf(k):
        return widen(statistics.mean), widen(statistics.variance)
    own_variance, own_mean = torch.var_mean(widen(values).flatten(2), 2, correction=1)
    mean, variance = widen(statistics.mean), widen(statistics.variance)
    error_of_mean = ((variance + eps) / positions).sqrt()
    error_of_variance = (variance + eps) * math.sqrt(2 / (positions - 1))
    corrected = variance + _shrink(own_variance - variance, k * error_of_variance)
    return mean + _shrink(own_mean - mean, k * error_of_mean), corrected.clamp_min(0)


def _shrink(values: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Soft-threshold values: move them towards 0, at most to 0."""
    return torch.relu(values - by) - torch.relu(-values - by)


def use_instances(statistics: Mapping[str, Statistics], k: float) -> StatisticsPolicy:
    """Normalize each image by given statistics, corrected for the image."""

    def make_chooser(network: HookedNetwork, observed: ObservedStatistics) -> ChooseStatistics:
        def choose(name: str, values: torch.Tensor) -> Normalization:
            layer = network.layers[name]
            corrected = correct_by_instance(values, statistics[name], k, read_eps(layer))
            return pass_normalized(layer, values, *corrected)

        return choose

    return make_chooser


def use_batch_and_instances(statistics: Mapping[str, Statistics], k: float) -> StatisticsPolicy:
    """Normalize each image by the batch's statistics, corrected for the image; gradients flow
    through.

    The batch's variance is unbiased, both for the normalization and in the recorded statistics. For
    a batch with a single value per channel, the given statistics are used.
    """

    def make_chooser(network: HookedNetwork, observed: ObservedStatistics) -> ChooseStatistics:
        def choose(name: str, values: torch.Tensor) -> Normalization:
            layer = network.layers[name]
            batch = statistics[name]
            if not has_single_values(values):
                axes = [axis for axis in range(values.ndim) if axis != 1]
                variance, mean = torch.var_mean(widen(values), axes, correction=1)
                batch = Statistics(mean, variance)
            observed.add(name, detach(batch), 1, detach(batch))
            corrected = correct_by_instance(values, batch, k, read_eps(layer))
            return pass_normalized(layer, values, *corrected)

        return choose

    return make_chooser
