"""Weather on a batch of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from shiftproof.corruptions import textures, weather
from shiftproof.corruptions.checks import constants
from shiftproof.corruptions.filters import bilinear_places, center_crop
from shiftproof.corruptions.torch.filters import (
    Draws,
    draw_fields,
    filter_gaussian,
    luma_of,
    mix_neighbors,
    pad,
    smear,
)


def snow(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Do as ``weather.snow`` does, on a batch."""
    mean, deviation, zoom, threshold, radius, sigma, share = constants(weather.SNOW, severity)
    height, width = x.shape[-2:]
    _, crop_height, rows = center_crop(height, zoom)
    _, crop_width, columns = center_crop(width, zoom)
    layers = []
    for source in sources:
        layer = mean + deviation * source.normal(1, crop_height, crop_width)
        for axis, length, size in ((-2, crop_height, rows), (-1, crop_width, columns)):
            layer = mix_neighbors(layer, axis, *bilinear_places(0, length, size, size))
        layer = torch.where(layer < threshold, 0.0, layer).clamp(0, 1)
        streaks = smear(layer, radius, sigma, source.host.uniform(-135, -45))
        layers.append((streaks * 255).round()[:, :height, :width])
    snowed = torch.stack(layers)
    pale = torch.maximum(x, 1.5 * luma_of(x) + 127.5)
    return share * x + (1 - share) * pale + snowed + snowed.flip((-2, -1))


def frost(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Do as ``weather.frost`` does, on a batch."""
    keep, add = constants(weather.FROST, severity)
    height, width = x.shape[-2:]
    parts = []
    for source in sources:
        picture = _texture(int(source.host.integers(5)), x.device)
        factor = max(1.0, height / picture.shape[-2], width / picture.shape[-1])
        factor *= weather.FROST_ENLARGED
        size = [math.ceil(side * factor) for side in picture.shape[-2:]]
        scaled = F.interpolate(picture[None], size=size, mode="bicubic", align_corners=False)[0]
        row = int(source.host.integers(max(1, size[0] - height)))
        column = int(source.host.integers(max(1, size[1] - width)))
        parts.append(scaled[:, row : row + height, column : column + width].clamp(0, 255).round())
    frost = torch.stack(parts)
    if x.shape[1] == 1:
        weights = torch.tensor(weather.LUMA, device=x.device)
        frost = (frost * weights[None, :, None, None]).sum(1, keepdim=True)
    return keep * x + add * frost


@lru_cache(maxsize=16)
def _texture(number: int, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(textures.find_texture(number).pixels.copy())
    return pixels.permute(2, 0, 1).float().to(device)


def fog(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Do as ``weather.fog`` does, on a batch."""
    amount, decay = constants(weather.FOG, severity)
    height, width = x.shape[-2:]
    size = 1 << (max(height, width, 3) - 1).bit_length()
    grid = torch.zeros(len(x), 1, 1, device=x.device)
    wibble = weather.FOG_WIBBLE
    while grid.shape[-1] < size:
        side = grid.shape[-1]
        draw = torch.stack([source.uniform(3, side, side) for source in sources])
        rough = wibble * wibble * (2 * draw - 1)
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
    """Do as ``weather.brightness`` does, on a batch."""
    value = x.amax(1, keepdim=True)
    raised = (value + 255 * constants(weather.BRIGHTNESS, severity)).clamp(max=255)
    # Hue and saturation stay, so every channel grows as the largest does.
    return torch.where(value > 0, x * raised / value.clamp(min=1), raised)


def spatter(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    """Do as ``weather.spatter`` does, on a batch."""
    mean, deviation, sigma, threshold, strength, mud = constants(weather.SPATTER, severity)
    draw = draw_fields(sources, lambda s: s.normal(1, *x.shape[-2:]))
    layer = mean + deviation * filter_gaussian(draw, sigma, sigma)
    color = torch.tensor(weather.MUD if mud else weather.WATER, dtype=torch.float32)
    if x.shape[1] == 1:
        color = (color * torch.tensor(weather.LUMA)).sum()[None]
    color = color.to(x.device)[None, :, None, None]
    if mud:
        mask = filter_gaussian((layer > threshold).float(), strength, strength)
        mask = torch.where(mask < 0.8, 0.0, mask)
        return x * (1 - mask) + color * mask
    drops = torch.where(layer < threshold, 0.0, (layer * 255).floor())
    water = drops * _emboss(drops)
    most = water.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return x + color * strength * water / most


def _average_box(x: Tensor) -> Tensor:
    """Average 3 x 3, mirrored at the edges, rounded to bytes."""
    kernel = torch.full((1, 1, 3, 3), 1 / 9, device=x.device)
    return F.conv2d(pad(x, 1, 1, "mirror"), kernel)


def _emboss(drops: Tensor) -> Tensor:
    """Return the relief of drops ``(N, 1, H, W)`` by the distance from their edges, 0..255."""
    distance = _measure_distance(_find_edges(drops))
    distance = _equalize(_average_box(distance.clamp(max=20)).floor())
    kernel = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]], device=drops.device)
    relief = F.conv2d(pad(distance, 1, 1, "mirror"), kernel[None, None]).clamp(0, 255)
    return _average_box(relief).round()


def _find_edges(x: Tensor) -> Tensor:
    """Return Canny's edges of ``(N, 1, H, W)`` with thresholds 50 and 150, as booleans."""
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device)
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
    weak, strong = peak & (size > 50), peak & (size > 150)
    while True:
        grown = (F.max_pool2d(strong.float(), 3, 1, 1) > 0) & weak
        if bool((grown == strong).all()):
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
    # A step moves by a pixel or more: after 20 rounds all up to 20 is settled.
    for _ in range(20):
        padded = F.pad(distance, (2, 2, 2, 2), value=1e4)
        for dy, dx, cost in steps:
            moved = padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
            distance = torch.minimum(distance, moved + cost)
    return distance


def _equalize(x: Tensor) -> Tensor:
    """Equalise the histogram of each image of whole numbers in 0..255."""
    results = []
    for image in x:
        values = image.long()
        counts = torch.bincount(values.flatten(), minlength=256).float()
        before = counts.cumsum(0)
        # OpenCV starts after the first level that occurs.
        first = counts[values.min()]
        spread = (values.numel() - first).clamp(min=1)
        table = ((before - first) * (255 / spread)).round().clamp(0, 255)
        results.append(torch.where(first == values.numel(), image, table[values]))
    return torch.stack(results)
