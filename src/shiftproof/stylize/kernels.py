"""The compiled loops of the weight-free engine; imported on use, as numba loads slowly."""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.types import F32, I64


@compiled
def lay_patches(
    detail: F32,
    tops: I64,
    lefts: I64,
    window: F32,
    first: int,
    amount: float,
    out: F32,
) -> None:
    """Add weighted patches of ``detail`` to ``out``, both ``(..., ..., 3)``.

    The patch at (r, c) begins in ``detail`` at ``tops[r, c]``, ``lefts[r, c]`` and in ``out`` at
    row ``r * step - first``, column ``c * step - first``, where the step is half of the window's
    side; parts outside are dropped.
    """
    size = len(window)
    step = size // 2
    height, width = out.shape[0], out.shape[1]
    scale = np.float32(amount)
    for r in range(tops.shape[0]):
        for c in range(tops.shape[1]):
            y0, x0 = r * step - first, c * step - first
            top, left = tops[r, c], lefts[r, c]
            for i in range(max(0, -y0), min(size, height - y0)):
                for j in range(max(0, -x0), min(size, width - x0)):
                    weight = scale * window[i, j]
                    for k in range(3):
                        out[y0 + i, x0 + j, k] += weight * detail[top + i, left + j, k]


@compiled
def average_windows(means: F32, weight: F32, radius: int, out: F32) -> None:
    """Write the weighted mean of the four windows that have a pixel in a corner.

    ``means`` ``(H, W, 3)`` and ``weight`` ``(H, W)`` belong to the window that begins at a pixel.
    """
    height, width = weight.shape
    for y in range(height):
        above = max(y - radius, 0)
        for x in range(width):
            before = max(x - radius, 0)
            a, b = weight[above, before], weight[above, x]
            c, d = weight[y, before], weight[y, x]
            total = np.float32(1) / (a + b + c + d)
            for k in range(3):
                out[y, x, k] = total * (
                    a * means[above, before, k]
                    + b * means[above, x, k]
                    + c * means[y, before, k]
                    + d * means[y, x, k]
                )
