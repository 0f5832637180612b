"""The corruptions of MedMNIST-C, with separate constants for each dataset.

All constants: Di Salvo et al. 2024 (arXiv 2406.17536), from medmnistc/corruptions/registry.py of
their repository (francescodisalvo05/medmnistc-api), for images of 224 x 224 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageEnhance

from shiftproof.corruptions import blur, digital, draws, noise
from shiftproof.corruptions.ccc import blur_disk
from shiftproof.corruptions.checks import CorruptionFunction, Random, get_constants
from shiftproof.corruptions.filters import expand_like
from shiftproof.corruptions.scales import AtScale
from shiftproof.types import Image

MEDMNIST_C = "medmnist-c"

Levels: TypeAlias = Sequence[Any]
Form: TypeAlias = Callable[..., Image]

BUBBLES = 7
BUBBLE_RADIUS = 3
"""Smallest number and smallest radius of the bubbles."""

BUBBLE_EDGE = 2
BUBBLE_LIGHT = 100
EDGE_LIGHT = 130
"""Width of a bubble's edge in pixels; opacity of bubble and edge, of 255."""


INK_SIDES = (24, 24, 24, 24, 32)
INK_COVER = 0.6
"""Side of a stain's square in pixels by severity, and the black share of it: the mean over the
twenty images of the published code (0.62 and 0.54).
"""

INK_WAVES = 4
INK_ROUGHNESS = 0.25
"""Waves around a stain's edge, and their total amplitude as a share of its radius."""

MARGIN = 10
"""Distance of stains and words from the edge, in pixels."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FEWEST_LETTERS = 3
LETTER_WIDTH = 8
SMALLEST_FONT = 14
"""Fewest letters of a word; pixels reserved for a letter; smallest font scale, in hundredths."""


def stain_deposit(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Cover the image with black ink stains; the constant is their largest number.

    Differs from the published code: the stains are generated, in the same sizes; there one of
    twenty images is pasted.
    """
    side = get_constants(INK_SIDES, severity)
    result = np.array(image)
    for _ in range(1 + draws.index(rng, get_constants(table, severity))):
        ink = _draw_ink(rng, side)[: image.shape[0], : image.shape[1]]
        top, left = (
            _draw_start(rng, whole, part)
            for whole, part in zip(image.shape, ink.shape, strict=False)
        )
        result[top : top + ink.shape[0], left : left + ink.shape[1]][ink] = 0
    return result


def _draw_ink(rng: Random, side: int) -> NDArray[np.bool_]:
    """Draw a blot with a wavy edge, ``(side, side)``."""
    heights, phases = rng.uniform(0, 1, INK_WAVES), rng.uniform(0, 2 * np.pi, INK_WAVES)
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    angles = np.arctan2(rows, columns)[..., np.newaxis]
    waves = (heights * np.sin(np.arange(1, INK_WAVES + 1) * angles + phases)).sum(axis=-1)
    edge = 1 + INK_ROUGHNESS * waves / max(float(heights.sum()), 1e-6)
    return np.asarray(np.hypot(rows, columns) <= np.sqrt(INK_COVER / np.pi) * side * edge)


def _draw_start(rng: Random, size: int, part_size: int) -> int:
    """Draw the start of a part that keeps the margin; where the image is too small, without one."""
    margin = min(MARGIN, (size - part_size) // 2)
    return margin + draws.index(rng, size - part_size - 2 * margin + 1)


def characters(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Write words over the image; the constants bound their number, letters and font size.

    Differs from the published code: an image narrower than a word cuts the word off, where the
    published code fails; letters on a gray image are gray.
    """
    import cv2

    max_words, max_letters, max_scale = get_constants(table, severity)
    result = np.array(image)
    height, width = image.shape[:2]
    for _ in range(1 + draws.index(rng, max_words)):
        count = FEWEST_LETTERS + draws.index(rng, max_letters - FEWEST_LETTERS + 1)
        scale = SMALLEST_FONT + draws.index(rng, round(100 * max_scale) - SMALLEST_FONT + 1)
        word = "".join(LETTERS[draws.index(rng, len(LETTERS))] for _ in range(count))
        left = MARGIN + draws.index(rng, max(width - LETTER_WIDTH * count - MARGIN, 0) + 1)
        bottom = min(MARGIN, height - 1) + draws.index(rng, max(height - 2 * MARGIN, 0) + 1)
        color = [draws.index(rng, 256) for _ in range(3)]
        cv2.putText(
            result, word, (left, bottom), cv2.FONT_HERSHEY_DUPLEX, scale / 100,
            color[: 1 if image.ndim == 2 else 3], 1, cv2.LINE_AA,
        )  # fmt: skip
    return result


def defocus_blur(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Blur with a disk kernel; the constants are (radius, sigma of its edge), in pixels."""
    return blur_disk(image, get_constants(table, severity), rng)


def gaussian_blur(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Blur with a Gaussian of that kernel size, mirrored at the edges; sigma as in torchvision."""
    import cv2

    size = int(get_constants(table, severity)) | 1
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    smooth = cv2.GaussianBlur(
        image.astype(np.float32), (size, size), sigma, borderType=cv2.BORDER_REFLECT_101
    )
    return np.asarray(np.round(smooth).astype(np.uint8)).reshape(image.shape)


def brightness(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Multiply every value by the constant."""
    factor = get_constants(table, severity)
    return np.asarray(ImageEnhance.Brightness(PillowImage.fromarray(image)).enhance(factor))


def contrast(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Multiply every value's difference from the mean gray."""
    factor = get_constants(table, severity)
    return np.asarray(ImageEnhance.Contrast(PillowImage.fromarray(image)).enhance(factor))


def gamma(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Raise every value, scaled to 0..1, to a power."""
    levels = (256 - 1e-3) * (np.arange(256) / 255) ** get_constants(table, severity)
    return np.asarray(levels.astype(np.uint8)[image])


def saturate(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Add to the HSV saturation."""
    return digital.saturate(image, 1, rng, ((1.0, get_constants(table, severity)),))


def black_corner(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Set everything outside a central circle to black; its radius is a share of half the side."""
    import cv2

    height, width = image.shape[:2]
    center = (width // 2, height // 2)
    radius = min(*center, width - center[0], height - center[1])
    circle = np.zeros((height, width), np.uint8)
    cv2.circle(circle, center, int(radius * get_constants(table, severity)), 255, thickness=-1)
    inside = circle > 0
    return np.asarray(image * expand_like(inside, image))


def bubble(image: Image, severity: float, rng: Random, table: Levels) -> Image:
    """Add air bubbles of a microscope slide; the constants are the largest radius and number."""
    max_radius, max_count = get_constants(table, severity)
    height, width = image.shape[:2]
    layer = PillowImage.new("RGBA", (width, height), (255, 255, 255, 0))
    draw = ImageDraw.Draw(layer)
    for _ in range(BUBBLES + draws.index(rng, max_count - BUBBLES + 1)):
        radius = BUBBLE_RADIUS + draws.index(rng, max_radius - BUBBLE_RADIUS + 1)
        x, y = (
            radius + draws.index(rng, max(side - 2 * radius, 0) + 1) for side in (width, height)
        )
        for reach, light in ((radius + BUBBLE_EDGE, EDGE_LIGHT), (radius, BUBBLE_LIGHT)):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(255, 255, 255, light))
    canvas = PillowImage.fromarray(image).copy()
    opaque = layer.getchannel("A")
    white = 255 if image.ndim == 2 else (255, 255, 255)
    canvas.paste(white, (0, 0, width, height), opaque)
    return np.asarray(canvas)


_FORMS: dict[str, Form] = {
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "gaussian_noise": noise.gaussian_noise,
    "speckle_noise": noise.speckle_noise,
    "impulse_noise": noise.impulse_noise,
    "shot_noise": noise.shot_noise,
    "defocus_blur": defocus_blur,
    "motion_blur": blur.motion_blur_rounded,
    "zoom_blur": blur.zoom_blur,
    "gaussian_blur": gaussian_blur,
    "brightness_up": brightness,
    "brightness_down": brightness,
    "contrast_up": contrast,
    "contrast_down": contrast,
    "saturate": saturate,
    "gamma_corr_up": gamma,
    "gamma_corr_down": gamma,
    "bubble": bubble,
    "black_corner": black_corner,
    "stain_deposit": stain_deposit,
    "characters": characters,
}

_JPEG = (50, 30, 15, 10, 7)
_NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)
_SPECKLE = (0.05, 0.15, 0.2, 0.35, 0.45)
_IMPULSE = (0.01, 0.03, 0.06, 0.09, 0.17)
_SHOT = (60, 25, 18, 10, 5)
_UP = (1.1, 1.2, 1.3, 1.4, 1.5)
_MORE = (1.1, 1.2, 1.3, 1.4, 1.6)
_DOWN = (0.9, 0.8, 0.7, 0.6, 0.5)
_LESS = (0.9, 0.8, 0.7, 0.6, 0.4)
_COARSE = (0.3, 0.25, 0.2, 0.15, 0.1)
_FOCUS = ((4.0, 0.1), (5.0, 0.2), (6.0, 0.3), (7.0, 0.4), (8.0, 0.5))

_ORGAN: dict[str, Levels] = {
    "pixelate": (0.7, 0.6, 0.5, 0.4, 0.35),
    "jpeg_compression": _JPEG,
    "gaussian_noise": (0.04, 0.08, 0.12, 0.16, 0.2),
    "speckle_noise": (0.05, 0.1, 0.2, 0.3, 0.4),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.08),
    "shot_noise": (200, 100, 50, 25, 15),
    "gaussian_blur": (11, 13, 15, 17, 21),
    "brightness_up": (1.2, 1.3, 1.4, 1.5, 1.6),
    "brightness_down": (0.8, 0.75, 0.7, 0.65, 0.6),
    "contrast_up": (1.3, 1.4, 1.6, 1.7, 1.8),
    "contrast_down": (0.8, 0.7, 0.6, 0.55, 0.5),
    "gamma_corr_up": (1.3, 1.4, 1.6, 1.8, 2.0),
    "gamma_corr_down": _LESS,
}

TABLES: dict[str, dict[str, Levels]] = {
    "pathmnist": {
        "pixelate": (0.8, 0.6, 0.4, 0.3, 0.25),
        "jpeg_compression": _JPEG,
        "defocus_blur": ((3.0, 0.1), (4.0, 0.1), (5.0, 0.2), (6.0, 0.2), (7.0, 0.3)),
        "motion_blur": ((5, 5.0), (10, 5.0), (15, 5.0), (15, 8.0), (15, 12.0)),
        "brightness_up": (1.1, 1.15, 1.2, 1.22, 1.25),
        "brightness_down": (0.85, 0.8, 0.75, 0.72, 0.7),
        "contrast_up": _MORE,
        "contrast_down": (0.8, 0.7, 0.6, 0.55, 0.5),
        "saturate": (0.05, 0.1, 0.15, 0.2, 0.25),
        "stain_deposit": (1, 2, 3, 4, 5),
        "bubble": ((7, 15), (10, 15), (12, 15), (15, 20), (17, 25)),
    },
    "bloodmnist": {
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": _JPEG,
        "defocus_blur": ((2.0, 0.01), (3.0, 0.1), (4.0, 0.1), (5.0, 0.1), (6.0, 0.1)),
        "motion_blur": ((3, 3.0), (5, 5.0), (10, 5.0), (10, 7.0), (10, 9.0)),
        "brightness_up": (1.1, 1.2, 1.3, 1.35, 1.4),
        "brightness_down": _DOWN,
        "contrast_up": (1.1, 1.15, 1.2, 1.25, 1.3),
        "contrast_down": _DOWN,
        "saturate": (0.05, 0.1, 0.15, 0.17, 0.2),
        "stain_deposit": (1, 2, 3, 3, 3),
        "bubble": ((5, 10), (7, 10), (10, 10), (12, 12), (15, 12)),
    },
    "dermamnist": {
        "pixelate": (0.7, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": (30, 20, 15, 10, 7),
        "gaussian_noise": _NOISE,
        "speckle_noise": _SPECKLE,
        "impulse_noise": _IMPULSE,
        "shot_noise": _SHOT,
        "defocus_blur": _FOCUS,
        "motion_blur": ((10, 5.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
        "zoom_blur": blur.ZOOM_BLUR,
        "brightness_up": _UP,
        "brightness_down": _DOWN,
        "contrast_up": _MORE,
        "contrast_down": (0.8, 0.7, 0.6, 0.5, 0.4),
        "black_corner": (1.1, 1.05, 1.0, 0.9, 0.95),
        "characters": ((1, 6, 0.14), (2, 7, 0.15), (3, 8, 0.16), (4, 9, 0.17), (6, 10, 0.18)),
    },
    "retinamnist": {
        "pixelate": (0.8, 0.6, 0.5, 0.4, 0.35),
        "jpeg_compression": (30, 25, 20, 10, 5),
        "gaussian_noise": (0.04, 0.08, 0.12, 0.16, 0.2),
        "speckle_noise": (0.1, 0.15, 0.2, 0.25, 0.3),
        "defocus_blur": _FOCUS,
        "motion_blur": ((8, 5.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
        "brightness_down": _DOWN,
        "contrast_down": _LESS,
    },
    "tissuemnist": {
        "pixelate": (0.4, 0.3, 0.2, 0.15, 0.1),
        "jpeg_compression": (25, 20, 15, 10, 7),
        "impulse_noise": (0.01, 0.015, 0.02, 0.025, 0.03),
        "gaussian_blur": (13, 15, 17, 21, 25),
        "brightness_up": (1.3, 1.4, 1.5, 1.6, 1.7),
        "brightness_down": (0.8, 0.7, 0.6, 0.5, 0.4),
        "contrast_up": _MORE,
        "contrast_down": _LESS,
    },
    "octmnist": {
        "pixelate": _COARSE,
        "jpeg_compression": (30, 15, 10, 7, 5),
        "speckle_noise": (0.15, 0.3, 0.4, 0.5, 0.6),
        "defocus_blur": ((0.5, 0.6), (1.0, 0.5), (1.5, 0.1), (2.0, 0.5), (2.5, 0.1)),
        "motion_blur": ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
        "contrast_down": (0.6, 0.4, 0.3, 0.2, 0.15),
    },
    "breastmnist": {
        "pixelate": _COARSE,
        "jpeg_compression": _JPEG,
        "speckle_noise": (0.1, 0.15, 0.2, 0.25, 0.3),
        "motion_blur": ((5, 5.0), (9, 7.0), (9, 10.0), (13, 10.0), (17, 12.0)),
        "brightness_up": (1.4, 1.5, 1.6, 1.8, 2.0),
        "brightness_down": (0.55, 0.5, 0.45, 0.4, 0.3),
        "contrast_down": _LESS,
    },
    "chestmnist": {
        "pixelate": _COARSE,
        "jpeg_compression": _JPEG,
        "gaussian_noise": _NOISE,
        "speckle_noise": _SPECKLE,
        "impulse_noise": _IMPULSE,
        "shot_noise": _SHOT,
        "gaussian_blur": (3, 5, 7, 9, 11),
        "brightness_up": _UP,
        "brightness_down": _DOWN,
        "contrast_up": _MORE,
        "contrast_down": _LESS,
        "gamma_corr_up": _MORE,
        "gamma_corr_down": _LESS,
    },
    "pneumoniamnist": {
        "pixelate": (0.8, 0.7, 0.6, 0.5, 0.4),
        "jpeg_compression": _JPEG,
        "gaussian_noise": (0.04, 0.05, 0.06, 0.07, 0.08),
        "speckle_noise": (0.05, 0.07, 0.1, 0.15, 0.2),
        "impulse_noise": (0.005, 0.01, 0.013, 0.017, 0.02),
        "shot_noise": (300, 200, 150, 100, 80),
        "gaussian_blur": (3, 5, 7, 9, 11),
        "brightness_up": _UP,
        "brightness_down": _DOWN,
        "contrast_up": _MORE,
        "contrast_down": _LESS,
        "gamma_corr_up": _MORE,
        "gamma_corr_down": _LESS,
    },
    "organamnist": _ORGAN,
    "organcmnist": _ORGAN,
    "organsmnist": _ORGAN,
}
"""From dataset to corruption to its constants at severities 1 to 5."""


def list_corruptions(dataset: str) -> Mapping[str, CorruptionFunction]:
    """Return the corruptions of a dataset, as ``bench.run(corruptions=...)`` takes them.

    They are named ``pixelate.pathmnist`` and so on, to be distinct from the benchmark's.
    """
    return {
        f"{name}.{dataset}": AtScale(name, _FORMS[name], table, f"{MEDMNIST_C} {dataset}")
        for name, table in TABLES[dataset].items()
    }
