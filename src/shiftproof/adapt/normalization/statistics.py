"""Source and target statistics of a norm layer's input, and their mixture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import distributed

from shiftproof.types import F32

if TYPE_CHECKING:
    from shiftproof.adapt.normalization.loops import ImageSums

Parts = Literal["both", "mean", "variance"]
"""Which of a layer's statistics are adapted; the others stay the source's."""

_FUSED_DEVICES = ("cpu", "cuda")
"""The devices on which torch has the one-pass statistics that its batch norm uses in training."""


class Statistics(NamedTuple):
    """Mean and variance of one layer's input, each ``(C,)``, over images and positions."""

    mean: torch.Tensor
    variance: torch.Tensor


class ArrayStatistics(Statistics):
    """Statistics in float32 on the CPU, with the arrays that share their memory.

    After a large layer, each of torch's small operations takes some 15 microseconds, as its code is
    no longer in the processor's caches; they made the forward pass of a short network a fifth
    slower. So arrays are used instead.
    """

    @cached_property
    def arrays(self) -> tuple[F32, F32]:
        """Mean and variance."""
        return self.mean.detach().numpy(), self.variance.detach().numpy()

    @classmethod
    def of(cls, mean: F32, variance: F32) -> ArrayStatistics:
        """Return the statistics of two arrays."""
        made = cls(torch.from_numpy(mean), torch.from_numpy(variance))
        made.arrays = mean, variance
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy's arrays have to be those of its own tensors.
        return type(self), tuple(self)


def share_arrays(statistics: Statistics) -> Statistics:
    """Return the same tensors as :class:`ArrayStatistics`, if they can share their memory."""
    fits = all(
        part.dtype == torch.float32 and part.device.type == "cpu" and part.is_contiguous()
        for part in statistics
    )
    return ArrayStatistics(*statistics) if fits else statistics


class LayerInput:
    """The input of a norm layer and its statistics, computed in one pass over the values.

    Args:
        values: ``(N, C, ...)`` floating, with at least one value.
        images: the number of images if it is less than N: then each image has ``N / images``
            consecutive rows (the tokens of LeViT, the windows of Swin), which count as positions.
            With None, or a number that does not divide N (boxes of a detector), each row counts as
            an image.
    """

    def __init__(self, values: torch.Tensor, images: int | None = None) -> None:
        values = values.detach() if values.requires_grad else values
        is_half = values.dtype in (torch.float16, torch.bfloat16)
        self._values = values.float() if is_half else values
        rows = len(values)
        self._images = images if images and rows % images == 0 else rows
        self._sums: ImageSums | None = None
        table = view_channels_last(self._values)
        if table is not None:
            self._sums, self._pooled = _sum_images(table, self._images)

    @property
    def has_single_values(self) -> bool:
        """Whether there is one value per channel, which has no variance."""
        return has_single_values(self._values)

    def statistics(self) -> Statistics:
        """Return mean and biased variance per channel; float32 where the input is of half
        precision.
        """
        if self._sums is not None:
            return self._pooled
        if self._values.device.type in _FUSED_DEVICES:
            # Many times faster on channels_last than var_mean, and biased too; without running
            # statistics the momentum (0) is not used.
            mean, variance = torch.batch_norm_update_stats(self._values, None, None, 0.0)
        else:
            axes = [axis for axis in range(self._values.ndim) if axis != 1]
            variance, mean = torch.var_mean(self._values, axes, correction=0)
        return Statistics(mean, variance)

    def measure_prior(self, source: Statistics, margin: float = 1.0) -> float:
        """Return N as :func:`measure_prior` does."""
        V, D = self._measure_distance(source)
        D -= margin * V / self._images
        if not math.isfinite(V) or not math.isfinite(D) or V <= 0:
            return math.inf
        return V / D if D > 0 else math.inf

    def measure_distance(self, source: Statistics) -> float:
        """Return the distance from the source in units of its variance, less what chance gives.

        As in :func:`measure_prior`; not finite where the input is not.
        """
        V, D = self._measure_distance(source)
        return D - V / self._images

    def _measure_distance(self, source: Statistics) -> tuple[float, float]:
        """Return the variance between images, and the distance of the batch from the source."""
        if self._sums is None:
            return measure_distance(self._split_images(), source)
        from shiftproof.adapt.normalization import loops

        return loops.measure_distance(self._sums, *to_arrays(source), SINGLE_IMAGE)

    def _split_images(self) -> torch.Tensor:
        """Return ``(images, C, positions)``."""
        values = self._values.float()
        values = values.flatten(2) if values.ndim > 2 else values[..., None]
        rows, channels, positions = values.shape
        values = values.view(self._images, rows // self._images, channels, positions)
        return values.transpose(1, 2).flatten(2)


def compute_statistics(inputs: torch.Tensor) -> Statistics:
    """Return the mean and the biased variance per channel.

    Args:
        inputs: ``(N, C, ...)`` floating, with at least one value.

    Returns:
        ``(C,)`` each, over all axes but the second; float32 where the input is of half precision.
    """
    return LayerInput(inputs).statistics()


def view_channels_last(values: torch.Tensor) -> F32 | None:
    """Return ``(N, ..., C)`` of the same memory, if ``(N, C, ...)`` is channels_last float32 on the
    CPU.
    """
    if values.dtype != torch.float32 or not values.is_cpu:
        return None
    array: F32 = (values.detach() if values.requires_grad else values).numpy()
    table = array.transpose(0, *range(2, array.ndim), 1)
    return table if table.flags.c_contiguous and table.size else None


def is_channels_last(values: torch.Tensor) -> bool:
    """Return whether ``(N, C, ...)`` is channels_last float32 on the CPU."""
    return view_channels_last(values) is not None


def to_arrays(statistics: Statistics) -> tuple[F32, F32]:
    """Return mean and variance on the CPU as float32 arrays."""
    if isinstance(statistics, ArrayStatistics):
        return statistics.arrays
    mean, variance = (part.float().contiguous().numpy() for part in statistics)
    return mean, variance


def _sum_images(table: F32, images: int) -> tuple[ImageSums, Statistics]:
    from shiftproof.adapt.normalization.loops import sum_images

    sums, mean, variance = sum_images(table.reshape(images, -1, table.shape[-1]))
    return sums, ArrayStatistics.of(mean, variance)


def write_statistics(network: torch.nn.Module, statistics: Mapping[str, Statistics]) -> None:
    """Write statistics to the running statistics of a network's layers, by name."""
    for name, (mean, variance) in statistics.items():
        layer: Any = network.get_submodule(name)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)


def mix(
    source: Statistics,
    target: Statistics,
    *,
    prior: float,
    count: float,
    parts: Parts = "both",
) -> Statistics:
    """Mix a layer's source statistics with those of target images.

    ``mu = N / (N + n) mu_s + n / (N + n) mu_t``, and the same for the variance, with the prior
    strength ``N`` and the number of images ``n`` (Schneider et al. 2020, arXiv 2006.16971,
    section 2). As in the paper, variances are mixed without the distance of the means.

    Args:
        source: the layer's running statistics.
        target: the batch's.
        prior: N, 0 or more; 0 takes the target alone, infinity the source alone.
        count: n, the number of target images, above 0.
        parts: the statistics to mix; the others remain the source's.

    Returns:
        Tensors in the source's dtype, new ones if mixed.
    """
    if math.isinf(prior):
        # A weight of 0 would turn an infinite target into NaN.
        return source
    return blend(source, target, count / (prior + count), parts)


def blend(
    source: Statistics, target: Statistics, weight: float, parts: Parts = "both"
) -> Statistics:
    """Return ``(1 - weight) source + weight target`` for ``parts``, in the source's dtype."""
    if isinstance(source, ArrayStatistics) and isinstance(target, ArrayStatistics):
        return _blend_arrays(source, target, weight, parts)

    def blend_part(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        # In this form a weight of 1 gives exactly the target's value.
        return ((1 - weight) * old.to(new.dtype) + weight * new).to(old.dtype)

    return Statistics(
        source.mean if parts == "variance" else blend_part(source.mean, target.mean),
        source.variance if parts == "mean" else blend_part(source.variance, target.variance),
    )


def _blend_arrays(
    source: ArrayStatistics, target: ArrayStatistics, weight: float, parts: Parts
) -> Statistics:
    from shiftproof.adapt.normalization.loops import blend_arrays

    mean, variance = blend_arrays(*source.arrays, *target.arrays, weight)
    return ArrayStatistics.of(
        source.arrays[0] if parts == "variance" else mean,
        source.arrays[1] if parts == "mean" else variance,
    )


def pool(first: Statistics, count: float, second: Statistics, more: float) -> Statistics:
    """Return the statistics of the union of two sets of images.

    The variance includes the distance of the two means (the parallel algorithm of Chan, Golub &
    LeVeque 1983), so pooling several batches gives the statistics of one batch of all images.

    Args:
        first: the statistics of one set.
        count: its number of images, above 0.
        second: the statistics of the other set, whose images have the same number of positions.
        more: its number of images.
    """
    share = more / (count + more)
    step = second.mean - first.mean
    return Statistics(
        first.mean + share * step,
        (1 - share) * first.variance + share * second.variance + share * (1 - share) * step**2,
    )


def measure_prior(
    source: Statistics, inputs: torch.Tensor, images: int | None = None, *, margin: float = 1.0
) -> float:
    """Estimate the best prior strength N for a batch: weak for a large shift.

    A batch's statistics have the mean squared error ``V / n``, where V is the variance between
    images; the source's have the squared distance ``D`` of source and target. The mixture with the
    weight ``n / (N + n)`` on the batch has the least mean squared error at ``N = V / D``, for every
    n. Both are measured on the batch, per channel in units of the source's
    variance, over means and standard deviations (the distance is the 2-Wasserstein distance of
    two normal distributions, as in Schneider et al. 2020, section 5), and averaged over the
    channels; the contribution of V to the measured distance is subtracted.

    For a single image V cannot be measured; it is then the source's variance, an upper bound,
    divided by ``SINGLE_IMAGE``.

    Args:
        source: the layer's running statistics, ``(C,)`` each.
        inputs: ``(N, C, ...)`` floating: the layer's input.
        images: the number of images, as in :class:`LayerInput`.
        margin: factor of the subtracted contribution of V; above 1 it trusts small batches less.

    Returns:
        N, 0 or more; infinity if the batch does not differ from the source by more than chance.
    """
    return LayerInput(inputs, images).measure_prior(source, margin)


def measure_distance(values: torch.Tensor, source: Statistics) -> tuple[float, float]:
    """Return the variance V between images, and the squared distance D of source and batch.

    In units of the source's variance, averaged over the channels; D includes the contribution of V.

    Args:
        values: ``(images, C, positions)`` float32.
        source: the layer's running statistics, ``(C,)`` each.
    """
    scale = source.variance.float().clamp_min(1e-12)
    means = values.mean(2)
    squares = values.square().mean(2)
    mean = means.mean(0)
    variance = (squares.mean(0) - mean.square()).clamp_min(0)
    distance = (mean - source.mean.float()).square() + (variance.sqrt() - scale.sqrt()).square()
    if len(values) > 1:
        # The standard deviation's sampling error by the delta method, on the second moments
        # about the batch's mean.
        moments = squares - 2 * mean * means + mean.square()
        difference = means.var(0) + moments.var(0) / (4 * variance.clamp_min(1e-12))
    else:
        difference = scale / SINGLE_IMAGE
    terms = torch.stack([difference / scale, distance / scale]).clamp_max(1e4).mean(1)
    V, D = terms.tolist()  # one transfer, which waits for the device
    return V, D


SINGLE_IMAGE = 2.0
"""Assumed ratio of the variance of all values to the variance between images, for a batch of one
image.
"""


def process_group(layer: Any) -> Any:
    """Return the ``torch.distributed`` group that shares a layer's batches, or None.

    This is the group of a ``SyncBatchNorm`` in several processes; all other layers use their own
    batch.
    """
    if not isinstance(layer, torch.nn.SyncBatchNorm) or not (
        distributed.is_available() and distributed.is_initialized()
    ):
        return None
    return layer.process_group or distributed.group.WORLD


def pool_processes(target: Statistics, count: int, layer: Any) -> tuple[Statistics, float]:
    """Return the statistics and number of images of a batch over all processes.

    Without a :func:`process_group` of the layer, these are ``target`` and ``count``.
    """
    group = process_group(layer)
    if group is None:
        return target, count
    own = torch.cat([target.mean, target.variance, target.mean.new_tensor([float(count)])])
    everyone = [torch.empty_like(own) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(everyone, own, group=group)
    width = len(target.mean)
    pooled, images = Statistics(torch.zeros_like(target.mean), torch.zeros_like(target.mean)), 0.0
    for part in everyone:
        theirs, more = Statistics(part[:width], part[width:-1]), float(part[-1])
        pooled = pool(pooled, images, theirs, more) if images else theirs
        images += more
    return pooled, images


def has_single_values(inputs: torch.Tensor) -> bool:
    """Whether ``(N, C, ...)`` has one value per channel, and so no variance."""
    return inputs.numel() == inputs.shape[1]


def are_all_finite(statistics: Mapping[str, Statistics]) -> bool:
    """Whether the statistics of all layers are finite."""
    arrays: list[F32] = []
    tensors: list[torch.Tensor] = []
    for pair in statistics.values():
        if isinstance(pair, ArrayStatistics):
            arrays += pair.arrays
        else:
            tensors += [part.float() for part in pair]
    if arrays and not np.isfinite(np.concatenate(arrays)).all():
        return False
    return not tensors or bool(torch.isfinite(torch.cat(tensors)).all())
