"""The identity of a corruption in a record, by which runs with the same corruption are recognized."""

from __future__ import annotations

import inspect
import tokenize

from shiftproof.corruptions import textures, weather
from shiftproof.corruptions.checks import CorruptionFunction
from shiftproof.io.files import fingerprint


def identify_corruption(corruption: str | CorruptionFunction) -> str:
    """Return the name of a corruption, or of a function its name with a fingerprint of its source.

    A function may set it with an attribute ``identity``. For frost it names the textures, since frost
    differs between the published photographs and drawn ice.
    """
    identity = getattr(corruption, "identity", None)
    if isinstance(identity, str):
        return identity
    has_textures = corruption in ("frost", weather.frost, weather.frost_imagenet_c)
    suffix = f" with {textures.describe_published()}" if has_textures else ""
    if isinstance(corruption, str):
        return f"{corruption}{suffix}"
    qualified = getattr(corruption, "__qualname__", type(corruption).__qualname__)
    name = f"{corruption.__module__}.{qualified}"
    try:
        return f"{name} {fingerprint([inspect.getsource(corruption).encode()])}{suffix}"
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        # Defined in a console, not a function, or from a file that changed after the import.
        return f"{name}{suffix}"
