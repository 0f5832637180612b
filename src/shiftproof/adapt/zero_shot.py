"""What methods for CLIP need of a zero-shot classifier: its class vectors, its words, its text tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.structure import structural_copy
from shiftproof.unit_rows import normalize_tensor

if TYPE_CHECKING:
    from shiftproof.models.image_text.towers import TextTower, TokenTower

TEMPLATE = "a photo of a {}."
"""The sentence of TPT's and CLIPArTT's published code, for classifiers that have several."""

_FILLERS = ("z", "q")
"""Two words in the place of a class, to see which tokens stand before it."""


@dataclass(frozen=True, eq=False)
class ZeroShotHead:
    """The end of a zero-shot network.

    Attributes:
        layer: takes image vectors of length 1 and gives ``scale * cosine + shift``.
        names: what the sentences call the network's outputs.
        templates: the sentences.
        texts: the text tower.
        scale: what the cosine is multiplied by.
        shift: what is added.
    """

    layer: torch.nn.Module
    names: tuple[str, ...]
    templates: tuple[str, ...]
    texts: TextTower
    scale: float
    shift: float

    def choose_template(self, given: str | None) -> str:
        """Return a sentence that was given, else the classifier's only one, else ``TEMPLATE``.

        Raises:
            InputError: it has no ``{}``.
        """
        own = self.templates[0] if len(self.templates) == 1 else TEMPLATE
        chosen = own if given is None else given
        if "{}" not in chosen:
            raise InputError(
                f"template: expected a sentence with {{}} where the class stands, got {chosen!r}."
            )
        return chosen


def find_zero_shot_head(network: AdaptedNetwork, method: str) -> ZeroShotHead:
    """Return the end of an adapter's copy of a zero-shot network.

    Raises:
        ModelError: it is another model; names the method.
    """
    module: Any = network.module
    vectors = getattr(module, "class_vectors", None)
    if vectors is None:
        raise ModelError(
            f"{method} is for zero-shot classifiers (CLIP, SigLIP), such as load_classifier("
            "'open_clip:NAME/WEIGHTS', classes=...) gives, and "
            f"{type(module).__name__} is none."
        )
    prompts = vectors.prompts
    return ZeroShotHead(
        module.head, prompts.names, prompts.templates, module.texts, module.scale, module.shift
    )


def check_classifier(model: Classifier | torch.nn.Module, method: str) -> Classifier:
    """Return a classifier, or raise a ModelError that says what the method takes."""
    if not isinstance(model, Classifier):
        raise ModelError(
            f"{method} is for zero-shot classifiers (CLIP, SigLIP), such as load_classifier("
            "'open_clip:NAME/WEIGHTS', classes=...) gives, and not for a bare "
            f"{type(model).__name__}."
        )
    return model


class SentenceEncoder:
    """A private copy of a text tower that shares the caller's weights.

    Args:
        texts: the tower.
        method: the adapter's name, for errors.

    Raises:
        ModelError: the tower cannot be run in steps, or is not built of torch's embedding layers.
    """

    def __init__(self, texts: TextTower, method: str) -> None:
        if texts.tokens is None:
            raise ModelError(
                f"{method} runs the text tower on sentences of its own, which this model does not "
                "give; load it with load_classifier('open_clip:...') or 'transformers:...'."
            )
        self._method = method
        self._tower: TokenTower = texts.tokens
        with torch.inference_mode(False):
            self._network = structural_copy(self._tower.network, share="parameters")
        for part in self._network.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None:
                    value = parameter.detach()
                    part._parameters[name] = torch.nn.Parameter(value, requires_grad=False)

    def tokenize(self, sentences: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Return sentences as the tower takes them."""
        return self._tower.tokenize(sentences)

    def encode(
        self,
        tokens: Mapping[str, torch.Tensor],
        change: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return ``(N, width)`` float32 of length 1; gradients flow through ``change``.

        Args:
            tokens: of N sentences.
            change: from the vectors ``(N, L, D)`` of the tokens to others of the same shape.
        """
        seen: list[torch.Tensor] = []

        def put(_: object, args: tuple[Any, ...], looked_up: torch.Tensor) -> torch.Tensor | None:
            if not args or not _are_same(args[0], tokens["input_ids"]):
                return None  # of the positions
            seen.append(looked_up)
            return None if change is None else change(looked_up)

        layers = [p for p in self._network.modules() if isinstance(p, torch.nn.Embedding)]
        handles = [layer.register_forward_hook(put) for layer in layers]
        try:
            vectors = self._tower.run(self._network, tokens)
        finally:
            for handle in handles:
                handle.remove()
        if change is not None and not seen:
            raise ModelError(
                f"{self._method} changes what the text tower looks up for its tokens, and it has no "
                "torch.nn.Embedding that looks them up."
            )
        return normalize_tensor(vectors.float())

    def look_up(self, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the vectors ``(N, L, D)`` of tokens."""
        kept: list[torch.Tensor] = []

        def keep(vectors: torch.Tensor) -> torch.Tensor:
            kept.append(vectors)
            return vectors

        with torch.no_grad():
            self.encode(tokens, keep)
        return kept[0]

    def find_context(self, template: str, names: Sequence[str]) -> tuple[int, int]:
        """Return from and to where the tokens stand that a template has before the class.

        Args:
            template: a sentence with ``{}``.
            names: of the classes; they may all begin alike, or be words that the tokenizer knows
                while it knows no others.

        Raises:
            InputError: there are none.
        """

        def read(sentence: str) -> list[int]:
            found: list[int] = self.tokenize([sentence])["input_ids"][0].tolist()
            return found

        first, *others = (read(template.replace("{}", word)) for word in (*_FILLERS, *names))
        start = _count_common(first, read(_FILLERS[0]))
        end = min(_count_common(first, other) for other in others)
        if end <= start:
            raise InputError(
                f"template: {self._method} learns the words before the class, and {template!r} has "
                "none."
            )
        return start, end


def _are_same(given: object, tokens: torch.Tensor) -> bool:
    return (
        isinstance(given, torch.Tensor)
        and given.shape == tokens.shape
        and bool(torch.equal(given, tokens))
    )


def _count_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sentences begin with alike."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
