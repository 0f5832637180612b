"""The manifest of a copy: the target is claimed for it, or extended by more versions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftproof.data.copies.trees import Tree
from shiftproof.data.images.cells import FINGERPRINT_BYTES
from shiftproof.io import files, manifest
from shiftproof.io.folder_locks import lock_exclusively, lock_for_setup
from shiftproof.io.text import read_object

MANIFEST = "manifest.json"

PARTS = ".parts"
"""Folder in a copy for the reports of its parts, until all parts are done."""


def compute_fingerprints(tree: Tree) -> dict[str, str]:
    """Return fingerprints of the source's images and of its other files."""
    fingerprints = {}
    for kind, names in (("images", tree.images), ("other files", tree.carried)):
        size = sum((tree.root / name).stat().st_size for name in names)
        if size <= FINGERPRINT_BYTES:
            contents: Iterable[str] = files.file_fingerprints(tree.root / name for name in names)
        else:
            contents = (f"size {(tree.root / name).stat().st_size}" for name in names)
        # As a generator, so that a million names are in memory only once.
        pairs = zip(names, contents, strict=True)
        fingerprints[kind] = files.fingerprint(part.encode() for pair in pairs for part in pair)
    fingerprints["of"] = "names and contents; of more than 2 GB names and sizes"
    return fingerprints


def claim_target(
    target: Path,
    settings: dict[str, Any],
    omissions: Sequence[str],
    *,
    shared: bool,
    before: dict[str, Any] | None,
    why: str,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Claim the target for this copy; return the broken images and the omissions in its manifest.

    The omissions of the first call are kept: a copy within its own source has more the next time.
    """
    if before is None:
        content = _begin(target, settings, omissions, shared=shared, why=why)
    else:
        with lock_for_setup(target):
            content = _extend(target, settings, omissions, shared=shared, before=before)
    broken = content.get("broken")
    omitted = {"left aside": content["left aside"]} if "left aside" in content else {}
    return (broken if isinstance(broken, dict) else {}), omitted


def _begin(
    target: Path, settings: dict[str, Any], omissions: Sequence[str], *, shared: bool, why: str = ""
) -> dict[str, Any]:
    about = {"left aside": list(omissions)} if omissions else {}
    content = manifest.begin(
        target, MANIFEST, settings, what="a copy", about=about, shared=shared, why=why
    )
    manifest.check_same(target, _read_settings(content), settings, what="a copy", why=why)
    return content


def _extend(
    target: Path,
    settings: dict[str, Any],
    omissions: Sequence[str],
    *,
    shared: bool,
    before: dict[str, Any],
) -> dict[str, Any]:
    """Claim a copy that gets more versions, and add them to its manifest."""
    content = read_object(target / MANIFEST)
    if _read_settings(content) == settings:  # another worker was first
        return _begin(target, settings, omissions, shared=shared)
    manifest.check_same(target, _read_settings(content), before, what="a copy")
    content = {key: settings.get(key, value) for key, value in content.items()}
    if shared:
        with lock_exclusively(target):
            _write_extended(target, content)
        return _begin(target, settings, omissions, shared=True)
    _begin(target, before, omissions, shared=False)
    _write_extended(target, content)
    return content


def _write_extended(target: Path, content: dict[str, Any]) -> None:
    # The parts of an unfinished copy with fewer versions are not those of this one.
    shutil.rmtree(target / PARTS, ignore_errors=True)
    files.write_json(target / MANIFEST, content)


def _read_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in content.items()
        if key not in ("format", "broken", "left aside")
    }
