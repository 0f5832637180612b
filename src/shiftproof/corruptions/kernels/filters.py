"""Whole pixels in one word, Gaussians, and smears along a streak."""

from __future__ import annotations

from typing import Any

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.corruptions.kernels.indices import clamp_index
from shiftproof.types import F32, F64, I64, U8, U32

STRIP = 2048
"""Values of a row that a filter works on at a time, for the same reason."""


@compiled
def pack_pixels(image: U8, out: U32) -> None:
    """Write the channels of each pixel of ``(H, W, C)`` into one word of ``(H, W)``."""
    height, width, channels = image.shape
    for y in range(height):
        row, result = image[y], out[y]
        if channels == 3:
            for x in range(width):
                result[x] = (
                    np.uint32(row[x, 0])
                    | np.uint32(row[x, 1]) << np.uint32(8)
                    | np.uint32(row[x, 2]) << np.uint32(16)
                )
        else:
            for x in range(width):
                result[x] = np.uint32(row[x, 0])


@compiled
def unpack_pixels(words: U32, out: U8) -> None:
    """Write words ``(H, W)`` back into the channels of ``(H, W, C)``."""
    height, width, channels = out.shape
    for y in range(height):
        row, result = words[y], out[y]
        if channels == 3:
            for x in range(width):
                word = row[x]
                result[x, 0] = np.uint8(word)
                result[x, 1] = np.uint8(word >> np.uint32(8))
                result[x, 2] = np.uint8(word >> np.uint32(16))
        else:
            for x in range(width):
                result[x, 0] = np.uint8(row[x])


@compiled
def add_pairs(
    lines: Any, a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int,
    weight: Any, weight1: Any, weight2: Any, weight3: Any, sums: Any,
) -> None:  # fmt: skip
    """Add four weighted pairs of rows of ``lines`` to ``sums``, one after the other."""
    for i in range(sums.shape[0]):
        sums[i] = (
            sums[i]
            + (lines[a, i] + lines[b, i]) * weight
            + (lines[c, i] + lines[d, i]) * weight1
            + (lines[e, i] + lines[f, i]) * weight2
            + (lines[g, i] + lines[h, i]) * weight3
        )


@compiled
def filter_across(padded: Any, channels: int, half: Any, out: Any) -> None:
    """Filter a row along its pixels, the terms added from the centre, then from outside in.

    Args:
        padded: ``((W + 2 r) * channels,)``, the row with r pixels on either side.
        channels: that are interleaved.
        half: ``(1 + 4 m,)``, the kernel from its centre outwards, r = 4 m.
        out: ``(W * channels,)``, written.
    """
    size = out.shape[0]
    step = np.uintp(channels)
    center = np.uintp(half.shape[0] - 1) * step
    for i in range(size):
        out[i] = padded[np.uintp(i) + center] * half[0]
    for k in range(half.shape[0] - 1, 0, -4):
        a, b = center - np.uintp(k) * step, center + np.uintp(k) * step
        c, d = a + step, b - step
        e, f = c + step, d - step
        g, h = e + step, f - step
        w0, w1, w2, w3 = half[k], half[k - 1], half[k - 2], half[k - 3]
        for j in range(size):
            i = np.uintp(j)
            out[j] = (
                out[j]
                + (padded[i + a] + padded[i + b]) * w0
                + (padded[i + c] + padded[i + d]) * w1
                + (padded[i + e] + padded[i + f]) * w2
                + (padded[i + g] + padded[i + h]) * w3
            )


@compiled
def filter_bytes(
    padded: U8, channels: int, half: F64, places: I64, fractions: F64, total: F64, out: U8
) -> None:
    """Filter an image along both axes with one symmetric kernel, the edge repeated.

    In float64 and with the sums in the order of scipy.ndimage: whether a flat area keeps its
    level or loses one depends on the last bit. The image is worked on in strips, so that the rows
    that the kernel spans stay in the cache.

    Args:
        padded: ``(H, N + 2 r channels)``, rows with r pixels repeated on either side.
        channels: that are interleaved.
        half: ``(1 + r,)``, the kernel from its centre outwards, r = 4 m.
        places: ``(H + 2 r,)``, in which line of ``fractions`` each row from -r to H + r - 1 lies.
        fractions: ``(2 r + 2, min(N, STRIP) + 2 r channels)``, scratch: row y of the strip lies in
            line y % (2 r + 1), the sums in the last line.
        total: ``(min(N, STRIP),)``, scratch.
        out: ``(H, N)``, written; fractions are cut off.
    """
    height, size = out.shape
    radius = half.shape[0] - 1
    lines = 2 * radius + 1
    sums = fractions[lines]
    for start in range(0, size, STRIP):
        width = min(STRIP, size - start)
        span = width + 2 * radius * channels
        ready = 0
        for y in range(height):
            while ready < min(y + radius + 1, height):
                line = ready % lines
                for j in range(span):
                    fractions[line, j] = np.float64(padded[ready, start + j]) / 255.0
                ready += 1
            line = y % lines
            for j in range(span):
                sums[j] = fractions[line, j] * half[0]
            for k in range(radius, 0, -4):
                a, b = y + radius - k, y + radius + k
                add_pairs(
                    fractions,
                    places[a], places[b], places[a + 1], places[b - 1],
                    places[a + 2], places[b - 2], places[a + 3], places[b - 3],
                    half[k], half[k - 1], half[k - 2], half[k - 3], sums[:span],
                )  # fmt: skip
            filter_across(sums, channels, half, total[:width])
            for j in range(width):
                out[y, start + j] = np.uint8(np.int32(min(total[j], 1.0) * 255.0))


@compiled
def filter_floats(
    values: F32, down: F32, across: F32, rows: I64, columns: I64, step: int, padded: F32, out: F32
) -> None:
    """Filter ``(H, W)`` with a symmetric kernel along each axis.

    Args:
        values: ``(H, W)``.
        down: ``(1 + r,)``, the kernel for the columns from its centre outwards, r = 4 m.
        across: ``(1 + q,)``, the kernel for the rows, q = 4 n.
        rows: ``(H + 2 r,)``, which row stands for each from -r to H + r - 1.
        columns: ``(W + 2 q,)``, which column.
        step: 1. As an argument it is no constant, of which ``filter_across`` would be compiled
            once more.
        padded: ``(W + 2 q,)``, scratch.
        out: ``(H, W)``, written.
    """
    height, width = values.shape
    margin, radius = across.shape[0] - 1, down.shape[0] - 1
    middle = padded[margin : margin + width]
    for y in range(height):
        center = values[y]
        for i in range(width):
            middle[i] = center[i] * down[0]
        for k in range(radius, 0, -4):
            a, b = y + radius - k, y + radius + k
            add_pairs(
                values,
                rows[a], rows[b], rows[a + 1], rows[b - 1],
                rows[a + 2], rows[b - 2], rows[a + 3], rows[b - 3],
                down[k], down[k - 1], down[k - 2], down[k - 3], middle,
            )  # fmt: skip
        for x in range(margin):
            padded[x] = middle[columns[x]]
            padded[margin + width + x] = middle[columns[margin + width + x]]
        filter_across(padded, step, across, out[y])


@compiled
def sum_shifted_row(
    padded: Any, y: int, margin: int, down: I64, right: I64, weights: F64, sums: F64
) -> None:
    """Add up row ``y`` of the weighted, shifted copies; the number of copies is a multiple of 4."""
    height, size = padded.shape[0], sums.shape[0]
    for i in range(size):
        sums[i] = 0.0
    for n in range(0, weights.shape[0], 4):
        a, b = np.uintp(margin - right[n]), np.uintp(margin - right[n + 1])
        c, d = np.uintp(margin - right[n + 2]), np.uintp(margin - right[n + 3])
        first, second = clamp_index(y - down[n], height), clamp_index(y - down[n + 1], height)
        third, fourth = clamp_index(y - down[n + 2], height), clamp_index(y - down[n + 3], height)
        w0, w1, w2, w3 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3]
        for j in range(size):
            i = np.uintp(j)
            sums[j] = (
                sums[j]
                + np.float64(padded[first, i + a]) * w0
                + np.float64(padded[second, i + b]) * w1
                + np.float64(padded[third, i + c]) * w2
                + np.float64(padded[fourth, i + d]) * w3
            )


@compiled
def smear_bytes(
    padded: U8, margin: int, down: I64, right: I64, weights: F64, added: float, out: U8
) -> None:
    """Add up weighted copies of an image, each shifted by whole pixels, the edge repeated.

    In float64 and in the published order, for the sake of flat areas.

    Args:
        padded: ``(H, N + 2 margin)``, rows with ``margin`` values repeated on either side.
        margin: at least the largest ``right`` either way.
        down: ``(4 m,)``, rows by which each copy moves down.
        right: ``(4 m,)``, values by which it moves to the right.
        weights: ``(4 m,)``.
        added: to the sums before fractions are cut off: 0.5 rounds them.
        out: ``(H, N)``, written.
    """
    sums = np.empty(out.shape[1], np.float64)
    for y in range(out.shape[0]):
        sum_shifted_row(padded, y, margin, down, right, weights, sums)
        row = out[y]
        for i in range(row.shape[0]):
            row[i] = np.uint8(np.int32(min(sums[i] + added, 255.0)))
