"""Batch-norm layers that normalize by statistics of an adapter's choice."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import torch

from shiftproof.adapt.normalization.gradient import (
    Mixture,
    attach_statistics_gradient,
    normalize,
    normalize_by_mixture,
)
from shiftproof.adapt.normalization.norm_checks import StandIn, check_structure, run_checked
from shiftproof.adapt.normalization.norm_layers import find_all_batch_norm_layers
from shiftproof.adapt.normalization.statistics import (
    Statistics,
    are_all_finite,
    is_channels_last,
    pool,
    process_group,
    share_arrays,
)

Outputs = TypeVar("Outputs")


class Normalization(NamedTuple):
    """The statistics by which a layer normalizes its input.

    ``share`` is the weight of the input's own statistics, ``batch``, in ``statistics``: a gradient
    flows through this part, and the rest is constant. ``inputs`` replaces the layer's input, for a
    normalization that one mean and variance per channel cannot express.
    """

    statistics: Statistics
    batch: Statistics | None = None
    share: float = 0.0
    inputs: torch.Tensor | None = None


ChooseStatistics: TypeAlias = Callable[[str, "torch.Tensor"], Normalization]
"""From a layer's name and input ``(N, C, ...)`` to the statistics by which it normalizes."""


class BatchNormLayers:
    """The batch-norm layers of a network, which normalize by statistics of an adapter's choice.

    The layer's own forward runs in evaluation mode, with the chosen statistics as its running ones,
    so everything else that its class does (an activation, dropout) stays; any class is supported
    whose output depends only on the normalized input. If the statistics are the batch's own, the
    gradient through them is added to the gradient of the layer's input
    (:mod:`shiftproof.adapt.normalization.gradient`). For torch's own layers both are computed in one step.

    Batch norm that hooks cannot control is an error: found at the start by the structure of the
    network, or in the first forward pass.

    Args:
        network: the adapter's own copy.
        layers: the batch-norm layers to control, by name; the others keep their statistics.

    Attributes:
        layers: the same.
        source: each layer's initial running statistics; float32 if these are of half precision.

    Raises:
        ModelError: a part of the network has batch norm that hooks cannot control.
    """

    def __init__(self, network: torch.nn.Module, layers: Mapping[str, Any]) -> None:
        self._network = network
        self._known = find_all_batch_norm_layers(network)
        check_structure(network, self._known)
        self.layers = dict(layers)
        self._kept = {
            name: (layer.running_mean, layer.running_var) for name, layer in layers.items()
        }
        self.source = {
            name: share_arrays(Statistics(*map(_to_float32, kept)))
            for name, kept in self._kept.items()
        }
        self._is_checked = False

    @contextmanager
    def normalizing(self, choose: ChooseStatistics) -> Iterator[None]:
        """Context in which each layer normalizes by the statistics that ``choose`` returns.

        It must last until gradients are computed: checkpointed layers run again for them. Outside
        of it, and after an exception, the network is unchanged and has no hooks.
        """
        fused = self._make_fused()
        handles = [
            layer.register_forward_pre_hook(
                _hook(name, choose, fused.get(name), _is_half(self._kept[name][0])),
                with_kwargs=True,
            )
            for name, layer in self.layers.items()
        ]
        for name, forward in fused.items():
            self.layers[name].forward = forward
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for name in fused:
                del self.layers[name].forward
            for name, layer in self.layers.items():
                _set_statistics(layer, *self._kept[name])

    def _make_fused(self) -> dict[str, _FusedForward]:
        """Return replacements for the forward of torch's own layers, by name."""
        return {n: _FusedForward(layer) for n, layer in self.layers.items() if _is_plain(layer)}

    @property
    def is_checked(self) -> bool:
        """Whether a whole forward pass has shown that the hooks control all batch norm."""
        return self._is_checked

    def run(self, forward: Callable[[], Outputs]) -> Outputs:
        """Return the result of ``forward``, a forward pass within ``normalizing``.

        Raises:
            ModelError: batch norm ran that hooks cannot control; names the layer.
        """
        if self._is_checked:
            return forward()
        outputs = run_checked(forward, self._network, self._known, self.layers)
        self._is_checked = True
        return outputs


class ObservedStatistics:
    """The statistics that the batch-norm layers measured and used in one forward pass.

    Attributes:
        batch: each layer's statistics of the batch, over all its runs, and their number of images.
        used: the statistics by which each layer normalized, at its last run.
        uses_batch: whether the batch's statistics have weight in any layer.
        uses_source: whether the source's statistics were used although the batch's were measured.
    """

    def __init__(self) -> None:
        self.batch: dict[str, tuple[Statistics, float]] = {}
        self.used: dict[str, Statistics] = {}
        self._runs: collections.Counter[str] = collections.Counter()
        self._is_closed = False
        self.uses_batch = False
        self.uses_source = False

    def add(self, name: str, batch: Statistics, images: float, used: Statistics) -> None:
        """Add the run of a layer; ignored after ``close``, since it is repeated for a gradient."""
        if self._is_closed:
            return
        # A layer that runs several times in one forward counts each time.
        before = self._runs[name]
        pooled = pool(self.batch[name][0], before, batch, 1) if before else batch
        self.batch[name] = pooled, images
        self.used[name] = used
        self._runs[name] += 1

    def close(self) -> None:
        """End the forward pass: all further runs of layers are repetitions."""
        self._is_closed = True

    def keep(self, source: Mapping[str, Statistics]) -> None:
        """Record that the pass was repeated with the source's statistics."""
        self.used, self.uses_source = dict(source), True
        self._runs.clear()

    @property
    def is_closed(self) -> bool:
        """Whether the forward pass has ended, so that further runs of layers are repetitions."""
        return self._is_closed

    @property
    def layers_run_twice(self) -> list[str]:
        """The layers that ran more than once."""
        return [name for name, times in self._runs.items() if times > 1]

    @property
    def is_finite(self) -> bool:
        """Whether the batch's own statistics are finite in all layers."""
        return are_all_finite({name: statistics for name, (statistics, _) in self.batch.items()})


def _to_float32(values: torch.Tensor) -> torch.Tensor:
    return values.float() if _is_half(values) else values


def _is_half(values: torch.Tensor) -> bool:
    return values.dtype in (torch.float16, torch.bfloat16)


def _set_statistics(layer: Any, mean: torch.Tensor, variance: torch.Tensor) -> None:
    buffers = layer._buffers
    if "running_mean" in buffers and "running_var" in buffers:
        # Without torch's own setattr, whose checks take longer than small layers.
        buffers["running_mean"], buffers["running_var"] = mean, variance
    else:
        layer.running_mean, layer.running_var = mean, variance


class _FusedForward(StandIn):
    """Replaces a layer's forward; normalizes by statistics or a mixture if set."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self.set(None)

    def set(self, statistics: Statistics | None, mixture: Mixture | None = None) -> None:
        self._statistics = statistics
        self._mixture = mixture

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        # Torch's own name: a network may call the layer by keyword.
        layer = self._layer
        weight, bias = layer.weight, layer.bias
        layer._check_input_dim(input)
        if self._mixture is not None:
            return normalize_by_mixture(layer, input, self._mixture)
        if self._statistics is None or layer.training or _takes_gradient(input, weight, bias):
            return cast("torch.Tensor", type(layer).forward(layer, input))
        return normalize(input, self._statistics, weight, bias, layer.eps)


def _takes_gradient(*tensors: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _is_plain(layer: Any) -> bool:
    """Whether a layer is torch's own, in float32, with a scale and shift."""
    nn = torch.nn
    return (
        type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        and "forward" not in vars(layer)
        and layer.weight is not None
        and layer.bias is not None
        and layer.weight.dtype == layer.running_mean.dtype == torch.float32
    )


def _hook(
    name: str, choose: ChooseStatistics, fused: _FusedForward | None, is_half: bool
) -> Callable[..., Any]:
    def run(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if fused is not None:
            fused.set(None)
        values = args[0] if args else next(iter(kwargs.values()))
        statistics, batch, share, inputs = choose(name, values)
        handed = values if inputs is None else inputs
        if is_half:
            # Rounding the statistics to half precision would add a larger error than the inputs
            # have.
            handed, statistics = _normalize_half(layer, handed, statistics)
        _set_statistics(layer, *statistics)
        if batch is not None and share > 0 and torch.is_grad_enabled() and values.requires_grad:
            if fused is not None and handed is values and is_channels_last(values):
                fused.set(None, Mixture(statistics, batch.mean, share))
                return None
            handed = attach_statistics_gradient(
                handed,
                *statistics,
                read_eps(layer),
                process_group(layer),
                batch_mean=batch.mean,
                share=share,
            )
        if handed is values:
            if fused is not None:
                fused.set(statistics)
            return None
        if args:
            return (handed, *args[1:]), kwargs
        return args, {**kwargs, next(iter(kwargs)): handed}

    return run


def _normalize_half(
    layer: Any, values: torch.Tensor, statistics: Statistics
) -> tuple[torch.Tensor, Statistics]:
    """Return the normalized input, and statistics that leave it unchanged."""
    shape = (-1, *[1] * (values.ndim - 2))
    scale = (statistics.variance + read_eps(layer)).rsqrt().view(shape)
    inputs = ((values.float() - statistics.mean.view(shape)) * scale).to(values.dtype)
    like = layer.running_var
    kept = Statistics(torch.zeros_like(like), torch.full_like(like, 1 - read_eps(layer)))
    return inputs, kept


def read_eps(layer: Any) -> float:
    """Return a layer's eps, or torch's default if its class has no such attribute."""
    return float(getattr(layer, "eps", 1e-5))
