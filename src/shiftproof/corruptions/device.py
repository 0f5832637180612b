"""The corruptions on batches of torch tensors, on the device where they are.

The definitions are those of the array path; the draws come from the device's own generator, so
the pixels differ, and the distribution does not. Nothing of an image goes to the host and back.
Tensors on the CPU take the array path, which is faster there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shiftproof.corruptions import blur, digital, noise, textures, weather
from shiftproof.corruptions.contract import checked_severity, constants
from shiftproof.corruptions.filters import bilinear_places, centre_crop, gaussian_weights, streak
from shiftproof.corruptions.table import COMMON, HOLDOUT, corrupt
from shiftproof.errors import ImageError, InputError, UnknownNameError
from shiftproof.rng import generator

FLOAT_SLACK = 1e-3
"""Grey levels added before fractions are cut off: float32 falls that far short of whole numbers."""


@dataclass(frozen=True)
class Draws:
    """Where one image's draws come from: scalars from the host, fields from the device."""

    host: np.random.Generator
    fields: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal values on the device."""
        return torch.randn(shape, generator=self.fields, device=self.fields.device)

    def uniform(self, *shape: int) -> Tensor:
        """Draw values uniform in 0..1 on the device."""
        return torch.rand(shape, generator=self.fields, device=self.fields.device)


Function = Callable[[Tensor, float, Sequence[Draws]], Tensor]
"""``(N, C, H, W)`` float32 in 0..255 to the same, not yet clipped, with one source per image."""


def corrupt_tensor(
    images: Tensor, name: str, *, severity: float, keys: Sequence[str], seed: int = 0
) -> Tensor:
    """Return corrupted copies of a batch, on its device.

    Args:
        images: ``(N, 3, H, W)`` or ``(N, 1, H, W)`` uint8 in 0..255, RGB.
        name: of one of the 19 corruptions.
        severity: 1 to 5; between whole severities the constants are interpolated.
        keys: one for each image; an image's pixels depend on seed, name, its key and the kind of
            device alone, never on the batch.
        seed: any integer.

    Returns:
        uint8 of the same shape and device.

    Raises:
        UnknownNameError: no such corruption, or none with a form for devices.
        InputError: no such severity, or not one key for each image.
        ImageError: not such a tensor.
    """
    if name not in FUNCTIONS:
        raise UnknownNameError.of("corruption", name, FUNCTIONS)
    level = checked_severity(severity)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ImageError(
            "A batch is a uint8 tensor (N, 3, height, width) or (N, 1, height, width); "
            f"got {images.dtype} {tuple(images.shape)}."
        )
    if images.numel() == 0:
        raise ImageError(f"A batch has at least one image of one pixel; got {tuple(images.shape)}.")
    if len(keys) != len(images):
        raise InputError(f"Each image needs a key: got {len(images)} images and {len(keys)} keys.")
    if images.device.type == "cpu":
        return _on_the_cpu(images, name, level, keys, seed)
    return on_device(images, name, level, keys, seed)


def _on_the_cpu(
    images: Tensor, name: str, severity: float, keys: Sequence[str], seed: int
) -> Tensor:
    import cv2

    planes = images.contiguous().numpy()
    out = np.empty_like(planes)
    # One image at a time lies here: its memory stays in the cache.
    image = np.empty((*planes.shape[2:], 3), np.uint8)
    for source, target, key in zip(planes, out, keys, strict=True):
        if len(source) == 1:
            target[0] = corrupt(source[0], name, severity=severity, seed=seed, key=key)
        else:
            # OpenCV interleaves planes several times faster than a strided copy does.
            cv2.merge((source[0], source[1], source[2]), image)
            result = corrupt(image, name, severity=severity, seed=seed, key=key)
            cv2.split(result, (target[0], target[1], target[2]))
    return torch.from_numpy(out)


def on_device(images: Tensor, name: str, severity: float, keys: Sequence[str], seed: int) -> Tensor:
    """Do the work of ``corrupt_tensor`` in torch, on whatever device, the CPU too."""
    sources = []
    for key in keys:
        host = generator(seed, name, key)
        fields = torch.Generator(device=images.device)
        fields.manual_seed(int(host.integers(2**63)))
        sources.append(Draws(host, fields))
    result = FUNCTIONS[name](images.float(), severity, sources)
    return (result + FLOAT_SLACK).clamp(0, 255).to(torch.uint8)


def _each(sources: Sequence[Draws], draw: Callable[[Draws], Tensor]) -> Tensor:
    """Stack one field per image."""
    return torch.stack([draw(source) for source in sources])


# ---------------------------------------------------------------- noise


def _gaussian_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    sigma = 255 * constants(noise.GAUSSIAN_NOISE, severity)
    return x + sigma * _each(sources, lambda s: s.normal(*x.shape[1:]))


def _shot_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    photons = constants(noise.SHOT_NOISE, severity)
    rates = x * (photons / 255)
    counts = [torch.poisson(r, generator=s.fields) for r, s in zip(rates, sources, strict=True)]
    return torch.stack(counts) * (255 / photons)


def _impulse_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    share = constants(noise.IMPULSE_NOISE, severity)
    draw = _each(sources, lambda s: s.uniform(*x.shape[1:]))
    white = torch.where(draw < share / 2, 255.0, 0.0)
    return torch.where(draw < share, white, x)


def _speckle_noise(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    sigma = constants(noise.SPECKLE_NOISE, severity)
    return x * (1 + sigma * _each(sources, lambda s: s.normal(*x.shape[1:])))


# ---------------------------------------------------------------- filters


def _line(size: int, radius: int, mode: str, device: torch.device) -> Tensor:
    """Return the indices of a line with ``radius`` more on either side, the edge treated."""
    index = torch.arange(-radius, size + radius, device=device)
    if mode == "nearest":
        return index.clamp(0, size - 1)
    if mode == "reflect":  # d c b a | a b c d
        index = index % (2 * size)
        return torch.minimum(index, 2 * size - 1 - index)
    if size == 1:
        return torch.zeros_like(index)
    index = index % (2 * size - 2)  # d c b | a b c d
    return torch.minimum(index, 2 * size - 2 - index)


def _padded(x: Tensor, down: int, across: int, mode: str) -> Tensor:
    rows = _line(x.shape[-2], down, mode, x.device)
    columns = _line(x.shape[-1], across, mode, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def _kernel(sigma: float, truncate: float, device: torch.device) -> Tensor:
    half = gaussian_weights(sigma, truncate)
    return torch.tensor(np.concatenate([half[:0:-1], half]), dtype=torch.float32, device=device)


def _smooth(
    x: Tensor, down: float, across: float, truncate: float = 4.0, mode: str = "nearest"
) -> Tensor:
    """Filter ``(N, C, H, W)`` with a Gaussian."""
    rows, columns = (_kernel(sigma, truncate, x.device) for sigma in (down, across))
    n, c = x.shape[:2]
    flat = _padded(x, len(rows) // 2, len(columns) // 2, mode).flatten(0, 1)[:, None]
    flat = F.conv2d(F.conv2d(flat, rows[None, None, :, None]), columns[None, None, None])
    return flat.reshape(n, c, *flat.shape[-2:])


def _gaussian_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    sigma = constants(blur.GAUSSIAN_BLUR, severity)
    return _smooth(x, sigma, sigma)


@lru_cache(maxsize=16)
def disk_kernel(radius: int, alias: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the published defocus kernel: a disk on a grid, smoothed with mirroring at its border."""
    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    size = 2 * reach + 1
    place = np.arange(-reach, reach + 1)
    disk = (place[:, np.newaxis] ** 2 + place**2 <= radius**2).astype(float)
    weights = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * alias**2))
    weights /= weights.sum()
    smooth = np.zeros((size, size))
    for row in range(size):
        for tap, weight in zip(range(-taps, taps + 1), weights, strict=True):
            source = abs(row + tap)
            smooth[row, min(source, 2 * (size - 1) - source)] += weight
    return np.asarray(smooth @ (disk / disk.sum()) @ smooth.T)


def _defocus_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    kernel = torch.tensor(
        disk_kernel(*constants(blur.DEFOCUS_BLUR, severity)), dtype=torch.float32, device=x.device
    )
    reach = kernel.shape[0] // 2
    flat = _padded(x, reach, reach, "mirror").flatten(0, 1)[:, None]
    return F.conv2d(flat, kernel[None, None]).reshape(x.shape)


def _streaked(x: Tensor, radius: int, sigma: float, angle: float) -> Tensor:
    """Smear ``(C, H, W)`` along a streak, the edge repeated."""
    height, width = x.shape[-2:]
    copies = streak(radius, sigma, angle, height, width)
    reach_down, reach_across = int(np.abs(copies.down).max()), copies.margin
    padded = _padded(x, reach_down, reach_across, "nearest")
    total = torch.zeros_like(x)
    for down, right, weight in zip(copies.down, copies.right, copies.weights, strict=True):
        if weight:
            top, left = reach_down - int(down), reach_across - int(right)
            total += float(weight) * padded[..., top : top + height, left : left + width]
    return total


def _motion_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    radius, sigma = constants(blur.MOTION_BLUR, severity)
    angles = [source.host.uniform(-45, 45) for source in sources]
    return torch.stack(
        [_streaked(image, radius, sigma, angle) for image, angle in zip(x, angles, strict=True)]
    )


def _glass_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    sigma, delta, rounds = constants(blur.GLASS_BLUR, severity)
    height, width = x.shape[-2:]
    smooth = (_smooth(x, sigma, sigma) + FLOAT_SLACK).floor()
    rows, columns = height - 2 * delta, width - 2 * delta
    if rows <= 0 or columns <= 0:
        return _smooth(smooth, sigma, sigma)
    flat = smooth.flatten(2)
    own = torch.arange(height * width, device=x.device).reshape(height, width)
    inner = own[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1]
    for _ in range(rounds):
        pulled = []
        for source in sources:
            draw = (source.uniform(2, rows, columns) * (2 * delta)).long() - delta
            neighbour = own.clone()
            neighbour[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1] = (
                inner + draw[0] * width + draw[1]
            )
            pulled.append(_origins(neighbour.flatten(), inner, height * width))
        index = torch.stack(pulled)[:, None].expand(-1, x.shape[1], -1)
        flat = flat.gather(2, index)
    return _smooth(flat.reshape(x.shape), sigma, sigma)


def _origins(neighbour: Tensor, inner: Tensor, size: int) -> Tensor:
    """Return which pixel each gets when pixels are copied one after the other, the last one first.

    A pixel that copies from one visited before it gets what that one had got: the chain is
    followed by doubling.
    """
    place = torch.arange(size, device=neighbour.device)
    visited = torch.zeros(size, dtype=torch.bool, device=neighbour.device)
    visited[inner.flatten()] = True
    # The walk goes from the last pixel to the first: a larger place was visited before.
    follows = visited & visited[neighbour] & (neighbour > place)
    following = torch.where(follows, neighbour, place)
    # Chains end at pixels whose neighbour had not been touched.
    for _ in range(max(1, math.ceil(math.log2(size)))):
        following = following[following]
    return neighbour[following]


def _zoom_blur(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    stop, step = constants(blur.ZOOM_BLUR, severity)
    factors = np.arange(1, stop, step).tolist()
    total = x * 2
    for factor in factors[1:]:
        total = total + _enlarged(x, factor)
    return total / (len(factors) + 1)


def _enlarged(x: Tensor, factor: float) -> Tensor:
    """Enlarge the centre, its corner pixels on the corners, and cut it at the top left."""
    for axis in (-2, -1):
        size = x.shape[axis]
        places = bilinear_places(*centre_crop(size, factor), size)
        x = _read(x, axis, places.first, places.share, places.next_share)
    return x


def _read(
    x: Tensor,
    axis: int,
    first: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    share: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    next_share: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> Tensor:
    """Mix neighbours along an axis."""
    index = torch.as_tensor(first, device=x.device)
    after = (index + 1).clamp(max=x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = len(first)
    a, b = (
        torch.tensor(s, dtype=torch.float32, device=x.device).reshape(shape)
        for s in (share, next_share)
    )
    return x.index_select(axis, index) * a + x.index_select(axis, after) * b


# ---------------------------------------------------------------- weather


def _luma(x: Tensor) -> Tensor:
    """Return ``(N, 1, H, W)``."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device)
    return (x * weights[None, :, None, None]).sum(1, keepdim=True)


def _snow(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    mean, deviation, zoom, threshold, radius, sigma, share = constants(weather.SNOW, severity)
    height, width = x.shape[-2:]
    _, crop_height, rows = centre_crop(height, zoom)
    _, crop_width, columns = centre_crop(width, zoom)
    layers = []
    for source in sources:
        layer = mean + deviation * source.normal(1, crop_height, crop_width)
        for axis, length, size in ((-2, crop_height, rows), (-1, crop_width, columns)):
            layer = _read(layer, axis, *bilinear_places(0, length, size, size))
        layer = torch.where(layer < threshold, 0.0, layer).clamp(0, 1)
        streaks = _streaked(layer, radius, sigma, source.host.uniform(-135, -45))
        layers.append((streaks * 255).round()[:, :height, :width])
    snowed = torch.stack(layers)
    pale = torch.maximum(x, 1.5 * _luma(x) + 127.5)
    return share * x + (1 - share) * pale + snowed + snowed.flip((-2, -1))


def _frost(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
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
    pixels = torch.from_numpy(textures.published(number).pixels.copy())
    return pixels.permute(2, 0, 1).float().to(device)


def _fog(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
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
        centre = (across + across.roll(-1, -2)) / 4 + rough[:, 0]
        above = (across + centre + centre.roll(1, -2)) / 4 + rough[:, 1]
        left = (down + centre + centre.roll(1, -1)) / 4 + rough[:, 2]
        finer = torch.empty(len(x), 2 * side, 2 * side, device=x.device)
        finer[:, ::2, ::2], finer[:, 1::2, 1::2] = grid, centre
        finer[:, ::2, 1::2], finer[:, 1::2, ::2] = above, left
        grid, wibble = finer, wibble / decay
    low, high = grid.amin((1, 2), keepdim=True), grid.amax((1, 2), keepdim=True)
    layer = ((grid - low) / (high - low))[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + 255 * amount * layer) * brightest / (brightest + 255 * amount)


def _brightness(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    value = x.amax(1, keepdim=True)
    raised = (value + 255 * constants(weather.BRIGHTNESS, severity)).clamp(max=255)
    # Hue and saturation stay, so every channel grows as the largest does.
    return torch.where(value > 0, x * raised / value.clamp(min=1), raised)


def _spatter(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    mean, deviation, sigma, threshold, strength, mud = constants(weather.SPATTER, severity)
    draw = _each(sources, lambda s: s.normal(1, *x.shape[-2:]))
    layer = mean + deviation * _smooth(draw, sigma, sigma)
    color = torch.tensor(weather.MUD if mud else weather.WATER, dtype=torch.float32)
    if x.shape[1] == 1:
        color = (color * torch.tensor(weather.LUMA)).sum()[None]
    color = color.to(x.device)[None, :, None, None]
    if mud:
        mask = _smooth((layer > threshold).float(), strength, strength)
        mask = torch.where(mask < 0.8, 0.0, mask)
        return x * (1 - mask) + color * mask
    drops = torch.where(layer < threshold, 0.0, (layer * 255).floor())
    water = drops * _relief(drops)
    most = water.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return x + color * strength * water / most


def _box(x: Tensor) -> Tensor:
    """Average 3 x 3, mirrored at the edges, rounded to bytes."""
    kernel = torch.full((1, 1, 3, 3), 1 / 9, device=x.device)
    return F.conv2d(_padded(x, 1, 1, "mirror"), kernel)


def _relief(drops: Tensor) -> Tensor:
    """Return the relief of drops ``(N, 1, H, W)`` by the distance from their edges, 0..255."""
    distance = _distance(_edges(drops))
    distance = _equalised(_box(distance.clamp(max=20)).floor())
    kernel = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]], device=drops.device)
    relief = F.conv2d(_padded(distance, 1, 1, "mirror"), kernel[None, None]).clamp(0, 255)
    return _box(relief).round()


def _edges(x: Tensor) -> Tensor:
    """Return Canny's edges of ``(N, 1, H, W)`` with thresholds 50 and 150, as booleans."""
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device)
    padded = _padded(x, 1, 1, "nearest")
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


def _distance(edges: Tensor) -> Tensor:
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


def _equalised(x: Tensor) -> Tensor:
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


# ---------------------------------------------------------------- digital


def _contrast(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * constants(digital.CONTRAST, severity) + mean


def _elastic_transform(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    height, width = x.shape[-2:]
    reach = digital.ELASTIC_REACH * height * constants(digital.ELASTIC_TRANSFORM, severity)
    draw = 2 * _each(sources, lambda s: s.uniform(2, height, width)) - 1
    sigma = digital.ELASTIC_SIGMA
    moved = reach * _smooth(draw, sigma * height, sigma * width, truncate=3.0, mode="reflect")
    rows = torch.arange(height, device=x.device)[:, None] + moved[:, 1]
    columns = torch.arange(width, device=x.device) + moved[:, 0]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _pixelate(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    share = constants(digital.PIXELATE, severity)
    small = x
    for axis in (-1, -2):
        size = x.shape[axis]
        first, after, _ = digital.boxes(size, max(1, int(size * share)))
        place = np.arange(size)
        inside = (place >= first[:, np.newaxis]) & (place < after[:, np.newaxis])
        mean = torch.tensor(
            inside / inside.sum(1, keepdims=True), dtype=torch.float32, device=x.device
        )
        small = (torch.movedim(small, axis, -1) @ mean.T).movedim(-1, axis)
        small = (small + 0.5 + FLOAT_SLACK).floor()
    for axis in (-2, -1):
        size = x.shape[axis]
        index = digital.nearest(size, small.shape[axis])
        small = small.index_select(axis, torch.as_tensor(index, device=x.device))
    return small


# The quantisation tables of the JPEG standard (ITU T.81, annex K), by rows.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip


def _quantised(plane: Tensor, table: Sequence[int], quality: int) -> Tensor:
    """Send a plane ``(N, H, W)`` in 0..255 through the cosine transform and quantisation."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(max((entry * scale + 50) // 100, 1), 255) for entry in table]
    quantum = torch.tensor(steps, dtype=torch.float32, device=plane.device).reshape(8, 8)
    k = np.arange(8)
    basis = np.cos((2 * k[np.newaxis] + 1) * k[:, np.newaxis] * np.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    cosine = torch.tensor(basis, dtype=torch.float32, device=plane.device)
    n, height, width = plane.shape
    rows = torch.arange(-(-height // 8) * 8, device=plane.device).clamp(max=height - 1)
    columns = torch.arange(-(-width // 8) * 8, device=plane.device).clamp(max=width - 1)
    padded = plane.index_select(1, rows).index_select(2, columns)
    blocks = padded.reshape(n, len(rows) // 8, 8, len(columns) // 8, 8).transpose(2, 3) - 128
    coded = (cosine @ blocks @ cosine.T / quantum).round() * quantum
    decoded = (cosine.T @ coded @ cosine + 128).round().clamp(0, 255)
    return decoded.transpose(2, 3).reshape(n, len(rows), len(columns))[:, :height, :width]


def _halved(plane: Tensor) -> Tensor:
    """Average 2 x 2 pixels, the edge repeated."""
    _, height, width = plane.shape
    rows = torch.arange(height + height % 2, device=plane.device).clamp(max=height - 1)
    columns = torch.arange(width + width % 2, device=plane.device).clamp(max=width - 1)
    return F.avg_pool2d(plane.index_select(1, rows).index_select(2, columns), 2)


def _doubled(plane: Tensor, height: int, width: int) -> Tensor:
    """Double the sides as libjpeg does: three parts of the nearer pixel, one of the farther."""
    for axis, size in ((1, height), (2, width)):
        place = torch.arange(size, device=plane.device)
        near = place // 2
        far = (near + torch.where(place % 2 == 0, -1, 1)).clamp(0, plane.shape[axis] - 1)
        plane = 0.75 * plane.index_select(axis, near) + 0.25 * plane.index_select(axis, far)
    return plane


def _jpeg_compression(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    quality = constants(digital.JPEG_COMPRESSION, severity)
    if x.shape[1] == 1:
        return _quantised(x[:, 0], _LUMINANCE, quality)[:, None]
    height, width = x.shape[-2:]
    r, g, b = x.unbind(1)
    luma = (0.299 * r + 0.587 * g + 0.114 * b).round()
    blue = (128 - 0.168736 * r - 0.331264 * g + 0.5 * b).round()
    red = (128 + 0.5 * r - 0.418688 * g - 0.081312 * b).round()
    luma = _quantised(luma, _LUMINANCE, quality)
    blue, red = (
        _doubled(_quantised(_halved(p), _CHROMINANCE, quality), height, width) - 128
        for p in (blue, red)
    )
    channels = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    return torch.stack(channels, dim=1).round()


def _saturate(x: Tensor, severity: float, sources: Sequence[Draws]) -> Tensor:
    if x.shape[1] == 1:
        return x
    scale, offset = constants(digital.SATURATE, severity)
    value = x.amax(1, keepdim=True)
    spread = value - x.amin(1, keepdim=True)
    saturation = spread / value.clamp(min=1)
    wanted = (saturation * scale + offset).clamp(0, 1)
    # Hue stays: a channel's distance to the largest grows as the saturation does. Grey is red.
    distance = torch.where(spread > 0, (value - x) / spread.clamp(min=1), _red_of_grey(x))
    return value - value * wanted * distance


def _red_of_grey(x: Tensor) -> Tensor:
    return torch.tensor([0.0, 1.0, 1.0], device=x.device)[None, :, None, None].expand_as(x)


FUNCTIONS: dict[str, Function] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "spatter": _spatter,
    "saturate": _saturate,
}
"""The published form of every corruption, in torch."""

assert tuple(FUNCTIONS) == (*COMMON, *HOLDOUT)
