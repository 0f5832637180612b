"""Class names stored in a checkpoint beside its weights."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

_LISTS = ("classes", "class_names", "label_names", "labels", "names", "idx_to_class", "id2label")
_NUMBERS = ("class_to_idx", "label2id")
_BESIDE = ("hyper_parameters", "hparams", "config", "args", "meta", "metadata")
"""Where training scripts keep their settings."""


def find_class_names(content: Any, count: int) -> tuple[str, ...] | None:
    """Return the names that a checkpoint has for so many classes; None where it has none, or
    others.

    Taken are a list of names, a dict from the index to the name (``idx_to_class``), and one from
    the name to the index (``class_to_idx``, as torchvision's ImageFolder has it), at the top of the
    file or in its settings (``hyper_parameters``, ``config``, ``args``, ``meta``).
    """
    for part in _list_parts(content):
        for key in (*_LISTS, *_NUMBERS):
            names = _order_names(part.get(key), inverted=key in _NUMBERS)
            if names is not None and len(names) == count and len(set(names)) == count:
                return names
    return None


def _list_parts(content: Any) -> Iterator[Mapping[Any, Any]]:
    if not isinstance(content, Mapping):
        return
    yield content
    for key in _BESIDE:
        part = content.get(key)
        part = vars(part) if isinstance(part, Namespace) else part
        if isinstance(part, Mapping):
            yield part


def _order_names(given: Any, *, inverted: bool) -> tuple[str, ...] | None:
    """Return names in the order of their indices, None where they are no such thing."""
    if isinstance(given, Mapping):
        pairs = [(index, name) if not inverted else (name, index) for index, name in given.items()]
        by_index = {str(index): name for index, name in pairs}
        given = [by_index.get(str(index)) for index in range(len(pairs))]
    if not isinstance(given, (list, tuple)):
        return None
    names = tuple(name.strip() for name in given if isinstance(name, str))
    return names if len(names) == len(given) and all(names) else None
