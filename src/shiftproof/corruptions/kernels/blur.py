"""The inner loops of the blurs."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.corruptions.kernels.filters import truncate_block
from shiftproof.corruptions.kernels.lanes import (
    FLOATS,
    build_sum,
    fill_lanes,
    find_lowest,
    load,
    load_entry,
    optimize_for_size,
    store,
    sum_pairs,
)
from shiftproof.types import F32, F64, I32, I64, U8, U16, U32

TOLERANCE = np.float32(5e-5)
"""Distance in gray levels within which a float32 sum counts as an integer."""

WORDS = 32
"""Number of 16-bit sums per vector operation."""

LANES = 16
"""Number of values per vector operation of an enlargement."""

MAX_SINGLE_SUMS = 4
"""Up to this number, sums of a block are computed exactly without first checking for one color."""


@compiled
def shuffle_pixels(pixels: U32, width: int, delta: int, offsets: I32, exchange: bool) -> None:
    """Replace each pixel by a neighbor, or exchange both, from the bottom right to the top left.

    Args:
        pixels: ``(H * width,)``, changed in place.
        width: of the image.
        delta: pixels within ``delta`` of the edge are skipped.
        offsets: ``(n,)``, from a pixel to its neighbor, in the order of the pixels.
        exchange: whether both pixels are exchanged.
    """
    height = pixels.shape[0] // width
    n = 0
    for y in range(height - delta, delta, -1):
        for x in range(width - delta, delta, -1):
            target, source = np.uintp(y * width + x), np.uintp(y * width + x + offsets[n])
            n += 1
            value = pixels[target]
            pixels[target] = pixels[source]
            if exchange:
                pixels[source] = value


@compile_inner
def _write_flat_sums(doubtful: np.int64, sums: F32, flat: U8, start: int, out: U8) -> None:
    """Write the results of sums that are integers, given by the bits of ``doubtful``.

    The published result for a flat area, where the exact sum is an integer, depends on the last bit
    of float64 sums; ``flat`` ``(256,)`` has it for each gray level.
    """
    optimize_for_size()
    while doubtful:
        j = find_lowest(doubtful)
        doubtful &= doubtful - 1
        nearest = np.int32(sums[j] + np.float32(0.5))
        out[start + j] = flat[min(max(nearest, 0), 255)]


def _write_differences(
    typing_context: Any, added: Any, subtracted: Any, count: Any, offset: Any, weight: Any, out: Any
) -> Any:
    """Add the weighted difference of sums of uint16, modulo 2 ** 16, to ``WORDS`` float32 at
    ``out``.

    ``added`` and ``subtracted`` are addresses of ``count`` addresses, ``offset`` is added to each.
    """
    signature = types.void(*[types.int64] * 4, types.float32, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        plus, minus, count, offset, weight, out = arguments
        small = ir.VectorType(ir.IntType(16), WORDS)
        wide, long = ir.VectorType(ir.FloatType(), WORDS), ir.IntType(64)

        def read(table: Any, n: Any) -> Any:
            address = builder.add(load_entry(builder, table, n, long), offset)
            return load(builder, address, small)

        def add(total: Any, n: Any) -> Any:
            return builder.add(total, builder.sub(read(plus, n), read(minus, n)))

        zeros = ir.Constant(small, [0] * WORDS)
        total = build_sum(builder, long(0), count, 1, zeros, add)
        weighted = builder.fmul(builder.uitofp(total, wide), fill_lanes(builder, weight, wide))
        store(builder, builder.fadd(load(builder, out, wide), weighted), out)
        return context.get_dummy_value()

    return signature, generate


_add_differences: Any = intrinsic(_write_differences)


@compile_inner
def _run_sums(row: U8, channels: int, running: U16) -> None:
    """Write the cumulative sums of each channel of a row, modulo 2 ** 16."""
    optimize_for_size()
    if channels == 3:
        r, g, b = np.uint16(0), np.uint16(0), np.uint16(0)
        for x in range(row.shape[0] // 3):
            r, g = np.uint16(r + row[3 * x]), np.uint16(g + row[3 * x + 1])
            b = np.uint16(b + row[3 * x + 2])
            running[3 * x + 3], running[3 * x + 4], running[3 * x + 5] = r, g, b
    else:
        total = np.uint16(0)
        for x in range(row.shape[0]):
            total = np.uint16(total + row[x])
            running[x + 1] = total


@compile_inner
def _sum_disk(
    running: U16, center: int, first: int, channels: int, widths: I64, spans: I64, out: F32
) -> None:
    """Write the sums over the disk around each value of a row.

    The halves of the disk are summed separately in 16 bits, which hold the sum of 257 pixels.

    Args:
        running: running sums, row y in line y % lines.
        center: the row.
        first: start of the values in it.
        channels: number of interleaved channels.
        widths: see ``blur_by_disk``.
        spans: ``(2, 2 r + 1)``, scratch.
        out: ``(n,)``, n a multiple of ``WORDS``; written.
    """
    optimize_for_size()
    lines, radius = running.shape[0], widths.shape[0] - 1
    base, step = running.ctypes.data, 2 * running.shape[1]
    for half in range(2):
        count = 0
        for k in range(
            0 if half == 0 else radius // 2 + 1, radius // 2 + 1 if half == 0 else radius + 1
        ):
            left, right = first - widths[k] * channels, first + (widths[k] + 1) * channels
            for side in range(1 if k == 0 else 2):
                line = (center + k if side == 0 else center - k) % lines
                spans[0, count] = base + line * step + 2 * right
                spans[1, count] = base + line * step + 2 * left
                count += 1
        if half == 0:
            for i in range(out.shape[0]):
                out[i] = np.float32(0)
        added, subtracted, target = spans[0].ctypes.data, spans[1].ctypes.data, out.ctypes.data
        for start in range(0, out.shape[0], WORDS):
            _add_differences(added, subtracted, count, 2 * start, np.float32(1), target + 4 * start)


@compile_inner
def _sum_down(previous: U16, row: U8, out: U16) -> None:
    """Write the column sums including one more row, modulo 2 ** 16."""
    for i in range(row.shape[0]):
        out[i] = previous[i] + np.uint16(row[i])


# Not split: separate functions take 0.1 s longer to compile.
@compiled
def blur_by_disk(
    padded: U8,
    channels: int,
    reach: int,
    widths: I64,
    smooth: F32,
    edges: I64,
    edge_weights: F32,
    scale: np.float32,
    flat: U8,
    running: U16,
    below: U16,
    spans: I64,
    disks: F32,
    verticals: F32,
    middle: F32,
    sums: F32,
    block: F32,
    rows: I64,
    spare: U8,
    out: U8,
) -> None:
    """Filter with a disk smoothed by a small Gaussian.

    The sum over the disk is in integers: for each of its rows the difference of two cumulative
    sums. The Gaussian, 5 x 5 or smaller, is applied to these sums. ``edges`` are further terms at
    the border of the published kernel.

    Args:
        padded: ``(H + 2 reach, N + 2 reach channels)``.
        channels: number of interleaved channels.
        reach: pixels of padding, at least the disk's radius + 2 and the farthest edge + 2.
        widths: ``(r + 1,)``, half the width of the disk's rows from the middle outwards.
        smooth: ``(4,)``, 1 and the Gaussian from its center outwards.
        edges: ``(m, 2)``, (distance from the center, half width) of rows to add above and below
            and, transposed, left and right.
        edge_weights: ``(m,)``, their weights.
        scale: factor of the sums.
        flat: ``(256,)``, the result for a flat area of each gray level.
        running: ``(2 reach + 1, N + 2 reach channels + C + WORDS)``, zeros, scratch.
        below: ``(2 reach + 1, N + 2 reach channels)``, zeros, scratch; no lines without edges.
        spans: ``(2, 2 r + 1)``, scratch.
        disks: ``(5, n)``, scratch, n the multiple of ``FLOATS`` from N + 4 C on.
        verticals: ``(5, N + FLOATS)``, zeros, scratch.
        middle: ``(N + 4 C + FLOATS,)``, scratch.
        sums: ``(2, N + FLOATS)``, zeros, the first row scratch.
        block: ``(FLOATS,)``, scratch.
        rows: ``(7,)``, scratch.
        spare: ``(FLOATS,)``, scratch.
        out: ``(H, N)``, written.
    """
    optimize_for_size()
    height, size = out.shape
    radius = widths.shape[0] - 1
    # Two more pixels on either side, for the horizontal Gaussian.
    first = (reach - 2) * channels
    lines, addresses, total = running.shape[0], rows.ctypes.data, block.ctypes.data
    base, step = running.ctypes.data, 2 * running.shape[1]
    added, subtracted = spans[0].ctypes.data, spans[1].ctypes.data
    for line in range(height + 2 * reach):
        row = padded[line]
        _run_sums(row, channels, running[line % lines])
        # Also along the columns, if the kernel has edges.
        if below.shape[0]:
            _sum_down(below[(line - 1) % lines], row, below[line % lines])
        # The row whose disk sums are complete with this line, and the one whose Gaussian is.
        target = line - reach - radius
        y = target - 2
        middle_line = target + reach
        if middle_line < radius:
            continue
        _sum_disk(running, middle_line, first, channels, widths, spans, disks[target % 5])
        if below.shape[0]:
            _vertical_edges(
                below, middle_line, reach * channels, channels, edges, edge_weights,
                verticals[target % 5],
            )  # fmt: skip
        if y < 0 or y >= height:
            continue
        _smooth_down(disks, y, smooth, size + 4 * channels, rows, middle)
        for m in range(edges.shape[0]):
            left, right = first - edges[m, 1] * channels, first + (edges[m, 1] + 1) * channels
            upper = base + (y + reach - edges[m, 0]) % lines * step
            lower = base + (y + reach + edges[m, 0]) % lines * step
            spans[0, 0], spans[1, 0] = upper + 2 * right, upper + 2 * left
            spans[0, 1], spans[1, 1] = lower + 2 * right, lower + 2 * left
            for start in range(0, size + 4 * channels, WORDS):
                _add_differences(
                    added, subtracted, 2, 2 * start, edge_weights[m], middle.ctypes.data + 4 * start
                )
        if below.shape[0]:
            _smooth_down(verticals, y, smooth, size, rows, sums[0])
        # In addition to the sums of columns: the center, paired with zeros, and two pairs.
        rows[0], rows[2] = sums.ctypes.data, sums.ctypes.data + 4 * sums.shape[1]
        center, pixel = middle.ctypes.data + 8 * channels, 4 * channels
        rows[1], rows[3], rows[4] = center, center - pixel, center + pixel
        rows[5], rows[6] = center - 2 * pixel, center + 2 * pixel
        for start in range(0, size, FLOATS):
            sum_pairs(addresses, smooth.ctypes.data, 3, 4 * start, total)
            for j in range(FLOATS):
                block[j] = min(block[j] * scale, np.float32(255))
            length = min(FLOATS, size - start)
            doubtful = truncate_block(total, TOLERANCE, start, length, spare, out[y])
            if doubtful:
                _write_flat_sums(doubtful, block, flat, start, out[y])


@compile_inner
def _smooth_down(lines: F32, y: int, smooth: F32, size: int, rows: I64, out: F32) -> None:
    """Write row ``y`` of ``lines`` ``(5, n)``, which holds row y in line y % 5, smoothed."""
    optimize_for_size()
    base, step = lines.ctypes.data, 4 * lines.shape[1]
    rows[0] = base + y % 5 * step
    rows[1], rows[2] = base + (y - 1) % 5 * step, base + (y + 1) % 5 * step
    rows[3], rows[4] = base + (y - 2) % 5 * step, base + (y + 2) % 5 * step
    for start in range(0, 4 * size, 4 * FLOATS):
        sum_pairs(rows.ctypes.data, smooth.ctypes.data + 4, 2, start, out.ctypes.data + start)


@compile_inner
def _vertical_edges(
    below: U16, line: int, first: int, channels: int, edges: I64, edge_weights: F32, out: F32
) -> None:
    """Write the weighted sums of the edges' columns for one row to ``out`` ``(N + FLOATS,)``.

    Args:
        below: running sums down the columns, row n in line n % lines.
        line: the padded row in the middle.
        first: start of the image in the padded row.
        channels: number of interleaved channels.
        edges: see ``blur_by_disk``.
        edge_weights: see ``edges``.
        out: written.
    """
    lines = below.shape[0]
    size = out.shape[0] - FLOATS
    for i in range(size):
        out[i] = np.float32(0.0)
    for m in range(edges.shape[0]):
        left, right = first - edges[m, 0] * channels, first + edges[m, 0] * channels
        end, start = below[(line + edges[m, 1]) % lines], below[(line - edges[m, 1] - 1) % lines]
        a, b, c, d = end[left:], start[left:], end[right:], start[right:]
        weight = edge_weights[m]
        for i in range(size):
            total = np.uint16(np.uint16(a[i] - b[i]) + np.uint16(c[i] - d[i]))
            out[i] += np.float32(total) * weight


def _write_mixed(typing_context: Any, left: Any, right: Any, share: Any, out: Any) -> Any:
    """Write ``left + (right - left) * share`` at the address ``out``, in float32, ``LANES`` values.

    ``left`` and ``right`` are addresses of bytes, ``share`` is one of float32. The compiler would
    first check whether they overlap, which takes longer than the computation.
    """
    signature = types.void(*[types.int64] * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        small, real = (ir.VectorType(kind, LANES) for kind in (ir.IntType(8), ir.FloatType()))
        *sources, share_address, target = arguments
        one, other = (
            builder.uitofp(
                builder.load(builder.inttoptr(source, small.as_pointer()), align=1), real
            )
            for source in sources
        )
        share = builder.load(builder.inttoptr(share_address, real.as_pointer()), align=4)
        mixed = builder.fadd(one, builder.fmul(builder.fsub(other, one), share))
        builder.store(mixed, builder.inttoptr(target, real.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, generate


_mix_lanes: Any = intrinsic(_write_mixed)


@compile_inner
def _stretch_row(
    row: U8, channels: int, targets: I64, sources: I64, count: int, shares: F32, out: F32
) -> None:
    """Resample a row bilinearly.

    In an enlargement, the source index increases with the target index and falls back by one pixel
    at intervals. Each run between these is written in pieces of ``LANES`` values, of which the last
    may extend into the next run, which is written later.

    Args:
        row: ``(N + 3 C + LANES,)``, with the last pixel repeated and two pixels of 0.
        channels: C.
        targets: ``(m,)`` or longer, ascending, the start of each piece in the result.
        sources: ``(m,)`` or longer, its start in the source.
        count: m.
        shares: ``(N + LANES,)``, weights of the right neighbor.
        out: ``(N + LANES,)``, written.
    """
    read, share, written = row.ctypes.data, shares.ctypes.data, out.ctypes.data
    for k in range(count):
        left, target = read + sources[k], 4 * targets[k]
        _mix_lanes(left, left + channels, share + target, written + target)


@compile_inner
def _add_rows(
    rows: F32, a: int, b: int, c: int, d: int,
    weight: np.float32, weight1: np.float32, weight2: np.float32, weight3: np.float32, sums: F32,
) -> None:  # fmt: skip
    """Add four weighted rows to ``sums``."""
    first, second, third, fourth = rows[a], rows[b], rows[c], rows[d]
    for i in range(sums.shape[0]):
        upper = first[i] * weight + second[i] * weight1
        sums[i] += upper + (third[i] * weight2 + fourth[i] * weight3)


@compile_inner
def _average_exactly(
    image: U8, y: int, i: int, channels: int,
    rows: I64, up: F64, down: F64, columns: I64, across: F64,
) -> np.uint8:  # fmt: skip
    """Return one value of the average, interpolated in float64 and summed in float32."""
    optimize_for_size()
    whole = np.float32(255)
    sums = np.float32(image[y, i]) / whole
    for n in range(rows.shape[0]):
        upper, lower = image[rows[n, y]], image[min(rows[n, y] + 1, image.shape[0] - 1)]
        left, share = columns[n, i // channels] * channels + i % channels, across[n, i // channels]
        right = left + channels
        above = np.float64(np.float32(upper[left]) / whole) * (1.0 - share)
        above += np.float64(np.float32(upper[right]) / whole) * share
        below = np.float64(np.float32(lower[left]) / whole) * (1.0 - share)
        below += np.float64(np.float32(lower[right]) / whole) * share
        sums = np.float32(sums + np.float32(above * up[n, y] + below * down[n, y]))
    total = np.float32(np.float32(image[y, i]) / whole + sums)
    mean = min(np.float32(total / np.float32(rows.shape[0] + 2)), np.float32(1))
    level: np.uint8 = np.uint8(np.int32(np.float32(mean * whole)))
    return level


@compile_inner
def _reads_one_color(
    image: U8, y: int, first: int, last: int, channels: int, rows: I64, columns: I64, shares: F64
) -> bool:
    """Return whether all source pixels of pixels ``first`` to ``last`` of row ``y`` have one color.

    ``shares`` ``(L, H)`` are the sums of the weights of both rows: 0 where a layer is black.
    """
    height, width = image.shape[0], columns.shape[1]
    difference = np.uint8(0)
    for i in range(first * channels, last * channels):
        difference |= image[y, i] ^ image[y, i + channels]
    for n in range(rows.shape[0]):
        start, end = columns[n, first], columns[n, last] + 1
        if difference != 0 or end > width or shares[n, y] == 0.0:
            return False
        for line in range(rows[n, y], min(rows[n, y] + 2, height)):
            row = image[line, start * channels :]
            next_pixels = row[channels:]
            for i in range((end - start) * channels):
                difference |= row[i] ^ next_pixels[i]
            for c in range(channels):
                difference |= row[c] ^ image[y, first * channels + c]
    return bool(difference == 0)


# Not split: separate functions take 0.3 s longer to compile.
@compiled
def average_zooms(
    image: U8,
    channels: int,
    rows: I64,
    up: F64,
    down: F64,
    both: F64,
    columns: I64,
    across: F64,
    counts: I64,
    targets: I64,
    sources: I64,
    shares: F32,
    tolerance: np.float32,
    flat: U8,
    cache: F32,
    cached_rows: I64,
    sums: F32,
    spare: U8,
    out: U8,
) -> None:
    """Average an image, counted twice, with enlargements of itself.

    In float32, and near integers as published, for the same results in flat areas: interpolated in
    float64 and summed in float32.

    Args:
        image: ``(H, W * C + 3 C + LANES)``, see ``_stretch_row``.
        channels: C.
        rows: ``(L, H)``, the upper of the two source rows of layer l for row y.
        up: ``(L, H)``, the upper row's weight.
        down: ``(L, H)``, the lower row's weight.
        both: ``(L, H)``, the sums of both.
        columns: ``(L, W)``, the left of the two columns; W + 1 for a value of 0.
        across: ``(L, W)``, the right column's weight.
        counts: ``(L,)``, number of pieces of a row.
        targets: ``(L, m)``, for each layer the targets of ``_stretch_row``.
        sources: ``(L, m)``, see ``targets``.
        shares: ``(L, W * C + LANES)``, see ``targets``.
        tolerance: bound of the error of the float32 sums, in gray levels.
        flat: ``(256,)``, the result for each gray level where all are equal.
        cache: ``(2 L, W * C + LANES)``, scratch: the last two rows of each layer.
        cached_rows: ``(2 L,)``, -1, scratch: their indices.
        sums: ``(W * C + FLOATS,)``, scratch.
        spare: ``(FLOATS,)``, scratch.
        out: ``(H, W * C)``, written; fractions are truncated.
    """
    height, size = out.shape
    layers = rows.shape[0]
    share = np.float32(1) / np.float32(layers + 2)
    total = sums.ctypes.data
    for y in range(height):
        source, result = image[y], out[y]
        for i in range(size):
            sums[i] = np.float32(source[i]) * np.float32(2)
        for n in range(layers):
            for row in range(rows[n, y], min(rows[n, y] + 2, height)):
                line = 2 * n + row % 2
                if cached_rows[line] != row:
                    _stretch_row(
                        image[row], channels, targets[n], sources[n], counts[n], shares[n],
                        cache[line],
                    )  # fmt: skip
                    cached_rows[line] = row
        for n in range(0, layers, 2):
            # The last of an odd number has no partner.
            m = min(n + 1, layers - 1)
            a, c = rows[n, y], rows[m, y]
            b, d = min(a + 1, height - 1), min(c + 1, height - 1)
            alone = np.float32(m != n)
            _add_rows(
                cache, 2 * n + a % 2, 2 * n + b % 2, 2 * m + c % 2, 2 * m + d % 2,
                np.float32(up[n, y]), np.float32(down[n, y]),
                np.float32(up[m, y]) * alone, np.float32(down[m, y]) * alone, sums[:size],
            )  # fmt: skip
        for i in range(size):
            sums[i] *= share
        for start in range(0, size, FLOATS):
            length = min(FLOATS, size - start)
            doubtful = truncate_block(total + 4 * start, tolerance, start, length, spare, result)
            if doubtful == 0:
                continue
            many = doubtful
            for _ in range(MAX_SINGLE_SUMS):
                many &= many - 1
            first, last = start // channels, (start + length - 1) // channels
            if many and _reads_one_color(image, y, first, last, channels, rows, columns, both):
                for j in range(length):
                    result[start + j] = flat[source[start + j]]
                continue
            while doubtful:
                i = start + find_lowest(doubtful)
                doubtful &= doubtful - 1
                result[i] = _average_exactly(image, y, i, channels, rows, up, down, columns, across)
