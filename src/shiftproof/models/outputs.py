"""What a network returns, reduced to the one tensor that is meant: models of other libraries wrap it.

The rule, in this order:

1. a tensor or an array is meant itself;
2. of a mapping (the ``ModelOutput`` of transformers is one), a dataclass or a named tuple, the entry
   that is called as what is asked for: ``LOGITS`` of classifiers, ``VECTORS`` of encoders;
3. of one of these with one tensor alone, that one, a named tuple excepted, which is a tuple;
4. of a tuple or list, its first entry, if that is a tensor.

Everything else is refused: what is meant would be a guess.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

LOGITS = ("logits", "logits_per_image")
"""What the logits of images are called, the most exact name first."""

VECTORS = ("image_embeds", "embeddings", "pooler_output")
"""What the vectors of images are called, the most exact name first."""


def find_tensor(output: Any, names: Sequence[str]) -> Any:
    """Return the tensor or array that an output means, or None where it does not say.

    Args:
        output: what a network returned.
        names: what it may be called, the most exact name first.

    >>> import numpy as np
    >>> find_tensor({"loss": None, "logits": np.zeros((2, 3))}, LOGITS).shape
    (2, 3)
    """
    if hasattr(output, "shape"):
        return output
    entries = _entries(output)
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
    """Say what a network returned, for an error: its type, and the names in it where it has some."""
    names = ", ".join(map(str, _entries(output)))
    return f"{type(output).__name__} of {names}" if names else type(output).__name__


def _entries(output: Any) -> dict[Any, Any]:
    """Return the named parts of an output; none where it has no names."""
    if isinstance(output, Mapping):
        return dict(output)
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    fields = getattr(output, "_fields", ())
    return {name: getattr(output, name) for name in fields}
