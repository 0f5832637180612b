"""The type of a style-transfer engine, and the checks of its arguments and result."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TypeAlias

import numpy as np

from shiftproof.corruptions.checks import check_image, check_same_shape
from shiftproof.errors import ImageError, InputError
from shiftproof.types import Image

Engine: TypeAlias = Callable[[Image, Image, float, np.random.Generator], Image]
"""``(content, style, alpha, rng) -> image`` of the content's shape; uint8, RGB, alpha in 0..1.

It is pure and preserves the positions of edges. Both images have three channels and at least one
pixel. It must be picklable to be used by worker processes.
"""


def check_picture(what: str, picture: object) -> Image:
    """Return a color image as a C-contiguous array.

    Raises:
        ImageError: it is not a uint8 array ``(H, W, 3)`` with at least one pixel.
    """
    try:
        image = check_image(picture)
    except ImageError as error:
        raise ImageError(f"{what}: {error}") from error
    if image.ndim == 2:
        raise ImageError(
            f"{what}: expected a picture in color, (height, width, 3); got a gray one, {image.shape}. "
            "Repeat it: numpy.repeat(image[..., None], 3, axis=2)."
        )
    return image


def check_alpha(alpha: object) -> float:
    """Return ``alpha``, from 0 to 1.

    Raises:
        InputError: not a number from 0 to 1.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 <= float(alpha) <= 1:
        raise InputError(
            f"alpha is a number from 0 (the image itself) to 1 (all of the style); got {alpha!r}."
        )
    return float(alpha)


def check_result(content: Image, result: object) -> Image:
    """Check and return an engine's result.

    Raises:
        ImageError: it is not a uint8 image of the content's shape.
    """
    expected = (
        f"An engine returns a uint8 picture of the content's shape {content.shape}; got {{}}."
    )
    return check_same_shape(result, content, expected)


def fit_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return width and height of a picture scaled so that its shorter side is ``side``."""
    scale = side / min(width, height)
    return max(math.floor(width * scale + 0.5), side), max(math.floor(height * scale + 0.5), side)
