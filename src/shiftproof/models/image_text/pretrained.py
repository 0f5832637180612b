"""Opening of transformers models by name or folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError, ModelError
from shiftproof.io.border import describe_error
from shiftproof.lazy import import_extra
from shiftproof.models.structure import require_torch


def open_transformers() -> Any:
    """Return the library, or raise a MissingExtraError with the pip command."""
    require_torch()
    return import_extra("transformers", "hf")


def check_pretrained(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a missing folder, and one that is no model; names on the hub are not checked.

    Raises:
        BrokenFileError: not a folder, or one without a ``config.json``.
        MissingExtraError: transformers is not installed.
    """
    open_transformers()
    if target.startswith((".", "/", "~")) and not Path(target).expanduser().is_dir():
        raise BrokenFileError(f"transformers:{target}: expected a folder, found none.")
    folder = Path(target).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise BrokenFileError(
            f"transformers:{target}: expected a folder with a config.json, as save_pretrained writes it."
        )


def open_pretrained(kind: Any, target: str, what: str, **options: Any) -> Any:
    """Return ``kind.from_pretrained`` of a name on the hub or a folder.

    A model's own code is never run, and the global random state is unchanged.

    ``target`` is a name on the Hugging Face hub, or the path of a folder of ``save_pretrained``;
    ``what`` is expected, for the error: "an image classifier".

    Raises:
        BrokenFileError: a path that is not a folder.
        ModelError: it cannot be loaded, or is something else.
    """
    import torch

    check_pretrained(target, {})
    place = str(Path(target).expanduser()) if Path(target).expanduser().is_dir() else target
    with torch.random.fork_rng(devices=[]), _quietly():
        try:
            return kind.from_pretrained(place, **options)
        except Exception as error:
            reason = describe_error(error)
            raise ModelError(
                f"transformers:{target} cannot be loaded as {what} ({reason}). {_advice(target)}"
            ) from error


def _advice(target: str) -> str:
    if Path(target).expanduser().is_dir():
        return "Expected a folder that save_pretrained wrote, of model and processor."
    return (
        "Without a network, save model and processor elsewhere by save_pretrained and name the "
        "folder: transformers:FOLDER."
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Context without the library's own messages: missing weights are our own error."""
    logging: Any = getattr(getattr(open_transformers(), "utils", None), "logging", None)
    if logging is None:
        yield
        return
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
