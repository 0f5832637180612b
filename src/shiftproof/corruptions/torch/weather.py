"""Weather on a batch of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from shiftproof.corruptions import textures, weather
from shiftproof.corruptions.checks import get_constants
from shiftproof.corruptions.filters import compute_center_crop
from shiftproof.corruptions.torch.filters import (
    Draws,
    compute_luma,
    draw_normal,
    draw_uniform,
    filter_gaussian,
    mix_neighbors,
    pad,
    plan_mixing,
    smear,
)


def snow(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``weather.snow`` to a batch."""
    mean, deviation, zoom, threshold, radius, sigma, share = get_constants(weather.SNOW, severity)
    height, width = x.shape[-2:]
    _, crop_height, rows = compute_center_crop(height, zoom)
    _, crop_width, columns = compute_center_crop(width, zoom)
    layer = mean + deviation * draw_normal(sources, 1, crop_height, crop_width)
    for axis, length, size in ((-2, crop_height, rows), (-1, crop_width, columns)):
        layer = mix_neighbors(layer, axis, plan_mixing(0, length, size, size, length, x.device))
    layer = torch.where(layer < threshold, 0.0, layer).clamp(0, 1)
    angles = [source.host.uniform(-135, -45) for source in sources]
    streaks = smear(layer, radius, sigma, angles)
    snowed = (streaks * 255).round()[..., :height, :width]
    pale = torch.maximum(x, 1.5 * compute_luma(x) + 127.5)
    return share * x + (1 - share) * pale + snowed + snowed.flip((-2, -1))


def frost(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``weather.frost`` to a batch."""
    keep, add = get_constants(weather.FROST, severity)
    height, width = x.shape[-2:]
    frost = torch.empty((len(x), 3, height, width), device=x.device)
    for part, source in zip(frost, sources, strict=True):
        scaled = _scale_texture(int(source.host.integers(5)), height, width, x.device)
        row, column = (
            int(source.host.integers(max(1, size - side)))
            for size, side in zip(scaled.shape[-2:], (height, width), strict=True)
        )
        part.copy_(scaled[:, row : row + height, column : column + width])
    return keep * x + add * (frost if x.shape[1] == 3 else _gray(frost))


def _gray(x: Tensor) -> Tensor:
    red, green, blue = x.unbind(1)
    weights = weather.LUMA
    return (red * weights[0] + green * weights[1] + blue * weights[2])[:, None]


@lru_cache(maxsize=20)
def _scale_texture(number: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return a frost photograph ``(3, H, W)`` in 0..255, scaled to cover images of a size."""
    picture = _texture(number, device)
    factor = max(1.0, height / picture.shape[-2], width / picture.shape[-1])
    size = [math.ceil(side * factor * weather.FROST_ENLARGED) for side in picture.shape[-2:]]
    scaled = F.interpolate(picture[None], size=size, mode="bicubic", align_corners=False)[0]
    return scaled.clamp(0, 255).round()


@lru_cache(maxsize=16)
def _texture(number: int, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(textures.find_texture(number).pixels.copy())
    return pixels.permute(2, 0, 1).float().to(device)


def fog(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``weather.fog`` to a batch."""
    amount, decay = get_constants(weather.FOG, severity)
    height, width = x.shape[-2:]
    size = 1 << (max(height, width, 3) - 1).bit_length()
    # A level of side s takes three fields of it, and all levels together one number less than
    # pixels.
    draws = 2 * draw_uniform(sources, size * size - 1) - 1
    grid = torch.zeros(len(x), 1, 1, device=x.device)
    wibble = weather.FOG_WIBBLE
    while grid.shape[-1] < size:
        side = grid.shape[-1]
        fields = draws[:, side * side - 1 : 4 * side * side - 1].reshape(-1, 3, side, side)
        rough = wibble * wibble * fields
        across = grid + grid.roll(-1, -1)
        down = grid + grid.roll(-1, -2)
        center = (across + across.roll(-1, -2)) / 4 + rough[:, 0]
        above = (across + center + center.roll(1, -2)) / 4 + rough[:, 1]
        left = (down + center + center.roll(1, -1)) / 4 + rough[:, 2]
        finer = torch.empty(len(x), 2 * side, 2 * side, device=x.device)
        finer[:, ::2, ::2], finer[:, 1::2, 1::2] = grid, center
        finer[:, ::2, 1::2], finer[:, 1::2, ::2] = above, left
        grid, wibble = finer, wibble / decay
    low, high = grid.amin((1, 2), keepdim=True), grid.amax((1, 2), keepdim=True)
    layer = ((grid - low) / (high - low))[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + 255 * amount * layer) * brightest / (brightest + 255 * amount)


def brightness(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``weather.brightness`` to a batch."""
    value = x.amax(1, keepdim=True)
    raised = (value + 255 * get_constants(weather.BRIGHTNESS, severity)).clamp(max=255)
    # Hue and saturation stay, so every channel grows as the largest does.
    return torch.where(value > 0, x * raised / value.clamp(min=1), raised)


def spatter(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``weather.spatter`` to a batch."""
    mean, deviation, sigma, threshold, strength, mud = get_constants(weather.SPATTER, severity)
    draw = draw_normal(sources, 1, *x.shape[-2:])
    layer = mean + deviation * filter_gaussian(draw, sigma, sigma)
    color = _color_on(mud, x.shape[1], x.device)
    if mud:
        mask = filter_gaussian((layer > threshold).float(), strength, strength)
        mask = torch.where(mask < 0.8, 0.0, mask)
        return x * (1 - mask) + color * mask
    drops = torch.where(layer < threshold, 0.0, (layer * 255).floor())
    water = drops * _emboss(drops)
    most = water.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return x + color * strength * water / most


@lru_cache(maxsize=16)
def _color_on(mud: bool, channels: int, device: torch.device) -> Tensor:
    """Return the color of the drops, ``(1, C, 1, 1)``."""
    color = torch.tensor(weather.MUD if mud else weather.WATER, dtype=torch.float32)
    if channels == 1:
        color = (color * torch.tensor(weather.LUMA)).sum()[None]
    return color.to(device)[None, :, None, None]


@lru_cache(maxsize=16)
def _matrix_on(rows: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(rows, device=device)


def _average_box(x: Tensor) -> Tensor:
    """Average 3 x 3, mirrored at the edges, rounded to bytes."""
    kernel = torch.full((1, 1, 3, 3), 1 / 9, device=x.device)
    return F.conv2d(pad(x, 1, 1, "mirror"), kernel)


def _emboss(drops: Tensor) -> Tensor:
    """Return the relief of drops ``(N, 1, H, W)`` by the distance from their edges, 0..255."""
    distance = _measure_distance(_find_edges(drops))
    distance = _equalize(_average_box(distance.clamp(max=20)).floor())
    kernel = _matrix_on(((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0)), drops.device)
    relief = F.conv2d(pad(distance, 1, 1, "mirror"), kernel[None, None]).clamp(0, 255)
    return _average_box(relief).round()


def _find_edges(x: Tensor) -> Tensor:
    """Return Canny's edges of ``(N, 1, H, W)`` with thresholds 50 and 150, as booleans."""
    sobel = _matrix_on(((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0)), x.device)
    padded = pad(x, 1, 1, "nearest")
    gx, gy = (F.conv2d(padded, k[None, None]) for k in (sobel, sobel.T.contiguous()))
    size = gx.abs() + gy.abs()
    around = F.pad(size, (1, 1, 1, 1))
    height, width = x.shape[-2:]

    def at(dy: int, dx: int) -> Tensor:
        return around[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    flat, steep = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)
    level = gy.abs() < flat * gx.abs()
    upright = gy.abs() > steep * gx.abs()
    same_sign = (gx * gy) >= 0
    peak_level = (size > at(0, -1)) & (size >= at(0, 1))
    peak_upright = (size > at(-1, 0)) & (size >= at(1, 0))
    peak_falling = (size > at(-1, -1)) & (size > at(1, 1))
    peak_rising = (size > at(-1, 1)) & (size > at(1, -1))
    diagonal = torch.where(same_sign, peak_falling, peak_rising)
    peak = torch.where(level, peak_level, torch.where(upright, peak_upright, diagonal))
    return _grow(peak & (size > 150), peak & (size > 50))


GROWTH = 16
"""Steps between two checks of whether edges still grow; a check synchronizes with the device."""


def _grow(strong: Tensor, weak: Tensor) -> Tensor:
    """Let ``(N, 1, H, W)`` spread over neighbors among ``weak`` until none is left."""
    while True:
        grown = strong
        for _ in range(GROWTH):
            grown = (F.max_pool2d(grown.float(), 3, 1, 1) > 0) & weak
        if torch.equal(grown, strong):
            return strong
        strong = grown


def _measure_distance(edges: Tensor) -> Tensor:
    """Return the distance to the nearest edge, up to 20, by OpenCV's 5 x 5 steps."""
    height, width = edges.shape[-2:]
    distance = torch.where(edges, 0.0, 1e4)
    steps = [
        (dy, dx, cost)
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if (cost := {1: 1.0, 2: 1.4, 5: 2.1969}.get(dy * dy + dx * dx, 0.0))
    ]
    # A step is a pixel or more: after 20 rounds all distances up to 20 are final.
    for _ in range(20):
        padded = F.pad(distance, (2, 2, 2, 2), value=1e4)
        for dy, dx, cost in steps:
            moved = padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
            distance = torch.minimum(distance, moved + cost)
    return distance


def _equalize(x: Tensor) -> Tensor:
    """Equalize the histogram of each image ``(N, 1, H, W)`` of integers in 0..255."""
    values = x.flatten(1).long()
    pixels = values.shape[1]
    counts = torch.zeros(len(x), 256, device=x.device)
    counts.scatter_add_(1, values, torch.ones_like(values, dtype=torch.float32))
    # OpenCV starts after the first level that occurs.
    first = counts.gather(1, values.amin(1, keepdim=True))
    spread = (pixels - first).clamp(min=1)
    table = ((counts.cumsum(1) - first) * (255 / spread)).round().clamp(0, 255)
    return torch.where((first == pixels)[:, :, None, None], x, table.gather(1, values).view_as(x))
