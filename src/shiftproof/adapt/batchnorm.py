"""Adaptation of the batch-norm statistics (Schneider et al. 2020, arXiv 2006.16971)."""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

from shiftproof.adapt.adapter import Adapter
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifier import Classifier
from shiftproof.models.structure import is_torch_module, require_torch, structural_copy
from shiftproof.types import Image, Images, Logits, Settings

if TYPE_CHECKING:
    import torch


class Statistics(NamedTuple):
    """Mean and variance of one layer's input, each ``(C,)``, over images and positions."""

    mean: torch.Tensor
    variance: torch.Tensor


# ---------------------------------------------------------------- the mathematics


def batch_statistics(inputs: torch.Tensor) -> Statistics:
    """Return the mean and the biased variance per channel.

    Args:
        inputs: ``(N, C, ...)`` floating, with at least one value.

    Returns:
        ``(C,)`` each, over all axes but the second; float32 where the input is of half precision.
    """
    torch = require_torch()
    if inputs.dtype in (torch.float16, torch.bfloat16):
        inputs = inputs.float()
    if inputs.device.type in ("cpu", "cuda"):
        # Many times faster on channels_last than var_mean, and biased too; without running
        # statistics the momentum (0) is not used.
        mean, variance = torch.batch_norm_update_stats(inputs, None, None, 0.0)
    else:
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        variance, mean = torch.var_mean(inputs, axes, correction=0)
    return Statistics(mean, variance)


def mix(source: Statistics, target: Statistics, *, prior: float, count: int) -> Statistics:
    """Mix a layer's source statistics with those of a batch (Schneider et al. 2020, eq. 2).

    ``N / (N + n) source + n / (N + n) target``, for the mean and for the variance, with the prior
    strength ``N`` and the batch size ``n``. What lies between the two means does not enter the
    variance: the paper mixes the two variances as they are.

    Args:
        source: the layer's running statistics.
        target: the batch's.
        prior: N, 0 or more; 0 takes the batch alone, infinity the source alone.
        count: n, the number of images in the batch, 1 or more.

    Returns:
        New tensors in the source's dtype.
    """
    weight = 0.0 if math.isinf(prior) else count / (prior + count)
    return Statistics(
        *(old + weight * (new.to(old.dtype) - old) for old, new in zip(source, target, strict=True))
    )
