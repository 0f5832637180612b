"""An extension of a run, as ``run.json`` has it until all cells of the larger grid are measured.

Until then the file keeps the settings of the smaller grid, and ``scores.json`` is unchanged, so
readers see a consistent run. Replacing ``scores.json`` completes the extension; ``run.json`` follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shiftproof.io import files
from shiftproof.types import Settings

KEY = "extension"
"""Key of ``run.json``: what the run is being extended to."""

EXTENDED = "extended"
"""Key of ``run.json``: the finished extensions, each with its provenance."""


class Extension(msgspec.Struct, frozen=True):
    """What a run is being extended to.

    Attributes:
        settings: of the larger grid.
        added: description of what is new.
        scores: fingerprint of the previous ``scores.json``; None without one.
        renamed: from previous names of models to those in the larger run.
        assumed: assumptions made when the models were loaded, by model.
        provenance: of the command.
    """

    settings: dict[str, Any]
    added: str
    scores: str | None
    renamed: dict[str, str] = {}
    assumed: dict[str, Any] = {}
    provenance: dict[str, Any] = {}


def read_extension(info: Mapping[str, Any]) -> Extension | None:
    """Return the extension in ``run.json``, the content of which is ``info``.

    None without a valid one. Names of models become folders, so they must be valid file names.
    """
    try:
        extension = msgspec.convert(info.get(KEY), Extension | None)
    except msgspec.ValidationError:
        return None
    if extension is None:
        return None
    names = [*extension.renamed, *extension.renamed.values()]
    return extension if all(map(files.can_name_files, names)) else None


def fingerprint_scores(path: Path) -> str | None:
    """Return the fingerprint of ``scores.json``; None without that file."""
    return files.file_fingerprint(path) if path.is_file() else None


def resolve_extension(
    info: Mapping[str, Any], scores: Path, *, measured: bool = False
) -> dict[str, Any]:
    """Return ``run.json`` as readers have to see it: the run before its extension, or after it.

    Args:
        info: the content of ``run.json``.
        scores: path of ``scores.json``.
        measured: whether all cells of the extension are recorded, so that it is the larger run.
    """
    extension = read_extension(info)
    before = {key: value for key, value in info.items() if key != KEY}
    if extension is None:
        return before
    fingerprint = fingerprint_scores(scores)
    if not measured and (fingerprint is None or fingerprint == extension.scores):
        return before
    extended, assumed = before.get(EXTENDED), before.get("assumed")
    entry = {"added": extension.added, "provenance": extension.provenance}
    previous = assumed if isinstance(assumed, dict) else {}
    return {
        **before,
        "assumed": {
            **{extension.renamed.get(name, name): value for name, value in previous.items()},
            **extension.assumed,
        },
        "settings": extension.settings,
        EXTENDED: [*(extended if isinstance(extended, list) else ()), entry],
    }


def read_requested_settings(info: Mapping[str, Any]) -> Settings | None:
    """Return the settings of the extension in ``run.json``, if there is one, else of the run."""
    extension = read_extension(info)
    settings = info.get("settings") if extension is None else extension.settings
    return settings if isinstance(settings, dict) else None
