"""Access to a zero-shot classifier's class vectors, prompts and text tower, for methods for
CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.structure import copy_structure
from shiftproof.unit_rows import normalize_tensor

if TYPE_CHECKING:
    from shiftproof.models.image_text.towers import TextTower, TokenTower

TEMPLATE = "a photo of a {}."
"""The template of TPT's and CLIPArTT's published code, for classifiers with several."""

_FILLERS = ("z", "q")
"""Two words in place of the class, to find the tokens before it."""


@dataclass(frozen=True, eq=False)
class ZeroShotHead:
    """The head of a zero-shot network.

    Attributes:
        layer: from image vectors of length 1 to ``scale * cosine + shift``.
        names: the class names in the prompts, one per output.
        templates: the prompt templates.
        texts: the text tower.
        scale: factor of the cosine.
        shift: offset of the logits.
    """

    layer: torch.nn.Module
    names: tuple[str, ...]
    templates: tuple[str, ...]
    texts: TextTower
    scale: float
    shift: float

    def choose_template(self, given: str | None) -> str:
        """Return the given template, else the classifier's only one, else ``TEMPLATE``.

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
    """Return the head of an adapter's copy of a zero-shot network.

    Raises:
        ModelError: it is not a zero-shot network; names the method.
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
    """Return the model if it is a ``Classifier``, or raise a ModelError that names the method."""
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
            self._network = copy_structure(self._tower.network, share="parameters")
        for part in self._network.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None:
                    value = parameter.detach()
                    part._parameters[name] = torch.nn.Parameter(value, requires_grad=False)

    def tokenize(self, sentences: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Return the tokens of sentences."""
        return self._tower.tokenize(sentences)

    def encode(
        self,
        tokens: Mapping[str, torch.Tensor],
        change: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return ``(N, width)`` float32 of length 1; gradients flow through ``change``.

        Args:
            tokens: of N sentences.
            change: from the token embeddings ``(N, L, D)`` to others of the same shape.
        """
        found: list[torch.Tensor] = []

        def replace(
            _: object, args: tuple[Any, ...], embedded: torch.Tensor
        ) -> torch.Tensor | None:
            if not args or not _are_equal(args[0], tokens["input_ids"]):
                return None  # the position embedding
            found.append(embedded)
            return None if change is None else change(embedded)

        layers = [p for p in self._network.modules() if isinstance(p, torch.nn.Embedding)]
        handles = [layer.register_forward_hook(replace) for layer in layers]
        try:
            vectors = self._tower.run(self._network, tokens)
        finally:
            for handle in handles:
                handle.remove()
        if change is not None and not found:
            raise ModelError(
                f"{self._method} changes the token embeddings of the text tower, and it has no "
                "torch.nn.Embedding for its tokens."
            )
        return normalize_tensor(vectors.float())

    def look_up(self, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the token embeddings ``(N, L, D)``."""
        kept: list[torch.Tensor] = []

        def keep(vectors: torch.Tensor) -> torch.Tensor:
            kept.append(vectors)
            return vectors

        with torch.no_grad():
            self.encode(tokens, keep)
        return kept[0]

    def find_context(self, template: str, names: Sequence[str]) -> tuple[int, int]:
        """Return start and end of the tokens before the class in a template.

        Args:
            template: a sentence with ``{}``.
            names: class names, to find tokens that differ between them.

        Raises:
            InputError: there are no tokens before the class.
        """

        def read(sentence: str) -> list[int]:
            found: list[int] = self.tokenize([sentence])["input_ids"][0].tolist()
            return found

        first, *others = (read(template.replace("{}", word)) for word in (*_FILLERS, *names))
        start = _count_prefix(first, read(_FILLERS[0]))
        end = min(_count_prefix(first, other) for other in others)
        if end <= start:
            raise InputError(
                f"template: {self._method} learns the words before the class, and {template!r} has "
                "none."
            )
        return start, end


def _are_equal(given: object, tokens: torch.Tensor) -> bool:
    return (
        isinstance(given, torch.Tensor)
        and given.shape == tokens.shape
        and bool(torch.equal(given, tokens))
    )


def _count_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix of two token sequences."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
