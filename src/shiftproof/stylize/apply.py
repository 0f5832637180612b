"""Stylizing one image: with a given style, or with the style chosen by its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.rng import generator
from shiftproof.stylize.contract import Engine, check_alpha, check_picture, check_result
from shiftproof.stylize.free import free
from shiftproof.stylize.styles import Styles
from shiftproof.types import Image


def stylize(
    image: Image,
    style: Image,
    *,
    alpha: float = 1.0,
    engine: Engine = free,
    seed: int = 0,
    key: str = "",
) -> Image:
    """Return an image in the colors and strokes of a style, with its geometry preserved.

    Args:
        image: ``(H, W, 3)`` uint8 RGB of any size from one pixel up.
        style: ``(H', W', 3)`` uint8 RGB of any size.
        alpha: strength of the style, 0 to 1; 0 returns the image itself.
        engine: :func:`free`, which needs no weights, an :class:`AdaIN`, or any function with the
            same signature.
        seed: with ``key``, the random seed of the engine.
        key: identifies the image.

    Returns:
        ``(H, W, 3)`` uint8, a new array.

    Raises:
        ImageError: an array that is not a color image.
        InputError: an alpha outside 0..1.

    >>> import numpy as np
    >>> from shiftproof.stylize import DrawnStyles
    >>> photograph = np.full((48, 64, 3), 90, np.uint8)
    >>> stylize(photograph, DrawnStyles().read(3)).shape
    (48, 64, 3)
    """
    content = check_picture("image", image)
    example = check_picture("style", style)
    share = check_alpha(alpha)
    if not callable(engine):
        raise InputError(
            f"An engine is a function (content, style, alpha, rng) -> image; got {engine!r:.80}. For "
            "AdaIN give AdaIN(WEIGHTS)."
        )
    if share == 0:
        return np.array(content)
    result = engine(content, example, share, generator(seed, "stylize", key))
    return check_result(content, result)


@dataclass(frozen=True, eq=False)
class ChosenStyle:
    """The style chosen for a key.

    Attributes:
        title: name of the style.
        pixels: ``(H, W, 3)`` uint8 RGB.
        broken: titles of unreadable styles that were chosen before, with the reason.
    """

    title: str
    pixels: Image = field(repr=False)
    broken: Mapping[str, str] = field(default_factory=dict)


def choose_style(styles: Styles, *, key: str, seed: int = 0, turn: int = 0) -> ChosenStyle:
    """Choose the style for a key; unreadable ones are replaced by another.

    Args:
        styles: the styles to choose from.
        key: identifies the image.
        seed: random seed of the choice.
        turn: index of the choice, if an image gets several styles (versions or epochs).

    Raises:
        InputError: no style can be read.
    """
    broken: dict[str, str] = {}
    rng = generator(seed, "choice of style", *_split_key(key, turn))
    for number in rng.permutation(len(styles)):
        title = styles.title(int(number))
        try:
            return ChosenStyle(title, styles.read(int(number)), broken)
        except BrokenFileError as error:
            broken[title] = str(error)
    if not broken:
        raise InputError("There is no style to choose from.")
    first = next(iter(broken.values()))
    raise InputError(f"None of the styles can be read. The first of {len(broken):,}: {first}")


def stylize_keyed(
    image: Image,
    styles: Styles,
    *,
    key: str,
    seed: int = 0,
    turn: int = 0,
    alpha: float = 1.0,
    engine: Engine = free,
) -> tuple[Image, ChosenStyle]:
    """Return an image in the style chosen by its key, and that style.

    The result does not depend on the order or the number of workers; :func:`export_stylized` and
    :class:`Stylize` give the same pixels.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        styles: the styles to choose from.
        key: identifies the image; determines the style and the draws.
        seed: random seed of both.
        turn: index of the version of the image, from 0.
        alpha: strength of the style, in 0..1.
        engine: the engine of the style transfer.

    Raises:
        InputError: as :func:`stylize` and :func:`choose_style`.
    """
    chosen = choose_style(styles, key=key, seed=seed, turn=turn)
    own = "\n".join(_split_key(key, turn))
    result = stylize(image, chosen.pixels, alpha=alpha, engine=engine, seed=seed, key=own)
    return result, chosen


def _split_key(key: str, turn: int) -> tuple[str, ...]:
    return (key, str(turn)) if turn else (key,)
