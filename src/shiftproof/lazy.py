"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def load_name(package: str, name: str, names: Mapping[str, str]) -> Any:
    """Import a name of a package from the module that defines it.

    Args:
        package: the package, as its ``__name__``.
        name: what is looked up in it.
        names: the module of each name.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(names[name]), name)
