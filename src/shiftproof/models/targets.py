"""What a text names as a model: a name, a path here, or a URL whose file is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftproof.io.border import open_regular
from shiftproof.io.locations import is_url


def fetch_target(target: str) -> str:
    """Return a model's name or path; of a URL the path of its copy here.

    The file is fetched once for each URL, and again when its size, etag or date in the store has
    changed; a folder, such as one of save_pretrained, is fetched whole. The path ends as the URL does, so
    that a model is called the same wherever it came from.

    Raises:
        BrokenFileError: the URL does not exist.
        InputError: no credentials, or the store refuses them.
        MissingExtraError: a package for the protocol is not installed.
        RunError: the store does not answer.
    """
    if not is_url(target):
        return target
    from shiftproof.storage import fetch  # with all that asks stores

    return str(fetch(target))


def fetch_classes(classes: Any) -> Any:
    """Return what classes were given as; of a URL the path of its copy here."""
    return fetch_target(classes) if isinstance(classes, str) else classes


def check_file(target: str, options: Mapping[str, Any]) -> None:
    """Refuse the file of a model that is not there.

    Raises:
        BrokenFileError: it cannot be opened.
    """
    with open_regular(Path(target)):
        pass
