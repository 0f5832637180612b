"""The image tower and the text tower of a model such as CLIP, from any library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shiftproof.models.preprocess import Preprocess

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class TokenTower:
    """A text tower in steps, for prompt learning.

    Attributes:
        network: the network of ``run``; it contains the token embedding layer.
        tokenize: from texts to the inputs of ``run``: the tokens ``(N, L)`` int64 as ``input_ids``,
            and for some models a mask.
        run: from a network (this one, or a copy) and tokens to ``(N, width)``, not normalized;
            records gradients if they are enabled.
    """

    network: torch.nn.Module
    tokenize: Callable[[Sequence[str]], Mapping[str, torch.Tensor]]
    run: Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True, eq=False)
class TextTower:
    """The text encoder.

    Attributes:
        encode: from texts to ``(N, width)`` floating, not normalized. Texts that are too long for
            the model are truncated.
        fingerprint: fingerprint of the weights and the tokenizer; computed at the call.
        tokens: the same in steps; None if the library does not expose them.
    """

    encode: Callable[[Sequence[str]], torch.Tensor]
    fingerprint: Callable[[], str]
    tokens: TokenTower | None = None

    def __deepcopy__(self, memo: object) -> TextTower:
        # It is immutable: copies of a classifier share it.
        return self


@dataclass(frozen=True, eq=False)
class ImageText:
    """Both towers, and the logit of their similarity: ``scale * cosine + bias``.

    Attributes:
        image: from prepared images to ``(N, width)``, not normalized.
        texts: the text tower.
        scale: factor of the cosine: the exponential of the learned logit scale.
        bias: learned bias (SigLIP); 0 if the model has none.
        preprocess: the preprocessing of images for ``image``.
        preprocess_from: the source of the preprocessing.
        assumed: the assumptions made, as sentences.
    """

    image: torch.nn.Module
    texts: TextTower
    scale: float
    bias: float
    preprocess: Preprocess
    preprocess_from: str
    assumed: tuple[str, ...] = ()
