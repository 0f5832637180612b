"""Local means and variances of norm layers' outputs, of clean images and of a batch.

Mirza et al. 2023 (ActMAD, arXiv 2211.12870) compare them; without clean images, they follow from
batch norm's running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch

from shiftproof.adapt.base.tensors import widen
from shiftproof.adapt.normalization.norm_layers import is_batch_norm, is_tracked

Cells: TypeAlias = int | Literal["all"]
"""Cells per side of a feature map for the statistics; "all": each location is a cell."""


class Moments(NamedTuple):
    """Mean of the values and of their squares in each cell, over images and positions:
    ``(C, ...)``.
    """

    first: torch.Tensor
    second: torch.Tensor

    @property
    def variance(self) -> torch.Tensor:
        """The biased variance in each cell."""
        return (self.second - self.first.square()).clamp_min(0)


def measure_moments(values: torch.Tensor, shape: tuple[int, ...] | Cells) -> Moments:
    """Return the moments of feature maps in cells.

    Args:
        values: ``(N, C, ...)`` floating, N above 0.
        shape: cells per side; or the result's shape without the channels, for maps of another size.
            Cells divide a side as evenly as possible, and are never smaller than a location.

    Returns:
        ``(C, *shape)`` each. Sequences ``(N, C, L)`` and volumes have one cell, unless it is
        ``"all"``.

    >>> import torch
    >>> maps = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    >>> moments = measure_moments(maps, 1)
    >>> moments.first.item(), moments.variance.item()
    (3.0, 5.0)
    """
    values = widen(values)
    squares = values.square()
    return Moments(_average(values, shape), _average(squares, shape))


def _average(values: torch.Tensor, shape: tuple[int, ...] | Cells) -> torch.Tensor:
    places = values.shape[2:]
    if shape == "all":
        return values.mean(0)
    if not places:
        extra = 0 if isinstance(shape, int) else len(shape)
        return values.mean(0).reshape(-1, *[1] * extra)
    if isinstance(shape, int):
        shape = tuple(min(shape, side) for side in places) if len(places) == 2 else (1,)
    if tuple(shape) == tuple(places):
        return values.mean(0)
    if len(places) == 2 and len(shape) == 2 and shape != (1, 1):
        return torch.nn.functional.adaptive_avg_pool2d(values.mean(0), shape)
    axes = [0, *range(2, values.ndim)]
    return values.mean(axes).reshape(-1, *[1] * len(shape))


class FeatureHooks:
    """Hooks that collect the outputs of norm layers in each call of a network.

    Attributes:
        found: last output by layer, ``(N, C, ...)``, with its autograd graph.
        runs: number of calls by layer since ``begin``.
    """

    def __init__(self, layers: Mapping[str, torch.nn.Module]) -> None:
        self.begin()
        self._handles = [
            layer.register_forward_hook(self._make_hook(name)) for name, layer in layers.items()
        ]

    def begin(self) -> None:
        """Start a call of the network."""
        self.found: dict[str, torch.Tensor] = {}
        self.runs: dict[str, int] = {}

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _make_hook(self, name: str) -> Callable[..., Any]:
        def keep(layer: torch.nn.Module, _: object, outputs: Any) -> torch.Tensor | None:
            if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2 or len(outputs) == 0:
                return None
            # A layer that runs several times, such as a head on each level of a pyramid, has an
            # entry for each run.
            run = self.runs.get(name, 0)
            self.found[f"{name}#{run + 1}" if run else name] = to_channels_first(layer, outputs)
            self.runs[name] = run + 1
            # A copy, since an activation after the layer may work in place.
            return outputs.clone()

        return keep


@contextmanager
def hook_features(layers: Mapping[str, torch.nn.Module]) -> Iterator[FeatureHooks]:
    """Context that collects the outputs of layers."""
    hooks = FeatureHooks(layers)
    try:
        yield hooks
    finally:
        hooks.remove()


def to_channels_first(layer: torch.nn.Module, outputs: torch.Tensor) -> torch.Tensor:
    """Return a norm layer's outputs as ``(N, C, ...)``: layer norm has the channels last."""
    kind = type(layer).__name__
    is_last = (
        isinstance(getattr(layer, "normalized_shape", None), tuple) and "2d" not in kind.lower()
    )
    if is_last and outputs.shape[-1] == cast("Any", layer).normalized_shape[-1]:
        return outputs.movedim(-1, 1)
    return outputs


def expect_moments(layers: Mapping[str, torch.nn.Module]) -> dict[str, Moments]:
    """Return the moments of batch norm's outputs on its training images, from its running
    statistics.

    For scale g and shift b the mean is b and the variance ``g^2 v / (v + eps)``, over all
    positions. Layers of a class that does more than normalize (an activation, say) are left out.
    """
    found = {}
    for name, layer in layers.items():
        if not is_batch_norm(layer) or not is_tracked(layer) or not _only_normalizes(layer):
            continue
        norm: Any = layer
        variance = widen(norm.running_var)
        scale, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
        mean = torch.zeros_like(variance) if shift is None else widen(shift)
        after = variance / (variance + float(norm.eps))
        if scale is not None:
            after = after * widen(scale).square()
        shape = (-1, 1, 1)
        first = mean.detach().clone().reshape(shape)
        found[name] = Moments(first, after.detach().reshape(shape) + first.square())
    return found


def _only_normalizes(layer: torch.nn.Module) -> bool:
    norms = torch.nn.modules.batchnorm
    plain = (norms.BatchNorm1d, norms.BatchNorm2d, norms.BatchNorm3d, norms.SyncBatchNorm)
    is_plain = type(layer) in plain and "forward" not in vars(layer)
    return is_plain or type(layer).__name__ == "FrozenBatchNorm2d"
