"""Compiled inner loops.

The other files import this one inside their functions: numba takes half a second to import,
and a list of names must not pay for it. Every function is compiled at its first call, on one
thread and without holding the interpreter's lock, and kept on disk for the next process.

Arrays of images are ``(H, W, C)`` here, with C = 1 for grey, or rows ``(H, N)`` with
N = W * C. No function uses ``fastmath``: what it may reorder differs between processors, and
the pixels must not. Loops are written so that the compiler can see that an index is not
negative (slices instead of offsets) and that four terms are added at a time: then it uses the
vector unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.compiled import compiled

U8 = NDArray[np.uint8]
I16 = NDArray[np.int16]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NEAR = np.float32(5e-5)
"""Grey levels within which a float32 sum counts as lying on a whole number."""

BLOCK = 2048
"""Values that are worked on at a time, so that what lies between two steps stays in the cache."""

STRIP = 2048
"""Values of a row that a filter works on at a time, for the same reason."""

# ---------------------------------------------------------------- indices


@compiled
def _nearest(index: int, size: int) -> int:
    """Repeat the edge: ... a a | a b c | c c ..."""
    return min(max(index, 0), size - 1)


@compiled
def _reflected(index: int, size: int) -> int:
    """Mirror about the edge of the outermost pixel: ... b a | a b c | c b ..."""
    if 0 <= index < size:
        return index
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


@compiled
def _mirrored(index: int, size: int) -> int:
    """Mirror about the centre of the outermost pixel: ... c b | a b c | b a ..."""
    if size == 1:
        return 0
    index = index % (2 * size - 2)
    return index if index < size else 2 * size - 2 - index


# ---------------------------------------------------------------- random words


@compiled
def _word(counter: int, key: np.uint32, second_key: np.uint32) -> np.uint32:
    """Return 32 random bits that belong to a counter and two keys.

    A multiply-xorshift mixer (constants: C. Wellons, "lowbias32", and Weyl's golden ratio), with
    the second key between its rounds, so that two keys are no permutations of each other.
    Every step stays in 32 bits, which the vector unit multiplies.
    """
    x = np.uint32(np.uint32(counter) ^ key)
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x + second_key)
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x9E3779B1))
    mixed: np.uint32 = np.uint32(x ^ (x >> np.uint32(15)))
    return mixed


@compiled
def table_draws(key: np.uint32, second_key: np.uint32, table: F32, out: F32) -> None:
    """Fill ``out`` ``(n,)`` with entries of ``table`` ``(65536,)``, each as likely as the next."""
    size = out.shape[0]
    words = np.empty(BLOCK // 2, np.uint32)
    halves = words.view(np.uint16)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = _word(start // 2 + j, key, second_key)
        part = out[start : start + length]
        for j in range(length):
            part[j] = table[halves[j]]


@compiled
def offset_draws(key: np.uint32, second_key: np.uint32, delta: int, width: int, out: I32) -> None:
    """Fill ``out`` ``(n,)`` with ``dy * width + dx``, dx and dy whole in ``[-delta, delta)``."""
    size = out.shape[0]
    span, reach, line = np.uint32(2 * delta), np.int32(delta), np.int32(width)
    words = np.empty(BLOCK // 2, np.uint32)
    halves = words.view(np.uint16)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = _word(start // 2 + j, key, second_key)
        part = out[start : start + length]
        for j in range(length):
            # The 16 bits as a fraction, of which two digits to the base ``span`` are read.
            first = np.uint32(np.uint32(halves[j]) * span)
            second = np.uint32((first & np.uint32(0xFFFF)) * span)
            dx = np.int32(first >> np.uint32(16)) - reach
            dy = np.int32(second >> np.uint32(16)) - reach
            part[j] = np.int32(dy * line + dx)


# ---------------------------------------------------------------- whole pixels


@compiled
def packed(image: U8, out: U32) -> None:
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
def unpacked(words: U32, out: U8) -> None:
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


# ---------------------------------------------------------------- noise


@compiled
def add_noise(image: U8, table: U8, key: np.uint32, second_key: np.uint32, out: U8) -> None:
    """Add symmetric noise of whole numbers.

    Args:
        image: ``(n,)``.
        table: ``(32768,)`` of ``floor(|noise|)``, each as likely as the next; a bit of its own
            decides on the sign, and floor(-a) is the complement of floor(a).
        key: of the random words.
        second_key: see ``key``.
        out: ``(n,)``, written.
    """
    size = image.shape[0]
    words = np.empty(BLOCK // 2, np.uint32)
    halves = words.view(np.uint16)
    noise = np.empty(BLOCK, np.uint8)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = _word(start // 2 + j, key, second_key)
        for j in range(length):
            noise[j] = table[halves[j] >> 1]
        source, result = image[start : start + length], out[start : start + length]
        for j in range(length):
            sign = -np.int16(halves[j] & np.uint16(1))
            value = np.int16(np.int16(source[j]) + (np.int16(noise[j]) ^ sign))
            result[j] = np.uint8(min(max(value, np.int16(0)), np.int16(255)))


@compiled
def scale_by_noise(image: U8, table: I16, key: np.uint32, second_key: np.uint32, out: U8) -> None:
    """Add symmetric noise in proportion to the value.

    Args:
        image: ``(n,)``.
        table: ``(32768,)`` of ``|noise|`` in units of 1/8192, each as likely as the next.
        key: of the random words.
        second_key: see ``key``.
        out: ``(n,)``, written.
    """
    size = image.shape[0]
    words = np.empty(BLOCK // 2, np.uint32)
    halves = words.view(np.uint16)
    noise = np.empty(BLOCK, np.int16)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = _word(start // 2 + j, key, second_key)
        for j in range(length):
            noise[j] = table[halves[j] >> 1]
        source, result = image[start : start + length], out[start : start + length]
        for j in range(length):
            sign = -np.int32(halves[j] & np.uint16(1))
            factor = np.int32(8192) + ((np.int32(noise[j]) ^ sign) - sign)
            value = np.int32(np.int32(source[j]) * factor) >> 13
            result[j] = np.uint8(min(max(value, np.int32(0)), np.int32(255)))


@compiled
def alias_draws(image: U8, table: U64, key: np.uint32, second_key: np.uint32, out: U8) -> None:
    """Replace every value by a draw from the distribution that belongs to it.

    Args:
        image: ``(n,)``.
        table: ``(256, 2 ** n)``, an alias table per grey level: a word's upper n bits choose the
            entry, of which bits 0 to 7 are taken when the word's other bits are under the entry's
            upper 32, else bits 8 to 15.
        key: of the random words.
        second_key: see ``key``.
        out: ``(n,)``, written.
    """
    size = image.shape[0]
    words = np.empty(BLOCK, np.uint32)
    shift, lower = np.uint32(32), np.uint32(2**32 // table.shape[1] - 1)
    while np.uint32(lower >> (shift - np.uint32(1))) == 0:
        shift = np.uint32(shift - np.uint32(1))
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range(length):
            words[j] = _word(start + j, key, second_key)
        source, result = image[start : start + length], out[start : start + length]
        for j in range(length):
            word = words[j]
            entry = table[source[j], word >> shift]
            if (word & lower) < (entry >> np.uint64(32)):
                result[j] = np.uint8(entry)
            else:
                result[j] = np.uint8(entry >> np.uint64(8))


@compiled
def salt_and_pepper(
    image: U8,
    black: np.uint16,
    changed: np.uint16,
    key: np.uint32,
    second_key: np.uint32,
    out: U8,
) -> None:
    """Turn a value black where its 16 random bits are under ``black``, white under ``changed``."""
    size = image.shape[0]
    half = (size + 1) // 2
    first, first_out = image[:half], out[:half]
    second, second_out = image[half:], out[half:]
    # The lower halves of the words serve the first half of the image, the upper the second.
    for i in range(half):
        word = np.uint16(_word(i, key, second_key))
        keep = np.uint8(np.uint8(word < changed) - np.uint8(1))
        white = np.uint8(np.uint8(word < black) - np.uint8(1))
        first_out[i] = np.uint8(first[i] & keep) | np.uint8(white & ~keep)
    for i in range(size - half):
        word = np.uint16(_word(i, key, second_key) >> np.uint32(16))
        keep = np.uint8(np.uint8(word < changed) - np.uint8(1))
        white = np.uint8(np.uint8(word < black) - np.uint8(1))
        second_out[i] = np.uint8(second[i] & keep) | np.uint8(white & ~keep)


# ---------------------------------------------------------------- sums of shifted rows


@compiled
def _add_pairs(
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
def _filter_across(padded: Any, channels: int, half: Any, out: Any) -> None:
    """Filter a row along its pixels, the terms added from the centre, then from outside in.

    Args:
        padded: ``((W + 2 r) * channels,)``, the row with r pixels on either side.
        channels: that are interleaved.
        half: ``(1 + 4 m,)``, the kernel from its centre outwards, r = 4 m.
        out: ``(W * channels,)``, written.
    """
    size = out.shape[0]
    step = np.uintp(channels)
    centre = np.uintp(half.shape[0] - 1) * step
    for i in range(size):
        out[i] = padded[np.uintp(i) + centre] * half[0]
    for k in range(half.shape[0] - 1, 0, -4):
        a, b = centre - np.uintp(k) * step, centre + np.uintp(k) * step
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
def gaussian_bytes(
    padded: U8, channels: int, half: F64, places: I64, fractions: F64, total: F64, out: U8
) -> None:
    """Filter an image along both axes with one symmetric kernel, the edge repeated.

    In float64 and with the sums in the order of scipy.ndimage: whether a flat area keeps its
    level or loses one hangs on the last bit. The image is worked on in strips, so that the rows
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
                _add_pairs(
                    fractions,
                    places[a], places[b], places[a + 1], places[b - 1],
                    places[a + 2], places[b - 2], places[a + 3], places[b - 3],
                    half[k], half[k - 1], half[k - 2], half[k - 3], sums[:span],
                )  # fmt: skip
            _filter_across(sums, channels, half, total[:width])
            for j in range(width):
                out[y, start + j] = np.uint8(np.int32(min(total[j], 1.0) * 255.0))


@compiled
def gaussian_floats(
    values: F32, down: F32, across: F32, rows: I64, columns: I64, step: int, padded: F32, out: F32
) -> None:
    """Filter ``(H, W)`` with a symmetric kernel along each axis.

    Args:
        values: ``(H, W)``.
        down: ``(1 + r,)``, the kernel for the columns from its centre outwards, r = 4 m.
        across: ``(1 + q,)``, the kernel for the rows, q = 4 n.
        rows: ``(H + 2 r,)``, which row stands for each from -r to H + r - 1.
        columns: ``(W + 2 q,)``, which column.
        step: 1. As an argument it is no constant, of which ``_filter_across`` would be compiled
            once more.
        padded: ``(W + 2 q,)``, scratch.
        out: ``(H, W)``, written.
    """
    height, width = values.shape
    margin, radius = across.shape[0] - 1, down.shape[0] - 1
    middle = padded[margin : margin + width]
    for y in range(height):
        centre = values[y]
        for i in range(width):
            middle[i] = centre[i] * down[0]
        for k in range(radius, 0, -4):
            a, b = y + radius - k, y + radius + k
            _add_pairs(
                values,
                rows[a], rows[b], rows[a + 1], rows[b - 1],
                rows[a + 2], rows[b - 2], rows[a + 3], rows[b - 3],
                down[k], down[k - 1], down[k - 2], down[k - 3], middle,
            )  # fmt: skip
        for x in range(margin):
            padded[x] = middle[columns[x]]
            padded[margin + width + x] = middle[columns[margin + width + x]]
        _filter_across(padded, step, across, out[y])


@compiled
def _sum_shifted_row(
    padded: Any, y: int, margin: int, down: I64, right: I64, weights: F64, sums: F64
) -> None:
    """Add up row ``y`` of the weighted, shifted copies; the number of copies is a multiple of 4."""
    height, size = padded.shape[0], sums.shape[0]
    for i in range(size):
        sums[i] = 0.0
    for n in range(0, weights.shape[0], 4):
        a, b = np.uintp(margin - right[n]), np.uintp(margin - right[n + 1])
        c, d = np.uintp(margin - right[n + 2]), np.uintp(margin - right[n + 3])
        first, second = _nearest(y - down[n], height), _nearest(y - down[n + 1], height)
        third, fourth = _nearest(y - down[n + 2], height), _nearest(y - down[n + 3], height)
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
        _sum_shifted_row(padded, y, margin, down, right, weights, sums)
        row = out[y]
        for i in range(row.shape[0]):
            row[i] = np.uint8(np.int32(min(sums[i] + added, 255.0)))


@compiled
def smear_to_bytes(padded: F32, margin: int, down: I64, right: I64, weights: F64, out: U8) -> None:
    """Do as ``smear_bytes`` with values in 0..1, and round to 0..255."""
    sums = np.empty(padded.shape[1] - 2 * margin, np.float64)
    for y in range(out.shape[0]):
        _sum_shifted_row(padded, y, margin, down, right, weights, sums)
        row = out[y]
        for x in range(row.shape[0]):
            row[x] = np.uint8(np.int32(np.rint(sums[x] * 255.0)))


# ---------------------------------------------------------------- glass


@compiled
def shuffle(pixels: U32, width: int, delta: int, offsets: I32, exchange: bool) -> None:
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


# ---------------------------------------------------------------- defocus


@compiled
def _truncate(sums: F32, flat: U8, out: U8) -> None:
    """Cut sums in 0..255 off to whole numbers.

    What the published code makes of a flat area, where the exact sum is a whole number, hangs on
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
def disk_bytes(
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
        centre = target + reach
        if centre < radius:
            continue
        disk = disks[target % 5]
        w = np.uintp(widths[0]) * step
        right, left = first + w + step, first - w
        for j in range(extended):
            i = np.uintp(j)
            disk[j] = running[centre % lines, i + right] - running[centre % lines, i + left]
        for k in range(1, radius + 1):
            w = np.uintp(widths[k]) * step
            right, left = first + w + step, first - w
            upper, lower = (centre - k) % lines, (centre + k) % lines
            for j in range(extended):
                i = np.uintp(j)
                disk[j] += (running[upper, i + right] - running[upper, i + left]) + (
                    running[lower, i + right] - running[lower, i + left]
                )
        if edges.shape[0]:
            _vertical_edges(
                below, centre, reach * channels, edge_steps, edge_weights, verticals[target % 5]
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
        edges: see ``disk_bytes``; here the distance is in values, not in pixels.
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


# ---------------------------------------------------------------- zoom


@compiled
def _stretch(
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
def mean_of_zooms(
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
        runs: ``(L, m)``, per layer what ``_stretch`` takes.
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
                    _stretch(
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


# ---------------------------------------------------------------- elastic


@compiled
def refined(nodes: F32, step_down: int, step_across: int, out: F32) -> None:
    """Interpolate bilinearly between nodes that lie ``step_down`` and ``step_across`` apart.

    Args:
        nodes: ``(m, n)`` with ``(m - 1) step_down >= H`` and ``(n - 1) step_across >= W``.
        step_down: in pixels.
        step_across: see ``step_down``.
        out: ``(H, W)``, written.
    """
    height, width = out.shape
    count = nodes.shape[1]
    mixed = np.empty(count, np.float32)
    row = np.empty(count * step_across, np.float32)
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
        out[y] = row[:width]


@compiled
def _mirrored_once(index: np.int32, size: np.int32) -> np.int32:
    """Do as ``_reflected`` for an index from ``-size`` to ``2 size - 1``, without a division."""
    low = index if index >= np.int32(0) else np.int32(np.int32(-1) - index)
    return low if low < size else np.int32(np.int32(2) * size - np.int32(1) - low)


@compiled
def displaced(pixels: U32, down: F32, right: F32, out: U32) -> None:
    """Read an image bilinearly at each pixel's place moved by its displacement, edges mirrored.

    Args:
        pixels: ``(H * W,)``, see ``packed``.
        down: ``(H, W)``, in pixels.
        right: see ``down``.
        out: ``(H, W)``, written; fractions are cut off.
    """
    height, width = np.int32(down.shape[0]), np.int32(down.shape[1])
    places = np.empty((4, down.shape[1]), np.int32)
    found = np.empty((4, down.shape[1]), np.uint32)
    fractions_y, fractions_x = np.empty((2, down.shape[1]), np.float32)
    at0, at1, at2, at3 = places[0], places[1], places[2], places[3]
    found0, found1, found2, found3 = found[0], found[1], found[2], found[3]
    for y in range(down.shape[0]):
        by, bx = down[y], right[y]
        far = np.int32(0)
        for x in range(by.shape[0]):
            floor_y, floor_x = np.floor(by[x]), np.floor(bx[x])
            fractions_y[x], fractions_x[x] = by[x] - floor_y, bx[x] - floor_x
            y0 = np.int32(np.int32(floor_y) + np.int32(y))
            x0 = np.int32(np.int32(floor_x) + np.int32(x))
            y1, x1 = np.int32(y0 + np.int32(1)), np.int32(x0 + np.int32(1))
            far |= np.int32(y0 < -height) | np.int32(y1 >= np.int32(2) * height)
            far |= np.int32(x0 < -width) | np.int32(x1 >= np.int32(2) * width)
            upper = np.int32(_mirrored_once(y0, height) * width)
            lower = np.int32(_mirrored_once(y1, height) * width)
            left, other = _mirrored_once(x0, width), _mirrored_once(x1, width)
            at0[x], at1[x] = upper + left, upper + other
            at2[x], at3[x] = lower + left, lower + other
        if far:
            for x in range(by.shape[0]):
                y0, x0 = np.int32(y + np.floor(by[x])), np.int32(x + np.floor(bx[x]))
                upper = np.int32(_reflected(y0, down.shape[0]) * width)
                lower = np.int32(_reflected(y0 + 1, down.shape[0]) * width)
                left = np.int32(_reflected(x0, down.shape[1]))
                other = np.int32(_reflected(x0 + 1, down.shape[1]))
                at0[x], at1[x] = upper + left, upper + other
                at2[x], at3[x] = lower + left, lower + other
        for x in range(by.shape[0]):
            found0[x] = pixels[np.uintp(np.uint32(at0[x]))]
            found1[x] = pixels[np.uintp(np.uint32(at1[x]))]
            found2[x] = pixels[np.uintp(np.uint32(at2[x]))]
            found3[x] = pixels[np.uintp(np.uint32(at3[x]))]
        result = out[y]
        for x in range(by.shape[0]):
            word = np.uint32(0)
            fy, fx = fractions_y[x], fractions_x[x]
            for bits in (0, 8, 16):
                shift = np.uint32(bits)
                a = np.float32(np.int32((found0[x] >> shift) & np.uint32(255)))
                b = np.float32(np.int32((found1[x] >> shift) & np.uint32(255)))
                c = np.float32(np.int32((found2[x] >> shift) & np.uint32(255)))
                d = np.float32(np.int32((found3[x] >> shift) & np.uint32(255)))
                above, below = a + (b - a) * fx, c + (d - c) * fx
                word |= np.uint32(np.int32(above + (below - above) * fy)) << shift
            result[x] = word


@compiled
def skewed(image: U8, back: F64, out: F32) -> None:
    """Map an image affinely, read bilinearly, mirrored about its outermost pixels.

    In OpenCV's fixed point, where places are whole 32nds of a pixel: later versions of it compute
    otherwise.

    Args:
        image: ``(H, W, C)``.
        back: ``(2, 3)``, from a pixel (x, y, 1) of the result to its place (x, y) in the image.
        out: ``(H, W, C)``, written, in 0..1.
    """
    height, width, channels = image.shape
    one, whole = np.float32(1), np.float32(255)
    for y in range(height):
        start_x = int(np.rint((back[0, 1] * y + back[0, 2]) * 1024)) + 16
        start_y = int(np.rint((back[1, 1] * y + back[1, 2]) * 1024)) + 16
        for x in range(width):
            place_x = (start_x + int(np.rint(back[0, 0] * x * 1024))) >> 5
            place_y = (start_y + int(np.rint(back[1, 0] * x * 1024))) >> 5
            fx, fy = (
                np.float32(place_x & 31) / np.float32(32),
                np.float32(place_y & 31) / np.float32(32),
            )
            left, other = _mirrored(place_x >> 5, width), _mirrored((place_x >> 5) + 1, width)
            upper, lower = _mirrored(place_y >> 5, height), _mirrored((place_y >> 5) + 1, height)
            for c in range(channels):
                out[y, x, c] = (
                    np.float32(image[upper, left, c]) / whole * ((one - fy) * (one - fx))
                    + np.float32(image[upper, other, c]) / whole * ((one - fy) * fx)
                    + np.float32(image[lower, left, c]) / whole * (fy * (one - fx))
                    + np.float32(image[lower, other, c]) / whole * (fy * fx)
                )


@compiled
def displaced_values(values: F32, down: F32, right: F32, out: U8) -> None:
    """Do as ``displaced`` for ``(H, W, C)`` in 0..1; in scipy's order of sums, to bytes cut off."""
    height, width, channels = values.shape
    for y in range(height):
        for x in range(width):
            place_y, place_x = y + np.float64(down[y, x]), x + np.float64(right[y, x])
            floor_y, floor_x = np.floor(place_y), np.floor(place_x)
            fy, fx = place_y - floor_y, place_x - floor_x
            upper, lower = _reflected(int(floor_y), height), _reflected(int(floor_y) + 1, height)
            left, other = _reflected(int(floor_x), width), _reflected(int(floor_x) + 1, width)
            for c in range(channels):
                total = np.float64(values[upper, left, c]) * (1.0 - fy) * (1.0 - fx)
                total += np.float64(values[upper, other, c]) * (1.0 - fy) * fx
                total += np.float64(values[lower, left, c]) * fy * (1.0 - fx)
                total += np.float64(values[lower, other, c]) * fy * fx
                value = min(max(np.float32(total), np.float32(0)), np.float32(1))
                out[y, x, c] = np.uint8(np.int32(value * np.float32(255)))


# ---------------------------------------------------------------- snow


@compiled
def enlarged_flakes(
    layer: F32,
    rows: I64,
    up: F64,
    down: F64,
    columns: I64,
    left: F64,
    right: F64,
    threshold: np.float32,
    margin: int,
    out: F32,
) -> None:
    """Enlarge a layer bilinearly, drop what is under a threshold, and clip to 1.

    Args:
        layer: ``(h, w)``.
        rows: ``(H,)``, the upper of two rows.
        up: ``(H,)``, the upper row's share.
        down: ``(H,)``, the lower row's share.
        columns: ``(W,)``, the left of two columns.
        left: ``(W,)``, the left column's share.
        right: ``(W,)``, the right column's share.
        threshold: values under it become 0.
        margin: columns of padding in ``out``.
        out: ``(H, W + 2 margin)``, written, the edge repeated.
    """
    height, width = rows.shape[0], columns.shape[0]
    mixed = np.empty(layer.shape[1], np.float32)
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
def snowed(image: U8, layer: U8, other: U8, share: np.float32, out: U8) -> None:
    """Mix an image with its pale twin and add a layer and another turned by 180 degrees.

    Args:
        image: ``(H, W, C)``.
        layer: ``(H, W)``.
        other: ``(H, W)``.
        share: of the image; the rest is the larger of the image and 1.5 luma + 0.5.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    rest, full = np.float32(1) - share, np.float32(255)
    size = width * channels
    pale, snow = np.empty(size, np.float32), np.empty(size, np.float32)
    rows, results = image.reshape(height, size), out.reshape(height, size)
    for y in range(height):
        flakes, turned = layer[y], other[height - 1 - y, ::-1]
        pixels = image[y]
        if channels == 3:
            for x in range(width):
                luma = (
                    np.float32(pixels[x, 0]) * np.float32(0.299)
                    + np.float32(pixels[x, 1]) * np.float32(0.587)
                    + np.float32(pixels[x, 2]) * np.float32(0.114)
                )
                value = luma * np.float32(1.5) + np.float32(127.5)
                both = np.float32(np.int32(flakes[x]) + np.int32(turned[x]))
                for c in range(3):
                    pale[3 * x + c] = value
                    snow[3 * x + c] = both
        else:
            for x in range(width):
                pale[x] = np.float32(pixels[x, 0]) * np.float32(1.5) + np.float32(127.5)
                snow[x] = np.float32(np.int32(flakes[x]) + np.int32(turned[x]))
        row, result = rows[y], results[y]
        for i in range(size):
            value = np.float32(row[i])
            mixed = share * value + rest * max(value, pale[i]) + snow[i]
            result[i] = np.uint8(np.int32(min(mixed, full)))


# ---------------------------------------------------------------- spatter


@compiled
def watered(image: U8, water: F32, color: F32, out: U8) -> None:
    """Add ``water`` ``(H, W)`` times ``color`` ``(C,)`` to an image, cut off to 0..255."""
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                value = np.float32(image[y, x, c]) + water[y, x] * color[c]
                out[y, x, c] = np.uint8(np.int32(min(value, np.float32(255))))


@compiled
def muddied(image: U8, mask: F32, least: np.float32, color: F32, out: U8) -> None:
    """Put ``color`` ``(C,)`` over an image by a mask ``(H, W)`` in 0..1, 0 under ``least``."""
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            share = mask[y, x]
            if share < least:
                share = np.float32(0)
            for c in range(channels):
                value = np.float32(image[y, x, c]) * (np.float32(1) - share) + share * color[c]
                out[y, x, c] = np.uint8(np.int32(min(value, np.float32(255))))


# ---------------------------------------------------------------- frost


@compiled
def blended(image: U8, layer: U8, row: int, column: int, table: U8, out: U8) -> None:
    """Write ``table[image, layer]``, the layer's part starting at (row, column); ``(H, W, C)``."""
    height, width, channels = image.shape
    for y in range(height):
        source, result = image[y].reshape(width * channels), out[y].reshape(width * channels)
        over = layer[row + y].reshape(layer.shape[1] * channels)[column * channels :]
        for i in range(width * channels):
            result[i] = table[source[i], over[i]]


# ---------------------------------------------------------------- fog


@compiled
def _noise_of(word: np.uint32, amplitude: np.float32) -> np.float32:
    """Return a draw, uniform within the amplitude, from the word's upper 24 bits."""
    whole = np.float32(np.int32(word >> np.uint32(8))) - np.float32(8388607.5)
    value: np.float32 = np.float32(whole * (amplitude * np.float32(2.0**-23)))
    return value


@compiled
def subdivided(
    corners: F32,
    amplitude: np.float32,
    wrap: bool,
    key: np.uint32,
    second_key: np.uint32,
    first: int,
    centres: F32,
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
        centres: at least ``(cells down, cells across)``, scratch.
        out: ``(2 m, 2 n)`` with ``wrap``, else ``(2 m - 1, 2 n - 1)``; written.
    """
    m, n = corners.shape
    down, across = (m, n) if wrap else (m - 1, n - 1)
    quarter = np.float32(0.25)
    counter = first
    for i in range(down):
        upper, lower, centre = corners[i], corners[(i + 1) % m], centres[i]
        shifted_upper, shifted_lower = upper[1:], lower[1:]
        inner = min(across, n - 1)
        for j in range(inner):
            centre[j] = (
                upper[j] + lower[j] + shifted_upper[j] + shifted_lower[j]
            ) * quarter + _noise_of(_word(counter + j, key, second_key), amplitude)
        if wrap:
            centre[n - 1] = (upper[n - 1] + lower[n - 1] + upper[0] + lower[0]) * quarter
            centre[n - 1] += _noise_of(_word(counter + n - 1, key, second_key), amplitude)
        counter += across
    for i in range(m):
        # Points on the rows of corners, between two of them: a corner on either side, a centre
        # above and below. At a border that does not wrap, the one inside counts twice.
        corner = corners[i]
        above = centres[(i - 1) % down] if wrap else centres[max(i - 1, 0)]
        below = centres[min(i, down - 1)]
        row = out[2 * i]
        inner = min(across, n - 1)
        shifted = corner[1:]
        for j in range(inner):
            row[2 * j] = corner[j]
            row[2 * j + 1] = (corner[j] + shifted[j] + above[j] + below[j]) * quarter + _noise_of(
                _word(counter + j, key, second_key), amplitude
            )
        row[2 * (n - 1)] = corner[n - 1]
        if wrap:
            edge = (corner[n - 1] + corner[0] + above[n - 1] + below[n - 1]) * quarter
            row[2 * n - 1] = edge + _noise_of(_word(counter + n - 1, key, second_key), amplitude)
        counter += across
    for i in range(down):
        # Points on the rows of centres, between two of them.
        upper, lower, centre = corners[i], corners[(i + 1) % m], centres[i]
        row = out[2 * i + 1]
        left = centre[across - 1] if wrap else centre[0]
        row[0] = (upper[0] + lower[0] + left + centre[0]) * quarter
        row[0] += _noise_of(_word(counter, key, second_key), amplitude)
        row[1] = centre[0]
        inner = across - 1
        tail_upper, tail_lower = upper[1:], lower[1:]
        tail_centre, tail_row = centre[1:], row[2:]
        for j in range(inner):
            tail_row[2 * j] = (
                tail_upper[j] + tail_lower[j] + centre[j] + tail_centre[j]
            ) * quarter + _noise_of(_word(counter + 1 + j, key, second_key), amplitude)
            tail_row[2 * j + 1] = tail_centre[j]
        counter += across
        if not wrap:
            last = upper[n - 1] + lower[n - 1] + np.float32(2) * centre[across - 1]
            row[2 * across] = last * quarter + _noise_of(_word(counter, key, second_key), amplitude)
            counter += 1


@compiled
def fogged(
    image: U8, layer: F32, keep: np.float32, slope: np.float32, offset: np.float32, out: U8
) -> None:
    """Write ``image * keep + layer * slope + offset``, cut off to 0..255.

    Args:
        image: ``(H, W, C)``.
        layer: ``(H, W)`` or larger.
        keep: see above.
        slope: see ``keep``.
        offset: see ``keep``.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    size = width * channels
    added = np.empty(size, np.float32)
    rows, result_rows = image.reshape(height, size), out.reshape(height, size)
    for y in range(height):
        heights = layer[y]
        if channels == 3:
            for x in range(width):
                value = heights[x] * slope + offset
                added[3 * x] = value
                added[3 * x + 1] = value
                added[3 * x + 2] = value
        else:
            for x in range(width):
                added[x] = heights[x] * slope + offset
        source, result = rows[y], result_rows[y]
        for i in range(size):
            value = np.float32(source[i]) * keep + added[i]
            result[i] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))


# ---------------------------------------------------------------- colour


@compiled
def channel_sums(image: U8, table: F64, out: F64) -> None:
    """Add up ``table[value]`` for each channel of ``(H, W, C)``, pixel after pixel, in ``out``.

    numpy adds up in the same order where it takes the mean over the first two of three axes.
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
def looked_up(image: U8, table: U8, out: U8) -> None:
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
def _hue(r: float, g: float, b: float, value: float, spread: float) -> float:
    # Where channels tie, the later one decides, as in skimage.color.rgb2hsv.
    if b == value:
        hue = 4.0 + (r - g) / spread
    elif g == value:
        hue = 2.0 + (b - r) / spread
    else:
        hue = (g - b) / spread
    return (hue / 6.0) % 1.0


@compiled
def _from_hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Return RGB of a place in the HSV cone, all in 0..1."""
    sextant = np.floor(hue * 6.0)
    f = hue * 6.0 - sextant
    p = value * (1.0 - saturation)
    q = value * (1.0 - f * saturation)
    t = value * (1.0 - (1.0 - f) * saturation)
    which = int(sextant) % 6
    if which == 0:
        return value, t, p
    if which == 1:
        return q, value, p
    if which == 2:
        return p, value, t
    if which == 3:
        return p, q, value
    if which == 4:
        return t, p, value
    return value, p, q


@compiled
def with_saturation(image: U8, scale: float, offset: float, out: U8) -> None:
    """Make the HSV saturation of ``(H, W, 3)`` ``clip(saturation * scale + offset, 0, 1)``."""
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            r, g, b = image[y, x, 0] / 255.0, image[y, x, 1] / 255.0, image[y, x, 2] / 255.0
            value = max(r, g, b)
            spread = value - min(r, g, b)
            hue, saturation = 0.0, 0.0
            if spread > 0.0:
                hue = _hue(r, g, b, value, spread)
                saturation = spread / value
            saturation = min(max(saturation * scale + offset, 0.0), 1.0)
            r, g, b = _from_hsv(hue, saturation, value)
            out[y, x, 0] = np.uint8(r * 255.0)
            out[y, x, 1] = np.uint8(g * 255.0)
            out[y, x, 2] = np.uint8(b * 255.0)


@compiled
def with_value(image: U8, offset: float, lowest: U8, between: U16, out: U8) -> None:
    """Raise the HSV value of ``(H, W, 3)``.

    The largest and the smallest channel of the result follow from the largest and the smallest
    of the source. So does the middle one from itself and the largest, except where it falls on
    a whole number: then the last bits of the published code's way through hue decide.

    Args:
        image: ``(H, W, 3)``.
        offset: added to the value.
        lowest: ``(256, 256)`` over (largest, smallest): the smallest; the largest on the diagonal.
        between: ``(256, 256)`` over (largest, middle): the middle, with 256 added where the long
            way has to be gone.
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
                hue = _hue(fr, fg, fb, value, spread)
                fr, fg, fb = _from_hsv(hue, spread / value, min(value + offset, 1.0))
                red, green, blue = np.uint16(fr * 255), np.uint16(fg * 255), np.uint16(fb * 255)
            out[y, x, 0] = np.uint8(red)
            out[y, x, 1] = np.uint8(green)
            out[y, x, 2] = np.uint8(blue)


# ---------------------------------------------------------------- pixelate


@compiled
def box_reduced(
    image: U8, left: I64, right: I64, across: I64, top: I64, bottom: I64, down: I64, out: U8
) -> None:
    """Average boxes of pixels, across and then down, rounding to bytes after either.

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
def repeated(small: U8, rows: I64, columns: I64, out: U8) -> None:
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
