"""The augmentation of CoTTA and RoTTA: color, geometry, blur and noise, the same for a whole batch.

The ranges are those of both papers' published code (Wang et al. 2022, arXiv 2203.13591;
Yuan et al. 2023, arXiv 2303.13899).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

BRIGHTNESS = (0.6, 1.4)
CONTRAST = (0.7, 1.3)
SATURATION = (0.5, 1.5)
HUE = (-0.06, 0.06)
GAMMA = (0.7, 1.3)
DEGREES = (-15.0, 15.0)
SCALE = (0.9, 1.1)
TRANSLATION = 1 / 16
"""Maximum shift as a share of the padded image, which is twice as wide as the image."""
BLUR = (0.001, 0.5)
"""Sigma of a Gaussian kernel of 5 x 5 pixels."""
NOISE = 0.005
"""Standard deviation of the noise, in units of the range of a pixel."""

COLORS = ("brightness", "contrast", "saturation", "hue", "gamma")


@dataclass(frozen=True)
class Jitter:
    """The numbers of one augmentation.

    ``colors`` are pairs of name and factor in the order of application; ``shift`` is in pixels,
    right and down; ``noise_seed`` is the seed of the pixel noise.
    """

    colors: tuple[tuple[str, float], ...]
    degrees: float
    shift: tuple[int, int]
    scale: float
    blur: float
    mirror: bool
    noise_seed: int


def draw_jitter(rng: np.random.Generator, height: int, width: int) -> Jitter:
    """Return an augmentation for images of a size."""
    ranges = dict(zip(COLORS, (BRIGHTNESS, CONTRAST, SATURATION, HUE, GAMMA), strict=True))
    order = [COLORS[place] for place in rng.permutation(len(COLORS))]
    colors = tuple((name, float(rng.uniform(*ranges[name]))) for name in order)
    # Relative to the padded image.
    reach = [TRANSLATION * (size + 2 * (size // 2)) for size in (width, height)]
    return Jitter(
        colors,
        degrees=float(rng.uniform(*DEGREES)),
        shift=(round(rng.uniform(-reach[0], reach[0])), round(rng.uniform(-reach[1], reach[1]))),
        scale=float(rng.uniform(*SCALE)),
        blur=float(rng.uniform(*BLUR)),
        mirror=bool(rng.random() < 0.5),
        noise_seed=int(rng.integers(2**62)),
    )


def apply_jitter(pixels: torch.Tensor, jitter: Jitter) -> torch.Tensor:
    """Return augmented images.

    Args:
        pixels: ``(N, 3, H, W)`` float32 in 0..1.
        jitter: for that size.

    Returns:
        The same shape, dtype and range.
    """
    images = pixels.contiguous()
    for name, factor in jitter.colors:
        images = _adjust_color(images, name, factor)
    images = _transform(images, jitter)
    images = F.gaussian_blur(images, [5, 5], [jitter.blur, jitter.blur])
    images = F.center_crop(images, list(pixels.shape[-2:]))
    images = images.flip(-1) if jitter.mirror else images
    noisy: torch.Tensor = images + NOISE * _draw_noise(images, jitter.noise_seed)
    return noisy.clamp(0, 1)


def _adjust_color(images: torch.Tensor, name: str, factor: float) -> torch.Tensor:
    if name == "gamma":
        # Powers need positive values.
        images = images.clamp(1e-8, 1)
    adjusted: torch.Tensor = getattr(F, f"adjust_{name}")(images, factor)
    return adjusted


def _transform(images: torch.Tensor, jitter: Jitter) -> torch.Tensor:
    """Rotate, shift and scale images padded with their edge values, so that no corner is empty."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [width // 2, height // 2], padding_mode="edge")
    moved: torch.Tensor = F.affine(
        padded,
        angle=jitter.degrees,
        translate=list(jitter.shift),
        scale=jitter.scale,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    return moved


def _draw_noise(images: torch.Tensor, seed: int) -> torch.Tensor:
    # On the CPU, so that all devices get the same noise.
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images.shape, generator=generator, dtype=torch.float32).to(images.device)
