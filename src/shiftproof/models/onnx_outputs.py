"""Which of a graph's outputs is asked for, by its name, its shape and what it is computed from."""

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
        width: how long its rows are, or None where that is dynamic or not told.
        told: its name and shape, as a message shows them.
        others: how many outputs could have been meant.
    """

    name: str
    width: int | None
    told: str
    others: int = 0


def words_of(name: str) -> set[str]:
    """Return the words that a name is made of, in lower case.

    >>> sorted(words_of("preLogits_2"))
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
    """Return the output of a graph that is meant.

    Args:
        path: the file, for errors.
        outputs: as ONNX Runtime tells them.
        graph: what computes each value.
        asked: the name that was asked for, or None.
        classes: how many classes were named, or None.
        features: whether vectors are wanted and no logits.

    Raises:
        UnknownNameError: there is no output of that name.
        ModelError: no output is ``(N, K)``, or several may be meant.
    """
    known = {str(entry.name): entry for entry in outputs}
    if asked is not None:
        if asked not in known:
            raise UnknownNameError.of("output", asked, known)
        return _output(known[asked])
    # A graph without shape inference says nothing of its output; the shape is checked when it runs.
    fitting = [
        name
        for name, entry in known.items()
        if (not entry.shape or len(entry.shape) == 2) and _is_floating(entry)
    ]
    if not fitting:
        found = ", ".join(_output(entry).told for entry in outputs)
        wanted = "vectors (N, width)" if features else "logits (N, K)"
        raise ModelError(f"{path}: expected an output of {wanted}, got {found}.")
    chosen = _narrow(fitting, known, graph, classes=classes, features=features)
    if len(chosen) > 1:
        found = ", ".join(_output(known[name]).told for name in chosen)
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
    """Leave of several outputs those that are meant, one question after the other."""

    def is_features(name: str) -> bool:
        return bool(words_of(name) & _FEATURES)

    def is_classes(name: str) -> bool:
        return bool(words_of(name) & _CLASSES) and not is_features(name)

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
            lambda name: bool(words_of(name) & {"logit", "logits"}),
            is_last,
        ]
    for question in questions:
        # What no output answers does not tell them apart.
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
