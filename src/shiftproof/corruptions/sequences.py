"""ImageNet-P: sequences of frames in which an image changes gradually.

All constants: Hendrycks & Dietterich 2019 (arXiv 1903.12261), ImageNet-P/create_p/
make_imagenet_p.py of their repository, for images with a shorter side of 256 pixels, center-cropped
to 224 x 224. Lengths in pixels are scaled with the shorter side here.

Differs from the published files: these frames are not encoded by a video codec.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from shiftproof.corruptions import noise, weather
from shiftproof.corruptions.checks import check_image
from shiftproof.corruptions.filters import make_streak, smear_bytes, smear_layer
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.rng import generator
from shiftproof.types import F64, Image, Images

FRAMES = 31
TRANSLATE_FRAMES = 41
SIDE = 256
"""The shorter side for which lengths in pixels are given."""

GAUSSIAN_NOISE = (0.03, 0.05, 0.08)
"""Standard deviation for an image in 0..1, for difficulties 1 to 3."""

SHOT_NOISE = (300, 120, 60)
"""Number of photons of white, for difficulties 1 to 3."""

DIFFICULTIES = (1, 2, 3)

Size = tuple[int, int]
Frames = Callable[[Image, Size, np.random.Generator, int], Iterator[Image]]


@dataclass(frozen=True)
class Perturbation:
    """An entry of the table of sequences.

    Attributes:
        name: its name.
        frames: from ``(image, size, rng, difficulty)`` to the frames, one by one.
        count: number of frames.
        is_noise: whether frames are compared with the first, not with the previous one.
    """

    name: str
    frames: Frames
    count: int = FRAMES
    is_noise: bool = False


def crop_center(image: Image, size: Size) -> Image:
    """Center-crop an image to ``(height, width)``; a smaller one is padded with black."""
    height, width = size
    missing = [max(side - length, 0) for side, length in zip(size, image.shape, strict=False)]
    if any(missing):
        padding = [*((pixels // 2, (pixels + 1) // 2) for pixels in missing), (0, 0)]
        image = np.pad(image, padding[: image.ndim])
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _gaussian_noise(
    image: Image, size: Size, rng: np.random.Generator, difficulty: int
) -> Iterator[Image]:
    clean = crop_center(image, size)
    yield clean
    table = (GAUSSIAN_NOISE[difficulty - 1],)
    for _ in range(FRAMES - 1):
        yield noise.gaussian_noise(clean, 1, rng, table)


def _shot_noise(
    image: Image, size: Size, rng: np.random.Generator, difficulty: int
) -> Iterator[Image]:
    clean = crop_center(image, size)
    yield clean
    for _ in range(FRAMES - 1):
        yield noise.shot_noise(clean, 1, rng, (SHOT_NOISE[difficulty - 1],))


def _motion_blur(
    image: Image, size: Size, rng: np.random.Generator, difficulty: int
) -> Iterator[Image]:
    clean = crop_center(image, size)
    for frame in range(FRAMES):
        yield smear_bytes(clean, 10, 3.0, (frame - 30) * 4.0, rounded=True)


def _zoom_blur(
    image: Image, size: Size, rng: np.random.Generator, difficulty: int
) -> Iterator[Image]:
    total = crop_center(image, size).astype(np.float64)
    yield total.astype(np.uint8)
    for frame in range(1, FRAMES):
        total += crop_center(_warp(image, 0, 1 + 0.004 * frame), size)
        yield np.asarray((total / (frame + 1)).astype(np.uint8))


def _snow(image: Image, size: Size, rng: np.random.Generator, difficulty: int) -> Iterator[Image]:
    clean = crop_center(image, size)
    flakes = weather.draw_flakes(size[0], size[1], 0.05, 0.3, 3.0, 0.5, rng)
    for frame in range(FRAMES):
        copies = make_streak(14, 4.0, frame * 4.0 - 150, *size)
        padded = np.pad(flakes, ((0, 0), (copies.margin,) * 2), mode="edge")
        streaks = smear_layer(padded, copies, *size)
        yield weather.blend_snow(clean, streaks, streaks, 0.85)


def _shift_value(image: Image, offset: float) -> Image:
    """Add to the HSV value, in 0..255; ``offset`` may be negative."""
    values = image.astype(np.float64)
    value = values.max(axis=-1, keepdims=True) if image.ndim == 3 else values
    shifted = np.clip(value + offset, 0, 255)
    scaled = np.where(value > 0, values * shifted / np.maximum(value, 1), shifted)
    return np.asarray(np.clip(scaled + 1e-9, 0, 255).astype(np.uint8))


def _brightness(
    image: Image, size: Size, rng: np.random.Generator, difficulty: int
) -> Iterator[Image]:
    clean = crop_center(image, size)
    for frame in range(FRAMES):
        yield _shift_value(clean, (frame - 15) * 0.02 * 255)


def _warp(image: Image, angle: float, scale: float, right: float = 0.0) -> Image:
    """Rotate an image clockwise by degrees, scale it about its center, and shift it by whole
    pixels.
    """
    import cv2

    height, width = image.shape[:2]
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    cosine, sine = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
    linear = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.column_stack([linear, center - linear @ center + (right, 0.0)])
    flags = cv2.INTER_NEAREST if angle == 0 and scale == 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=flags), dtype=np.uint8)


def _translate(
    image: Image, size: Size, rng: np.random.Generator, difficulty: int
) -> Iterator[Image]:
    step = min(image.shape[:2]) / SIDE
    for frame in range(TRANSLATE_FRAMES):
        yield crop_center(_warp(image, 0, 1, float(round((frame - 20) * step))), size)


def _rotate(image: Image, size: Size, rng: np.random.Generator, difficulty: int) -> Iterator[Image]:
    for frame in range(FRAMES):
        yield crop_center(_warp(image, frame - 15.0, 1), size)


def make_tilt_matrix(height: int, width: int, degrees: float) -> F64:
    """Return the homography of an image rotated about both axes, ``(3, 3)``."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    focal_length = math.hypot(width, height)
    to_3d = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    about_y = np.array([[cosine, 0, -sine, 0], [0, 1, 0, 0], [sine, 0, cosine, 0], [0, 0, 0, 1]])
    translation = np.eye(4)
    translation[2, 3] = focal_length
    projection = np.array(
        [[focal_length, 0, width / 2, 0], [0, focal_length, height / 2, 0], [0, 0, 1, 0]]
    )
    return np.asarray(projection @ translation @ about_x @ about_y @ to_3d)


def _tilt(image: Image, size: Size, rng: np.random.Generator, difficulty: int) -> Iterator[Image]:
    import cv2

    height, width = image.shape[:2]
    for frame in range(FRAMES):
        matrix = make_tilt_matrix(height, width, frame - 15.0)
        tilted = cv2.warpPerspective(image, matrix, (width, height))
        yield crop_center(np.asarray(tilted, dtype=np.uint8), size)


def _scale(image: Image, size: Size, rng: np.random.Generator, difficulty: int) -> Iterator[Image]:
    for frame in range(FRAMES):
        yield crop_center(_warp(image, 0, (frame * 2.5 + 40) / 100), size)


PERTURBATIONS: dict[str, Perturbation] = {
    entry.name: entry
    for entry in (
        Perturbation("gaussian_noise", _gaussian_noise, is_noise=True),
        Perturbation("shot_noise", _shot_noise, is_noise=True),
        Perturbation("motion_blur", _motion_blur),
        Perturbation("zoom_blur", _zoom_blur),
        Perturbation("snow", _snow),
        Perturbation("brightness", _brightness),
        Perturbation("translate", _translate, TRANSLATE_FRAMES),
        Perturbation("rotate", _rotate),
        Perturbation("tilt", _tilt),
        Perturbation("scale", _scale),
    )
}
"""The ten sequences of ImageNet-P, in the paper's order."""


def perturb(
    image: Image,
    name: str,
    *,
    size: Size = (224, 224),
    difficulty: int = 1,
    seed: int = 0,
    key: str = "",
) -> Images:
    """Return the frames of a sequence, in which the image changes gradually.

    Args:
        image: ``(H, W, 3)`` RGB or ``(H, W)`` gray uint8, resized, but not yet cropped: in the
            paper its shorter side is 256.
        name: a name of ``PERTURBATIONS``.
        size: (height, width) of the center crop of every frame.
        difficulty: 1 to 3, the strength of the noises; for the others it is the step between
            compared frames (``metrics.flips``), and changes no frame.
        seed: random seed, any integer.
        key: identifies this image, for example by its file name.

    Returns:
        ``(F, *size, 3)`` or ``(F, *size)`` uint8, 31 frames, 41 for ``translate``.

    Raises:
        UnknownNameError: no such sequence.
        InputError: no such difficulty or size.
        ImageError: not such an image.

    >>> perturb(np.zeros((64, 80, 3), np.uint8), "tilt", size=(56, 56)).shape
    (31, 56, 56, 3)
    """
    if name not in PERTURBATIONS:
        raise UnknownNameError.of("perturbation", name, PERTURBATIONS)
    if difficulty not in DIFFICULTIES:
        raise InputError(f"Expected a difficulty of 1, 2 or 3, got {difficulty!r}.")
    if min(size) < 1:
        raise InputError(f"Expected a size of one pixel or more, got {size}.")
    rng = generator(seed, f"perturbation {name}", key)
    return np.stack(list(PERTURBATIONS[name].frames(check_image(image), size, rng, difficulty)))
