"""Forward passes of a network whose batch norm normalizes by what each pass chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias, cast

import torch

from shiftproof.adapt.network import AdaptedNetwork, describe_output
from shiftproof.adapt.normalization import BatchNormLayers, Choice, Choose, Seen, eps_of
from shiftproof.adapt.norms import all_batch_norm_layers, is_tracked, several_runs_error
from shiftproof.adapt.shares import Prior, Shares
from shiftproof.adapt.statistics import (
    LayerInput,
    Statistics,
    all_finite,
    blend,
    pool_processes,
)
from shiftproof.adapt.tensors import widen
from shiftproof.errors import ModelError

ChooseFor: TypeAlias = Callable[["FollowedNetwork", Seen], Choose]
"""Gives, for one pass of a network, what chooses each layer's statistics and notes them."""


class FollowedNetwork:
    """A network and its batch-norm layers, if it has any.

    Attributes:
        network: the adapter's copy.
        source: the statistics that each batch-norm layer came with, by name; none without them.
        layers: the batch-norm layers by name.

    Raises:
        ModelError: a part has batch norm that cannot be followed.
    """

    def __init__(self, network: AdaptedNetwork) -> None:
        self.network = network
        known = all_batch_norm_layers(network.module)
        tracked = {name: layer for name, layer in known.items() if is_tracked(layer)}
        self._norms = BatchNormLayers(network.module, tracked)
        self.source = self._norms.source
        self.layers = self._norms.layers

    @contextmanager
    def run(self, inputs: torch.Tensor, choose: ChooseFor) -> Iterator[tuple[torch.Tensor, Seen]]:
        """Give the logits of the classes, and what the layers saw.

        Gradients are taken within the context: checkpointed parts run again for them.

        Raises:
            ModelError: the network gives no logits ``(N, K)``.
        """
        # Autocast keeps half-precision copies of parameters that have learned meanwhile.
        torch.clear_autocast_cache()
        seen = Seen()
        if torch.is_grad_enabled():
            # A reentrant checkpoint learns only where its input asks for a gradient; a copy, as
            # what asks for one cannot be changed in place.
            inputs = inputs.detach().requires_grad_().clone()
        with self._norms.normalizing(choose(self, seen)):
            outputs = self._norms.run(lambda: self.network.forward(inputs))
            if not isinstance(outputs, torch.Tensor) or outputs.shape[:-1] != (len(inputs),):
                raise ModelError(
                    f"Expected logits ({len(inputs)}, K) of the model, got "
                    f"{describe_output(outputs)}."
                )
            seen.close()
            yield outputs, seen

    def predict(self, inputs: torch.Tensor, choose: ChooseFor) -> tuple[torch.Tensor, Seen]:
        """Return what ``run`` gives, without gradients."""
        with torch.no_grad(), self.run(inputs, choose) as (logits, seen):
            return logits, seen

    def copy_with(
        self, statistics: Mapping[str, Statistics], run_twice: list[str] | None = None
    ) -> torch.nn.Module:
        """Return a plain copy whose batch norm has other statistics.

        Raises:
            ModelError: a layer of ``run_twice`` has no single set of them.
        """
        if run_twice:
            raise several_runs_error(run_twice[0])
        with torch.no_grad():
            module = self.network.copy()
            for name, values in statistics.items():
                layer = module.get_submodule(name)
                cast("torch.Tensor", layer.running_mean).copy_(values.mean)
                cast("torch.Tensor", layer.running_var).copy_(values.variance)
        return module


# ---------------------------------------------------------------- what layers normalize by


def by_batch(
    prior: Prior, images: int, *, count: float | None = None, pools: bool = True
) -> ChooseFor:
    """Normalize by the batch's statistics, mixed with the source's by a prior.

    Args:
        prior: N, or how it is measured, as in ``BatchNorm``; 0 takes the batch's alone, through
            which gradients flow.
        images: the images of the batch.
        count: n in the mixture; None takes the number of images.
        pools: whether processes that share a layer's batches pool them.
    """

    def choose_for(network: FollowedNetwork, seen: Seen) -> Choose:
        shares = Shares(prior)

        def choose(name: str, values: torch.Tensor) -> Choice:
            source = network.source[name]
            with torch.no_grad():
                given = LayerInput(values, images)
                target, pooled = given.statistics(), float(images)
                if pools:
                    target, pooled = pool_processes(target, images, network.layers[name])
                number = pooled if count is None else count
                share = shares.measure(
                    name, source, given, count=number, images=images, again=seen.is_closed
                )
                used = blend(source, target, share) if share > 0 else source
            seen.add(name, target, pooled, used)
            seen.uses_batch = shares.uses_batch
            # A mixture is constant to the gradient, as in the published code of MEMO.
            return Choice(used, target, share if prior == 0 else 0.0)

        return choose

    return choose_for


def by_known(statistics: Mapping[str, Statistics]) -> ChooseFor:
    """Normalize by statistics that are known before the pass."""

    def choose_for(network: FollowedNetwork, seen: Seen) -> Choose:
        def choose(name: str, values: torch.Tensor) -> Choice:
            return Choice(statistics[name])

        return choose

    return choose_for


def by_moving_average(statistics: Mapping[str, Statistics], weight: float) -> ChooseFor:
    """Normalize by known statistics moved towards the batch's, through which gradients flow.

    ``(1 - a) known + a batch``, with biased variances: the robust batch norm of Yuan et al. 2023
    (arXiv 2303.13899). What the layers saw of the batch is noted without the known part.
    """

    def choose_for(network: FollowedNetwork, seen: Seen) -> Choose:
        def choose(name: str, values: torch.Tensor) -> Choice:
            axes = [axis for axis in range(values.ndim) if axis != 1]
            variance, mean = torch.var_mean(widen(values), axes, correction=0)
            batch = Statistics(mean, variance)
            used = blend(statistics[name], batch, weight)
            seen.add(name, detach(batch), 1, detach(used))
            return hand_normalized(network.layers[name], values, *used)

        return choose

    return choose_for


def detach(statistics: Statistics) -> Statistics:
    """Return statistics without their graph."""
    return Statistics(statistics.mean.detach(), statistics.variance.detach())


def hand_normalized(
    layer: torch.nn.Module, values: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor
) -> Choice:
    """Return a choice that hands a layer an input which is normalized already.

    Args:
        layer: batch norm; its statistics become those by which its input stays as it is.
        values: ``(N, C, ...)``, its input.
        mean: ``(C,)``, or ``(N, C)`` where each image has its own; gradients flow through it.
        variance: the same shape.
    """
    eps = eps_of(layer)
    shape = (*mean.shape, *[1] * (values.ndim - 2))
    if mean.ndim == 1:
        shape = (1, *shape)
    inputs = (widen(values) - mean.view(shape)) * (variance.view(shape) + eps).rsqrt()
    like = widen(cast("torch.Tensor", layer.running_mean))
    kept = Statistics(torch.zeros_like(like), torch.full_like(like, 1 - eps))
    return Choice(kept, inputs=inputs.to(values.dtype))


def move_statistics(
    statistics: Mapping[str, Statistics], seen: Seen, weight: float
) -> dict[str, Statistics]:
    """Return statistics by layer moved towards what one pass saw of its batch."""
    moved = {
        name: blend(statistics[name], batch, weight) for name, (batch, _) in seen.batch.items()
    }
    return {**statistics, **moved}


def are_sound(statistics: Mapping[str, Statistics], logits: torch.Tensor) -> bool:
    """Whether statistics and logits are finite; a class may be ruled out by minus infinity."""
    return all_finite(statistics) and bool(torch.isfinite(logits.float().logsumexp(-1)).all())
