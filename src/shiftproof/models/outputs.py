"""Extraction of logits or vectors from a network's output, which many libraries wrap.

The rules, in order of precedence:

1. a tensor or array itself;
2. the entry of a mapping (such as ``ModelOutput`` of transformers), dataclass or named tuple with a
   usual name: ``LOGITS`` for classifiers, ``VECTORS`` for encoders;
3. the only tensor of a mapping or dataclass;
4. the first entry of a tuple or list, if it is a tensor.

All other outputs are ambiguous and refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

LOGITS = ("logits", "logits_per_image")
"""Usual names of image logits, the most specific first."""

VECTORS = ("image_embeds", "embeddings", "pooler_output")
"""Usual names of image embeddings, the most specific first."""


def find_tensor(output: Any, names: Sequence[str]) -> Any:
    """Return the tensor or array in an output, or None if it is ambiguous.

    Args:
        output: output of a network.
        names: possible names of the tensor, the most specific first.

    >>> import numpy as np
    >>> find_tensor({"loss": None, "logits": np.zeros((2, 3))}, LOGITS).shape
    (2, 3)
    """
    if hasattr(output, "shape"):
        return output
    entries = _list_entries(output)
    named = [entries[name] for name in names if hasattr(entries.get(name), "shape")]
    if named:
        return named[0]
    if entries and not isinstance(output, tuple):
        tensors = [value for value in entries.values() if hasattr(value, "shape")]
        return tensors[0] if len(tensors) == 1 else None
    if isinstance(output, tuple | list) and output and hasattr(output[0], "shape"):
        return output[0]
    return None


def describe_output(output: Any) -> str:
    """Describe a network's output for an error: its type, and the names of its entries."""
    names = ", ".join(map(str, _list_entries(output)))
    return f"{type(output).__name__} of {names}" if names else type(output).__name__


def _list_entries(output: Any) -> dict[Any, Any]:
    """Return the named entries of an output."""
    if isinstance(output, Mapping):
        return dict(output)
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    fields = getattr(output, "_fields", ())
    return {name: getattr(output, name) for name in fields}
