"""Read the clean images whose statistics adapters compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftproof.errors import InputError
from shiftproof.io.images import is_image, read_image
from shiftproof.types import Image

MAX_IMAGES = 256
"""Maximum number of clean images to measure, evenly spaced."""


def read_clean_images(clean: str | Path | Sequence[Image]) -> list[Image]:
    """Return at most ``MAX_IMAGES`` clean images, evenly spaced.

    Raises:
        InputError: no images.
        BrokenFileError: an image that cannot be read.
    """
    if isinstance(clean, (str, Path)):
        return [read_image(path) for path in _space_evenly(_list_images(Path(clean)))]
    if not len(clean):
        raise InputError("clean: expected one image or more, got none.")
    return _space_evenly(clean)


def check_clean_option(options: Mapping[str, object]) -> None:
    """Refuse an adapter's option ``clean`` if its folder holds no images.

    Raises:
        InputError: no images.
    """
    clean = options.get("clean")
    if isinstance(clean, str):
        _list_images(Path(clean))


def _list_images(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, in the same order on every machine."""
    found = sorted(
        (path for path in folder.rglob("*") if is_image(path)),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not found:
        raise InputError(f"clean: expected a folder of images, found none in {folder}.")
    return found


def _space_evenly(items: Sequence[Any]) -> list[Any]:
    step = max(1, -(-len(items) // MAX_IMAGES))
    return list(items[::step])
