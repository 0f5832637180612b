"""Selection of a graph's output by name, shape, and the operators that compute it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.io.border import show_name
from shiftproof.models.onnx_graph import Node, is_computed_from

_CLASSES = {
    *("logit", "logits", "prob", "probs", "probability", "probabilities", "softmax", "sigmoid"),
    *("score", "scores", "class", "classes", "cls", "pred", "preds", "prediction", "predictions"),
}
_FEATURES = {
    *("feature", "features", "feat", "feats", "embedding", "embeddings", "embed", "embeds", "emb"),
    *("pool", "pooled", "pooler", "pooling", "hidden", "latent", "latents", "penultimate", "pre"),
    *("prelogits", "backbone", "representation", "representations", "vector", "vectors", "tokens"),
}


@dataclass(frozen=True)
class Output:
    """An output of a graph.

    Attributes:
        name: its name.
        width: the length of its rows, or None if it is dynamic or unknown.
        description: its name and shape, for messages.
        others: number of other possible outputs.
    """

    name: str
    width: int | None
    description: str
    others: int = 0


def split_words(name: str) -> set[str]:
    """Split a name into words, in lower case.

    >>> sorted(split_words("preLogits_2"))
    ['logits', 'pre']
    """
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def choose_output(
    path: Path,
    outputs: Sequence[Any],
    graph: Mapping[str, Node],
    *,
    asked: str | None,
    classes: int | None,
    features: bool,
) -> Output:
    """Select the output of a graph.

    ``outputs`` are those listed by ONNX Runtime, ``graph`` has the node that computes each value.
    The name and the number of classes that are asked for may be None; with ``features`` it is
    embeddings and no logits.

    Raises:
        UnknownNameError: there is no output of that name.
        ModelError: no output is ``(N, K)``, or the choice is ambiguous.
    """
    known = {str(entry.name): entry for entry in outputs}
    if asked is not None:
        if asked not in known:
            raise UnknownNameError.of("output", asked, known)
        return _output(known[asked])
    # Without shape inference the shape is unknown; it is checked at the first batch.
    fitting = [
        name
        for name, entry in known.items()
        if (not entry.shape or len(entry.shape) == 2) and _is_floating(entry)
    ]
    if not fitting:
        found = ", ".join(_output(entry).description for entry in outputs)
        wanted = "vectors (N, width)" if features else "logits (N, K)"
        raise ModelError(f"{path}: expected an output of {wanted}, got {found}.")
    chosen = _narrow(fitting, known, graph, classes=classes, features=features)
    if len(chosen) > 1:
        found = ", ".join(_output(known[name]).description for name in chosen)
        what = "the vectors" if features else "the logits"
        raise ModelError(
            f"{path} has several outputs that may be {what}: {found}. Say which: "
            f"output={show_name(chosen[0])}."
        )
    return _output(known[chosen[0]], others=len(fitting) - 1)


def _narrow(
    names: list[str],
    known: Mapping[str, Any],
    graph: Mapping[str, Node],
    *,
    classes: int | None,
    features: bool,
) -> list[str]:
    """Narrow the candidate outputs by one criterion after the other."""

    def is_features(name: str) -> bool:
        return bool(split_words(name) & _FEATURES)

    def is_classes(name: str) -> bool:
        return bool(split_words(name) & _CLASSES) and not is_features(name)

    def is_last(name: str) -> bool:
        return not any(is_computed_from(other, name, graph) for other in names if other != name)

    def is_first(name: str) -> bool:
        return not any(is_computed_from(name, other, graph) for other in names if other != name)

    questions = [is_features, lambda name: not is_classes(name), is_first]
    if not features:
        questions = [
            lambda name: classes is not None and _width(known[name]) == classes,
            is_classes,
            lambda name: not is_features(name),
            lambda name: bool(split_words(name) & {"logit", "logits"}),
            is_last,
        ]
    for question in questions:
        # A criterion that no output meets is ignored.
        names = [name for name in names if question(name)] or names
    return names


def _output(entry: Any, others: int = 0) -> Output:
    shape = ", ".join(str(axis) for axis in entry.shape)
    name = str(entry.name)
    return Output(name, _width(entry), f"{show_name(name)} ({show_name(shape)})", others)


def _width(entry: Any) -> int | None:
    width = entry.shape[1] if len(entry.shape) == 2 else None
    return width if isinstance(width, int) else None


def _is_floating(entry: Any) -> bool:
    return str(entry.type) in ("tensor(float)", "tensor(float16)", "tensor(double)")
