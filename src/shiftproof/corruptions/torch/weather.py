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
from shiftproof.corruptions.filters import LUMA, compute_center_crop
from shiftproof.corruptions.torch.filters import (
    Draws,
    compute_luma,
    draw_normal,
    draw_uniform,
    filter_gaussian,
    interpolate_line,
    pad,
    plan_interpolation,
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
        layer = interpolate_line(
            layer, axis, plan_interpolation(0, length, size, size, length, x.device)
        )
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
    frost = torch.empty((len(x), 3, height, width), dtype=torch.float32, device=x.device)
    for part, source in zip(frost, sources, strict=True):
        scaled = _scale_texture(int(source.host.integers(5)), height, width, x.device)
        row, column = (
            int(source.host.integers(max(1, size - side)))
            for size, side in zip(scaled.shape[-2:], (height, width), strict=True)
        )
        part.copy_(scaled[:, row : row + height, column : column + width])
    return keep * x + add * (frost if x.shape[1] == 3 else _convert_to_gray(frost))


def _convert_to_gray(x: Tensor) -> Tensor:
    red, green, blue = x.unbind(1)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2])[:, None]


@lru_cache(maxsize=20)
def _scale_texture(number: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return a frost photograph ``(3, H, W)`` in 0..255, scaled to cover images of a size."""
    texture = _load_texture(number, device)
    factor = max(1.0, height / texture.shape[-2], width / texture.shape[-1])
    size = [math.ceil(side * factor * weather.FROST_ENLARGED) for side in texture.shape[-2:]]
    scaled = F.interpolate(texture[None], size=size, mode="bicubic", align_corners=False)[0]
    return scaled.clamp(0, 255).round()


@lru_cache(maxsize=16)
def _load_texture(number: int, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(textures.find_texture(number).pixels.copy())
    return pixels.permute(2, 0, 1).float().to(device)


def fog(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``weather.fog`` to a batch."""
    amount, decay = get_constants(weather.FOG, severity)
    height, width = x.shape[-2:]
    size = 1 << (max(height, width, 3) - 1).bit_length()
    # A level of side s needs three fields of s x s, so all levels need one number less than pixels.
    draws = 2 * draw_uniform(sources, size * size - 1) - 1
    grid = torch.zeros(len(x), 1, 1, dtype=torch.float32, device=x.device)
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
        finer = torch.empty(len(x), 2 * side, 2 * side, dtype=torch.float32, device=x.device)
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
    # At the same hue and saturation, all channels grow by the same factor.
    return torch.where(value > 0, x * raised / value.clamp(min=1), raised)


def spatter(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Apply ``weather.spatter`` to a batch."""
    mean, deviation, sigma, threshold, strength, mud = get_constants(weather.SPATTER, severity)
    draw = draw_normal(sources, 1, *x.shape[-2:])
    layer = mean + deviation * filter_gaussian(draw, sigma, sigma)
    color = _make_color(mud, x.shape[1], x.device)
    if mud:
        mask = filter_gaussian((layer > threshold).float(), strength, strength)
        mask = torch.where(mask < 0.8, 0.0, mask)
        return x * (1 - mask) + color * mask
    drops = torch.where(layer < threshold, 0.0, (layer * 255).floor())
    water = drops * _emboss(drops)
    peak = water.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return x + color * strength * water / peak


@lru_cache(maxsize=16)
def _make_color(mud: bool, channels: int, device: torch.device) -> Tensor:
    """Return the color of the drops, ``(1, C, 1, 1)``."""
    color = torch.tensor(weather.MUD if mud else weather.WATER, dtype=torch.float32)
    if channels == 1:
        color = (color * torch.tensor(LUMA, dtype=torch.float32)).sum()[None]
    return color.to(device)[None, :, None, None]


@lru_cache(maxsize=16)
def _make_matrix(rows: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32, device=device)


def _average_box(x: Tensor) -> Tensor:
    """Average 3 x 3, mirrored at the edges, rounded to bytes."""
    kernel = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float32, device=x.device)
    return F.conv2d(pad(x, 1, 1, "mirror"), kernel)


def _emboss(drops: Tensor) -> Tensor:
    """Return the relief of drops ``(N, 1, H, W)`` by the distance from their edges, 0..255."""
    distance = _measure_distance(_find_edges(drops))
    distance = _equalize(_average_box(distance.clamp(max=20)).floor())
    kernel = _make_matrix(((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0)), drops.device)
    relief = F.conv2d(pad(distance, 1, 1, "mirror"), kernel[None, None]).clamp(0, 255)
    return _average_box(relief).round()


def _find_edges(x: Tensor) -> Tensor:
    """Return Canny's edges of ``(N, 1, H, W)`` with thresholds 50 and 150, as booleans."""
    sobel = _make_matrix(((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0)), x.device)
    padded = pad(x, 1, 1, "nearest")
    gx, gy = (F.conv2d(padded, k[None, None]) for k in (sobel, sobel.T.contiguous()))
    strength = gx.abs() + gy.abs()
    padded_strength = F.pad(strength, (1, 1, 1, 1))
    height, width = x.shape[-2:]

    def get_neighbor(dy: int, dx: int) -> Tensor:
        return padded_strength[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    flat, steep = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)
    is_level = gy.abs() < flat * gx.abs()
    is_upright = gy.abs() > steep * gx.abs()
    same_sign = (gx * gy) >= 0
    peak_level = (strength > get_neighbor(0, -1)) & (strength >= get_neighbor(0, 1))
    peak_upright = (strength > get_neighbor(-1, 0)) & (strength >= get_neighbor(1, 0))
    peak_falling = (strength > get_neighbor(-1, -1)) & (strength > get_neighbor(1, 1))
    peak_rising = (strength > get_neighbor(-1, 1)) & (strength > get_neighbor(1, -1))
    diagonal = torch.where(same_sign, peak_falling, peak_rising)
    peak = torch.where(is_level, peak_level, torch.where(is_upright, peak_upright, diagonal))
    return _grow(peak & (strength > 150), peak & (strength > 50))


GROWTH = 16
"""Steps between two checks of whether edges still grow; a check synchronizes with the device."""


def _grow(strong: Tensor, weak: Tensor) -> Tensor:
    """Grow the strong edges ``(N, 1, H, W)`` over connected weak ones (hysteresis)."""
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
    distance = (~edges).float() * 1e4
    steps = [
        (dy, dx, cost)
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if (cost := {1: 1.0, 2: 1.4, 5: 2.1969}.get(dy * dy + dx * dx, 0.0))
    ]
    # A step is at least a pixel: after 20 rounds all distances up to 20 are final.
    for _ in range(20):
        padded = F.pad(distance, (2, 2, 2, 2), value=1e4)
        for dy, dx, cost in steps:
            neighbor = padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
            distance = torch.minimum(distance, neighbor + cost)
    return distance


def _equalize(x: Tensor) -> Tensor:
    """Equalize the histogram of each image ``(N, 1, H, W)`` of integers in 0..255."""
    values = x.flatten(1).long()
    pixels = values.shape[1]
    counts = torch.zeros(len(x), 256, dtype=torch.float32, device=x.device)
    counts.scatter_add_(1, values, torch.ones_like(values, dtype=torch.float32))
    # OpenCV starts after the first level that occurs.
    first = counts.gather(1, values.amin(1, keepdim=True))
    spread = (pixels - first).clamp(min=1)
    table = ((counts.cumsum(1) - first) * (255 / spread)).round().clamp(0, 255)
    return torch.where((first == pixels)[:, :, None, None], x, table.gather(1, values).view_as(x))
