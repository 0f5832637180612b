"""Gradients through a batch's own statistics, for any normalization layer.

A layer's output depends on its input ``x`` and on the statistics ``m``, ``v`` only through
``z = (x - m) / sqrt(v + eps)``. With G the gradient in ``x`` where the statistics are constants, the
whole one is therefore ``G - mean(G) - z mean(G z)``, with means over images and positions, per channel
(Ioffe & Szegedy 2015, arXiv 1502.03167, section 3, of which it is the last line).

Where the statistics are a mixture with constants, of which the batch's own, with the mean ``b``, have
the share w, the same chain of derivatives gives ``G - w mean(G) - w (x - b) / sqrt(v + eps) mean(G z)``.
"""

from __future__ import annotations

from typing import Any

import torch

_FUSED_ON = ("cpu", "cuda")
"""The devices on which the kernel of torch's own batch norm is used."""


def through_statistics(
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
        mean: ``(C,)``, of ``values``, or mixed with a constant.
        variance: ``(C,)``, biased, or mixed likewise.
        eps: the layer's.
        group: the ``torch.distributed`` group whose values the statistics are of; None where they
            are of ``values`` alone.
        batch_mean: the mean of ``values``, where ``mean`` is a mixture.
        share: of the batch's own statistics in the mixture, above 0 and at most 1.

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
        if ctx.group is None and ctx.share == 1 and values.device.type in _FUSED_ON:
            # The one-pass kernel of torch's own batch norm, which divides by the spread.
            result = torch.ops.aten.native_batch_norm_backward(
                gradient, values, spread, None, None, mean, spread.reciprocal(), True, ctx.eps,
                [True, False, False],
            )[0]  # fmt: skip
        else:
            result = _gradient_from_sums(
                gradient, values, mean, spread, ctx.group, batch_mean.to(wide), ctx.share
            )
        return result, *[None] * 6


def _gradient_from_sums(
    gradient: torch.Tensor,
    values: torch.Tensor,
    mean: torch.Tensor,
    spread: torch.Tensor,
    group: Any,
    batch_mean: torch.Tensor,
    share: float,
) -> torch.Tensor:
    """Return the whole gradient from the sums per channel, those of all processes of a group."""
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
