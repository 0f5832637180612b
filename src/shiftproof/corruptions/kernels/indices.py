"""Indices of pixels that a filter reads outside an image."""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compile_inner


@compile_inner
def clamp_index(index: int, size: int) -> int:
    """Repeat the edge: ... a a | a b c | c c ..."""
    return min(max(index, 0), size - 1)


@compile_inner
def reflect_index(index: int, size: int) -> int:
    """Mirror about the edge of the outermost pixel: ... b a | a b c | c b ..."""
    if 0 <= index < size:
        return index
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


@compile_inner
def mirror_index(index: int, size: int) -> int:
    """Mirror about the center of the outermost pixel: ... c b | a b c | b a ..."""
    if size == 1:
        return 0
    index = index % (2 * size - 2)
    return index if index < size else 2 * size - 2 - index


@compile_inner
def mirror_index_once(index: np.int32, size: np.int32) -> np.int32:
    """Do as ``reflect_index`` for an index from ``-size`` to ``2 size - 1``, without a division."""
    low = index if index >= np.int32(0) else np.int32(np.int32(-1) - index)
    return low if low < size else np.int32(np.int32(2) * size - np.int32(1) - low)
