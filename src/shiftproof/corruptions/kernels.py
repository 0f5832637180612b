"""Compiled inner loops.

The other files import this one inside their functions: numba takes half a second to import,
and a list of names must not pay for it. Every function is compiled at its first call, on one
thread and without holding the interpreter's lock, and kept on disk for the next process.

Arrays of images are ``(H, W, C)`` here, with C = 1 for grey. No function uses ``fastmath``:
what it may reorder differs between processors, and the pixels must not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` at its first call and keep the result on disk where that is possible."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written.
        return numba.njit(nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]


@compiled
def _nearest(index: int, size: int) -> int:
    """Repeat the edge: ... a a | a b c | c c ..."""
    return min(max(index, 0), size - 1)


@compiled
def _reflected(index: int, size: int) -> int:
    """Mirror about the edge of the outermost pixel: ... b a | a b c | c b ..."""
    period = 2 * size
    index = index % period
    return index if index < size else period - 1 - index


@compiled
def filter_rows(values: F64, half: F64, reflect: bool, out: F64) -> None:
    """Filter along axis 0 with a symmetric kernel.

    Args:
        values: ``(H, N)``.
        half: ``(r + 1,)``, the kernel from its centre outwards.
        reflect: mirror at the edges; otherwise the edge is repeated.
        out: ``(H, N)``, written.
    """
    height, width = values.shape
    radius = half.shape[0] - 1
    for y in range(height):
        for x in range(width):
            out[y, x] = values[y, x] * half[0]
        # From the outside inwards: the order of the sums in scipy.ndimage.correlate1d.
        for k in range(radius, 0, -1):
            if reflect:
                above, below = _reflected(y - k, height), _reflected(y + k, height)
            else:
                above, below = _nearest(y - k, height), _nearest(y + k, height)
            weight = half[k]
            for x in range(width):
                out[y, x] += (values[above, x] + values[below, x]) * weight


@compiled
def filter_columns(values: F64, half: F64, reflect: bool, out: F64) -> None:
    """Filter ``(H, W, C)`` along axis 1 with a symmetric kernel, as ``filter_rows`` along axis 0."""
    height, width, channels = values.shape
    radius = half.shape[0] - 1
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                total = values[y, x, c] * half[0]
                for k in range(radius, 0, -1):
                    if reflect:
                        left, right = _reflected(x - k, width), _reflected(x + k, width)
                    else:
                        left, right = _nearest(x - k, width), _nearest(x + k, width)
                    total += (values[y, left, c] + values[y, right, c]) * half[k]
                out[y, x, c] = total


@compiled
def shuffle(image: U8, delta: int, offsets: I64, exchange: bool) -> None:
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


@compiled
def sum_of_shifts(values: NDArray[Any], rows: I64, columns: I64, weights: F64, out: F64) -> None:
    """Add up weighted copies of ``values`` shifted by whole pixels, the edge repeated.

    Args:
        values: ``(H, W, C)``.
        rows: ``(n,)``, how far down each copy moves.
        columns: ``(n,)``, how far to the right.
        weights: ``(n,)``.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = values.shape
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                total = 0.0
                for n in range(weights.shape[0]):
                    source_y = _nearest(y - rows[n], height)
                    source_x = _nearest(x - columns[n], width)
                    total += weights[n] * values[source_y, source_x, c]
                out[y, x, c] = total


@compiled
def zoomed(
    values: NDArray[Any],
    top: int,
    left: int,
    height: int,
    width: int,
    rows: int,
    columns: int,
    out: NDArray[Any],
) -> None:
    """Enlarge a crop bilinearly, its corner pixels on the corners.

    Args:
        values: ``(H, W, C)``.
        top, left, height, width: the crop.
        rows, columns: the size that it is enlarged to.
        out: ``(H', W', C)``, written with the top left of the enlargement, at most ``rows x columns``.
    """
    channels = values.shape[2]
    step_y = (height - 1) / (rows - 1) if rows > 1 else 1.0
    step_x = (width - 1) / (columns - 1) if columns > 1 else 1.0
    for y in range(out.shape[0]):
        at_y = y * step_y
        y0 = min(int(at_y), height - 1)
        y1 = min(y0 + 1, height - 1)
        fy = at_y - y0
        for x in range(out.shape[1]):
            at_x = x * step_x
            x0 = min(int(at_x), width - 1)
            x1 = min(x0 + 1, width - 1)
            fx = at_x - x0
            for c in range(channels):
                upper = values[top + y0, left + x0, c] * (1 - fx) + values[top + y0, left + x1, c] * fx
                lower = values[top + y1, left + x0, c] * (1 - fx) + values[top + y1, left + x1, c] * fx
                out[y, x, c] = upper * (1 - fy) + lower * fy


@compiled
def displaced(values: F32, down: F32, right: F32, out: F64) -> None:
    """Read ``values`` bilinearly at each pixel's place moved by its displacement, mirrored at the edges.

    Args:
        values: ``(H, W, C)``.
        down, right: ``(H, W)``, in pixels.
        out: ``(H, W, C)``, written.
    """
    height, width, channels = values.shape
    for y in range(height):
        for x in range(width):
            at_y, at_x = y + np.float64(down[y, x]), x + np.float64(right[y, x])
            floor_y, floor_x = int(np.floor(at_y)), int(np.floor(at_x))
            fy, fx = at_y - floor_y, at_x - floor_x
            y0, y1 = _reflected(floor_y, height), _reflected(floor_y + 1, height)
            x0, x1 = _reflected(floor_x, width), _reflected(floor_x + 1, width)
            for c in range(channels):
                upper = values[y0, x0, c] * (1 - fx) + values[y0, x1, c] * fx
                lower = values[y1, x0, c] * (1 - fx) + values[y1, x1, c] * fx
                out[y, x, c] = upper * (1 - fy) + lower * fy


@compiled
def change_hsv(image: U8, scale: float, offset: float, value_offset: float, out: F64) -> None:
    """Change saturation and value of an RGB image in the HSV cone.

    Args:
        image: ``(H, W, 3)`` in 0..255.
        scale, offset: saturation becomes ``clip(saturation * scale + offset, 0, 1)``.
        value_offset: value becomes ``clip(value + value_offset, 0, 1)``.
        out: ``(H, W, 3)`` in 0..1, written.
    """
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            r, g, b = image[y, x, 0] / 255.0, image[y, x, 1] / 255.0, image[y, x, 2] / 255.0
            value = max(r, g, b)
            spread = value - min(r, g, b)
            hue = 0.0
            saturation = 0.0
            if spread > 0.0:
                saturation = spread / value
                # Where channels tie, the later one decides, as in skimage.color.rgb2hsv.
                if b == value:
                    hue = 4.0 + (r - g) / spread
                elif g == value:
                    hue = 2.0 + (b - r) / spread
                else:
                    hue = (g - b) / spread
                hue = (hue / 6.0) % 1.0
            saturation = min(max(saturation * scale + offset, 0.0), 1.0)
            value = min(max(value + value_offset, 0.0), 1.0)
            sextant = np.floor(hue * 6.0)
            f = hue * 6.0 - sextant
            p = value * (1.0 - saturation)
            q = value * (1.0 - f * saturation)
            t = value * (1.0 - (1.0 - f) * saturation)
            which = int(sextant) % 6
            if which == 0:
                r, g, b = value, t, p
            elif which == 1:
                r, g, b = q, value, p
            elif which == 2:
                r, g, b = p, value, t
            elif which == 3:
                r, g, b = p, q, value
            elif which == 4:
                r, g, b = t, p, value
            else:
                r, g, b = value, p, q
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = r, g, b
