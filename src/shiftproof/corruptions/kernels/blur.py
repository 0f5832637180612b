"""The inner loops of the blurs."""

from __future__ import annotations

from typing import Any

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.types import F32, F64, I32, I64, U8, U32

NEAR = np.float32(5e-5)
"""Grey levels within which a float32 sum counts as lying on a whole number."""


@compiled
def shuffle_pixels(pixels: U32, width: int, delta: int, offsets: I32, exchange: bool) -> None:
    """Copy a pixel from its neighbourhood, or exchange it with one there, from the far corner back.

    Args:
        pixels: ``(H * width,)``, changed in place.
        width: of the image.
        delta: pixels within ``delta`` of the edge are left out.
        offsets: ``(n,)``, from a pixel to its neighbour, in the order of the walk.
        exchange: whether the neighbour gets the pixel in return.
    """
    height = pixels.shape[0] // width
    n = 0
    for y in range(height - delta, delta, -1):
        for x in range(width - delta, delta, -1):
            here, there = np.uintp(y * width + x), np.uintp(y * width + x + offsets[n])
            n += 1
            value = pixels[here]
            pixels[here] = pixels[there]
            if exchange:
                pixels[there] = value


@compiled
def _truncate(sums: F32, flat: U8, out: U8) -> None:
    """Cut sums in 0..255 off to whole numbers.

    What the published code makes of a flat area, where the exact sum is a whole number, depends on
    the last bit of its float64 sums; ``flat`` ``(256,)`` says what it is for each grey level.
    """
    size = sums.shape[0]
    for start in range(0, size, 64):
        length = min(64, size - start)
        source, result = sums[start : start + length], out[start : start + length]
        close = np.int32(0)
        for j in range(length):
            nearest = np.int32(source[j] + np.float32(0.5))
            close |= np.int32(abs(source[j] - np.float32(nearest)) < NEAR)
            result[j] = np.uint8(np.int32(source[j]))
        if close:
            for j in range(length):
                nearest = np.int32(source[j] + np.float32(0.5))
                if abs(source[j] - np.float32(nearest)) < NEAR:
                    result[j] = flat[min(max(nearest, 0), 255)]


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
    out: U8,
) -> None:
    """Filter with a disk that a small Gaussian has smoothed.

    The disk itself is summed in whole numbers: per row of the disk the difference of two running
    sums. The Gaussian, 5 x 5 or smaller, is applied to those sums. ``edges`` are what the
    published kernel has at its border beside that.

    Args:
        padded: ``(H + 2 reach, N + 2 reach channels)``.
        channels: that are interleaved.
        reach: pixels of padding, at least the disk's radius + 2 and the farthest edge + 2.
        widths: ``(r + 1,)``, half the width of the disk's rows from the middle outwards.
        smooth: ``(3,)``, the Gaussian from its centre outwards.
        edges: ``(m, 2)`` of (distance from the centre, half width) of rows to be added above and
            below and, turned, on either side.
        edge_weights: ``(m,)``, their weights.
        scale: of the sums.
        flat: ``(256,)``, what becomes of a flat area.
        out: ``(H, N)``, written.
    """
    height, size = out.shape
    full = padded.shape[1]
    radius = widths.shape[0] - 1
    extended = size + 4 * channels  # two pixels more on either side, for the Gaussian across
    step = np.uintp(channels)
    first = np.uintp(reach - 2) * step
    lines = 2 * reach + 1
    running = np.zeros((lines, full + channels), np.int32)
    below = np.zeros((lines, full if edges.shape[0] else 0), np.int32)
    edge_steps = edges.copy()
    for m in range(edges.shape[0]):
        edge_steps[m, 0] *= channels
    disks = np.zeros((5, extended), np.int32)
    verticals = np.zeros((5, size), np.float32)
    middle, sums = np.empty(extended, np.float32), np.empty(size, np.float32)
    for line in range(height + 2 * reach):
        # Running sums of one more row, for each channel by itself.
        row, total = padded[line], running[line % lines]
        for j in range(full):
            i = np.uintp(j)
            total[i + step] = total[i] + np.int32(row[i])
        # And down the columns, where the kernel has edges.
        for j in range(below.shape[1]):
            below[line % lines, j] = below[(line - 1) % lines, j] + np.int32(row[j])
        # The row whose disk sums are complete with this line, and the row whose Gaussian then is.
        target = line - reach - radius
        y = target - 2
        center = target + reach
        if center < radius:
            continue
        disk = disks[target % 5]
        w = np.uintp(widths[0]) * step
        right, left = first + w + step, first - w
        for j in range(extended):
            i = np.uintp(j)
            disk[j] = running[center % lines, i + right] - running[center % lines, i + left]
        for k in range(1, radius + 1):
            w = np.uintp(widths[k]) * step
            right, left = first + w + step, first - w
            upper, lower = (center - k) % lines, (center + k) % lines
            for j in range(extended):
                i = np.uintp(j)
                disk[j] += (running[upper, i + right] - running[upper, i + left]) + (
                    running[lower, i + right] - running[lower, i + left]
                )
        if edges.shape[0]:
            _vertical_edges(
                below, center, reach * channels, edge_steps, edge_weights, verticals[target % 5]
            )
        if y < 0 or y >= height:
            continue
        _smooth_down(disks, y, smooth, middle)
        for m in range(edges.shape[0]):
            w = np.uintp(edges[m, 1]) * step
            right, left = first + w + step, first - w
            upper = (y + reach - edges[m, 0]) % lines
            lower = (y + reach + edges[m, 0]) % lines
            weight = edge_weights[m]
            for j in range(extended):
                i = np.uintp(j)
                total_edge = (running[upper, i + right] - running[upper, i + left]) + (
                    running[lower, i + right] - running[lower, i + left]
                )
                middle[j] += np.float32(total_edge) * weight
        if edges.shape[0]:
            _smooth_down(verticals, y, smooth, sums)
        else:
            for i in range(size):
                sums[i] = np.float32(0)
        one, two, three, four = step, step + step, step * np.uintp(3), step * np.uintp(4)
        for j in range(size):
            i = np.uintp(j)
            total_sum = (
                sums[j]
                + middle[i + two] * smooth[0]
                + (middle[i + one] + middle[i + three]) * smooth[1]
                + (middle[i] + middle[i + four]) * smooth[2]
            )
            sums[j] = min(total_sum * scale, np.float32(255))
        _truncate(sums, flat, out[y])


@compiled
def _smooth_down(lines: Any, y: int, smooth: F32, out: F32) -> None:
    """Write row ``y`` of ``lines`` ``(5, n)``, which holds row y in line y % 5, smoothed."""
    a, b, c, d, e = y % 5, (y - 1) % 5, (y + 1) % 5, (y - 2) % 5, (y + 2) % 5
    for i in range(out.shape[0]):
        out[i] = (
            np.float32(lines[a, i]) * smooth[0]
            + np.float32(lines[b, i] + lines[c, i]) * smooth[1]
            + np.float32(lines[d, i] + lines[e, i]) * smooth[2]
        )


@compiled
def _vertical_edges(
    below: I32, line: int, first: int, edges: I64, edge_weights: F32, out: F32
) -> None:
    """Write the weighted sums of the edges' columns for one row to ``out`` ``(N,)``.

    Args:
        below: running sums down the columns, row n in line n % lines.
        line: the padded row in the middle.
        first: where the image starts in the padded row.
        edges: see ``blur_by_disk``; here the distance is in values, not in pixels.
        edge_weights: see ``edges``.
        out: written.
    """
    lines = below.shape[0]
    for i in range(out.shape[0]):
        out[i] = np.float32(0.0)
    for m in range(edges.shape[0]):
        left, right = np.uintp(first - edges[m, 0]), np.uintp(first + edges[m, 0])
        end, start = (line + edges[m, 1]) % lines, (line - edges[m, 1] - 1) % lines
        weight = edge_weights[m]
        for j in range(out.shape[0]):
            i = np.uintp(j)
            total = (below[end, i + left] - below[start, i + left]) + (
                below[end, i + right] - below[start, i + right]
            )
            out[j] += np.float32(total) * weight


@compiled
def _stretch_row(
    row: U8, runs: I64, count: int, shifts: I64, shares: F64, scratch: F64, out: F64
) -> None:
    """Read a row bilinearly, as fractions of 255.

    Where an enlargement reads its source, the source's index runs along with the target's for a
    while and then falls back by a pixel; each run is one vector loop.

    Args:
        row: ``(N,)``.
        runs: ``(m,)`` or longer, where each run starts, and where the last ends.
        count: m.
        shifts: ``(m - 1,)`` or longer, what to add to the target's index within each run.
        shares: ``(N,)``, of the right neighbour.
        scratch: ``(N + 3 C,)``: the row, its last pixel again, and two pixels of 0.
        out: ``(N,)``, written.
    """
    size = row.shape[0]
    channels = (scratch.shape[0] - size) // 3
    for i in range(size):
        scratch[i] = np.float64(np.float32(row[i]) / np.float32(255))
    for c in range(channels):
        scratch[size + c] = scratch[size - channels + c]
    for k in range(count - 1):
        start, end, shift = runs[k], runs[k + 1], shifts[k]
        for j in range(start, end):
            i = np.uintp(j)
            left = i + np.uintp(shift)
            share = shares[i]
            out[i] = scratch[left] * (1.0 - share) + scratch[left + np.uintp(channels)] * share


@compiled
def average_zooms(
    image: U8,
    rows: I64,
    up: F64,
    down: F64,
    runs: I64,
    run_counts: I64,
    shifts: I64,
    shares: F64,
    kept: F64,
    kept_rows: I64,
    scratch: F64,
    sums: F32,
    out: U8,
) -> None:
    """Average an image with itself once more and with enlargements of itself.

    Interpolated in float64 and added up in float32, as published, for the sake of flat areas.

    Args:
        image: ``(H, W * C)``.
        rows: ``(L, H)``, the upper of the two rows that layer l reads for row y.
        up: ``(L, H)``, the upper row's share.
        down: ``(L, H)``, the lower row's share.
        runs: ``(L, m)``, per layer what ``_stretch_row`` takes.
        run_counts: ``(L,)``, how many entries of ``runs`` count.
        shifts: ``(L, m)``, see ``runs``.
        shares: ``(L, W * C)``, see ``runs``.
        kept: ``(2 L, W * C)``, scratch: the last two rows of each layer.
        kept_rows: ``(2 L,)``, -1, scratch: which rows they are.
        scratch: ``(W * C + 3 C,)``, zeros.
        sums: ``(W * C,)``, scratch.
        out: ``(H, W * C)``, written; fractions are cut off.
    """
    height, size = out.shape
    layers = rows.shape[0]
    whole = np.float32(255)
    count = np.float32(layers + 2)
    for y in range(height):
        source, result = image[y], out[y]
        for i in range(size):
            sums[i] = np.float32(source[i]) / whole
        for n in range(layers):
            upper = rows[n, y]
            lower = min(upper + 1, height - 1)
            for row in range(upper, lower + 1):
                line = 2 * n + row % 2
                if kept_rows[line] != row:
                    _stretch_row(
                        image[row], runs[n], run_counts[n], shifts[n], shares[n],
                        scratch, kept[line],
                    )  # fmt: skip
                    kept_rows[line] = row
            a, b = kept[2 * n + upper % 2], kept[2 * n + lower % 2]
            e, f = up[n, y], down[n, y]
            for i in range(size):
                sums[i] += np.float32(a[i] * e + b[i] * f)
        for i in range(size):
            mean = min((np.float32(source[i]) / whole + sums[i]) / count, np.float32(1))
            result[i] = np.uint8(np.int32(mean * whole))
