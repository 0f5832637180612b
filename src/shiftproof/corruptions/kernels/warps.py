"""The inner loops of warps."""

from __future__ import annotations

import math

import numpy as np

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.corruptions.kernels.indices import mirror_index
from shiftproof.corruptions.kernels.patterns import clip_to_byte
from shiftproof.types import F64, U8


@compile_inner
def interpolate(image: U8, y: float, x: float, channel: int) -> float:
    """Read ``(H, W, C)`` at a fractional position, bilinearly, black outside."""
    top, left = math.floor(y), math.floor(x)
    down, right = y - top, x - left
    total = 0.0
    for dy in range(2):
        row = int(top) + dy
        if 0 <= row < image.shape[0]:
            for dx in range(2):
                column = int(left) + dx
                if 0 <= column < image.shape[1]:
                    share = (down if dy else 1 - down) * (right if dx else 1 - right)
                    total += share * image[row, column, channel]
    return total


@compiled
def warp(image: U8, rows: F64, columns: F64, out: U8) -> None:
    """Resample an image bilinearly at the source position of each pixel, black outside.

    Args:
        image: ``(H, W, C)``.
        rows: ``(h, w)``, source row of each pixel.
        columns: ``(h, w)``, source column of each pixel.
        out: ``(h, w, C)``, written.
    """
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[y, x, c] = clip_to_byte(interpolate(image, rows[y, x], columns[y, x], c) + 1e-9)


@compiled
def draw_caustics(time: float, size: float, out: F64) -> None:
    """Write the caustics at the bottom of moving water, ``(H, W)`` in 0..1.

    Args:
        time: phase of the waves.
        size: period of the pattern, in pixels.
        out: written.
    """
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            down, right = row / size, column / size
            first = (down - math.floor(down)) * 6.28318530718 - 250
            second = (right - math.floor(right)) * 6.28318530718 - 250
            i, j, light = first, second, 1.0
            for n in range(5):
                t = time * (1.0 - 3.5 / (n + 1))
                # Sequential in the formula, simultaneous in the published code.
                i, j = (
                    first + math.cos(t - i) + math.sin(t + j),
                    second + math.sin(t - j) + math.cos(t + i),
                )
                i_wave = first / (math.sin(i + t) / 0.005)
                j_wave = second / (math.cos(j + t) / 0.005)
                light += 1.0 / math.sqrt(i_wave * i_wave + j_wave * j_wave)
            light = 1.17 - (light / 5.0) ** 1.4
            out[row, column] = min(abs(light) ** 8.0, 1.0)


@compile_inner
def _read_light(light: F64, y: int, x: int) -> float:
    inside = 0 <= y < light.shape[0] and 0 <= x < light.shape[1]
    value: float = light[y, x] if inside else 0.0
    return value


@compiled
def refract(image: U8, light: F64, reach: float, gain: float, out: U8) -> None:
    """Refract an image at the surface whose slope is that of ``light``, with a refractive index of
    4.

    Args:
        image: ``(H, W, C)``.
        light: ``(H, W)``.
        reach: displacement of a ray at a right angle, in pixels.
        gain: brightness that a slope of 1 adds, in 0..1.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            down = _read_light(light, y + 1, x) - _read_light(light, y - 1, x)
            right = _read_light(light, y, x + 1) - _read_light(light, y, x - 1)
            slope = math.sqrt(down * down + right * right)
            cosine = 1 / math.sqrt(1 + slope * slope)
            row, column = float(y), float(x)
            if cosine < 1 - 1e-3:
                angle = math.acos(cosine)
                shift = math.sin(angle - math.asin(math.sin(angle) / 4.0)) * reach / slope
                row += round(down * shift * 1000) / 1000
                column += round(right * shift * 1000) / 1000
            brightness = (down - right) * gain
            for c in range(channels):
                value = interpolate(image, row, column, c) / 255.0 + brightness
                out[y, x, c] = np.uint8(min(max(value, 0.0), 1.0) * 255 + 1e-9)


SPLINE_POLE = math.sqrt(3.0) - 2.0
"""Pole of the recursive filter that computes cubic B-spline coefficients (Unser 1999)."""


@compile_inner
def _prefilter_spline(line: F64) -> None:
    """Replace values ``(n,)`` by the coefficients of their interpolating cubic spline, mirrored."""
    size = len(line)
    if size < 2:
        return
    for i in range(size):
        line[i] *= 6.0
    power, last = SPLINE_POLE, SPLINE_POLE ** (size - 1)
    first, end = line[0] + last * line[size - 1], last * last / SPLINE_POLE
    for i in range(1, size - 1):
        first += (power + end) * line[i]
        power *= SPLINE_POLE
        end /= SPLINE_POLE
    line[0] = first / (1.0 - last * last)
    for i in range(1, size):
        line[i] += SPLINE_POLE * line[i - 1]
    line[size - 1] = (
        (SPLINE_POLE * line[size - 2] + line[size - 1]) * SPLINE_POLE / (SPLINE_POLE**2 - 1.0)
    )
    for i in range(size - 2, -1, -1):
        line[i] = SPLINE_POLE * (line[i + 1] - line[i])


@compile_inner
def _compute_spline_weights(t: float, out: F64) -> None:
    """Write the weights of the four coefficients about the position ``t`` beyond the second."""
    out[0] = (1 - t) ** 3 / 6
    out[1] = (3 * t**3 - 6 * t * t + 4) / 6
    out[3] = t**3 / 6
    out[2] = 1 - out[0] - out[1] - out[3]


@compiled
def average_rotations(image: U8, angles: F64, weights: F64, out: U8) -> None:
    """Average rotated copies of an image, resampled by cubic splines, black outside.

    Args:
        image: ``(H, W, C)``.
        angles: ``(n,)``, in radians.
        weights: ``(n,)``.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = image.shape
    spline = image.astype(np.float64)
    for c in range(channels):
        for y in range(height):
            _prefilter_spline(spline[y, :, c])
        for x in range(width):
            _prefilter_spline(spline[:, x, c])
    center_y, center_x = (height - 1) / 2, (width - 1) / 2
    cosines, sines = np.cos(angles), np.sin(angles)
    down_weights, right_weights, sums = np.empty(4), np.empty(4), np.empty(channels)
    for y in range(height):
        for x in range(width):
            sums[:] = 0.0
            for n in range(len(angles)):
                row = cosines[n] * (y - center_y) + sines[n] * (x - center_x) + center_y
                column = cosines[n] * (x - center_x) - sines[n] * (y - center_y) + center_x
                if not (0 <= row <= height - 1 and 0 <= column <= width - 1):
                    continue
                top, left = int(row), int(column)
                _compute_spline_weights(row - top, down_weights)
                _compute_spline_weights(column - left, right_weights)
                for i in range(4):
                    row_index = mirror_index(top - 1 + i, height)
                    for j in range(4):
                        share = weights[n] * down_weights[i] * right_weights[j]
                        column_index = mirror_index(left - 1 + j, width)
                        for c in range(channels):
                            sums[c] += share * spline[row_index, column_index, c]
            for c in range(channels):
                out[y, x, c] = clip_to_byte(sums[c] + 1e-4)
