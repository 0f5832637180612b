"""Gaussian blur, and motion blur along a line."""

from __future__ import annotations

from typing import Any

import numpy as np

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.corruptions.kernels.indices import clamp_index
from shiftproof.corruptions.kernels.lanes import (
    FLOATS,
    convert_bytes,
    find_differences,
    find_lowest,
    optimize_for_size,
    sum_eights,
    sum_pairs,
    truncate_sums,
)
from shiftproof.types import F32, F64, I64, U8

STRIP = 2048
"""Values of a row that are filtered at a time, so that intermediate values stay in the cache."""


@compile_inner
def truncate_block(
    sums: int, tolerance: np.float32, start: int, length: int, spare: U8, out: U8
) -> np.int64:
    """Truncate up to ``FLOATS`` sums to bytes.

    Args:
        sums: the address of ``FLOATS`` sums in float32, of which the first ``length`` are used.
        tolerance: bound of the error of a sum.
        start: first index in ``out``.
        length: see ``sums``.
        spare: ``(FLOATS,)``, scratch.
        out: ``(n,)``, written.

    Returns:
        A bit for each sum: whether it is within ``tolerance`` of an integer.
    """
    optimize_for_size()
    if length == FLOATS:
        doubtful: np.int64 = truncate_sums(sums, tolerance, out.ctypes.data + start)
        return doubtful
    all_bits = truncate_sums(sums, tolerance, spare.ctypes.data)
    for j in range(length):
        out[start + j] = spare[j]
    used_bits: np.int64 = all_bits & ((np.int64(1) << length) - 1)
    return used_bits


@compile_inner
def write_flat(
    doubtful: np.int64, edges: np.int64, values: U8, flat: U8, start: int, out: U8
) -> tuple[int, int]:
    """Write the doubtful sums in flat areas, and return the range of the others.

    Args:
        doubtful: a bit for each sum, from the lowest on.
        edges: a bit for each sum: 0 where all values under the kernel are equal.
        values: ``(n,)``, the value under the kernel where all are equal.
        flat: ``(256,)``, the result for each value where all under the kernel are equal.
        start: first index in ``out``.
        out: ``(N,)``, written where the image is flat.
    """
    optimize_for_size()
    even, others = doubtful & ~edges, doubtful & edges
    while even:
        j = find_lowest(even)
        even &= even - 1
        out[start + j] = flat[values[j]]
    first, last = (find_lowest(others) if others else 0), 0
    while others:
        last = find_lowest(others) + 1
        others &= others - 1
    return first, last


@compile_inner
def _find_corners(
    padded: U8, top: int, bottom: int, y: int, first: int, channels: int, span: int,
    rows: I64, columns: U8,
) -> np.int64:  # fmt: skip
    """Return a bit for each of ``FLOATS`` squares of pixels: 0 where it has one color.

    Args:
        padded: see ``filter_bytes``.
        top: the first row of the squares.
        bottom: the row after the last.
        y: one of the rows.
        first: start of the first square.
        channels: number of interleaved channels.
        span: ``2 r channels``, from where a square starts to its last pixel.
        rows: at least one more than there are rows or columns in a square, scratch.
        columns: ``(3 FLOATS + span,)``, of which the first ``FLOATS`` are 0, the rest scratch.
    """
    optimize_for_size()
    step, table = padded.shape[1], rows.ctypes.data
    center = padded.ctypes.data + y * step + first
    zeros, differences = columns.ctypes.data, columns.ctypes.data + FLOATS
    for n in range(top, bottom):
        rows[n - top] = padded.ctypes.data + n * step + first
    rows[bottom - top] = center + channels
    for start in range(0, FLOATS + span, FLOATS):
        find_differences(table, bottom - top + 1, center, start, differences + start)
    count = 0
    for start in range(0, span + 1, channels):
        rows[count] = differences + start
        count += 1
    edges: np.int64 = find_differences(table, count, zeros, 0, differences)
    return edges


@compile_inner
def _filter_exactly(
    padded: U8, y: int, start: int, channels: int, half: F64, levels: F64, sums: F64, out: U8
) -> None:
    """Filter a few values of row ``y`` in float64, in the order of scipy.ndimage.

    Args:
        padded: see ``filter_bytes``.
        y: the row.
        start: first value in the row.
        channels: number of interleaved channels.
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


# Not split: separate functions take 0.3 s longer to compile.
@compiled
def filter_bytes(
    padded: U8,
    channels: int,
    half: F64,
    single: F32,
    tolerance: np.float32,
    levels: F64,
    flat: U8,
    places: I64,
    lines: F32,
    rows: I64,
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
        padded: ``(H, N + 2 r channels + 2 FLOATS + channels)`` or wider, rows with r pixels
            repeated on either side, and unused values.
        channels: number of interleaved channels.
        half: ``(1 + r,)``, the kernel from its center outwards.
        single: ``(1 + r,)``, its center, and the rest from the outside inwards; in float32.
        tolerance: bound of the error of the float32 sums, in gray levels.
        levels: ``(256,)``, the gray levels as fractions.
        flat: ``(256,)``, the result for each gray level where all under the kernel are equal.
        places: ``(H + 2 r,)``, the line of ``lines`` that holds each row from -r to H + r - 1.
        lines: ``(2 r + 2, min(N, STRIP) + 2 r channels + FLOATS)``, scratch: row y of the strip
            lies in line y % (2 r + 1), the sums in the last line.
        rows: ``(3, 2 + 2 r)``, scratch.
        total: ``(FLOATS,)``, scratch.
        doubles: ``(FLOATS + 2 r channels,)``, scratch.
        bytes_: ``(4 FLOATS + 2 r channels,)``, zeros, scratch.
        out: ``(H, N)``, written; fractions are truncated.
    """
    optimize_for_size()
    height, size = out.shape
    radius = half.shape[0] - 1
    count, margin = 2 * radius + 1, radius * channels
    spare, columns = bytes_[:FLOATS], bytes_[FLOATS:]
    base, step, weights = lines.ctypes.data, 4 * lines.shape[1], single.ctypes.data
    sums, block = base + count * step, total.ctypes.data
    first_row = padded.ctypes.data
    down, across, corners = rows[0], rows[1], rows[2]
    across[0] = sums + 4 * margin
    for k in range(1, radius + 1):
        across[2 * k - 1] = sums + 4 * (k - 1) * channels
        across[2 * k] = sums + 4 * (2 * radius + 1 - k) * channels
    for left in range(0, size, STRIP):
        width = min(STRIP, size - left)
        span = width + 2 * margin
        ready = 0
        for y in range(height):
            while ready < min(y + radius + 1, height):
                line, source = base + ready % count * step, first_row + ready * padded.shape[1]
                for start in range(0, span, FLOATS):
                    convert_bytes(source + left + start, line + 4 * start)
                ready += 1
            down[0] = base + y % count * step
            for k in range(1, radius + 1):
                down[2 * k - 1] = base + places[y + k - 1] * step
                down[2 * k] = base + places[y + 2 * radius + 1 - k] * step
            for start in range(0, 4 * span, 4 * FLOATS):
                sum_pairs(down.ctypes.data, weights, radius, start, sums + start)
            for start in range(0, width, FLOATS):
                sum_pairs(across.ctypes.data, weights, radius, 4 * start, block)
                length, first = min(FLOATS, width - start), left + start
                doubtful = truncate_block(block, tolerance, first, length, spare, out[y])
                if doubtful == 0:
                    continue
                top, bottom = max(y - radius, 0), min(y + radius + 1, height)
                edges = _find_corners(
                    padded, top, bottom, y, first, channels, 2 * margin, corners, columns
                )
                values = padded[y, first + margin :]
                low, high = write_flat(doubtful, edges, values, flat, first, out[y])
                if low < high:
                    _filter_exactly(
                        padded, y, first + low, channels, half, levels, doubles,
                        out[y, first + low : first + high],
                    )  # fmt: skip


@compiled
def filter_floats(
    values: F32,
    width: int,
    down: F32,
    across: F32,
    places: I64,
    columns: I64,
    rows: I64,
    padded: F32,
    out: F32,
) -> None:
    """Filter rows with a symmetric kernel along each axis.

    Args:
        values: ``(H * W + FLOATS,)``; the last ``FLOATS`` are ignored.
        width: W.
        down: ``(1 + r,)``, the kernel for the columns, its center and the rest from outside in.
        across: ``(1 + q,)``, the kernel for the rows.
        places: ``(H + 2 r,)``, the row that is read for each from -r to H + r - 1.
        columns: ``(W + 2 q,)``, the same for columns.
        rows: ``(1 + 2 max(r, q),)``, scratch.
        padded: ``(W + 2 q + FLOATS,)``, scratch.
        out: ``(H * W + FLOATS,)``, written; the last ``FLOATS`` are undefined.
    """
    optimize_for_size()
    radius, margin = down.shape[0] - 1, across.shape[0] - 1
    base, step, table = values.ctypes.data, 4 * width, rows.ctypes.data
    middle, result = padded.ctypes.data + 4 * margin, out.ctypes.data
    for y in range(places.shape[0] - 2 * radius):
        rows[0] = base + y * step
        for k in range(1, radius + 1):
            rows[2 * k - 1] = base + places[y + k - 1] * step
            rows[2 * k] = base + places[y + 2 * radius + 1 - k] * step
        for start in range(0, step, 4 * FLOATS):
            sum_pairs(table, down.ctypes.data, radius, start, middle + start)
        for x in range(margin):
            padded[x] = padded[margin + columns[x]]
            padded[margin + width + x] = padded[margin + columns[margin + width + x]]
        rows[0] = middle
        for k in range(1, margin + 1):
            rows[2 * k - 1] = middle - 4 * (margin + 1 - k)
            rows[2 * k] = middle + 4 * (margin + 1 - k)
        for start in range(0, step, 4 * FLOATS):
            sum_pairs(table, across.ctypes.data, margin, start, result + y * step + start)


@compile_inner
def sum_exactly(
    padded: Any, y: int, first: int, down: I64, starts: I64, weights: F64, sums: F64
) -> None:
    """Sum copies in float64 for a few values, from ``first`` of row ``y`` on."""
    for i in range(sums.shape[0]):
        sums[i] = 0.0
    for n in range(weights.shape[0]):
        row = padded[clamp_index(y - down[n], padded.shape[0]), first + starts[n] :]
        for i in range(sums.shape[0]):
            sums[i] += np.float64(row[i]) * weights[n]


# Not split: separate functions take 0.1 s longer to compile.
@compiled
def smear_bytes(
    padded: U8,
    margin: int,
    down: I64,
    starts: I64,
    weights: F64,
    single: F32,
    tolerance: np.float32,
    flat: U8,
    rounding: float,
    lines: F32,
    rows: I64,
    sums: F32,
    doubles: F64,
    addresses: I64,
    spare: U8,
    out: U8,
) -> None:
    """Sum weighted copies of an image, each shifted by whole pixels, the edge repeated.

    In float32, and near an integer in float64 and in the published order, like ``filter_bytes``.

    Args:
        padded: ``(H, N + 2 margin + FLOATS)`` or wider, rows with ``margin`` values repeated on
            either side, and unused values.
        margin: values repeated on either side.
        down: ``(8 m,)``, rows by which each copy is shifted down; one of them is 0.
        starts: ``(8 m,)``, where a row of each copy starts in a padded row, 0 to 2 margin.
        weights: ``(8 m,)``.
        single: ``weights`` in float32.
        tolerance: bound of the error of the float32 sums, in gray levels.
        flat: ``(256,)``, the result for each gray level where all copies are equal.
        rounding: added to the sums before truncation: 0.5 rounds them.
        lines: ``(l, min(N, STRIP) + 2 margin + FLOATS)``, scratch, l the rows from the lowest copy
            to the highest.
        rows: ``(8 m,)``, scratch.
        sums: ``(FLOATS,)``, scratch.
        doubles: ``(FLOATS,)``, scratch.
        addresses: ``(8 m,)``, scratch.
        spare: ``(FLOATS,)``, scratch.
        out: ``(H, N)``, written.
    """
    optimize_for_size()
    height, size = out.shape
    count, base, step = lines.shape[0], lines.ctypes.data, 4 * lines.shape[1]
    half, total, source_base = np.float32(rounding), sums.ctypes.data, padded.ctypes.data
    highest = 0
    for n in range(down.shape[0]):
        highest = min(highest, down[n])
    for left in range(0, size, STRIP):
        width = min(STRIP, size - left)
        ready = 0
        for y in range(height):
            while ready < min(y - highest + 1, height):
                line, source = base + ready % count * step, source_base + ready * padded.shape[1]
                for start in range(0, width + 2 * margin, FLOATS):
                    convert_bytes(source + left + start, line + 4 * start)
                ready += 1
            for n in range(rows.shape[0]):
                line_index = clamp_index(y - down[n], height) % count
                rows[n] = base + line_index * step + 4 * starts[n]
            for start in range(0, width, FLOATS):
                sum_eights(rows.ctypes.data, single.ctypes.data, rows.shape[0], 4 * start, total)
                for j in range(FLOATS):
                    sums[j] += half
                length, first = min(FLOATS, width - start), left + start
                doubtful = truncate_block(total, tolerance, first, length, spare, out[y])
                if doubtful == 0:
                    continue
                for n in range(rows.shape[0]):
                    row = clamp_index(y - down[n], height)
                    addresses[n] = source_base + row * padded.shape[1] + first + starts[n]
                center = source_base + y * padded.shape[1] + first + margin
                edges = find_differences(
                    addresses.ctypes.data, rows.shape[0], center, 0, spare.ctypes.data
                )
                values = padded[y, first + margin :]
                low, high = write_flat(doubtful, edges, values, flat, first, out[y])
                if low < high:
                    exact = doubles[: high - low]
                    sum_exactly(padded, y, first + low, down, starts, weights, exact)
                    for j in range(low, high):
                        value = min(exact[j - low] + rounding, 255.0)
                        out[y, first + j] = np.uint8(np.int32(value))
