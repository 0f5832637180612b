"""The identity of a corruption in a record, by which runs with the same corruption are recognized."""

from __future__ import annotations

from shiftproof.corruptions import textures, weather
from shiftproof.corruptions.checks import CorruptionFunction
from shiftproof.io.function_code import identify_function


def identify_corruption(corruption: str | CorruptionFunction) -> str:
    """Return the name of a corruption, or of a function its name with a fingerprint of its code.

    :func:`~shiftproof.io.function_code.fingerprint_function` says what that is: docstrings and comments
    do not count, defaults and captured values do.

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
    return f"{identify_function(corruption)}{suffix}"
