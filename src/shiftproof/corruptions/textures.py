"""Frost textures: drawn here, or read from the user's own photographs.

The photographs that the published code draws from carry no origin, so none is shipped. What is
drawn here matches their statistics one by one: the mean colour, the deviation, and the slope of
the radial spectrum.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import InputError
from shiftproof.files import read_image
from shiftproof.rng import generator
from shiftproof.types import Image

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture of frost, told apart from others by identity."""

    name: str
    pixels: Image = field(repr=False)
    """``(H, W, 3)`` RGB."""


@dataclass(frozen=True)
class Style:
    """What a drawn texture is to look like."""

    height: int
    width: int
    mean: tuple[float, float, float]
    """RGB, 0..255."""
    deviation: float
    """Of the grey values, 0..255."""
    slope: float
    """Of the logarithm of the radially averaged amplitude over that of the frequency."""
    crystals: int
    """How many crystals grow."""
    length: float
    """Of a crystal's longest branches, as a share of the height."""


# Measured on the published photographs, in the order of their numbers; the third of them is the
# second once more, and the sixth is never drawn.
STYLES = (
    Style(600, 900, (78, 149, 166), 19, -1.43, 60, 0.30),
    Style(315, 560, (201, 205, 214), 22, -1.67, 140, 0.30),
    Style(350, 527, (138, 153, 165), 29, -1.04, 200, 0.12),
    Style(495, 660, (112, 123, 135), 43, -1.78, 220, 0.16),
    Style(323, 485, (71, 95, 104), 41, -1.6, 40, 0.45),
)

PUBLISHED_ORDER = (0, 1, 1, 2, 3)
"""Which style stands for each of the five photographs that are drawn."""


def published_choice() -> tuple[Texture, ...]:
    """Return the five drawn textures in the order and weight of the published photographs."""
    return tuple(drawn(index) for index in PUBLISHED_ORDER)


def every_choice() -> tuple[Texture, ...]:
    """Return every drawn texture once."""
    return tuple(drawn(index) for index in range(len(STYLES)))


PHOTOGRAPHS = (
    ("frost1.png", "frost1.jpg"),
    ("frost2.png", "frost2.jpg"),
    ("frost3.png", "frost3.jpg"),
    ("frost4.jpg", "frost4.png"),
    ("frost5.jpg", "frost5.png"),
)
"""The published files, in the order in which they are drawn, and other suffixes they are found with."""


def photographs(folder: Path) -> tuple[Texture, ...]:
    """Read the published photographs from a folder that has ``frost1.png`` to ``frost5.jpg``.

    Raises:
        InputError: one is missing.
        BrokenFileError: one cannot be read.
    """
    found = []
    for names in PHOTOGRAPHS:
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            raise InputError(
                f"The published frost photographs are {PHOTOGRAPHS[0][0]} to {PHOTOGRAPHS[-1][0]}; "
                f"{names[0]} is not in {folder}."
            )
        found.append(Texture(path.name, read_image(path)))
    return tuple(found)


@cache
def installed_photographs() -> tuple[Texture, ...]:
    """Read the published photographs out of an installed imagecorruptions, without importing it.

    Raises:
        InputError: none is installed.
    """
    for package in ("imagecorruptions", "imagecorruptions_imaug"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / "frost"
            if (folder / PHOTOGRAPHS[0][0]).is_file():
                return photographs(folder)
    raise InputError(
        "The published frost photographs come with the package imagecorruptions, which is not "
        "installed here. Install it, or use frost_with(textures.photographs(folder))."
    )


@cache
def drawn(index: int) -> Texture:
    """Draw the texture of ``STYLES[index]``; the same pixels in every process."""
    return Texture(
        f"drawn-{index + 1}", _draw(STYLES[index], generator(0, "frost texture", str(index)))
    )


def _draw(style: Style, rng: np.random.Generator) -> Image:
    crystals = _crystals(style, rng)
    clouds = _with_slope(rng.normal(size=crystals.shape), style.slope)
    field_ = _with_slope(_standard(crystals) + 0.6 * clouds, style.slope)
    # A slow tint shifts the colour a little, as ice of different thickness does.
    tint = _with_slope(rng.normal(size=crystals.shape), -2.5)[..., np.newaxis] * np.array(
        [-3.0, 0.5, 2.0]
    )
    pixels = np.array(style.mean) + style.deviation * field_[..., np.newaxis] + tint
    return np.asarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _standard(values: F64) -> F64:
    return np.asarray((values - values.mean()) / max(values.std(), 1e-9))


def _with_slope(values: F64, slope: float) -> F64:
    """Give ``(H, W)`` a power-law radial spectrum and keep its phases: mean 0, deviation 1."""
    height, width = values.shape
    spectrum = np.fft.rfft2(values)
    down, right = np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)[np.newaxis]
    frequency = np.hypot(down, right)
    rings = np.minimum((frequency * 2 * min(height, width)).astype(int), min(height, width))
    amplitude = np.abs(spectrum)
    count = np.bincount(rings.ravel())
    average = np.bincount(rings.ravel(), amplitude.ravel()) / np.maximum(count, 1)
    wanted = np.maximum(frequency, 1 / max(height, width)) ** slope
    shaped = spectrum * wanted / np.maximum(average[rings], 1e-9)
    shaped[0, 0] = 0
    return _standard(np.fft.irfft2(shaped, s=values.shape))


def _crystals(style: Style, rng: np.random.Generator) -> F64:
    """Draw fern-like crystals: a stem, side branches at 60 degrees, and their branches."""
    import cv2

    canvas = np.zeros((style.height, style.width), dtype=np.uint8)
    starts = rng.uniform((0, 0), (style.width, style.height), size=(style.crystals, 2))
    angles = rng.uniform(0, 2 * np.pi, size=style.crystals)
    lengths = style.height * style.length * rng.uniform(0.3, 1.0, size=style.crystals)
    lights = rng.uniform(90, 255, size=style.crystals)
    for start, angle, length, light in zip(starts, angles, lengths, lights, strict=True):
        layer = np.zeros_like(canvas)
        _branch(layer, start, angle, length, light, 3, rng)
        np.maximum(canvas, layer, out=canvas)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.8).astype(np.float64))


def _branch(
    canvas: NDArray[np.uint8],
    start: F64,
    angle: float,
    length: float,
    light: float,
    generations: int,
    rng: np.random.Generator,
) -> None:
    import cv2

    fraction_bits = 4
    direction = np.array([np.cos(angle), np.sin(angle)])
    end = start + length * direction
    ends = [tuple(int(v) for v in np.round(point * 2**fraction_bits)) for point in (start, end)]
    cv2.line(canvas, ends[0], ends[1], int(light), 1, cv2.LINE_AA, fraction_bits)
    if generations == 1 or length < 6:
        return
    twigs = int(min(14, length / 5))
    for at in (np.arange(twigs) + 1) / (twigs + 1):
        for side in (-1, 1):
            _branch(
                canvas,
                start + at * length * direction,
                angle + side * np.pi / 3 + rng.normal(0, 0.06),
                length * (1 - at) * 0.5 * rng.uniform(0.7, 1.0),
                light * rng.uniform(0.6, 0.95),
                generations - 1,
                rng,
            )
