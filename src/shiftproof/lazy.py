"""Lazy imports: names of a package, and optional libraries."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def load_name(package: str, name: str, names: Mapping[str, str]) -> Any:
    """Import a name of a package from the module that defines it.

    Args:
        package: the package, as its ``__name__``.
        name: the name to look up.
        names: the module of each name.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(names[name]), name)


def import_extra(name: str, extra: str, *, package: str | None = None) -> Any:
    """Import an optional library, or a module of it.

    Args:
        name: the module.
        extra: the extra of shiftproof that installs it.
        package: the distribution, if its name differs from the module's.

    Raises:
        MissingExtraError: it is not installed; has the pip command of the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        # Imported here, since it would slow down the start.
        from shiftproof.errors import MissingExtraError

        raise MissingExtraError.of(package or name.partition(".")[0], extra) from error
