"""A model of images and texts in its two halves, whichever library it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shiftproof.models.preprocess import Preprocess

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class TokenTower:
    """A text tower in steps, for prompts that are learnt.

    Attributes:
        network: what ``run`` runs; an embedding layer in it looks the tokens up.
        tokenize: from texts to what ``run`` takes: the tokens ``(N, L)`` int64 as ``input_ids``, and
            with some models a mask.
        run: from a network (this one, or a copy) and tokens to ``(N, width)``, as the model gives
            them; records gradients where they are enabled.
    """

    network: torch.nn.Module
    tokenize: Callable[[Sequence[str]], Mapping[str, torch.Tensor]]
    run: Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True, eq=False)
class TextTower:
    """The half that takes texts.

    Attributes:
        encode: from texts to ``(N, width)`` floating, as the model gives them: not of length 1.
            A text that is longer than the model takes is cut.
        fingerprint: names the weights and how texts become numbers; computed at the call.
        tokens: the same in steps; None where the library does not give them.
    """

    encode: Callable[[Sequence[str]], torch.Tensor]
    fingerprint: Callable[[], str]
    tokens: TokenTower | None = None

    def __deepcopy__(self, memo: object) -> TextTower:
        # Nobody changes it: copies of a classifier share it.
        return self


@dataclass(frozen=True, eq=False)
class ImageText:
    """Both halves, and how their similarity becomes a logit: ``scale * cosine + bias``.

    Attributes:
        image: from prepared images to ``(N, width)``, as the model gives them.
        texts: the other half.
        scale: what the cosine is multiplied by: the exponential of the logit scale as learnt.
        bias: what is added to it (SigLIP); 0 where the model has none.
        preprocess: brings an image into the form that ``image`` takes.
        preprocess_from: who says so.
        assumed: what was taken for granted, in words.
    """

    image: torch.nn.Module
    texts: TextTower
    scale: float
    bias: float
    preprocess: Preprocess
    preprocess_from: str
    assumed: tuple[str, ...] = ()
