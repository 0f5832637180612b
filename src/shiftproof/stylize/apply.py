"""Give one image a style: one that is handed in, or the one that belongs to its key."""

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
    """Return an image in the colours and strokes of a style; what it shows stays where it is.

    Args:
        image: ``(H, W, 3)`` uint8 RGB of any size from one pixel up.
        style: ``(H', W', 3)`` uint8 RGB of any size.
        alpha: how much of the style, 0 to 1; 0 gives the image itself.
        engine: :func:`free`, which needs no weights, an :class:`AdaIN`, or any function of the same
            form.
        seed: decides with ``key`` what the engine is free to choose.
        key: what names the image.

    Returns:
        ``(H, W, 3)`` uint8, an array of its own.

    Raises:
        ImageError: an array that is no picture in colour.
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
class Chosen:
    """The style that belongs to a key.

    Attributes:
        title: what it is called.
        pixels: ``(H, W, 3)`` uint8 RGB.
        broken: titles of the styles that would have come before it, with the reason why not.
    """

    title: str
    pixels: Image = field(repr=False)
    broken: Mapping[str, str] = field(default_factory=dict)


def choose_style(styles: Styles, *, key: str, seed: int = 0, turn: int = 0) -> Chosen:
    """Return the style that belongs to a key; one that cannot be read gives way to another.

    Args:
        styles: what to choose from.
        key: what names the image.
        seed: another one gives other choices.
        turn: 0, 1, ... where an image gets several styles: versions, or epochs.

    Raises:
        InputError: no style can be read.
    """
    broken: dict[str, str] = {}
    rng = generator(seed, "choice of style", *_parts(key, turn))
    for number in rng.permutation(len(styles)):
        title = styles.title(int(number))
        try:
            return Chosen(title, styles.read(int(number)), broken)
        except BrokenFileError as error:
            broken[title] = str(error)
    first = next(iter(broken.values()), "there is none")
    raise InputError(f"None of the {len(styles)} styles can be read (first: {first}).")


def stylize_keyed(
    image: Image,
    styles: Styles,
    *,
    key: str,
    seed: int = 0,
    turn: int = 0,
    alpha: float = 1.0,
    engine: Engine = free,
) -> tuple[Image, Chosen]:
    """Return an image in the style that belongs to its key, and that style.

    Neither the order nor the number of workers changes a pixel; :func:`export_stylized` and
    :class:`Stylize` give the same ones.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        styles: where styles come from.
        key: the image's name; it decides the style and the draws.
        seed: decides them, too.
        turn: which of several forms of the image, from 0.
        alpha: how much of the style, in 0..1.
        engine: what brings the style onto the image.

    Raises:
        InputError: as :func:`stylize` and :func:`choose_style`.
    """
    chosen = choose_style(styles, key=key, seed=seed, turn=turn)
    own = "\n".join(_parts(key, turn))
    result = stylize(image, chosen.pixels, alpha=alpha, engine=engine, seed=seed, key=own)
    return result, chosen


def _parts(key: str, turn: int) -> tuple[str, ...]:
    return (key, str(turn)) if turn else (key,)
