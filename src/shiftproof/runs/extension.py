"""An extension of a run, as ``run.json`` has it until all cells of the larger grid are measured.

Until then the file keeps the settings of the smaller grid, and ``scores.json`` is unchanged, so readers see
a consistent run. Replacing ``scores.json`` completes the extension; ``run.json`` follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shiftproof.io import files
from shiftproof.types import Settings

KEY = "extension"
"""Of ``run.json``: what a run is being extended to."""

EXTENDED = "extended"
"""Of ``run.json``: a list of what a run was extended by, with the provenance of each time."""


class Extension(msgspec.Struct, frozen=True):
    """What a run is being extended to.

    Attributes:
        settings: of the larger grid.
        added: what is new, in words.
        scores: the fingerprint of ``scores.json`` before; None where there was none.
        renamed: names of models before to those in the larger run.
        assumed: what was assumed when its models were loaded, by model.
        provenance: of the command.
    """

    settings: dict[str, Any]
    added: str
    scores: str | None
    renamed: dict[str, str] = {}
    assumed: dict[str, Any] = {}
    provenance: dict[str, Any] = {}


def read_extension(told: Mapping[str, Any]) -> Extension | None:
    """Return the extension that ``run.json`` tells of, if there is a readable one.

    Folders of renamed models are removed in the end: one whose names lead elsewhere is none.
    """
    try:
        found = msgspec.convert(told.get(KEY), Extension | None)
    except msgspec.ValidationError:
        return None
    if found is None or all(map(files.can_name_files, [*found.renamed, *found.renamed.values()])):
        return found
    return None


def print_scores(path: Path) -> str | None:
    """Return the fingerprint of ``scores.json``; None where there is none."""
    return files.file_fingerprint(path) if path.is_file() else None


def settle(told: Mapping[str, Any], scores: Path, *, measured: bool = False) -> dict[str, Any]:
    """Return ``run.json`` as readers have to see it: the run before its extension, or after it.

    Args:
        told: the content of ``run.json``.
        scores: where ``scores.json`` is.
        measured: the cells of the extension are all there, so that it is the larger run.
    """
    extension = read_extension(told)
    before = {key: value for key, value in told.items() if key != KEY}
    if extension is None:
        return before
    found = print_scores(scores)
    if not measured and (found is None or found == extension.scores):
        return before
    extended, assumed = before.get(EXTENDED), before.get("assumed")
    entry = {"added": extension.added, "provenance": extension.provenance}
    old = assumed if isinstance(assumed, dict) else {}
    return {
        **before,
        "assumed": {
            **{extension.renamed.get(name, name): told for name, told in old.items()},
            **extension.assumed,
        },
        "settings": extension.settings,
        EXTENDED: [*(extended if isinstance(extended, list) else ()), entry],
    }


def find_settings(told: Mapping[str, Any]) -> Settings | None:
    """Return the settings of all that was ever asked for: of the extension, if there is one."""
    extension = read_extension(told)
    settings = told.get("settings") if extension is None else extension.settings
    return settings if isinstance(settings, dict) else None
