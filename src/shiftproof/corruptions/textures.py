"""Frost textures: the published photographs if they are installed, else drawn ones.

The origin of the photographs in the published code is unknown, so they are not shipped; the package
imagecorruptions includes them. The drawn textures match their statistics one by one: mean and
deviation of each channel, the distribution of gray values, and the radial power spectrum.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from shiftproof.corruptions import draws
from shiftproof.errors import InputError
from shiftproof.io.files import fingerprint
from shiftproof.io.images import read_image
from shiftproof.rng import generator
from shiftproof.types import F64, Image


@dataclass(frozen=True, eq=False)
class Texture:
    """An image of frost, compared by identity."""

    name: str
    pixels: Image = field(repr=False)
    """``(H, W, 3)`` RGB."""


@dataclass(frozen=True)
class Style:
    """Parameters of a drawn texture; the statistics are those of a published photograph."""

    height: int
    width: int
    mean: tuple[float, float, float]
    """RGB, 0..255."""
    deviation: tuple[float, float, float]
    """RGB, 0..255."""
    quantiles: tuple[float, float, float, float, float]
    """Gray values at ``QUANTILES``."""
    spectrum: tuple[float, float, float, float, float, float, float, float]
    """Base-10 logarithm of the gray values' power at ``FREQUENCIES``, averaged over directions."""
    crystals: int
    """Number of crystals."""
    arms: int
    """Maximum number of stems of a crystal; six form a star."""
    length: float
    """Length of the longest stems, as a share of the height."""


FREQUENCIES = (0.005, 0.0095, 0.0181, 0.0344, 0.0654, 0.1244, 0.2366, 0.45)
"""In cycles per pixel."""

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)

# Measured on the published photographs 1, 2, 4, 5 and 6 (frost1.png ... of imagecorruptions 1.1.2,
# power with a Hann window); the third is equal to the second, and the sixth is never used there.
STYLES = (
    Style(
        600, 900, (77.7, 149.1, 165.7), (27.0, 16.0, 15.0), (97, 109, 129, 155, 177),
        (5.75, 4.67, 4.09, 3.32, 2.74, 2.46, 2.23, 1.59), 150, 1, 0.16,
    ),
    Style(
        315, 560, (200.8, 205.4, 214.5), (21.0, 22.0, 23.0), (141, 177, 210, 231, 245),
        (5.34, 4.58, 4.29, 3.87, 3.59, 2.97, 2.5, 1.73), 120, 3, 0.22,
    ),
    Style(
        350, 527, (137.6, 152.8, 165.2), (28.0, 28.0, 30.0), (82, 116, 152, 186, 234),
        (5.62, 4.26, 4.31, 4.03, 3.69, 3.39, 2.96, 2.26), 200, 6, 0.10,
    ),
    Style(
        495, 660, (112.4, 123.4, 134.8), (44.0, 43.0, 42.0), (45, 71, 119, 183, 238),
        (5.6, 5.19, 4.94, 4.45, 3.92, 3.39, 2.88, 2.46), 220, 6, 0.14,
    ),
    Style(
        323, 485, (71.4, 95.4, 104.5), (35.0, 43.0, 47.0), (16, 37, 89, 146, 186),
        (6.45, 5.71, 4.89, 4.28, 3.82, 3.35, 2.88, 2.14), 45, 4, 0.42,
    ),
)  # fmt: skip

PUBLISHED_ORDER = (0, 1, 1, 2, 3)
"""The style for each of the five published photographs."""

DRAWN = "drawn textures"
"""Name in records if no photographs are installed."""


PHOTOGRAPHS = (
    ("frost1.png", "frost1.jpg"),
    ("frost2.png", "frost2.jpg"),
    ("frost3.png", "frost3.jpg"),
    ("frost4.jpg", "frost4.png"),
    ("frost5.jpg", "frost5.png"),
)
"""The published files in their order, with either suffix."""


def read_photographs(folder: Path) -> tuple[Texture, ...]:
    """Read the published photographs from a folder that has ``frost1.png`` to ``frost5.jpg``.

    Raises:
        InputError: one is missing.
        BrokenFileError: one cannot be read.
    """
    photographs = []
    for names in PHOTOGRAPHS:
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            raise InputError(
                f"The published frost photographs are {PHOTOGRAPHS[0][0]} to {PHOTOGRAPHS[-1][0]}; "
                f"{names[0]} is not in {folder}."
            )
        photographs.append(Texture(path.name, read_image(path)))
    return tuple(photographs)


@cache
def find_photographs() -> tuple[Texture, ...]:
    """Read the published photographs of an installed imagecorruptions, without importing it.

    Returns:
        The five in their order; empty if they are not installed.

    Raises:
        BrokenFileError: one is installed and cannot be read.
    """
    for package in ("imagecorruptions", "imagecorruptions_imaug"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / "frost"
            if all(any((folder / name).is_file() for name in names) for names in PHOTOGRAPHS):
                return read_photographs(folder)
    return ()


def read_installed_photographs() -> tuple[Texture, ...]:
    """Return the published photographs of an installed imagecorruptions.

    Raises:
        InputError: none is installed.
    """
    photographs = find_photographs()
    if not photographs:
        raise InputError(
            "The published frost photographs come with the package imagecorruptions, which is not "
            "installed here. Run `pip install 'shiftproof[frost]'`, or use "
            "frost_with(textures.read_photographs(folder))."
        )
    return photographs


def find_texture(number: int) -> Texture:
    """Return the published photograph ``number``, 0 to 4, or the corresponding drawn texture.

    Photographs need the package imagecorruptions.
    """
    photographs = find_photographs()
    return photographs[number] if photographs else draw_texture(PUBLISHED_ORDER[number])


def describe(choice: Sequence[Texture]) -> str:
    """Return the names of textures with a fingerprint of their pixels, for records."""
    digest = fingerprint(texture.pixels.tobytes() for texture in choice)
    return f"{', '.join(texture.name for texture in choice)} ({digest})"


@cache
def describe_published() -> str:
    """Return the description of the textures of ``find_texture``, for records."""
    photographs = find_photographs()
    return describe(photographs) if photographs else DRAWN


@cache
def draw_texture(index: int) -> Texture:
    """Draw the texture of ``STYLES[index]``; the same pixels in every process."""
    return Texture(
        f"drawn-{index + 1}", _draw(STYLES[index], generator(0, "frost texture", str(index)))
    )


def _draw(style: Style, rng: np.random.Generator) -> Image:
    clouds = draws.normal(rng, (style.height, style.width)).astype(np.float64)
    crystals = _standardize(_draw_crystals(style, rng))
    gray = _shape_spectrum(crystals + 0.5 * _standardize(_shape_spectrum(clouds, style)), style)
    # Match the distribution of gray values by ranks: with the spectrum alone it is normal.
    ranks = np.argsort(np.argsort(gray, axis=None)).reshape(gray.shape) / (gray.size - 1)
    gray = _standardize(np.interp(ranks, (0, *QUANTILES, 1), _extend_quantiles(style.quantiles)))
    # Ice of varying thickness shifts the color slightly and smoothly.
    tint = _standardize(
        _shape_spectrum(draws.normal(rng, gray.shape).astype(np.float64), STYLES[-1])
    )
    layers = np.array(style.deviation) * gray[..., np.newaxis]
    layers += 3 * tint[..., np.newaxis] * np.array([1.0, 0.0, -0.5])
    pixels = np.array(style.mean) + layers
    return np.asarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _extend_quantiles(quantiles: tuple[float, ...]) -> tuple[float, ...]:
    """Extend gray values at ``QUANTILES`` to the shares 0 and 1."""
    low = max(0.0, 2 * quantiles[0] - quantiles[1])
    return (low, *quantiles, min(255.0, 2 * quantiles[-1] - quantiles[-2]))


def _standardize(values: F64) -> F64:
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-9))


def _shape_spectrum(values: F64, style: Style) -> F64:
    """Return ``(H, W)`` with the radial spectrum of a style and its own phases."""
    height, width = values.shape
    spectrum = np.fft.rfft2(values)
    down, right = np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)[np.newaxis]
    frequency = np.hypot(down, right)
    rings = (frequency * 2 * min(height, width)).astype(int)
    power = np.abs(spectrum) ** 2
    count = np.bincount(rings.ravel())
    average = np.bincount(rings.ravel(), power.ravel()) / np.maximum(count, 1)
    decades = np.log10(np.maximum(frequency, FREQUENCIES[0]))
    target = 10 ** np.interp(decades, np.log10(FREQUENCIES), style.spectrum)
    shaped = spectrum * np.sqrt(target / np.maximum(average[rings], 1e-9))
    shaped[0, 0] = 0
    return np.asarray(np.fft.irfft2(shaped, s=values.shape))


@dataclass(frozen=True)
class _Twigs:
    """Straight pieces of crystals, each array ``(n,)``."""

    x: F64
    y: F64
    angle: F64
    length: F64
    light: F64

    def ends(self) -> F64:
        """Return ``(n, 2, 2)``: start and end of each, (x, y)."""
        starts = np.stack([self.x, self.y], axis=1)
        directions = np.stack([np.cos(self.angle), np.sin(self.angle)], axis=1)
        return np.stack([starts, starts + self.length[:, np.newaxis] * directions], axis=1)


def _grow_twigs(stems: _Twigs, rng: np.random.Generator) -> _Twigs:
    """Draw twigs of stems at 60 degrees on both sides, shorter towards the tip."""
    counts = np.clip(stems.length / 5, 0, 14).astype(int)
    parent = np.repeat(np.arange(len(counts)), 2 * counts)
    rank = np.arange(len(parent)) - np.repeat(np.cumsum(2 * counts) - 2 * counts, 2 * counts)
    position = (rank // 2 + 1) / (counts[parent] + 1)
    side = np.where(rank % 2 == 0, 1.0, -1.0)
    bend, growth, brightness = rng.random((3, len(parent)))
    angle = stems.angle[parent]
    along = position * stems.length[parent]
    return _Twigs(
        x=stems.x[parent] + along * np.cos(angle),
        y=stems.y[parent] + along * np.sin(angle),
        angle=angle + side * np.pi / 3 + 0.2 * (bend - 0.5),
        length=stems.length[parent] * (1 - position) * 0.5 * (0.7 + 0.3 * growth),
        light=stems.light[parent] * (0.6 + 0.35 * brightness),
    )


def _draw_crystals(style: Style, rng: np.random.Generator) -> F64:
    """Draw fern-like and star-like crystals: stems, their twigs, and twigs of these."""
    import cv2

    x, y, rotation, size, light, number = rng.random((6, style.crystals))
    arms = 1 + (number * style.arms).astype(int)
    crystal = np.repeat(np.arange(style.crystals), arms)
    arm = np.arange(len(crystal)) - np.repeat(np.cumsum(arms) - arms, arms)
    stems = _Twigs(
        x=x[crystal] * style.width,
        y=y[crystal] * style.height,
        angle=2 * np.pi * rotation[crystal] + arm * np.pi / 3,
        length=style.height * style.length * (0.3 + 0.7 * size[crystal]),
        light=90 + 165 * light[crystal],
    )
    twigs = _grow_twigs(stems, rng)
    generations = [stems, twigs, _grow_twigs(twigs, rng)]
    bits = 4
    ends = np.concatenate([generation.ends() for generation in generations])
    points = np.round(ends * 2**bits).astype(np.int32)
    lights = np.concatenate([generation.light for generation in generations]).astype(int) // 8 * 8
    canvas = np.zeros((style.height, style.width), dtype=np.uint8)
    # The brightest are drawn last, over the others.
    for level in np.unique(lights):
        lines = list(points[lights == level])
        cv2.polylines(canvas, lines, False, int(level), 1, cv2.LINE_AA, bits)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.6).astype(np.float64))
