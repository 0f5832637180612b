"""Gradients through a batch's own statistics, for any normalization layer.

A layer's output depends on its input ``x`` and on the statistics ``m``, ``v`` only through
``z = (x - m) / sqrt(v + eps)``. If G is the gradient in ``x`` with constant statistics, the total
gradient is ``G - mean(G) - z mean(G z)``, with means over images and positions, per channel (Ioffe
& Szegedy 2015, arXiv 1502.03167, section 3, last equation).

If the statistics are a mixture of constants and the batch's own with mean ``b`` and weight w, the
total gradient is ``G - w mean(G) - w (x - b) / sqrt(v + eps) mean(G z)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch

from shiftproof.adapt.normalization.statistics import (
    ArrayStatistics,
    Statistics,
    is_channels_last,
    to_arrays,
    view_channels_last,
)
from shiftproof.types import F32

_FUSED_DEVICES = ("cpu", "cuda")
"""The devices with torch's fused kernel of batch norm."""


def attach_statistics_gradient(
    values: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    eps: float,
    group: Any = None,
    *,
    batch_mean: torch.Tensor | None = None,
    share: float = 1.0,
) -> torch.Tensor:
    """Return ``values`` with a gradient that accounts for their effect on mean and variance.

    Args:
        values: ``(N, C, ...)`` floating, a layer's input.
        mean: ``(C,)`` mean of ``values``, or its mixture with a constant.
        variance: ``(C,)`` biased variance of ``values``, or its mixture with a constant.
        eps: the layer's epsilon.
        group: the ``torch.distributed`` group over which the statistics were computed; None for
            ``values`` alone.
        batch_mean: the mean of ``values`` if ``mean`` is a mixture.
        share: weight of the batch's own statistics in the mixture, above 0 and at most 1.

    Returns:
        ``(N, C, ...)``, a view.
    """
    result: torch.Tensor = _ThroughStatistics.apply(
        values, mean, variance, eps, group, mean if batch_mean is None else batch_mean, share
    )
    return result


class _ThroughStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        group: Any,
        batch_mean: torch.Tensor,
        share: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, mean, variance, batch_mean)
        ctx.eps, ctx.group, ctx.share = eps, group, share
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        values, mean, variance, batch_mean = ctx.saved_tensors
        wide = torch.float64 if values.dtype == torch.float64 else torch.float32
        mean, spread = mean.to(wide), (variance.to(wide) + ctx.eps).sqrt()
        if ctx.group is None and is_channels_last(values) and is_channels_last(gradient):
            statistics = Statistics(mean, variance)
            mixture = Mixture(statistics, batch_mean, ctx.share)
            return _differentiate_table(gradient, values, mixture, ctx.eps)[0], *[None] * 6
        if ctx.group is None and ctx.share == 1 and values.device.type in _FUSED_DEVICES:
            # The one-pass kernel of torch's own batch norm, which divides by the spread.
            result = torch.ops.aten.native_batch_norm_backward(
                gradient, values, spread, None, None, mean, spread.reciprocal(), True, ctx.eps,
                [True, False, False],
            )[0]  # fmt: skip
        else:
            result = _compute_gradient(
                gradient, values, mean, spread, ctx.group, batch_mean.to(wide), ctx.share
            )
        return result, *[None] * 6


def _compute_gradient(
    gradient: torch.Tensor,
    values: torch.Tensor,
    mean: torch.Tensor,
    spread: torch.Tensor,
    group: Any,
    batch_mean: torch.Tensor,
    share: float,
) -> torch.Tensor:
    """Return the total gradient from sums per channel over all processes of the group."""
    shape = (-1, *[1] * (values.ndim - 2))
    axes = [axis for axis in range(values.ndim) if axis != 1]
    wide = gradient.to(mean.dtype)
    values = values.to(mean.dtype)
    normal = (values - mean.view(shape)) / spread.view(shape)
    count = wide.new_full((1,), values.numel() // values.shape[1])
    sums = torch.cat([wide.sum(axes), (wide * normal).sum(axes), count])
    if group is not None:
        torch.distributed.all_reduce(sums, group=group)
    first, second = (share * sums[:-1] / sums[-1]).chunk(2)
    away = normal if share == 1 else (values - batch_mean.view(shape)) / spread.view(shape)
    return (wide - first.view(shape) - away * second.view(shape)).to(gradient.dtype)


# ---------------------------------------------------------------- batch norm with a mixture


class Mixture(NamedTuple):
    """The statistics by which a layer normalizes, as a mixture of constants and those of its input.

    Attributes:
        statistics: the mixture, ``(C,)`` each.
        batch_mean: ``(C,)`` the mean of the input.
        share: weight of the input's own statistics, above 0 and at most 1.
    """

    statistics: Statistics
    batch_mean: torch.Tensor
    share: float


def normalize_by_mixture(layer: Any, values: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Apply batch norm with a gradient that includes the statistics.

    Equal to :func:`attach_statistics_gradient` and then the layer, with half the passes over the
    values.

    Args:
        layer: a ``torch.nn.BatchNorm``, no subclass.
        values: ``(N, C, ...)``, its input, a table
            (:func:`~shiftproof.adapt.normalization.statistics.is_channels_last`).
        mixture: the statistics.
    """
    result: torch.Tensor = _NormalizeByMixture.apply(
        values, layer.weight, layer.bias, mixture, layer.eps
    )
    return result


class _NormalizeByMixture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mixture: Mixture,
        eps: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, weight)
        ctx.mixture, ctx.eps = mixture, eps
        return normalize(values, mixture.statistics, weight, bias, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        values, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=_choose_memory_format(values))
        found, scale, shift = _differentiate_table(gradient, values, ctx.mixture, ctx.eps, weight)
        return found, scale, shift, None, None


MAX_CACHED_VALUES = 1 << 21
"""Number of values up to which our own loop normalizes: 8 MB, which fit a processor's cache. There
it takes half the time of torch's on one thread; above, a tenth to a quarter more.
"""

MAX_THREADS = 2
"""Number of torch's threads up to which our own loop, with one thread, is not slower."""


def normalize(
    values: torch.Tensor,
    statistics: Statistics,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Apply batch norm in evaluation, without a gradient.

    Args:
        values: ``(N, C, ...)`` floating.
        statistics: ``(C,)`` each.
        weight: ``(C,)`` scale.
        bias: ``(C,)`` shift.
        eps: the layer's epsilon.
    """
    table = view_channels_last(values) if isinstance(statistics, ArrayStatistics) else None
    is_small = table is not None and table.size <= MAX_CACHED_VALUES
    if not is_small or torch.get_num_threads() > MAX_THREADS or not weight.is_contiguous():
        return torch.nn.functional.batch_norm(values, *statistics, weight, bias, eps=eps)
    from shiftproof.adapt.normalization import loops

    result = torch.empty_like(values)
    factors = weight.detach().numpy(), bias.detach().numpy()
    rows = _view_rows(values), _view_rows(result)
    loops.normalize(rows[0], *to_arrays(statistics), *factors, eps, rows[1])
    return result


def _choose_memory_format(values: torch.Tensor) -> torch.memory_format:
    """Return the channels-last memory format for the number of dimensions of ``values``."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return formats.get(values.ndim, torch.contiguous_format)


def _differentiate_table(
    gradient: torch.Tensor,
    values: torch.Tensor,
    mixture: Mixture,
    eps: float,
    weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Return the gradients in the values of a table, in scale, and in shift.

    ``gradient`` is that in the layer's output; without a weight, that in the values with constant
    statistics.
    """
    from shiftproof.adapt.normalization.loops import differentiate

    statistics, batch_mean, share = mixture
    result = torch.empty_like(values)
    found = differentiate(
        _view_rows(gradient),
        _view_rows(values),
        *to_arrays(statistics),
        batch_mean.float().numpy(),
        None if weight is None else weight.detach().numpy(),
        float(share),
        eps,
        _view_rows(result),
    )
    if weight is None:
        return result, None, None
    scale, shift = found
    return result, torch.from_numpy(scale), torch.from_numpy(shift)


def _view_rows(values: torch.Tensor) -> F32:
    """Return a table as ``(M, C)``, of the same memory."""
    table = cast("F32", view_channels_last(values))
    return table.reshape(-1, table.shape[-1])
