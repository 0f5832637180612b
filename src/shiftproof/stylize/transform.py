"""Stylizing images in a training loop, without a copy on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar, cast

from shiftproof.corruptions.conversion import convert_like, to_array
from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof.stylize.apply import stylize_keyed
from shiftproof.stylize.contract import Engine, check_alpha
from shiftproof.stylize.free import free
from shiftproof.stylize.styles import Styles, open_styles

Picture = TypeVar("Picture")


class Stylize:
    """A data augmentation that stylizes images.

    Takes and returns PIL images, uint8 arrays ``(H, W, 3)`` or uint8 tensors ``(3, H, W)``. Use it
    in ``torchvision.transforms.Compose`` before the conversion to floats. Boxes and masks stay
    valid.

    The result is a function of ``seed``, ``epoch`` and the key, by default the image's content, so
    it does not depend on the order or the number of workers. Increase ``epoch`` for other styles.
    With the path below the source as the key, epoch 0 has the pixels that :func:`export_stylized`
    writes, epoch 1 those of a second version, and so on.

    Args:
        styles: a folder of paintings, or None for drawn ones.
        alpha: strength of the style, 0 to 1.
        engine: as for :func:`stylize`.
        probability: probability of stylizing an image; 0.5 is about the paper's combined data.
        seed: random seed.

    Raises:
        InputError: no styles, or numbers outside 0..1.
    """

    def __init__(
        self,
        *,
        styles: str | Path | Styles | None = None,
        alpha: float = 1.0,
        engine: Engine = free,
        probability: float = 0.5,
        seed: int = 0,
    ) -> None:
        if not 0 <= probability <= 1:
            raise InputError(f"A probability is a number from 0 to 1; got {probability!r}.")
        self.styles = open_styles(styles)
        self.alpha = check_alpha(alpha)
        self.engine = engine
        self.probability = probability
        self.seed = seed
        self.epoch = 0

    def __call__(self, image: Picture, key: str | None = None) -> Picture:
        """Return a stylized copy of ``image``, of the same type, or the image itself.

        Raises:
            InputError: a gray image, or no readable style.
        """
        array = to_array(image)
        if key is None:
            key = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
        draw = generator(self.seed, "whether to stylize", key, str(self.epoch)).random()
        if draw >= self.probability:
            return image
        result, _ = stylize_keyed(
            array,
            self.styles,
            key=key,
            seed=self.seed,
            turn=self.epoch,
            alpha=self.alpha,
            engine=self.engine,
        )
        return cast(Picture, convert_like(result, image))

    def __repr__(self) -> str:
        return (
            f"Stylize({pluralize(len(self.styles), 'style')}, alpha={self.alpha}, "
            f"probability={self.probability}, seed={self.seed})"
        )
