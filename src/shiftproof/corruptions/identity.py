"""The identity of a corruption in a record, by which runs with the same corruption are recognized."""

from __future__ import annotations

from shiftproof.corruptions import textures, weather
from shiftproof.corruptions.checks import CorruptionFunction
from shiftproof.io.files import fingerprint
from shiftproof.io.functions import find_source, fingerprint_values, name_function


def identify_corruption(corruption: str | CorruptionFunction) -> str:
    """Return the name of a corruption, or of a function its name with a fingerprint.

    The fingerprint changes with the function's source and with the values that it brings along
    (:func:`~shiftproof.io.functions.fingerprint_values`): of a partial, a closure, an object. A
    function may set its identity with an attribute ``identity``. For frost it names the textures,
    since frost differs between the published photographs and drawn ice.
    """
    identity = getattr(corruption, "identity", None)
    if isinstance(identity, str):
        return identity
    has_textures = corruption in ("frost", weather.frost, weather.frost_imagenet_c)
    suffix = f" with {textures.describe_published()}" if has_textures else ""
    if isinstance(corruption, str):
        return f"{corruption}{suffix}"
    name = name_function(corruption)
    parts = [find_source(corruption), fingerprint_values(corruption, with_helpers=True)]
    known = [part.encode() for part in parts if part is not None]
    return f"{name} {fingerprint(known)}{suffix}" if known else f"{name}{suffix}"
