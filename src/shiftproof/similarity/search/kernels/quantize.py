"""Quantizing rows to 8 bits, with their errors, and their layout for the tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.compiled import compiled
from shiftproof.similarity.search.kernels.products import exact_product
from shiftproof.types import F32, F64, I8, I64, U8, Flags


@compiled
def largest_values(rows: F32, out: F32) -> None:
    """Write the largest absolute value of each row."""
    for i in range(rows.shape[0]):
        row = rows[i].view(np.int32)
        largest = np.int32(0)
        for j in range(row.shape[0]):
            # Non-negative floats have the same order as integers, whose maximum is vectorized.
            largest = max(largest, np.int32(row[j] & np.int32(0x7FFFFFFF)))
        out[i : i + 1].view(np.int32)[0] = largest


@compiled
def mix(rows: NDArray[Any], signs: F32, out: NDArray[Any]) -> None:
    """Multiply rows, split into 64 consecutive parts, by the Hadamard matrix of size 64.

    ``out = rows R`` with ``R = diag(signs) (H / 8 x I)``, whose entries are 0, 1/8 and -1/8; the
    width is a multiple of 64. Each value takes six additions.
    """
    width = rows.shape[1]
    part = width // 64
    for i in range(rows.shape[0]):
        row = out[i]
        for j in range(width):
            row[j] = rows[i, j] * signs[j] * np.float32(0.125)
        half = part
        while half < width:
            for start in range(0, width, 2 * half):
                for j in range(start, start + half):
                    first, second = row[j], row[j + half]
                    row[j], row[j + half] = first + second, first - second
            half *= 2


@compiled
def square_lengths(rows: F32, out: F64) -> None:
    """Write the squared length of each row, in float64."""
    for i in range(rows.shape[0]):
        out[i] = exact_product(rows[i], rows[i])


@compiled
def quantize(
    rows: F32, step: float, out: I8, errors: F64, lengths: F64, whole_lengths: F64
) -> None:
    """Round ``row / step`` to whole numbers; ``out`` ``(n, padded)`` int8.

    Writes the lengths of the rounding errors to ``errors``, those of the rows to ``lengths``, and
    those of the rounded rows times ``step`` to ``whole_lengths``, all computed in float64.
    """
    inverse = 1.0 / step
    for i in range(rows.shape[0]):
        row, whole = rows[i], out[i]
        error = square = whole_square = 0.0
        for j in range(row.shape[0]):
            value = np.float64(row[j])
            rounded = min(max(np.rint(value * inverse), -127.0), 127.0)
            whole[j] = np.int8(rounded)
            left = value - step * rounded
            error += left * left
            square += value * value
            whole_square += rounded * rounded
        errors[i] = np.sqrt(error)
        lengths[i] = np.sqrt(square)
        whole_lengths[i] = step * np.sqrt(whole_square)


@compiled
def _square_of_part(row: I8, window: int, half: int) -> int:
    """Return the squared length of a row's part in one lane of a window."""
    total = np.int64(0)
    for step in range(8):
        place = window * 32 + step * 4 + half * 2
        total += np.int64(row[place]) * row[place]
        total += np.int64(row[place + 1]) * row[place + 1]
    squared: int = total
    return squared


@compiled
def window_lengths(whole: I8, out: I64) -> None:
    """Raise ``out`` ``(windows, 2)`` to the squared lengths of each row's parts in a window's lane.

    A 16-bit lane adds dimensions 0 and 1, or 2 and 3, of each step of its window.
    """
    for i in range(whole.shape[0]):
        row = whole[i]
        for window in range(out.shape[0]):
            for half in range(2):
                out[window, half] = max(out[window, half], _square_of_part(row, window, half))


@compiled
def fits_windows(whole: I8, limits: I64, fits: Flags) -> None:
    """Clear ``fits`` where a row's part in a window is longer than ``limits`` (squared) allows."""
    for i in range(whole.shape[0]):
        row = whole[i]
        for window in range(limits.shape[0]):
            for half in range(2):
                if _square_of_part(row, window, half) > limits[window, half]:
                    fits[i] = False


@compiled
def pack_rows(whole: I8, offset: int, out: U8) -> None:
    """Lay out quantized rows for the tile: ``out`` ``(panels, steps, rows, 4)`` uint8."""
    width = out.shape[2]
    for i in range(whole.shape[0]):
        panel, place = i // width, i % width
        for step in range(out.shape[1]):
            for j in range(4):
                out[panel, step, place, j] = np.uint8(np.int32(whole[i, step * 4 + j]) + offset)
