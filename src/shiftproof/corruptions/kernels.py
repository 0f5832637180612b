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

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NEAR = np.float32(5e-5)
"""Grey levels within which a float32 sum counts as lying on a whole number."""

BLOCK = 2048
"""Values that are worked on at a time, so that what lies between two steps stays in the cache."""

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` at its first call and keep the result on disk where that is possible."""
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written.
        return cast(Function, numba.njit(nogil=True, error_model="numpy")(function))


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
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x + second_key)
    x = np.uint32(x * np.uint32(0x846CA68B))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x9E3779B1))
    return np.uint32(x ^ (x >> np.uint32(15)))


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
def offset_draws(key: np.uint32, second_key: np.uint32, delta: int, out: I8) -> None:
    """Fill ``out`` ``(n,)`` with whole numbers in ``[-delta, delta)``, two to a word."""
    size = out.shape[0]
    span = np.uint32(2 * delta)
    words = np.empty(BLOCK // 2, np.uint32)
    halves = words.view(np.uint16)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = _word(start // 2 + j, key, second_key)
        part = out[start : start + length]
        for j in range(length):
            part[j] = np.int8(np.uint32(halves[j]) * span >> np.uint32(16)) - np.int8(delta)


# ---------------------------------------------------------------- noise


@compiled
def add_noise(image: U8, table: U8, key: np.uint32, second_key: np.uint32, out: U8) -> None:
    """Add symmetric noise of whole numbers.

    Args:
        image: ``(n,)``.
        table: ``(32768,)`` of ``floor(|noise|)``, each as likely as the next; a bit of its own
            decides on the sign, and floor(-a) is the complement of floor(a).
        key, second_key: of the random words.
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
        key, second_key: of the random words.
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
        table: ``(256, 64)``, an alias table per grey level: of each entry bits 0 to 7 are taken
            when the word's lower 26 bits are under the entry's upper 32, else bits 8 to 15.
        key, second_key: of the random words.
        out: ``(n,)``, written.
    """
    size = image.shape[0]
    words = np.empty(BLOCK, np.uint32)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range(length):
            words[j] = _word(start + j, key, second_key)
        source, result = image[start : start + length], out[start : start + length]
        for j in range(length):
            word = words[j]
            entry = table[source[j], word >> np.uint32(26)]
            if (word & np.uint32(0x3FFFFFF)) < (entry >> np.uint64(32)):
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
def _add_pairs(
    above: Any, below: Any, above1: Any, below1: Any,
    above2: Any, below2: Any, above3: Any, below3: Any,
    weight: np.float32, weight1: np.float32, weight2: np.float32, weight3: np.float32,
    sums: F32,
) -> None:  # fmt: skip
    """Add four weighted pairs of rows to ``sums``; all ``(n,)``."""
    for i in range(sums.shape[0]):
        sums[i] += (
            np.float32(above[i] + below[i]) * weight
            + np.float32(above1[i] + below1[i]) * weight1
            + np.float32(above2[i] + below2[i]) * weight2
            + np.float32(above3[i] + below3[i]) * weight3
        )


@compiled
def _row(y: int, height: int, reflect: bool) -> int:
    return _reflected(y, height) if reflect else _nearest(y, height)


@compiled
def _filter_down(rows: Any, y: int, half: F32, reflect: bool, out: F32) -> None:
    """Write row ``y`` of ``rows`` ``(H, N)``, filtered along axis 0, to ``out`` ``(N,)``.

    ``half`` ``(1 + 4 m,)`` is the kernel from its centre outwards.
    """
    height = rows.shape[0]
    centre = rows[y]
    for i in range(out.shape[0]):
        out[i] = np.float32(centre[i]) * half[0]
    for k in range(half.shape[0] - 1, 0, -4):
        _add_pairs(
            rows[_row(y - k, height, reflect)], rows[_row(y + k, height, reflect)],
            rows[_row(y - k + 1, height, reflect)], rows[_row(y + k - 1, height, reflect)],
            rows[_row(y - k + 2, height, reflect)], rows[_row(y + k - 2, height, reflect)],
            rows[_row(y - k + 3, height, reflect)], rows[_row(y + k - 3, height, reflect)],
            half[k], half[k - 1], half[k - 2], half[k - 3], out,
        )  # fmt: skip


@compiled
def _filter_across(padded: F32, channels: int, half: F32, out: F32) -> None:
    """Filter a row along its pixels.

    Args:
        padded: ``((W + 2 r) * channels,)``, the row with r pixels on either side.
        channels: that are interleaved.
        half: ``(1 + 4 m,)``, the kernel from its centre outwards, r = 4 m.
        out: ``(W * channels,)``, written.
    """
    size = out.shape[0]
    centre = (half.shape[0] - 1) * channels
    middle = padded[centre : centre + size]
    for i in range(size):
        out[i] = middle[i] * half[0]
    for k in range(half.shape[0] - 1, 0, -4):
        a, b = centre - k * channels, centre + k * channels
        c, d = a + channels, b - channels
        e, f = c + channels, d - channels
        g, h = e + channels, f - channels
        _add_pairs(
            padded[a : a + size], padded[b : b + size],
            padded[c : c + size], padded[d : d + size],
            padded[e : e + size], padded[f : f + size],
            padded[g : g + size], padded[h : h + size],
            half[k], half[k - 1], half[k - 2], half[k - 3], out,
        )  # fmt: skip


@compiled
def _pad(padded: F32, radius: int, channels: int, reflect: bool) -> None:
    """Fill the ``radius`` pixels on either side of a row."""
    width = padded.shape[0] // channels - 2 * radius
    for x in range(radius):
        left = radius + (_reflected(-1 - x, width) if reflect else 0)
        right = radius + (_reflected(width + x, width) if reflect else width - 1)
        for c in range(channels):
            padded[(radius - 1 - x) * channels + c] = padded[left * channels + c]
            padded[(radius + width + x) * channels + c] = padded[right * channels + c]


@compiled
def gaussian_bytes(image: U8, half: F32, flat: U8, out: U8) -> None:
    """Filter an image along both axes with one symmetric kernel, the edge repeated.

    Args:
        image: ``(H, W, C)``.
        half: ``(1 + 4 m,)``, the kernel from its centre outwards.
        flat: ``(256,)``, what becomes of a flat area.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    size, margin = width * channels, (half.shape[0] - 1) * channels
    rows, result = image.reshape(height, size), out.reshape(height, size)
    padded = np.empty(size + 2 * margin, np.float32)
    sums = np.empty(size, np.float32)
    for y in range(height):
        _filter_down(rows, y, half, False, padded[margin : margin + size])
        _pad(padded, half.shape[0] - 1, channels, False)
        _filter_across(padded, channels, half, sums)
        _truncate(sums, flat, result[y])


@compiled
def gaussian_floats(values: F32, down: F32, across: F32, reflect: bool, out: F32) -> None:
    """Filter ``(H, W)`` with a symmetric kernel along each axis, edges mirrored or repeated."""
    height, width = values.shape
    margin = across.shape[0] - 1
    padded = np.empty(width + 2 * margin, np.float32)
    for y in range(height):
        _filter_down(values, y, down, reflect, padded[margin : margin + width])
        _pad(padded, margin, 1, reflect)
        _filter_across(padded, 1, across, out[y])


@compiled
def _add_four(
    first: Any, second: Any, third: Any, fourth: Any,
    weight: np.float32, weight1: np.float32, weight2: np.float32, weight3: np.float32,
    sums: F32,
) -> None:  # fmt: skip
    for i in range(sums.shape[0]):
        sums[i] += (
            np.float32(first[i]) * weight
            + np.float32(second[i]) * weight1
            + np.float32(third[i]) * weight2
            + np.float32(fourth[i]) * weight3
        )


@compiled
def _sum_shifted_row(
    padded: Any, y: int, margin: int, down: I64, right: I64, weights: F32, sums: F32
) -> None:
    """Add up row ``y`` of the weighted, shifted copies; the number of copies is a multiple of 4."""
    height, size = padded.shape[0], sums.shape[0]
    for i in range(size):
        sums[i] = np.float32(0.0)
    for n in range(0, weights.shape[0], 4):
        a, b = margin - right[n], margin - right[n + 1]
        c, d = margin - right[n + 2], margin - right[n + 3]
        _add_four(
            padded[_nearest(y - down[n], height)][a : a + size],
            padded[_nearest(y - down[n + 1], height)][b : b + size],
            padded[_nearest(y - down[n + 2], height)][c : c + size],
            padded[_nearest(y - down[n + 3], height)][d : d + size],
            weights[n], weights[n + 1], weights[n + 2], weights[n + 3], sums,
        )  # fmt: skip


@compiled
def smear_bytes(
    padded: U8, margin: int, down: I64, right: I64, weights: F32, flat: U8, out: U8
) -> None:
    """Add up weighted copies of an image, each shifted by whole pixels, the edge repeated.

    Args:
        padded: ``(H, N + 2 margin)``, rows with ``margin`` values repeated on either side.
        margin: at least the largest ``right`` either way.
        down: ``(4 m,)``, rows by which each copy moves down.
        right: ``(4 m,)``, values by which it moves to the right.
        weights: ``(4 m,)``.
        flat: ``(256,)``, what becomes of a flat area.
        out: ``(H, N)``, written.
    """
    sums = np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        _sum_shifted_row(padded, y, margin, down, right, weights, sums)
        _truncate(sums, flat, out[y])


@compiled
def smear_to_bytes(
    padded: F32, margin: int, down: I64, right: I64, weights: F32, out: U8
) -> None:
    """Do as ``smear_bytes`` with values in 0..1, and round to 0..255."""
    sums = np.empty(padded.shape[1] - 2 * margin, np.float32)
    width = out.shape[1]
    for y in range(out.shape[0]):
        _sum_shifted_row(padded, y, margin, down, right, weights, sums)
        row, result = sums[:width], out[y]
        for x in range(width):
            result[x] = np.uint8(np.int32(np.rint(row[x] * np.float32(255))))


# ---------------------------------------------------------------- glass


@compiled
def shuffle(image: U8, delta: int, offsets: I8, exchange: bool) -> None:
    """Copy a pixel from its neighbourhood, or exchange it with one there, from the far corner back.

    Args:
        image: ``(H, W, C)``, changed in place.
        delta: pixels within ``delta`` of the edge are left out.
        offsets: ``(n, 2)`` of (dx, dy) in the order of the walk.
        exchange: whether the neighbour gets the pixel in return.
    """
    height, width, channels = image.shape
    n = 0
    for y in range(height - delta, delta, -1):
        for x in range(width - delta, delta, -1):
            from_x, from_y = x + offsets[n, 0], y + offsets[n, 1]
            n += 1
            for c in range(channels):
                value = image[y, x, c]
                image[y, x, c] = image[from_y, from_x, c]
                if exchange:
                    image[from_y, from_x, c] = value


# ---------------------------------------------------------------- defocus


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
    first = (reach - 2) * channels
    lines = 2 * reach + 1
    running = np.zeros((lines, full + channels), np.int32)
    disks = np.zeros((5, extended), np.int32)
    verticals = np.zeros((5, size), np.float32)
    middle, sums = np.empty(extended, np.float32), np.empty(size, np.float32)
    for line in range(height + 2 * reach):
        # Running sums of one more row, for each channel by itself.
        row, total = padded[line], running[line % lines]
        for i in range(full):
            total[i + channels] = total[i] + np.int32(row[i])
        # The row whose disk sums are complete with this line, and the row whose Gaussian then is.
        target = line - reach - radius
        y = target - 2
        centre = target + reach
        if centre < radius:
            continue
        disk = disks[target % 5]
        w = widths[0] * channels
        middle_row = running[centre % lines]
        right, left = middle_row[first + w + channels :], middle_row[first - w :]
        for i in range(extended):
            disk[i] = right[i] - left[i]
        for k in range(1, radius + 1):
            w = widths[k] * channels
            upper, lower = running[(centre - k) % lines], running[(centre + k) % lines]
            a, b = upper[first + w + channels :], upper[first - w :]
            c, d = lower[first + w + channels :], lower[first - w :]
            for i in range(extended):
                disk[i] += (a[i] - b[i]) + (c[i] - d[i])
        if edges.shape[0]:
            _vertical_edges(padded, target, channels, reach, edges, edge_weights, verticals)
        if y < 0 or y >= height:
            continue
        a0, a1, a2 = disks[y % 5], disks[(y - 1) % 5], disks[(y + 1) % 5]
        a3, a4 = disks[(y - 2) % 5], disks[(y + 2) % 5]
        for i in range(extended):
            middle[i] = (
                np.float32(a0[i]) * smooth[0]
                + np.float32(a1[i] + a2[i]) * smooth[1]
                + np.float32(a3[i] + a4[i]) * smooth[2]
            )
        for m in range(edges.shape[0]):
            w = edges[m, 1] * channels
            upper = running[(y + reach - edges[m, 0]) % lines]
            lower = running[(y + reach + edges[m, 0]) % lines]
            weight = edge_weights[m]
            p, q = upper[first + w + channels :], upper[first - w :]
            r, s = lower[first + w + channels :], lower[first - w :]
            for i in range(extended):
                middle[i] += np.float32((p[i] - q[i]) + (r[i] - s[i])) * weight
        b0, b1, b2 = middle[2 * channels :], middle[channels:], middle[3 * channels :]
        b3, b4 = middle, middle[4 * channels :]
        for i in range(size):
            sums[i] = (
                b0[i] * smooth[0] + (b1[i] + b2[i]) * smooth[1] + (b3[i] + b4[i]) * smooth[2]
            )
        if edges.shape[0]:
            v0, v1, v2 = verticals[y % 5], verticals[(y - 1) % 5], verticals[(y + 1) % 5]
            v3, v4 = verticals[(y - 2) % 5], verticals[(y + 2) % 5]
            for i in range(size):
                sums[i] += (
                    v0[i] * smooth[0] + (v1[i] + v2[i]) * smooth[1] + (v3[i] + v4[i]) * smooth[2]
                )
        for i in range(size):
            sums[i] = min(sums[i] * scale, np.float32(255))
        _truncate(sums, flat, out[y])


@compiled
def _vertical_edges(
    padded: U8,
    y: int,
    channels: int,
    reach: int,
    edges: I64,
    edge_weights: F32,
    verticals: F32,
) -> None:
    """Write the weighted sums of the edges' columns for image row ``y`` to its line of ``verticals``."""
    result = verticals[y % 5]
    size = result.shape[0]
    for i in range(size):
        result[i] = np.float32(0.0)
    for m in range(edges.shape[0]):
        distance, half = edges[m, 0] * channels, edges[m, 1]
        weight = edge_weights[m]
        for k in range(-half, half + 1):
            row = padded[_nearest(y + reach + k, padded.shape[0])]
            left, right = row[reach * channels - distance :], row[reach * channels + distance :]
            for i in range(size):
                result[i] += np.float32(np.int32(left[i]) + np.int32(right[i])) * weight


# ---------------------------------------------------------------- zoom


@compiled
def _stretch(row: U8, source: I32, fraction: F32, channels: int, scratch: F32, out: F32) -> None:
    """Read a row bilinearly: pixel ``source[x]`` and its right neighbour by ``fraction[x]``."""
    for i in range(row.shape[0]):
        scratch[i] = np.float32(row[i])
    # The last pixel has no right neighbour; its fraction is 0.
    for c in range(channels):
        scratch[row.shape[0] + c] = scratch[row.shape[0] - channels + c]
    if channels == 3:
        for x in range(source.shape[0]):
            i, f = 3 * source[x], fraction[x]
            out[3 * x] = scratch[i] + (scratch[i + 3] - scratch[i]) * f
            out[3 * x + 1] = scratch[i + 1] + (scratch[i + 4] - scratch[i + 1]) * f
            out[3 * x + 2] = scratch[i + 2] + (scratch[i + 5] - scratch[i + 2]) * f
    else:
        for x in range(source.shape[0]):
            i, f = source[x], fraction[x]
            out[x] = scratch[i] + (scratch[i + 1] - scratch[i]) * f


@compiled
def mean_of_zooms(
    image: U8, rows: I32, down: F32, columns: I32, right: F32, flat: U8, out: U8
) -> None:
    """Average an image with enlargements of itself.

    Args:
        image: ``(H, W, C)``.
        rows: ``(L, H)``, the upper of the two rows that layer l reads for row y.
        down: ``(L, H)``, the lower row's share.
        columns: ``(L, W)``, the left of two pixels; ``right`` the other's share.
        flat: ``(256,)``, what becomes of a flat area.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    layers, size = rows.shape[0], width * channels
    source, result = image.reshape(height, size), out.reshape(height, size)
    kept = np.empty((layers, 2, size), np.float32)
    kept_rows = np.full((layers, 2), -1, np.int64)
    scratch = np.empty(size + channels, np.float32)
    sums = np.empty(size, np.float32)
    for y in range(height):
        own = source[y]
        for i in range(size):
            sums[i] = np.float32(own[i])
        for n in range(layers):
            upper = np.int64(rows[n, y])
            for row in (upper, min(upper + 1, height - 1)):
                if kept_rows[n, row % 2] != row:
                    _stretch(source[row], columns[n], right[n], channels, scratch, kept[n, row % 2])
                    kept_rows[n, row % 2] = row
            a, b = kept[n, upper % 2], kept[n, min(upper + 1, height - 1) % 2]
            f = down[n, y]
            e = np.float32(1) - f
            for i in range(size):
                sums[i] += a[i] * e + b[i] * f
        share = np.float32(1) / np.float32(layers + 1)
        for i in range(size):
            sums[i] = min(sums[i] * share, np.float32(255))
        _truncate(sums, flat, result[y])


# ---------------------------------------------------------------- elastic


@compiled
def displaced(image: U8, down: F32, right: F32, out: U8) -> None:
    """Read an image bilinearly at each pixel's place moved by its displacement, edges mirrored.

    Args:
        image: ``(H, W, C)``.
        down, right: ``(H, W)``, in pixels.
        out: ``(H, W, C)``, written; fractions are cut off.
    """
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            dy, dx = down[y, x], right[y, x]
            floor_y, floor_x = np.int64(np.floor(dy)), np.int64(np.floor(dx))
            fy, fx = dy - np.float32(floor_y), dx - np.float32(floor_x)
            y0, x0 = y + floor_y, x + floor_x
            y1, x1 = y0 + 1, x0 + 1
            if y0 < 0 or y1 >= height:
                y0, y1 = _reflected(y0, height), _reflected(y1, height)
            if x0 < 0 or x1 >= width:
                x0, x1 = _reflected(x0, width), _reflected(x1, width)
            for c in range(channels):
                a, b = np.float32(image[y0, x0, c]), np.float32(image[y0, x1, c])
                d, e = np.float32(image[y1, x0, c]), np.float32(image[y1, x1, c])
                upper, lower = a + (b - a) * fx, d + (e - d) * fx
                out[y, x, c] = np.uint8(upper + (lower - upper) * fy)


# ---------------------------------------------------------------- snow


@compiled
def enlarged_flakes(
    layer: F32,
    rows: I32,
    down: F32,
    columns: I32,
    right: F32,
    threshold: np.float32,
    margin: int,
    out: F32,
) -> None:
    """Enlarge a layer bilinearly, drop what is under a threshold, and clip to 1.

    Args:
        layer: ``(h, w)``.
        rows, down: ``(H,)``, the upper of two rows, and the lower one's share.
        columns, right: ``(W,)``, the left of two columns, and the right one's share.
        threshold: values under it become 0.
        margin: columns of padding in ``out``.
        out: ``(H, W + 2 margin)``, written, the edge repeated.
    """
    height, width = rows.shape[0], columns.shape[0]
    mixed = np.empty(layer.shape[1], np.float32)
    for y in range(height):
        upper, lower = layer[rows[y]], layer[min(rows[y] + 1, layer.shape[0] - 1)]
        f = down[y]
        for i in range(mixed.shape[0]):
            mixed[i] = upper[i] + (lower[i] - upper[i]) * f
        result = out[y, margin : margin + width]
        for x in range(width):
            i = columns[x]
            j = min(i + 1, mixed.shape[0] - 1)
            value = mixed[i] + (mixed[j] - mixed[i]) * right[x]
            if value < threshold:
                value = np.float32(0)
            result[x] = min(max(value, np.float32(0)), np.float32(1))
        for x in range(margin):
            out[y, x] = result[0]
            out[y, margin + width + x] = result[width - 1]


@compiled
def snowed(image: U8, layer: U8, share: np.float32, out: U8) -> None:
    """Mix an image with its pale twin and add a layer and the layer turned by 180 degrees.

    Args:
        image: ``(H, W, C)``.
        layer: ``(H, W)``.
        share: of the image; the rest is the larger of the image and 1.5 luma + 0.5.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    rest = np.float32(1) - share
    full = np.float32(255)
    for y in range(height):
        flakes, turned = layer[y], layer[height - 1 - y]
        if channels == 3:
            for x in range(width):
                r, g, b = (
                    np.float32(image[y, x, 0]),
                    np.float32(image[y, x, 1]),
                    np.float32(image[y, x, 2]),
                )
                luma = r * np.float32(0.299) + g * np.float32(0.587) + b * np.float32(0.114)
                pale = luma * np.float32(1.5) + np.float32(127.5)
                snow = np.float32(np.int32(flakes[x]) + np.int32(turned[width - 1 - x]))
                out[y, x, 0] = np.uint8(min(share * r + rest * max(r, pale) + snow, full))
                out[y, x, 1] = np.uint8(min(share * g + rest * max(g, pale) + snow, full))
                out[y, x, 2] = np.uint8(min(share * b + rest * max(b, pale) + snow, full))
        else:
            for x in range(width):
                v = np.float32(image[y, x, 0])
                pale = v * np.float32(1.5) + np.float32(127.5)
                snow = np.float32(np.int32(flakes[x]) + np.int32(turned[width - 1 - x]))
                out[y, x, 0] = np.uint8(min(share * v + rest * max(v, pale) + snow, full))


# ---------------------------------------------------------------- frost


@compiled
def blended(image: U8, layer: U8, row: int, column: int, table: U8, out: U8) -> None:
    """Write ``table[image, layer]`` with the layer's part that starts at (row, column); ``(H, W, C)``."""
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
    return np.float32(whole * (amplitude * np.float32(2.0**-23)))


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
        key, second_key: of the random words.
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
            row[2 * j + 1] = (
                corner[j] + shifted[j] + above[j] + below[j]
            ) * quarter + _noise_of(_word(counter + j, key, second_key), amplitude)
        row[2 * (n - 1)] = corner[n - 1]
        if wrap:
            edge = (corner[n - 1] + corner[0] + above[n - 1] + below[n - 1]) * quarter
            row[2 * n - 1] = edge + _noise_of(
                _word(counter + n - 1, key, second_key), amplitude
            )
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
            row[2 * across] = last * quarter + _noise_of(
                _word(counter, key, second_key), amplitude
            )
            counter += 1


@compiled
def fogged(
    image: U8, layer: F32, keep: np.float32, slope: np.float32, offset: np.float32, out: U8
) -> None:
    """Write ``image * keep + layer * slope + offset``, cut off to 0..255.

    Args:
        image: ``(H, W, C)``.
        layer: ``(H, W)`` or larger.
        keep, slope, offset: see above.
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
def channel_sums(image: U8, out: I64) -> None:
    """Add up each channel of ``(H, W, C)`` into ``out`` ``(C,)``."""
    height, width, channels = image.shape
    for y in range(height):
        if channels == 3:
            row = image[y]
            r, g, b = np.uint32(0), np.uint32(0), np.uint32(0)
            for x in range(width):
                r += np.uint32(row[x, 0])
                g += np.uint32(row[x, 1])
                b += np.uint32(row[x, 2])
            out[0] += np.int64(r)
            out[1] += np.int64(g)
            out[2] += np.int64(b)
        else:
            v = np.uint32(0)
            for x in range(width):
                v += np.uint32(image[y, x, 0])
            out[0] += np.int64(v)


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
        left, right: ``(w,)``, the first column of each box and the first after it.
        across: ``(w,)``, one column's weight, in units of 2 ** -22 (Pillow's fixed point).
        top, bottom, down: ``(h,)``, the same for rows.
        out: ``(h, w, C)``, written.
    """
    channels = image.shape[2]
    rows, columns = out.shape[0], out.shape[1]
    half = np.int64(1) << 21
    sums = np.empty((columns, channels), np.int64)
    for y in range(rows):
        for x in range(columns):
            for c in range(channels):
                sums[x, c] = half
        weight = down[y]
        for source in range(top[y], bottom[y]):
            for x in range(columns):
                for c in range(channels):
                    total = np.int64(0)
                    for k in range(left[x], right[x]):
                        total += np.int64(image[source, k, c])
                    average = min((total * across[x] + half) >> 22, 255)
                    sums[x, c] += average * weight
        for x in range(columns):
            for c in range(channels):
                out[y, x, c] = np.uint8(min(sums[x, c] >> 22, 255))


@compiled
def repeated(small: U8, rows: I64, columns: I64, out: U8) -> None:
    """Write ``small[rows, columns]``; rows that repeat are copied."""
    height, width, channels = out.shape
    for y in range(height):
        if y > 0 and rows[y] == rows[y - 1]:
            out[y] = out[y - 1]
        elif channels == 3:
            for x in range(width):
                out[y, x, 0] = small[rows[y], columns[x], 0]
                out[y, x, 1] = small[rows[y], columns[x], 1]
                out[y, x, 2] = small[rows[y], columns[x], 2]
        else:
            for x in range(width):
                out[y, x, 0] = small[rows[y], columns[x], 0]
