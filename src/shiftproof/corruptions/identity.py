"""The identity of a corruption in a record: tells whether two runs used the same one."""

from __future__ import annotations

import inspect
import tokenize

from shiftproof.corruptions import textures, weather
from shiftproof.corruptions.checks import CorruptionFunction
from shiftproof.io.files import fingerprint


def identify_corruption(corruption: str | CorruptionFunction) -> str:
    """Return the name of a corruption, or of a function its name with a fingerprint of its source.

    A function may set it with an attribute ``identity``. For frost it names the textures: with the
    published photographs frost is another corruption than with drawn ice.
    """
    if isinstance(corruption, str):
        of = f" with {textures.describe_published()}" if corruption == "frost" else ""
        return f"{corruption}{of}"
    identity = getattr(corruption, "identity", None)
    if isinstance(identity, str):
        return identity
    qualified = getattr(corruption, "__qualname__", type(corruption).__qualname__)
    name = f"{corruption.__module__}.{qualified}"
    of = (
        f" with {textures.describe_published()}"
        if corruption in (weather.frost, weather.frost_imagenet_c)
        else ""
    )
    try:
        return f"{name} {fingerprint([inspect.getsource(corruption).encode()])}{of}"
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        # Typed into a console, not a function, or of a file that has changed since it was imported.
        return f"{name}{of}"
