"""The inner loops of the digital corruptions."""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.corruptions.kernels.colors import compute_hue, convert_hsv
from shiftproof.corruptions.kernels.indices import mirror_index, mirror_index_once, reflect_index
from shiftproof.types import F32, F64, I32, I64, U8, U32


@compiled
def refine_grid(
    nodes: F32, step_down: int, step_across: int, mixed: F32, row: F32, out: F32
) -> None:
    """Interpolate bilinearly between nodes ``step_down`` and ``step_across`` pixels apart.

    Args:
        nodes: ``(m, n)`` with ``(m - 1) step_down >= H`` and ``(n - 1) step_across >= W``.
        step_down: vertical distance of the nodes, in pixels.
        step_across: horizontal distance of the nodes, in pixels.
        mixed: ``(n,)``, scratch.
        row: ``(n * step_across,)``, scratch.
        out: ``(H, W)``, written.
    """
    height, width = out.shape
    count = nodes.shape[1]
    for y in range(height):
        upper, lower = nodes[y // step_down], nodes[y // step_down + 1]
        f = np.float32(y % step_down) / np.float32(step_down)
        for i in range(count):
            mixed[i] = upper[i] + (lower[i] - upper[i]) * f
        for t in range(step_across):
            g = np.float32(t) / np.float32(step_across)
            part = row[t:]
            for i in range(count - 1):
                part[i * step_across] = mixed[i] + (mixed[i + 1] - mixed[i]) * g
        result = out[y]
        for x in range(width):
            result[x] = row[x]


@compiled
def displace_pixels(
    pixels: U32, down: F32, right: F32, indices: I32, neighbors: U32, fractions: F32, out: U32
) -> None:
    """Resample an image bilinearly at displaced pixel positions, edges mirrored.

    Args:
        pixels: ``(H * W,)``, see ``pack_pixels``.
        down: ``(H, W)``, vertical displacement in pixels.
        right: ``(H, W)``, horizontal displacement in pixels.
        indices: ``(4, W)``, scratch.
        neighbors: ``(4, W)``, scratch.
        fractions: ``(2, W)``, scratch.
        out: ``(H, W)``, written; fractions are truncated.
    """
    height, width = np.int32(down.shape[0]), np.int32(down.shape[1])
    fractions_y, fractions_x = fractions[0], fractions[1]
    index0, index1, index2, index3 = indices[0], indices[1], indices[2], indices[3]
    pixel0, pixel1, pixel2, pixel3 = neighbors[0], neighbors[1], neighbors[2], neighbors[3]
    for y in range(down.shape[0]):
        by, bx = down[y], right[y]
        is_far = np.int32(0)
        for x in range(by.shape[0]):
            floor_y, floor_x = np.floor(by[x]), np.floor(bx[x])
            fractions_y[x], fractions_x[x] = by[x] - floor_y, bx[x] - floor_x
            y0 = np.int32(np.int32(floor_y) + np.int32(y))
            x0 = np.int32(np.int32(floor_x) + np.int32(x))
            y1, x1 = np.int32(y0 + np.int32(1)), np.int32(x0 + np.int32(1))
            is_far |= np.int32(y0 < -height) | np.int32(y1 >= np.int32(2) * height)
            is_far |= np.int32(x0 < -width) | np.int32(x1 >= np.int32(2) * width)
            upper = np.int32(mirror_index_once(y0, height) * width)
            lower = np.int32(mirror_index_once(y1, height) * width)
            left, other = mirror_index_once(x0, width), mirror_index_once(x1, width)
            index0[x], index1[x] = upper + left, upper + other
            index2[x], index3[x] = lower + left, lower + other
        if is_far:
            for x in range(by.shape[0]):
                y0, x0 = np.int32(y + np.floor(by[x])), np.int32(x + np.floor(bx[x]))
                upper = np.int32(reflect_index(y0, down.shape[0]) * width)
                lower = np.int32(reflect_index(y0 + 1, down.shape[0]) * width)
                left = np.int32(reflect_index(x0, down.shape[1]))
                other = np.int32(reflect_index(x0 + 1, down.shape[1]))
                index0[x], index1[x] = upper + left, upper + other
                index2[x], index3[x] = lower + left, lower + other
        for x in range(by.shape[0]):
            pixel0[x] = pixels[np.uintp(np.uint32(index0[x]))]
            pixel1[x] = pixels[np.uintp(np.uint32(index1[x]))]
            pixel2[x] = pixels[np.uintp(np.uint32(index2[x]))]
            pixel3[x] = pixels[np.uintp(np.uint32(index3[x]))]
        result = out[y]
        for x in range(by.shape[0]):
            word = np.uint32(0)
            fy, fx = fractions_y[x], fractions_x[x]
            for bits in (0, 8, 16):
                shift = np.uint32(bits)
                a = np.float32(np.int32((pixel0[x] >> shift) & np.uint32(255)))
                b = np.float32(np.int32((pixel1[x] >> shift) & np.uint32(255)))
                c = np.float32(np.int32((pixel2[x] >> shift) & np.uint32(255)))
                d = np.float32(np.int32((pixel3[x] >> shift) & np.uint32(255)))
                above, below = a + (b - a) * fx, c + (d - c) * fx
                word |= np.uint32(np.int32(above + (below - above) * fy)) << shift
            result[x] = word


@compiled
def skew_image(image: U8, inverse: F64, out: F32) -> None:
    """Warp an image by an affine map: bilinear, mirrored about its outermost pixels.

    In OpenCV's fixed point, where positions are multiples of 1/32 pixel; later versions of OpenCV
    compute differently.

    Args:
        image: ``(H, W, C)``.
        inverse: ``(2, 3)``, from a pixel (x, y, 1) of the result to its source (x, y) in the image.
        out: ``(H, W, C)``, written, in 0..1.
    """
    height, width, channels = image.shape
    one, whole = np.float32(1), np.float32(255)
    for y in range(height):
        start_x = int(np.rint((inverse[0, 1] * y + inverse[0, 2]) * 1024)) + 16
        start_y = int(np.rint((inverse[1, 1] * y + inverse[1, 2]) * 1024)) + 16
        for x in range(width):
            source_x = (start_x + int(np.rint(inverse[0, 0] * x * 1024))) >> 5
            source_y = (start_y + int(np.rint(inverse[1, 0] * x * 1024))) >> 5
            fx, fy = (
                np.float32(source_x & 31) / np.float32(32),
                np.float32(source_y & 31) / np.float32(32),
            )
            left, other = (
                mirror_index(source_x >> 5, width),
                mirror_index((source_x >> 5) + 1, width),
            )
            upper, lower = (
                mirror_index(source_y >> 5, height),
                mirror_index((source_y >> 5) + 1, height),
            )
            for c in range(channels):
                out[y, x, c] = (
                    np.float32(image[upper, left, c]) / whole * ((one - fy) * (one - fx))
                    + np.float32(image[upper, other, c]) / whole * ((one - fy) * fx)
                    + np.float32(image[lower, left, c]) / whole * (fy * (one - fx))
                    + np.float32(image[lower, other, c]) / whole * (fy * fx)
                )


@compiled
def displace_values(values: F32, down: F32, right: F32, out: U8) -> None:
    """Displace ``(H, W, C)`` in 0..1 like ``displace_pixels``, in scipy's order; truncates to
    bytes.
    """
    height, width, channels = values.shape
    for y in range(height):
        for x in range(width):
            source_y, source_x = y + np.float64(down[y, x]), x + np.float64(right[y, x])
            floor_y, floor_x = np.floor(source_y), np.floor(source_x)
            fy, fx = source_y - floor_y, source_x - floor_x
            upper, lower = (
                reflect_index(int(floor_y), height),
                reflect_index(int(floor_y) + 1, height),
            )
            left, other = reflect_index(int(floor_x), width), reflect_index(int(floor_x) + 1, width)
            for c in range(channels):
                total = np.float64(values[upper, left, c]) * (1.0 - fy) * (1.0 - fx)
                total += np.float64(values[upper, other, c]) * (1.0 - fy) * fx
                total += np.float64(values[lower, left, c]) * fy * (1.0 - fx)
                total += np.float64(values[lower, other, c]) * fy * fx
                value = min(max(np.float32(total), np.float32(0)), np.float32(1))
                out[y, x, c] = np.uint8(np.int32(value * np.float32(255)))


@compiled
def sum_channels(image: U8, table: F64, out: F64) -> None:
    """Sum ``table[value]`` for each channel of ``(H, W, C)`` in ``out``.

    In the order of numpy's mean over the first two of three axes.
    """
    height, width, channels = image.shape
    for c in range(channels):
        out[c] = 0.0
    if channels == 3:
        r, g, b = 0.0, 0.0, 0.0
        for y in range(height):
            row = image[y]
            for x in range(width):
                r += table[row[x, 0]]
                g += table[row[x, 1]]
                b += table[row[x, 2]]
        out[0], out[1], out[2] = r, g, b
    else:
        v = 0.0
        for y in range(height):
            for x in range(width):
                v += table[image[y, x, 0]]
        out[0] = v


@compiled
def look_up_levels(image: U8, table: U8, out: U8) -> None:
    """Write ``table[channel, value]`` for ``(H, W, C)``; the table is ``(C, 256)``."""
    height, width, channels = image.shape
    if channels == 3:
        for y in range(height):
            for x in range(width):
                out[y, x, 0] = table[0, image[y, x, 0]]
                out[y, x, 1] = table[1, image[y, x, 1]]
                out[y, x, 2] = table[2, image[y, x, 2]]
    else:
        for y in range(height):
            for x in range(width):
                out[y, x, 0] = table[0, image[y, x, 0]]


@compiled
def scale_saturation(image: U8, scale: float, offset: float, out: U8) -> None:
    """Set the HSV saturation of ``(H, W, 3)`` to ``clip(saturation * scale + offset, 0, 1)``."""
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            r, g, b = image[y, x, 0] / 255.0, image[y, x, 1] / 255.0, image[y, x, 2] / 255.0
            value = max(r, g, b)
            spread = value - min(r, g, b)
            hue, saturation = 0.0, 0.0
            if spread > 0.0:
                hue = compute_hue(r, g, b, value, spread)
                saturation = spread / value
            saturation = min(max(saturation * scale + offset, 0.0), 1.0)
            r, g, b = convert_hsv(hue, saturation, value)
            out[y, x, 0] = np.uint8(r * 255.0)
            out[y, x, 1] = np.uint8(g * 255.0)
            out[y, x, 2] = np.uint8(b * 255.0)


@compiled
def reduce_boxes(
    image: U8, left: I64, right: I64, across: I64, top: I64, bottom: I64, down: I64, out: U8
) -> None:
    """Average boxes of pixels, across and then down, rounding to bytes after each.

    Args:
        image: ``(H, W, C)``.
        left: ``(w,)``, the first column of each box and the first after it.
        right: see ``left``.
        across: ``(w,)``, one column's weight, in units of 2 ** -22 (Pillow's fixed point).
        top: ``(h,)``, the same for rows.
        bottom: see ``top``.
        down: see ``top``.
        out: ``(h, w, C)``, written.
    """
    height, width, channels = image.shape
    rows, columns = out.shape[0], out.shape[1]
    half, bits = np.uint32(1 << 21), np.uint32(22)
    source, result = image.reshape(height, width * channels), out.reshape(rows, columns * channels)
    sums = np.empty(columns * channels, np.uint32)
    averages = np.empty(columns * channels, np.uint8)
    step = np.uintp(channels)
    for y in range(rows):
        weight = np.uint32(down[y])
        for i in range(sums.shape[0]):
            sums[i] = half
        for line in range(top[y], bottom[y]):
            row = source[line]
            target = np.uintp(0)
            for x in range(columns):
                start, end = np.uintp(left[x]) * step, np.uintp(right[x]) * step
                share = np.uint32(across[x])
                for c in range(channels):
                    total = np.uint32(0)
                    i = start + np.uintp(c)
                    while i < end:
                        total += np.uint32(row[i])
                        i += step
                    averages[target] = np.uint8(np.uint32(total * share + half) >> bits)
                    target += np.uintp(1)
            for i in range(sums.shape[0]):
                sums[i] += np.uint32(averages[i]) * weight
        pixels = result[y]
        for i in range(sums.shape[0]):
            pixels[i] = np.uint8(sums[i] >> bits)


@compiled
def repeat_pixels(small: U8, rows: I64, columns: I64, out: U8) -> None:
    """Write ``small[rows, columns]``, ``(H, W, C)``; rows that repeat are copied."""
    height, width, channels = out.shape
    source = small.reshape(small.shape[0], small.shape[1] * channels)
    result = out.reshape(height, width * channels)
    for y in range(height):
        line = result[y]
        if y > 0 and rows[y] == rows[y - 1]:
            above = result[y - 1]
            for i in range(line.shape[0]):
                line[i] = above[i]
            continue
        row = source[rows[y]]
        if channels == 3:
            target = np.uintp(0)
            for x in range(width):
                i = np.uintp(3) * np.uintp(columns[x])
                line[target] = row[i]
                line[target + np.uintp(1)] = row[i + np.uintp(1)]
                line[target + np.uintp(2)] = row[i + np.uintp(2)]
                target += np.uintp(3)
        else:
            for x in range(width):
                line[x] = row[np.uintp(columns[x])]
