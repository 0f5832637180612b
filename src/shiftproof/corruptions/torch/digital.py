"""The digital corruptions on a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shiftproof.corruptions import digital
from shiftproof.corruptions.checks import get_constants
from shiftproof.corruptions.torch.filters import FLOAT_SLACK, Draws, draw_uniform, filter_gaussian


def contrast(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``digital.contrast`` to a batch."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * get_constants(digital.CONTRAST, severity) + mean


def elastic_transform(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``digital.elastic_transform`` to a batch."""
    height, width = x.shape[-2:]
    reach = digital.ELASTIC_REACH * height * get_constants(digital.ELASTIC_TRANSFORM, severity)
    draw = 2 * draw_uniform(sources, 2, height, width) - 1
    sigma = digital.ELASTIC_SIGMA
    moved = reach * filter_gaussian(
        draw, sigma * height, sigma * width, truncate=3.0, mode="reflect"
    )
    rows = torch.arange(height, device=x.device)[:, None] + moved[:, 1]
    columns = torch.arange(width, device=x.device) + moved[:, 0]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


@lru_cache(maxsize=64)
def _make_box_matrix(size: int, small: int, device: torch.device) -> Tensor:
    """Return the ``(small, size)`` matrix that averages a line's pixels by boxes."""
    first, after, _ = digital.compute_boxes(size, small)
    index = np.arange(size)
    inside = (index >= first[:, np.newaxis]) & (index < after[:, np.newaxis])
    return torch.tensor(inside / inside.sum(1, keepdims=True), dtype=torch.float32, device=device)


@lru_cache(maxsize=64)
def _find_nearest(size: int, small: int, device: torch.device) -> Tensor:
    return torch.as_tensor(digital.compute_nearest(size, small), device=device)


def pixelate(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``digital.pixelate`` to a batch."""
    share = get_constants(digital.PIXELATE, severity)
    small = x
    for axis in (-1, -2):
        size = x.shape[axis]
        matrix = _make_box_matrix(size, max(1, int(size * share)), x.device)
        small = (torch.movedim(small, axis, -1) @ matrix.T).movedim(-1, axis)
        small = (small + 0.5 + FLOAT_SLACK).floor()
    for axis in (-2, -1):
        small = small.index_select(axis, _find_nearest(x.shape[axis], small.shape[axis], x.device))
    return small


def saturate(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``digital.saturate`` to a batch."""
    if x.shape[1] == 1:
        return x
    scale, offset = get_constants(digital.SATURATE, severity)
    value = x.amax(1, keepdim=True)
    spread = value - x.amin(1, keepdim=True)
    saturation = spread / value.clamp(min=1)
    target = (saturation * scale + offset).clamp(0, 1)
    # At the same hue, a channel's distance to the largest is proportional to the saturation. Gray is
    # treated as red.
    distance = torch.where(spread > 0, (value - x) / spread.clamp(min=1), _make_gray_distance(x))
    return value - value * target * distance


def _make_gray_distance(x: Tensor) -> Tensor:
    distance = torch.ones_like(x)
    distance[:, 0] = 0
    return distance
