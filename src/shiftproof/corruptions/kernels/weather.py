"""The inner loops of snow, frost, fog, spatter and brightness."""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.corruptions.kernels.colors import compute_hue, convert_hsv
from shiftproof.corruptions.kernels.filters import sum_exactly, truncate_block
from shiftproof.corruptions.kernels.indices import clamp_index
from shiftproof.corruptions.kernels.lanes import FLOATS, sum_eights
from shiftproof.corruptions.kernels.random_words import mix_word
from shiftproof.types import F32, F64, I64, U8, U16


@compiled
def enlarge_flakes(
    layer: F32,
    rows: I64,
    up: F64,
    down: F64,
    columns: I64,
    left: F64,
    right: F64,
    threshold: np.float32,
    margin: int,
    mixed: F32,
    out: F32,
) -> None:
    """Enlarge a layer bilinearly, set values below a threshold to 0, and clip to 1.

    Args:
        layer: ``(h, w)``.
        rows: ``(H,)``, the upper of two rows.
        up: ``(H,)``, the upper row's share.
        down: ``(H,)``, the lower row's share.
        columns: ``(W,)``, the left of two columns.
        left: ``(W,)``, the left column's share.
        right: ``(W,)``, the right column's share.
        threshold: values below it become 0.
        margin: columns of padding in ``out``.
        mixed: ``(w,)``, scratch.
        out: ``(H, W + 2 margin)``, written, the edge repeated.
    """
    height, width = rows.shape[0], columns.shape[0]
    last = layer.shape[1] - 1
    for y in range(height):
        upper, lower = layer[rows[y]], layer[min(rows[y] + 1, layer.shape[0] - 1)]
        e, f = np.float32(up[y]), np.float32(down[y])
        for i in range(mixed.shape[0]):
            mixed[i] = upper[i] * e + lower[i] * f
        result = out[y, margin : margin + width]
        for x in range(width):
            i = np.uintp(columns[x])
            j = np.uintp(min(columns[x] + 1, last))
            value = mixed[i] * np.float32(left[x]) + mixed[j] * np.float32(right[x])
            if value < threshold:
                value = np.float32(0)
            result[x] = min(max(value, np.float32(0)), np.float32(1))
        for x in range(margin):
            out[y, x] = result[0]
            out[y, margin + width + x] = result[width - 1]


@compiled
def smear_to_bytes(
    padded: F32,
    down: I64,
    starts: I64,
    weights: F64,
    single: F32,
    tolerance: np.float32,
    lines: F32,
    rows: I64,
    sums: F32,
    doubles: F64,
    spare: U8,
    out: U8,
) -> None:
    """Sum weighted copies of values in 0..1 like ``smear_bytes``, and round to 0..255.

    Args:
        padded: ``(H, W + 2 margin)``, as there.
        down: as there.
        starts: as there.
        weights: as there.
        single: as there.
        tolerance: as there.
        lines: ``(l, W + 2 margin + FLOATS)``, as there.
        rows: ``(8 m,)``, scratch.
        sums: ``(FLOATS,)``, scratch.
        doubles: ``(FLOATS,)``, scratch.
        spare: ``(FLOATS,)``, scratch.
        out: ``(h, w)``, written; h <= H, w <= W.
    """
    height, width = out.shape
    count, base, step = lines.shape[0], lines.ctypes.data, 4 * lines.shape[1]
    table, total = rows.ctypes.data, sums.ctypes.data
    highest = 0
    for n in range(down.shape[0]):
        highest = min(highest, down[n])
    ready = 0
    for y in range(height):
        while ready < min(y - highest + 1, padded.shape[0]):
            line, source = lines[ready % count], padded[ready]
            for j in range(source.shape[0]):
                line[j] = source[j]
            ready += 1
        for n in range(rows.shape[0]):
            line_index = clamp_index(y - down[n], padded.shape[0]) % count
            rows[n] = base + line_index * step + 4 * starts[n]
        for start in range(0, width, FLOATS):
            sum_eights(table, single.ctypes.data, rows.shape[0], 4 * start, total)
            for j in range(FLOATS):
                sums[j] = sums[j] * np.float32(255) + np.float32(0.5)
            length = min(FLOATS, width - start)
            if truncate_block(total, tolerance, start, length, spare, out[y]):
                exact, result = doubles[:length], out[y, start:]
                sum_exactly(padded, y, start, down, starts, weights, exact)
                for j in range(length):
                    result[j] = np.uint8(np.int32(np.rint(exact[j] * 255.0)))


@compiled
def blend_snow(
    image: U8,
    channels: int,
    layer: U8,
    second_layer: U8,
    share: np.float32,
    pale: F32,
    snow: F32,
    out: U8,
) -> None:
    """Blend an image with a paler copy, and add a layer and another rotated by 180 degrees.

    Args:
        image: ``(H, W * C)``.
        channels: C.
        layer: ``(H, W)``.
        second_layer: ``(H, W)``.
        share: weight of the image; the paler copy is the larger of the image and 1.5 luma + 0.5.
        pale: ``(W * C,)``, scratch.
        snow: ``(W * C,)``, scratch.
        out: ``(H, W * C)``, written.
    """
    height, width = layer.shape
    rest, full = np.float32(1) - share, np.float32(255)
    for y in range(height):
        row, flakes, second_flakes = image[y], layer[y], second_layer[height - 1 - y]
        for x in range(width):
            total = np.float32(np.int32(flakes[x]) + np.int32(second_flakes[width - 1 - x]))
            if channels == 3:
                luma = (
                    np.float32(row[3 * x]) * np.float32(0.299)
                    + np.float32(row[3 * x + 1]) * np.float32(0.587)
                    + np.float32(row[3 * x + 2]) * np.float32(0.114)
                )
                value = luma * np.float32(1.5) + np.float32(127.5)
                pale[3 * x], pale[3 * x + 1], pale[3 * x + 2] = value, value, value
                snow[3 * x], snow[3 * x + 1], snow[3 * x + 2] = total, total, total
            else:
                pale[x] = np.float32(row[x]) * np.float32(1.5) + np.float32(127.5)
                snow[x] = total
        result = out[y]
        for i in range(row.shape[0]):
            value = np.float32(row[i])
            mixed = share * value + rest * max(value, pale[i]) + snow[i]
            result[i] = np.uint8(np.int32(min(mixed, full)))


@compiled
def blend_water(image: U8, water: F32, color: F32, out: U8) -> None:
    """Add ``water`` ``(H, W)`` times ``color`` ``(C,)`` to an image, clipped to 0..255."""
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                value = np.float32(image[y, x, c]) + water[y, x] * color[c]
                out[y, x, c] = np.uint8(np.int32(min(value, np.float32(255))))


@compiled
def blend_mud(image: U8, mask: F32, threshold: np.float32, color: F32, out: U8) -> None:
    """Blend ``color`` ``(C,)`` with an image by a mask ``(H, W)`` in 0..1; 0 below
    ``threshold``.
    """
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            share = mask[y, x]
            if share < threshold:
                share = np.float32(0)
            for c in range(channels):
                value = np.float32(image[y, x, c]) * (np.float32(1) - share) + share * color[c]
                out[y, x, c] = np.uint8(np.int32(min(value, np.float32(255))))


@compiled
def blend_frost(image: U8, layer: U8, row: int, start: int, table: U8, out: U8) -> None:
    """Write ``table[image, layer]`` for rows of values, the layer's part at (row, start)."""
    for y in range(image.shape[0]):
        source, frost, result = image[y], layer[row + y, start:], out[y]
        for i in range(source.shape[0]):
            result[i] = table[source[i], frost[i]]


@compile_inner
def _scale_word(word: np.uint32, amplitude: np.float32) -> np.float32:
    """Return a number, uniform within the amplitude, from the word's upper 24 bits."""
    whole = np.float32(np.int32(word >> np.uint32(8))) - np.float32(8388607.5)
    value: np.float32 = np.float32(whole * (amplitude * np.float32(2.0**-23)))
    return value


# Not split: separate functions take 0.1 s longer to compile.
@compiled
def subdivide_heights(
    corners: F32,
    amplitude: np.float32,
    wrap: bool,
    key: np.uint32,
    second_key: np.uint32,
    first: int,
    centers: F32,
    out: F32,
) -> None:
    """Double the resolution of a height map: one level of diamond-square.

    Args:
        corners: ``(m, n)``; with ``wrap`` it tiles, else its last row and column are borders.
        amplitude: of the uniform noise.
        wrap: see above.
        key: of the random words.
        second_key: see ``key``.
        first: the counter of the first word.
        centers: at least ``(cells down, cells across)``, scratch.
        out: ``(2 m, 2 n)`` with ``wrap``, else ``(2 m - 1, 2 n - 1)``; written.
    """
    m, n = corners.shape
    down, across = (m, n) if wrap else (m - 1, n - 1)
    quarter = np.float32(0.25)
    counter = first
    for i in range(down):
        upper, lower, center = corners[i], corners[(i + 1) % m], centers[i]
        shifted_upper, shifted_lower = upper[1:], lower[1:]
        inner = min(across, n - 1)
        for j in range(inner):
            center[j] = (
                upper[j] + lower[j] + shifted_upper[j] + shifted_lower[j]
            ) * quarter + _scale_word(mix_word(counter + j, key, second_key), amplitude)
        if wrap:
            center[n - 1] = (upper[n - 1] + lower[n - 1] + upper[0] + lower[0]) * quarter
            center[n - 1] += _scale_word(mix_word(counter + n - 1, key, second_key), amplitude)
        counter += across
    for i in range(m):
        # Points on the rows of corners, between two of them: a corner on either side, a center
        # above and below. At a border that does not wrap, the one inside counts twice.
        corner = corners[i]
        above = centers[(i - 1) % down] if wrap else centers[max(i - 1, 0)]
        below = centers[min(i, down - 1)]
        row = out[2 * i]
        inner = min(across, n - 1)
        shifted = corner[1:]
        for j in range(inner):
            row[2 * j] = corner[j]
            row[2 * j + 1] = (corner[j] + shifted[j] + above[j] + below[j]) * quarter + _scale_word(
                mix_word(counter + j, key, second_key), amplitude
            )
        row[2 * (n - 1)] = corner[n - 1]
        if wrap:
            edge = (corner[n - 1] + corner[0] + above[n - 1] + below[n - 1]) * quarter
            row[2 * n - 1] = edge + _scale_word(
                mix_word(counter + n - 1, key, second_key), amplitude
            )
        counter += across
    for i in range(down):
        # Points on the rows of centers, between two of them.
        upper, lower, center = corners[i], corners[(i + 1) % m], centers[i]
        row = out[2 * i + 1]
        left = center[across - 1] if wrap else center[0]
        row[0] = (upper[0] + lower[0] + left + center[0]) * quarter
        row[0] += _scale_word(mix_word(counter, key, second_key), amplitude)
        row[1] = center[0]
        inner = across - 1
        tail_upper, tail_lower = upper[1:], lower[1:]
        tail_center, tail_row = center[1:], row[2:]
        for j in range(inner):
            tail_row[2 * j] = (
                tail_upper[j] + tail_lower[j] + center[j] + tail_center[j]
            ) * quarter + _scale_word(mix_word(counter + 1 + j, key, second_key), amplitude)
            tail_row[2 * j + 1] = tail_center[j]
        counter += across
        if not wrap:
            last = upper[n - 1] + lower[n - 1] + np.float32(2) * center[across - 1]
            row[2 * across] = last * quarter + _scale_word(
                mix_word(counter, key, second_key), amplitude
            )
            counter += 1


@compiled
def blend_fog(
    image: U8,
    channels: int,
    layer: F32,
    keep: np.float32,
    slope: np.float32,
    offset: np.float32,
    added: F32,
    out: U8,
) -> None:
    """Write ``image * keep + layer * slope + offset``, clipped to 0..255.

    Args:
        image: ``(H, W * C)``.
        channels: C.
        layer: ``(H, W)`` or larger.
        keep: see above.
        slope: see ``keep``.
        offset: see ``keep``.
        added: ``(W * C,)``, scratch.
        out: ``(H, W * C)``, written.
    """
    height, size = image.shape
    for y in range(height):
        heights = layer[y]
        if channels == 3:
            for x in range(size // 3):
                value = heights[x] * slope + offset
                added[3 * x], added[3 * x + 1], added[3 * x + 2] = value, value, value
        else:
            for x in range(size):
                added[x] = heights[x] * slope + offset
        source, result = image[y], out[y]
        for i in range(size):
            value = np.float32(source[i]) * keep + added[i]
            result[i] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))


@compiled
def add_to_value(image: U8, offset: float, lowest: U8, between: U16, out: U8) -> None:
    """Raise the HSV value of ``(H, W, 3)``.

    The largest and the smallest channel of the result are functions of the largest and the smallest
    of the source. The middle one is a function of itself and the largest, except near integers,
    where the last bits of the published computation of the hue decide.

    Args:
        image: ``(H, W, 3)``.
        offset: added to the value.
        lowest: ``(256, 256)`` over (largest, smallest): the smallest; the largest on the diagonal.
        between: ``(256, 256)`` over (largest, middle): the middle, plus 256 where the published
            computation is needed.
        out: ``(H, W, 3)``, written.
    """
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            high, low = max(r, g, b), min(r, g, b)
            of_high = np.uint16(lowest[high, high])
            of_low = np.uint16(lowest[high, low])
            # At most one channel is strictly between the others.
            red = of_high if r == high else (of_low if r == low else between[high, r])
            green = of_high if g == high else (of_low if g == low else between[high, g])
            blue = of_high if b == high else (of_low if b == low else between[high, b])
            if (red | green | blue) >= 256:
                fr, fg, fb = r / 255.0, g / 255.0, b / 255.0
                value = high / 255.0
                spread = value - low / 255.0
                hue = compute_hue(fr, fg, fb, value, spread)
                fr, fg, fb = convert_hsv(hue, spread / value, min(value + offset, 1.0))
                red, green, blue = np.uint16(fr * 255), np.uint16(fg * 255), np.uint16(fb * 255)
            out[y, x, 0] = np.uint8(red)
            out[y, x, 1] = np.uint8(green)
            out[y, x, 2] = np.uint8(blue)
