"""Forward passes of a network with chosen batch-norm statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias, cast

import torch

from shiftproof.adapt.base.network import AdaptedNetwork, describe_output
from shiftproof.adapt.base.tensors import widen
from shiftproof.adapt.normalization.batch_norm_layers import (
    BatchNormLayers,
    ChooseStatistics,
    Normalization,
    ObservedStatistics,
    read_eps,
)
from shiftproof.adapt.normalization.norm_layers import (
    find_tracked_batch_norm_layers,
    make_several_runs_error,
)
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.adapt.normalization.shares import Shares
from shiftproof.adapt.normalization.statistics import (
    LayerInput,
    Statistics,
    are_all_finite,
    blend,
    pool_processes,
    write_statistics,
)
from shiftproof.errors import ModelError

StatisticsPolicy: TypeAlias = Callable[["HookedNetwork", ObservedStatistics], ChooseStatistics]
"""For one pass of a network, returns the function that chooses and records each layer's
statistics.
"""


class HookedNetwork:
    """A network whose batch norm, if any, is controlled by hooks.

    Attributes:
        network: the adapter's copy.
        source: the initial statistics of each batch-norm layer, by name; empty without batch norm.
        layers: the batch-norm layers by name.

    Raises:
        ModelError: a part has batch norm that hooks cannot control.
    """

    def __init__(self, network: AdaptedNetwork) -> None:
        self.network = network
        self._norms = BatchNormLayers(
            network.module, find_tracked_batch_norm_layers(network.module)
        )
        self.source = self._norms.source
        self.layers = self._norms.layers

    @contextmanager
    def run(
        self, inputs: torch.Tensor, choose: StatisticsPolicy
    ) -> Iterator[tuple[torch.Tensor, ObservedStatistics]]:
        """Context with the logits of the classes, and the pass's statistics.

        Gradients are computed within the context: checkpointed parts run again for them.

        Raises:
            ModelError: the network gives no logits ``(N, K)``.
        """
        # Autocast keeps half-precision copies of parameters that have learned meanwhile.
        torch.clear_autocast_cache()
        observed = ObservedStatistics()
        if torch.is_grad_enabled():
            # A reentrant checkpoint needs an input that requires a gradient; a copy, since a leaf
            # that requires one cannot be changed in place.
            inputs = inputs.detach().requires_grad_().clone()
        with self._norms.normalizing(choose(self, observed)):
            outputs = self._norms.run(lambda: self.network.forward(inputs))
            if not isinstance(outputs, torch.Tensor) or outputs.shape[:-1] != (len(inputs),):
                raise ModelError(
                    f"Expected logits ({len(inputs)}, K) of the model, got "
                    f"{describe_output(outputs)}."
                )
            observed.close()
            yield outputs, observed

    def predict(
        self, inputs: torch.Tensor, choose: StatisticsPolicy
    ) -> tuple[torch.Tensor, ObservedStatistics]:
        """Return the logits and statistics of ``run``, without gradients."""
        with torch.no_grad(), self.run(inputs, choose) as (logits, observed):
            return logits, observed

    def copy_with(
        self, statistics: Mapping[str, Statistics], run_twice: list[str] | None = None
    ) -> torch.nn.Module:
        """Return a plain copy whose batch norm has other statistics.

        Raises:
            ModelError: there is a layer in ``run_twice``, which has no single set of statistics.
        """
        if run_twice:
            raise make_several_runs_error(run_twice[0])
        with torch.no_grad():
            module = self.network.copy()
            write_statistics(module, statistics)
        return module


# ---------------------------------------------------------------- policies


def use_batch(
    prior: Prior, images: int, *, count: float | None = None, pools: bool = True
) -> StatisticsPolicy:
    """Normalize by the batch's statistics, mixed with the source's by a prior.

    Args:
        prior: N, or how it is measured, as in ``BatchNorm``; 0 takes the batch's alone, with
            gradients through them.
        images: the images of the batch.
        count: n in the mixture; None takes the number of images.
        pools: whether processes that share a layer's batches pool their statistics.
    """

    def make_chooser(network: HookedNetwork, observed: ObservedStatistics) -> ChooseStatistics:
        shares = Shares(prior)

        def choose(name: str, values: torch.Tensor) -> Normalization:
            source = network.source[name]
            with torch.no_grad():
                given = LayerInput(values, images)
                target, pooled = given.statistics(), float(images)
                if pools:
                    target, pooled = pool_processes(target, images, network.layers[name])
                number = pooled if count is None else count
                share = shares.measure(
                    name, source, given, count=number, images=images, again=observed.is_closed
                )
                used = blend(source, target, share) if share > 0 else source
            observed.add(name, target, pooled, used)
            observed.uses_batch = shares.uses_batch
            # A mixture is constant to the gradient, as in the published code of MEMO.
            return Normalization(used, target, share if prior == 0 else 0.0)

        return choose

    return make_chooser


def use_given(statistics: Mapping[str, Statistics]) -> StatisticsPolicy:
    """Normalize by given statistics."""

    def make_chooser(network: HookedNetwork, observed: ObservedStatistics) -> ChooseStatistics:
        def choose(name: str, values: torch.Tensor) -> Normalization:
            return Normalization(statistics[name])

        return choose

    return make_chooser


def use_moving_average(statistics: Mapping[str, Statistics], weight: float) -> StatisticsPolicy:
    """Normalize by given statistics moved towards the batch's, through which gradients flow.

    ``(1 - a) given + a batch``, with biased variances: the robust batch norm of Yuan et al. 2023
    (arXiv 2303.13899). The recorded statistics are the batch's alone.
    """

    def make_chooser(network: HookedNetwork, observed: ObservedStatistics) -> ChooseStatistics:
        def choose(name: str, values: torch.Tensor) -> Normalization:
            axes = [axis for axis in range(values.ndim) if axis != 1]
            variance, mean = torch.var_mean(widen(values), axes, correction=0)
            batch = Statistics(mean, variance)
            used = blend(statistics[name], batch, weight)
            observed.add(name, detach(batch), 1, detach(used))
            return pass_normalized(network.layers[name], values, *used)

        return choose

    return make_chooser


def detach(statistics: Statistics) -> Statistics:
    """Return statistics without their graph."""
    return Statistics(statistics.mean.detach(), statistics.variance.detach())


def pass_normalized(
    layer: torch.nn.Module, values: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor
) -> Normalization:
    """Return a normalization that passes a layer its input already normalized.

    Args:
        layer: batch norm; its statistics are set so that they leave the input unchanged.
        values: ``(N, C, ...)``, its input.
        mean: ``(C,)``, or ``(N, C)`` where each image has its own; gradients flow through it.
        variance: the same shape.
    """
    eps = read_eps(layer)
    shape = (*mean.shape, *[1] * (values.ndim - 2))
    if mean.ndim == 1:
        shape = (1, *shape)
    inputs = (widen(values) - mean.view(shape)) * (variance.view(shape) + eps).rsqrt()
    like = widen(cast("torch.Tensor", layer.running_mean))
    kept = Statistics(torch.zeros_like(like), torch.full_like(like, 1 - eps))
    return Normalization(kept, inputs=inputs.to(values.dtype))


def move_statistics(
    statistics: Mapping[str, Statistics], observed: ObservedStatistics, weight: float
) -> dict[str, Statistics]:
    """Return statistics by layer, moved towards those of one pass's batch."""
    moved = {
        name: blend(statistics[name], batch, weight) for name, (batch, _) in observed.batch.items()
    }
    return {**statistics, **moved}


def are_finite(statistics: Mapping[str, Statistics], logits: torch.Tensor) -> bool:
    """Whether statistics and logits are finite; a class may be ruled out by minus infinity."""
    return are_all_finite(statistics) and bool(torch.isfinite(logits.float().logsumexp(-1)).all())
