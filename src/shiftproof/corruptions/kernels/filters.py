"""Pixels packed into words, Gaussian blur, and motion blur along a line."""

from __future__ import annotations

from typing import Any

import numpy as np

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.corruptions.kernels.indices import clamp_index
from shiftproof.types import F32, F64, I64, U8, U32

STRIP = 2048
"""Values of a row that are filtered at a time, so that intermediate values stay in the cache."""

BLOCK = 64
"""Sums that are checked together for one near an integer."""


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


@compile_inner
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


@compile_inner
def filter_across(padded: Any, channels: int, half: Any, out: Any) -> None:
    """Filter a row along its pixels, the terms added from the center, then from outside in.

    Args:
        padded: ``((W + 2 r) * channels,)``, the row with r pixels on either side.
        channels: that are interleaved.
        half: ``(1 + 4 m,)``, the kernel from its center outwards, r = 4 m.
        out: ``(W * channels,)``, written.
    """
    size, margin = out.shape[0], (half.shape[0] - 1) * channels
    center = padded[margin:]
    for i in range(size):
        out[i] = center[i] * half[0]
    for k in range(half.shape[0] - 1, 0, -4):
        start, end, step = margin - k * channels, margin + k * channels, channels
        a, b = padded[start:], padded[end:]
        c, d = padded[start + step :], padded[end - step :]
        e, f = padded[start + 2 * step :], padded[end - 2 * step :]
        g, h = padded[start + 3 * step :], padded[end - 3 * step :]
        w0, w1, w2, w3 = half[k], half[k - 1], half[k - 2], half[k - 3]
        for i in range(size):
            out[i] = (
                out[i]
                + (a[i] + b[i]) * w0
                + (c[i] + d[i]) * w1
                + (e[i] + f[i]) * w2
                + (g[i] + h[i]) * w3
            )


@compile_inner
def truncate_block(sums: F32, near: np.float32, out: U8) -> np.int32:
    """Truncate up to ``BLOCK`` sums to bytes; return 1 if one is within ``near`` of an integer."""
    close = np.int32(0)
    for j in range(sums.shape[0]):
        nearest = np.float32(np.int32(sums[j] + np.float32(0.5)))
        close |= np.int32(abs(sums[j] - nearest) < near)
        out[j] = np.uint8(np.int32(min(sums[j], np.float32(255))))
    found: np.int32 = np.int32(close)
    return found


@compile_inner
def find_doubtful(
    sums: F32, near: np.float32, slopes: U8, values: U8, flat: U8, out: U8
) -> tuple[int, int]:
    """Write the flat pixels, and return the range of the other sums that are near an integer.

    Args:
        sums: ``(n,)``.
        near: see ``truncate_block``.
        slopes: ``(n,)``, 0 where all values under the kernel are equal.
        values: ``(n,)``, the value under the kernel where all are equal.
        flat: ``(256,)``, the result for each value where all under the kernel are equal.
        out: ``(n,)``, written where the image is flat.
    """
    size, slope = sums.shape[0], np.uint8(0)
    for j in range(size):
        slope |= slopes[j]
    if slope == 0:
        for j in range(size):
            out[j] = flat[values[j]]
        return 0, 0
    first, last = size, 0
    for j in range(size):
        nearest = np.float32(np.int32(sums[j] + np.float32(0.5)))
        if abs(sums[j] - nearest) < near:
            if slopes[j] == 0:
                out[j] = flat[values[j]]
            else:
                first, last = min(first, j), j + 1
    return first, last


@compile_inner
def _find_slopes(part: U8, middle: int, channels: int, columns: U8, slopes: U8) -> None:
    """Write 0 where a square of pixels has one color, else another number.

    Args:
        part: ``(rows, n + 2 r channels)``, the rows of the squares.
        middle: one of these rows.
        channels: that are interleaved.
        columns: ``(n + 2 r channels,)`` or longer, scratch.
        slopes: ``(n,)``, written.
    """
    center, span, size = part[middle], part.shape[1], slopes.shape[0]
    for i in range(span):
        columns[i] = 0
    for y in range(part.shape[0]):
        row = part[y]
        for i in range(span):
            columns[i] |= row[i] ^ center[i]
    beside = center[channels:]
    for i in range(span - channels):
        columns[i] |= center[i] ^ beside[i]
    for i in range(size):
        slopes[i] = columns[i]
    for start in range(channels, span - size + 1, channels):
        shifted = columns[start:]
        for i in range(size):
            slopes[i] |= shifted[i]


@compile_inner
def _filter_exactly(
    padded: U8, y: int, start: int, channels: int, half: F64, levels: F64, sums: F64, out: U8
) -> None:
    """Filter a few values of row ``y`` in float64, in the order of scipy.ndimage.

    Args:
        padded: see ``filter_bytes``.
        y: the row.
        start: first value in the row.
        channels: that are interleaved.
        half: see ``filter_bytes``.
        levels: see ``filter_bytes``.
        sums: ``(n + 2 r channels,)`` or longer, scratch.
        out: ``(n,)``, written.
    """
    radius, size = half.shape[0] - 1, out.shape[0]
    span = size + 2 * radius * channels
    center = padded[y, start : start + span]
    for i in range(span):
        sums[i] = levels[center[i]] * half[0]
    for k in range(radius, 0, -1):
        upper = padded[clamp_index(y - k, padded.shape[0]), start : start + span]
        lower = padded[clamp_index(y + k, padded.shape[0]), start : start + span]
        for i in range(span):
            sums[i] += (levels[upper[i]] + levels[lower[i]]) * half[k]
    for j in range(size):
        i = j + radius * channels
        total = sums[i] * half[0]
        for k in range(radius, 0, -1):
            total += (sums[i - k * channels] + sums[i + k * channels]) * half[k]
        out[j] = np.uint8(np.int32(min(total, 1.0) * 255.0))


@compiled
def filter_bytes(
    padded: U8,
    channels: int,
    half: F64,
    thin: F32,
    near: np.float32,
    levels: F64,
    flat: U8,
    places: I64,
    lines: F32,
    total: F32,
    doubles: F64,
    bytes_: U8,
    out: U8,
) -> None:
    """Filter an image along both axes with one symmetric kernel, the edge repeated.

    In float32; where the result is so near an integer that rounding could decide, in float64 with
    the sums in the order of scipy.ndimage: whether a flat area keeps its level or loses one depends
    on the last bit. The image is filtered in strips, so that the rows under the kernel stay in the
    cache.

    Args:
        padded: ``(H, N + 2 r channels)``, rows with r pixels repeated on either side.
        channels: that are interleaved.
        half: ``(1 + r,)``, the kernel from its center outwards, r = 4 m.
        thin: ``half`` in float32.
        near: bound of the error of the float32 sums, in gray levels.
        levels: ``(256,)``, the gray levels as fractions.
        flat: ``(256,)``, the result for each gray level where all under the kernel are equal.
        places: ``(H + 2 r,)``, the line of ``lines`` that holds each row from -r to H + r - 1.
        lines: ``(2 r + 2, min(N, STRIP) + 2 r channels)``, scratch: row y of the strip lies in
            line y % (2 r + 1), the sums in the last line.
        total: ``(min(N, STRIP),)``, scratch.
        doubles: ``(BLOCK + 2 r channels,)``, scratch.
        bytes_: ``(2 BLOCK + 2 r channels,)``, scratch.
        out: ``(H, N)``, written; fractions are truncated.
    """
    height, size = out.shape
    radius = half.shape[0] - 1
    count = 2 * radius + 1
    sums, slopes, columns = lines[count], bytes_[:BLOCK], bytes_[BLOCK:]
    for left in range(0, size, STRIP):
        width = min(STRIP, size - left)
        span = width + 2 * radius * channels
        ready = 0
        for y in range(height):
            while ready < min(y + radius + 1, height):
                line, source = lines[ready % count], padded[ready, left : left + span]
                for j in range(span):
                    line[j] = np.float32(source[j])
                ready += 1
            line = lines[y % count]
            for j in range(span):
                sums[j] = line[j] * thin[0]
            for k in range(radius, 0, -4):
                a, b = y + radius - k, y + radius + k
                add_pairs(
                    lines,
                    places[a], places[b], places[a + 1], places[b - 1],
                    places[a + 2], places[b - 2], places[a + 3], places[b - 3],
                    thin[k], thin[k - 1], thin[k - 2], thin[k - 3], sums[:span],
                )  # fmt: skip
            filter_across(sums, channels, thin, total[:width])
            for start in range(0, width, BLOCK):
                length = min(BLOCK, width - start)
                part, result = total[start : start + length], out[y, left + start :][:length]
                if truncate_block(part, near, result) == 0:
                    continue
                top, bottom = max(y - radius, 0), min(y + radius + 1, height)
                first = left + start
                square = padded[top:bottom, first : first + length + 2 * radius * channels]
                _find_slopes(square, y - top, channels, columns, slopes[:length])
                values = padded[y, first + radius * channels :]
                low, high = find_doubtful(part, near, slopes, values, flat, result)
                if low < high:
                    _filter_exactly(
                        padded, y, first + low, channels, half, levels, doubles, result[low:high]
                    )


@compiled
def filter_floats(
    values: F32, down: F32, across: F32, rows: I64, columns: I64, step: int, padded: F32, out: F32
) -> None:
    """Filter ``(H, W)`` with a symmetric kernel along each axis.

    Args:
        values: ``(H, W)``.
        down: ``(1 + r,)``, the kernel for the columns from its center outwards, r = 4 m.
        across: ``(1 + q,)``, the kernel for the rows, q = 4 n.
        rows: ``(H + 2 r,)``, the row that is read for each from -r to H + r - 1.
        columns: ``(W + 2 q,)``, the same for columns.
        step: always 1. As a constant it would have ``filter_across`` compiled once more.
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


@compile_inner
def sum_copies(lines: F32, rows: I64, starts: I64, weights: F32, sums: F32) -> None:
    """Add up a multiple of 8 weighted slices of ``lines``, each from its own row and start."""
    for i in range(sums.shape[0]):
        sums[i] = np.float32(0)
    for n in range(0, weights.shape[0], 8):
        a, b = lines[rows[n], starts[n] :], lines[rows[n + 1], starts[n + 1] :]
        c, d = lines[rows[n + 2], starts[n + 2] :], lines[rows[n + 3], starts[n + 3] :]
        e, f = lines[rows[n + 4], starts[n + 4] :], lines[rows[n + 5], starts[n + 5] :]
        g, h = lines[rows[n + 6], starts[n + 6] :], lines[rows[n + 7], starts[n + 7] :]
        w0, w1, w2, w3 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3]
        w4, w5, w6, w7 = weights[n + 4], weights[n + 5], weights[n + 6], weights[n + 7]
        for i in range(sums.shape[0]):
            # This order rounds the fewest large sums.
            first = (a[i] * w0 + b[i] * w1) + (c[i] * w2 + d[i] * w3)
            second = (e[i] * w4 + f[i] * w5) + (g[i] * w6 + h[i] * w7)
            sums[i] = sums[i] + (first + second)


@compile_inner
def sum_exactly(
    padded: Any, y: int, first: int, down: I64, starts: I64, weights: F64, sums: F64
) -> None:
    """Add up copies in float64 for a few values, from ``first`` of row ``y`` on."""
    for i in range(sums.shape[0]):
        sums[i] = 0.0
    for n in range(weights.shape[0]):
        row = padded[clamp_index(y - down[n], padded.shape[0]), first + starts[n] :]
        for i in range(sums.shape[0]):
            sums[i] += np.float64(row[i]) * weights[n]


@compiled
def smear_bytes(
    padded: U8,
    margin: int,
    down: I64,
    starts: I64,
    weights: F64,
    thin: F32,
    near: np.float32,
    flat: U8,
    added: float,
    lines: F32,
    rows: I64,
    sums: F32,
    doubles: F64,
    slopes: U8,
    out: U8,
) -> None:
    """Add up weighted copies of an image, each shifted by whole pixels, the edge repeated.

    In float32, and near an integer in float64 and in the published order, like ``filter_bytes``.

    Args:
        padded: ``(H, N + 2 margin)``, rows with ``margin`` values repeated on either side.
        margin: values repeated on either side.
        down: ``(8 m,)``, rows by which each copy is shifted down; one of them is 0.
        starts: ``(8 m,)``, where a row of each copy starts in a padded row, 0 to 2 margin.
        weights: ``(8 m,)``.
        thin: ``weights`` in float32.
        near: bound of the error of the float32 sums, in gray levels.
        flat: ``(256,)``, the result for each gray level where all copies are equal.
        added: added to the sums before truncation: 0.5 rounds them.
        lines: ``(l, min(N, STRIP) + 2 margin)``, scratch, l the rows from the lowest copy to the
            highest.
        rows: ``(8 m,)``, scratch.
        sums: ``(min(N, STRIP),)``, scratch.
        doubles: ``(BLOCK,)``, scratch.
        slopes: ``(BLOCK,)``, scratch.
        out: ``(H, N)``, written.
    """
    height, size = out.shape
    count = lines.shape[0]
    highest = 0
    for n in range(down.shape[0]):
        highest = min(highest, down[n])
    for left in range(0, size, STRIP):
        width = min(STRIP, size - left)
        ready = 0
        for y in range(height):
            while ready < min(y - highest + 1, height):
                line, source = lines[ready % count], padded[ready, left:]
                for j in range(width + 2 * margin):
                    line[j] = np.float32(source[j])
                ready += 1
            for n in range(rows.shape[0]):
                rows[n] = clamp_index(y - down[n], height) % count
            sum_copies(lines, rows, starts, thin, sums[:width])
            for j in range(width):
                sums[j] += np.float32(added)
            for start in range(0, width, BLOCK):
                length = min(BLOCK, width - start)
                part, result = sums[start : start + length], out[y, left + start :][:length]
                if truncate_block(part, near, result) == 0:
                    continue
                first = left + start
                values = padded[y, first + margin :][:length]
                for j in range(length):
                    slopes[j] = 0
                for n in range(down.shape[0]):
                    row = padded[clamp_index(y - down[n], height), first + starts[n] :]
                    for j in range(length):
                        slopes[j] |= row[j] ^ values[j]
                low, high = find_doubtful(part, near, slopes, values, flat, result)
                if low < high:
                    exact = doubles[: high - low]
                    sum_exactly(padded, y, first + low, down, starts, weights, exact)
                    for j in range(low, high):
                        result[j] = np.uint8(np.int32(min(exact[j - low] + added, 255.0)))
