"""What a record says of a corruption: enough to tell whether two runs had the same."""

from __future__ import annotations

import inspect

from shiftproof.corruptions import textures, weather
from shiftproof.corruptions.checks import CorruptionFunction
from shiftproof.io.files import fingerprint


def identity_of(corruption: str | CorruptionFunction) -> str:
    """Return the name of a corruption, or of a function its name with a fingerprint of its source.

    A function says it better by an attribute ``identity``. Of frost the textures are named: with the
    published photographs it is another corruption than with drawn ice.
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
    except (OSError, TypeError):  # typed into a console, or not a function
        return f"{name}{of}"
