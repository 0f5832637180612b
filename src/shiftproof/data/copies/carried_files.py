"""The files of a copy that are not changed, and the annotations with the images' new names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.compute import processes
from shiftproof.compute.progress import progress
from shiftproof.data.copies.plan import CopyPlan
from shiftproof.data.copies.renaming import Form, carry_over, name_carried
from shiftproof.data.copies.trees import TEXT_SUFFIXES, Tree
from shiftproof.data.copies.writing import ExportResult
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.placeholders import ensure_local

COPIED_BYTES = 1_000_000
"""Text files up to this size are copied into each folder; larger files are hard links to the first
copy."""


@dataclass(frozen=True)
class _CarryJob:
    tree: Tree
    target: Path
    folders: tuple[str, ...]
    forms: tuple[Form, ...]


def carry_files(
    plan: CopyPlan, target: Path, workers: int, show_progress: bool | None
) -> ExportResult:
    """Make all folders of the copy, and copy the unchanged files into them."""
    tree = plan.tree
    carried = [(name, False) for name in tree.carried]
    if plan.with_originals:
        carried += [(name, True) for name in tree.images]
    names = (*plan.outputs.values(), *(name for name, _ in carried))
    for inner in {PurePosixPath(name).parent for name in names}:
        for folder in plan.folders:
            files.make_folder(target / folder / inner)
    result = ExportResult(omissions=list(tree.omissions))
    with progress("Annotations", len(carried), show=show_progress) as advance:
        job = _CarryJob(tree, target, plan.folders, plan.forms)
        results = processes.map_ordered(_carry_file, carried, context=job, workers=workers)
        for (name, _), file_result in zip(carried, results, strict=True):
            result.add(file_result)
            advance(note=name)
    return result


def _carry_file(job: _CarryJob, item: tuple[str, bool]) -> ExportResult:
    """Copy or link a file into every folder, in a worker; True stands for an unchanged image."""
    name, is_original = item
    new_names = [name] if is_original else name_carried(job.tree, name, job.forms)
    paths = {
        new_name: [job.target / folder / new_name for folder in job.folders]
        for new_name in new_names
    }
    missing = {
        path for target_paths in paths.values() for path in target_paths if not path.exists()
    }
    result = ExportResult(carried=len(missing))
    if not missing:
        return result
    if is_original:
        try:
            _write_missing(job.tree.root / name, None, paths[name], missing)
        except (BrokenFileError, FileNotFoundError):
            return ExportResult()  # reported when its versions are made
        return result
    carried_file = carry_over(job.tree, name, job.forms)
    for new_name, target_paths in paths.items():
        _write_missing(job.tree.root / name, carried_file.contents[new_name], target_paths, missing)
    result.omissions += carried_file.unmatched
    return result


def _write_missing(
    original: Path, changed: bytes | None, paths: Sequence[Path], missing: set[Path]
) -> None:
    """Write a file, or its changed content, to those of ``paths`` that are missing."""
    ensure_local(original)
    size = original.stat().st_size if changed is None else len(changed)
    is_copied = original.suffix.lower() in TEXT_SUFFIXES and size <= COPIED_BYTES
    # The others link to the copy of the first folder, or to one of an interrupted run.
    first_copy = next((path for path in paths if path not in missing), None)
    for path in paths:
        if path not in missing:
            continue
        if first_copy is not None and not is_copied and _link(first_copy, path):
            continue
        if changed is not None:
            files.write_bytes(path, changed, durable=False)
        else:
            _copy(original, path)
        first_copy = path if first_copy is None else first_copy


def _link(first_copy: Path, path: Path) -> bool:
    try:
        os.link(first_copy, path)
    except OSError:  # another disk, or one without hard links
        return False
    return True


def _copy(original: Path, path: Path) -> None:
    try:
        with original.open("rb") as read, files.atomic(path, durable=False) as written:
            shutil.copyfileobj(read, written)
    except PermissionError as error:
        raise BrokenFileError(f"{original}: cannot be read ({error.strerror}).") from error
