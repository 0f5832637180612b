"""Targets of model specs: a name, a local path, or a URL whose file is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftproof.io.border import open_regular
from shiftproof.io.locations import is_url


def fetch_target(target: str) -> str:
    """Return a model's name or path; for a URL the path of a local copy.

    The file is fetched once for each URL, and again if its size, etag or date in the store has
    changed; a folder, such as one of save_pretrained, is fetched as a whole. The path ends as the
    URL does, so the model's name does not depend on its place.

    Raises:
        BrokenFileError: the URL does not exist.
        InputError: no credentials, or the store refuses them.
        MissingExtraError: a package for the protocol is not installed.
        RunError: the store does not answer.
    """
    if not is_url(target):
        return target
    from shiftproof.storage import fetch  # imports the store clients

    return str(fetch(target))


def fetch_classes(classes: Any) -> Any:
    """Return the classes argument; for a URL the path of a local copy."""
    return fetch_target(classes) if isinstance(classes, str) else classes


def check_file(target: str, options: Mapping[str, Any]) -> None:
    """Check that the file of a model can be opened.

    Raises:
        BrokenFileError: it cannot.
    """
    with open_regular(Path(target)):
        pass
