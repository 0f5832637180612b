"""The inner loops of the patterns."""

from __future__ import annotations

import math

import numpy as np

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.types import F64, I64, U8, Flags


@compile_inner
def clip_to_byte(value: float) -> np.uint8:
    """Clip to 0..255 and truncate."""
    byte: np.uint8 = np.uint8(min(max(value, 0.0), 255.0))
    return byte


@compiled
def add_layer(image: U8, layer: F64, keep: float, add: float, out: U8) -> None:
    """Write ``keep * image + add * layer``.

    Args:
        image: ``(H, W, C)``.
        layer: ``(H, W, C)``, or ``(H, W, 1)`` for all channels.
        keep: share of the image.
        add: strength of the layer.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    step = 1 if layer.shape[2] > 1 else 0
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                value = keep * image[y, x, c] + add * layer[y, x, c * step]
                out[y, x, c] = clip_to_byte(value)


@compiled
def draw_rings(
    top: float, left: float, waves: float, amplitude: float, ring_width: float, out: F64
) -> None:
    """Write wavy rings around a point: ramps from -0.5 to 0.5, with ``waves`` waves per turn.

    Args:
        top: row of the center.
        left: column of the center.
        waves: number of waves per turn.
        amplitude: amplitude of the waves in pixels.
        ring_width: width of a ring in pixels.
        out: ``(H, W)``, written.
    """
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            down, right = y - top, x - left
            sway = math.sin(math.atan2(right, down) * waves) * amplitude
            distance = (math.sqrt(right * right + down * down) + sway) / ring_width
            out[y, x] = distance - math.floor(distance) - 0.5


@compiled
def draw_plasma(time: float, folds: int, sharpness: float, scale: float, out: F64) -> None:
    """Write waves whose positions are displaced by waves, ``(H, W, 3)`` in -1..1."""
    stretch, turn, part = np.empty(folds), np.empty(folds), np.empty(folds)
    for s in range(folds):
        stretch[s] = 1.93**s
        turn[s] = time / 1.15**s
        part[s] = (2.25 - sharpness) ** s
    middle = math.sin(time)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            x, y = column / scale, row / scale
            for s in range(folds):
                right = math.cos(y * stretch[s] + turn[s]) / part[s]
                down = math.sin(x * stretch[s] + turn[s]) / part[s]
                x += right - 0.3 * down
                y += down + 0.3 * right
            out[row, column, 0] = math.sin(x - time)
            out[row, column, 1] = math.sin((x + y + middle) * 0.5)
            out[row, column, 2] = math.sin(y + time)


@compile_inner
def _fade(share: float) -> float:
    return share * share * (3.0 - 2.0 * share)


@compile_inner
def _compute_gradient_noise(x: float, y: float, permutation: I64, gradients: F64) -> float:
    """Return Perlin noise at a point, interpolated between the gradients at its square's corners."""
    left, top = math.floor(x), math.floor(y)
    dx, dy = x - left, y - top
    column, row = int(left) % 256, int(top) % 256
    next_column, next_row = (column + 1) % 256, (row + 1) % 256
    first, second = permutation[column], permutation[next_column]
    corner = permutation[(first + row) % 256]
    upper = dx * gradients[corner, 0] + dy * gradients[corner, 1]
    corner = permutation[(second + row) % 256]
    other = (dx - 1) * gradients[corner, 0] + dy * gradients[corner, 1]
    upper += _fade(dx) * (other - upper)
    corner = permutation[(first + next_row) % 256]
    lower = dx * gradients[corner, 0] + (dy - 1) * gradients[corner, 1]
    corner = permutation[(second + next_row) % 256]
    other = (dx - 1) * gradients[corner, 0] + (dy - 1) * gradients[corner, 1]
    lower += _fade(dx) * (other - lower)
    noise: float = 1.5 * (upper + _fade(dy) * (lower - upper))
    return noise


@compiled
def draw_turbulence(
    period: float, octaves: int, permutation: I64, gradients: F64, out: F64
) -> None:
    """Write Perlin turbulence: the sum of octaves of absolute noise, each half as strong.

    Args:
        period: period of the first octave, in pixels.
        octaves: number of octaves; each has half the period of the one before.
        permutation: ``(256,)``, a permutation.
        gradients: ``(256, 2)``, unit vectors.
        out: ``(H, W)``, written.
    """
    step = 1 / period
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            total, frequency = 0.0, 1.0
            for _ in range(octaves):
                # Rows come first in the published code.
                down, right = frequency * (row * step), frequency * (column * step)
                total += (
                    abs(_compute_gradient_noise(down, right, permutation, gradients)) / frequency
                )
                frequency *= 2
            out[row, column] = total


@compiled
def mark_squares(angle: float, side: float, grid: Flags, out: Flags) -> None:
    """Mark the pixels in the squares of a rotated checkerboard that ``grid`` marks.

    Args:
        angle: in radians.
        side: of a square, in pixels.
        grid: ``(n, n)``; its negative indexes count from the end.
        out: ``(H, W)``, written.
    """
    cosine, sine = math.cos(angle) / side, math.sin(angle) / side
    size = grid.shape[0]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            down, right = cosine * y + sine * x, cosine * x - sine * y
            same = int(down - 2 * math.floor(down / 2)) == int(right - 2 * math.floor(right / 2))
            # Truncated towards zero: the square at the corner is twice as large.
            row, column = int(down), int(right)
            row += size if row < 0 else 0
            column += size if column < 0 else 0
            out[y, x] = same and grid[row, column]


@compile_inner
def compute_starlight(down: float, right: float, rays: F64, power: float) -> float:
    """Return the light of a star at a distance from its center, in 0..1.

    Args:
        down: from the center, in pixels.
        right: see ``down``.
        rays: ``(n,)``, lengths in pixels, the first to the left.
        power: by which light falls off.
    """
    count = len(rays)
    position = (math.atan2(right, down) + math.pi) / (2 * math.pi) * count
    ray = int(position)
    fraction = position - ray
    length = rays[ray % count] + fraction * (rays[(ray + 1) % count] - rays[ray % count])
    light = (length * length / (down * down + right * right + 1e-4)) ** power
    edge = 1 - (fraction - 0.5) ** 2
    clipped: float = min(max(edge * light, 0.0), 1.0)
    return clipped


@compiled
def add_star(top: float, left: float, rays: F64, pixels: F64) -> None:
    """Turn pixels ``(H, W, C)`` white by a star's light, in place."""
    height, width, channels = pixels.shape
    for y in range(height):
        for x in range(width):
            light = compute_starlight(y - top, x - left, rays, 1.0)
            for c in range(channels):
                pixels[y, x, c] += light * (255 - pixels[y, x, c])


@compiled
def keep_in_star(image: U8, top: float, left: float, rays: F64, power: float, out: U8) -> None:
    """Keep an image ``(H, W, C)`` within a star, and turn the rest white."""
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            light = compute_starlight(y - top, x - left, rays, power)
            for c in range(channels):
                out[y, x, c] = clip_to_byte(255 + light * (image[y, x, c] - 255.0))


@compile_inner
def _blend_pixel(pixels: U8, row: int, column: int, share: float, value: float) -> None:
    if 0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]:
        for c in range(pixels.shape[2]):
            blend = (1.0 - share) * pixels[row, column, c] + share * value
            pixels[row, column, c] = np.uint8(blend)


@compiled
def draw_line(
    row: int, column: int, last_row: int, last_column: int, value: float, pixels: U8
) -> None:
    """Draw a line of one pixel with smooth edges into ``(H, W, C)`` (Zingl 2012, section 6).

    Args:
        row: start of the line, inside the image or not.
        column: see ``row``.
        last_row: end of the line.
        last_column: see ``last_row``.
        value: gray level of the line.
        pixels: changed in place.
    """
    width, height = abs(last_column - column), abs(last_row - row)
    right, down = (1 if column < last_column else -1), (1 if row < last_row else -1)
    length = max(math.sqrt(float(width * width + height * height)), 1.0)
    error = width - height
    while True:
        _blend_pixel(pixels, row, column, 1 - abs(error - width + height) / length, value)
        before, column_before = error, column
        if 2 * before >= -width:
            if column == last_column:
                break
            if before + height < length:
                _blend_pixel(pixels, row + down, column, 1 - abs(before + height) / length, value)
            error -= height
            column += right
        if 2 * before <= height:
            if row == last_row:
                break
            if width - before < length:
                share = 1 - abs(width - before) / length
                _blend_pixel(pixels, row, column_before + right, share, value)
            error += width
            row += down
