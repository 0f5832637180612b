"""Text towers as encoders: from sentences to vectors in the space of the same model's images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from shiftproof.errors import InputError, ModelError
from shiftproof.io.naming import hide_folders
from shiftproof.models.encoders.encoder import Vectors
from shiftproof.models.image_text import open_clip, transformers
from shiftproof.models.image_text.pretrained import open_pretrained, open_transformers
from shiftproof.models.image_text.towers import TextTower
from shiftproof.models.structure import find_device
from shiftproof.models.targets import fetch_target
from shiftproof.specs import merge_options, parse_spec, read_switch
from shiftproof.types import Settings
from shiftproof.unit_rows import normalize_tensor

PROBE = "a photo of a red bicycle."
"""A sentence whose vector identifies a tower."""


@final
class TextEncoder:
    """A text tower whose outputs are vectors.

    Args:
        tower: from texts to vectors.
        normalize: scale every vector to length 1. A zero vector is unchanged.
        device: its device, for the record.
        name: name in manifests.
        assumed: the assumptions made when it was loaded, as sentences.

    Attributes:
        width: length of its vectors.

    Raises:
        ModelError: the output for one sentence is not a vector.
    """

    def __init__(
        self,
        tower: TextTower,
        *,
        normalize: bool = True,
        device: str = "cpu",
        name: str = "texts",
        assumed: Sequence[str] = (),
    ) -> None:
        self._tower = tower
        self.normalize = normalize
        self.device = device
        self.name = name
        self.assumed = tuple(assumed)
        shape = tuple(tower.encode([PROBE]).shape)
        if len(shape) != 2 or shape[0] != 1 or shape[1] == 0:
            raise ModelError(
                f"{name}: expected vectors (1, width) for one sentence, got shape {shape}."
            )
        self.width = shape[1]

    def __repr__(self) -> str:
        return f"TextEncoder({self.name}, width {self.width}, {self.device})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce it, for JSON; the fingerprint is computed at each call."""
        return {
            "name": self.name,
            "fingerprint": self._tower.fingerprint(),
            "device": self.device,
            "width": self.width,
            "normalize": self.normalize,
        }

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return ``(N, width)`` float32; a text that is too long for the model is truncated.

        Raises:
            InputError: an entry that is not a text.
        """
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"Text {place}: expected a str, got {type(text).__name__}.")
        if not texts:
            return np.zeros((0, self.width), np.float32)
        vectors = self._tower.encode(texts).float()
        if self.normalize:
            vectors = normalize_tensor(vectors)
        return np.array(vectors.cpu().numpy(), dtype=np.float32)


@dataclass(frozen=True)
class TextLoader:
    """One row of ``TEXT_LOADERS``: ``load`` gets the part of the spec after the colon."""

    load: Callable[[str, str, bool], TextTower]
    description: str
    example: str
    options: frozenset[str] = frozenset()


def _load_open_clip_tower(target: str, device: str, pretrained: bool) -> TextTower:
    model = open_clip.create_open_clip(target, pretrained=pretrained)
    return open_clip.make_text_tower(model.eval().to(find_device(device)), target)


def _load_transformers_tower(target: str, device: str, pretrained: bool) -> TextTower:
    what = "a model of images and texts"
    model = open_pretrained(open_transformers().AutoModel, target, what)
    return transformers.make_text_tower(model.float().eval().to(find_device(device)), target)


TEXT_LOADERS: dict[str, TextLoader] = {
    "open_clip": TextLoader(
        _load_open_clip_tower,
        "The text tower of an OpenCLIP model.",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        frozenset({"pretrained"}),
    ),
    "transformers": TextLoader(
        _load_transformers_tower,
        "The text tower of CLIP or SigLIP, from the Hugging Face hub or a folder.",
        "transformers:openai/clip-vit-base-patch32",
    ),
}
"""Sources of text towers by the prefix that ``load_text_encoder`` and the command line take."""


def load_text_encoder(
    spec: str,
    *,
    normalize: bool = True,
    device: str = "cpu",
    pretrained: bool | None = None,
) -> TextEncoder:
    """Load the text tower of a model by its spec.

    Args:
        spec: ``SOURCE:NAME`` with a source of ``TEXT_LOADERS``.
        normalize: scale every vector to length 1.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        pretrained: False keeps random weights (``open_clip`` only), for a trial.

    Raises:
        UnknownNameError: no such source, model, weights or option; says the nearest.
        InputError: an option that this source does not take.
        ModelError: the model cannot be loaded, or has no text tower.
        MissingExtraError: the library of that source is not installed; says the pip line.
    """
    source, target, written = parse_spec(
        spec, _list_sources(), {"pretrained": read_switch}, wrapped="TextEncoder(tower)"
    )
    if source not in TEXT_LOADERS:
        raise ModelError(
            f"{spec!r} has no text tower, so it takes no sentences. Expected a model of images and "
            f"texts, such as {TEXT_LOADERS['open_clip'].example} or "
            f"{TEXT_LOADERS['transformers'].example}."
        )
    given: dict[str, Any] = {"pretrained": pretrained}
    given = merge_options(spec, given, written, source, TEXT_LOADERS, common=())
    target = fetch_target(target)
    tower = TEXT_LOADERS[source].load(target, device, given["pretrained"] is not False)
    return TextEncoder(
        tower,
        normalize=normalize,
        device=str(find_device(device)),
        name=hide_folders(f"{source}:{target}"),
        assumed=() if given["pretrained"] is not False else ("random weights",),
    )


def _list_sources() -> dict[str, Any]:
    """Return all sources of encoders, to distinguish those without a text tower from unknown
    ones.
    """
    from shiftproof.models.encoders.load import ENCODER_LOADERS

    return {**ENCODER_LOADERS, **TEXT_LOADERS}
