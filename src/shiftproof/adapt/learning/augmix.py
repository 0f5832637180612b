"""The augmentation of MEMO: AugMix with weak operations on a random crop.

Hendrycks et al. 2020 (arXiv 1912.02781) with the constants of MEMO's published code (Zhang et al.
2022, arXiv 2110.09506).
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from shiftproof.types import F32, Image

Crop = Literal["resized", "padded"]

CROPS: tuple[Crop, ...] = ("resized", "padded")
"""``"resized"``: a crop of 8 to 100 % of the area, resized to the image's size (ImageNet).
``"padded"``: one of the image's size, after 4 black pixels on each side (CIFAR).
"""

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
PADDING = 4
CHAINS = 3
MAX_CHAIN = 3
LEVEL = (0.1, 1.0)
"""Range of an operation's level on a scale of 10: MEMO uses weak ones."""

OPERATIONS = (
    "autocontrast", "equalize", "rotate", "solarize", "shear_x", "shear_y", "translate_x",
    "translate_y", "posterize",
)  # fmt: skip

_GRAY = (128, 128, 128)
"""Fill color at the edges."""


def augment_by_mixing(image: Image, rng: np.random.Generator, crop: Crop = "resized") -> F32:
    """Return one AugMix augmentation of a random crop of an image.

    ``m x + (1 - m) sum_i w_i x_i``: three chains of one to three operations on the crop x, with
    weights w of a Dirichlet distribution (1, 1, 1) and m of a beta distribution (1, 1).

    Differs from the published code: the fill color is gray (128, 128, 128); there it is (128, 0,
    0), as Pillow uses the given number for red only.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        rng: random generator for the image and the augmentation's number.
        crop: one of ``CROPS``.

    Returns:
        ``(H, W, 3)`` float32 in 0..1.
    """
    picture = _crop(PillowImage.fromarray(image), rng, crop)
    if rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    weights = rng.dirichlet((1.0,) * CHAINS)
    share = rng.beta(1.0, 1.0)
    mixed = np.zeros(image.shape)
    for weight in weights:
        mixed += weight * _scale(_run_chain(picture, rng))
    return cast("F32", (share * _scale(picture) + (1 - share) * mixed).astype(np.float32))


def _scale(picture: PillowImage.Image) -> F32:
    return cast("F32", np.asarray(picture, np.float32) / np.float32(255))


def _run_chain(picture: PillowImage.Image, rng: np.random.Generator) -> PillowImage.Image:
    for _ in range(int(rng.integers(1, MAX_CHAIN + 1))):
        name = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        picture = apply_operation(picture, name, rng.uniform(*LEVEL), mirrored=rng.random() < 0.5)
    return picture


def apply_operation(
    picture: PillowImage.Image, name: str, level: float, *, mirrored: bool
) -> PillowImage.Image:
    """Return a picture after one of ``OPERATIONS``.

    Args:
        picture: RGB.
        name: one of ``OPERATIONS``.
        level: strength on a scale of 10; ``"autocontrast"`` and ``"equalize"`` have none.
        mirrored: use the opposite direction.
    """
    sign = -1 if mirrored else 1
    width, height = picture.size
    if name == "autocontrast":
        return ImageOps.autocontrast(picture)
    if name == "equalize":
        return ImageOps.equalize(picture)
    if name == "rotate":
        degrees = sign * int(level * 30 / 10)
        return picture.rotate(degrees, PillowImage.Resampling.BILINEAR, fillcolor=_GRAY)
    if name == "solarize":
        return ImageOps.solarize(picture, 256 - int(level * 256 / 10))
    if name == "posterize":
        return ImageOps.posterize(picture, 4 - int(level * 4 / 10))
    if name == "shear_x":
        return _transform(picture, (1, sign * level * 0.3 / 10, 0, 0, 1, 0))
    if name == "shear_y":
        return _transform(picture, (1, 0, 0, sign * level * 0.3 / 10, 1, 0))
    if name == "translate_x":
        return _transform(picture, (1, 0, sign * int(level * width / 3 / 10), 0, 1, 0))
    return _transform(picture, (1, 0, 0, 0, 1, sign * int(level * height / 3 / 10)))


def _transform(picture: PillowImage.Image, matrix: tuple[float, ...]) -> PillowImage.Image:
    return picture.transform(
        picture.size,
        PillowImage.Transform.AFFINE,
        matrix,
        resample=PillowImage.Resampling.BILINEAR,
        fillcolor=_GRAY,
    )


def _crop(picture: PillowImage.Image, rng: np.random.Generator, crop: Crop) -> PillowImage.Image:
    width, height = picture.size
    if crop == "padded":
        left, top = (int(rng.integers(2 * PADDING + 1)) for _ in range(2))
        padded = ImageOps.expand(picture, PADDING)
        return padded.crop((left, top, left + width, top + height))
    box = draw_crop(rng, width, height)
    return picture.resize(picture.size, PillowImage.Resampling.BILINEAR, box=box)


def draw_crop(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a random crop, as torchvision's RandomResizedCrop.

    Its area and ratio (its logarithm) are uniform; after ten that do not fit, the whole image.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*AREA)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        wide, high = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < wide <= width and 0 < high <= height:
            left = int(rng.integers(width - wide + 1))
            top = int(rng.integers(height - high + 1))
            return left, top, left + wide, top + high
    return 0, 0, width, height
