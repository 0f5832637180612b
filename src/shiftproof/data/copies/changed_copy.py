"""Write a changed copy of a dataset with its annotations: the code shared by all kinds of copies.

The kinds are corrupted copies (:mod:`shiftproof.data.copies.corrupted_copy`) and stylized ones.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof import shards
from shiftproof._version import __version__
from shiftproof.compute import processes
from shiftproof.compute.progress import progress
from shiftproof.compute.tuning import default_processes
from shiftproof.data.copies.carried_files import carry_files
from shiftproof.data.copies.copy_manifest import MANIFEST, PARTS, claim_target, compute_fingerprints
from shiftproof.data.copies.plan import CopyPlan, exclude_target
from shiftproof.data.copies.tables import export_table
from shiftproof.data.copies.tars import export_tar
from shiftproof.data.copies.trees import Tree
from shiftproof.data.copies.writing import ENCODER, Edit, ExportResult, Job
from shiftproof.data.disk import read_below
from shiftproof.data.readable import check_any_readable
from shiftproof.errors import BrokenFileError, UnfinishedError
from shiftproof.io import files, manifest
from shiftproof.io.folder_locks import releases_locks
from shiftproof.shards import Backend, Ray, Scheduled
from shiftproof.shards.access import check_accessible

PART_IMAGES = 16
MAX_PARTS = 4096
"""Images per part, and the maximum number of parts; beyond it parts get larger."""


@releases_locks
def export_copy(
    plan: CopyPlan,
    target: Path,
    edit: Edit,
    *,
    settings: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
    why: str = "",
    on_start: Callable[[], None] | None = None,
    title: str,
    workers: int | None = None,
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> ExportResult:
    """Write all versions of every image, and the other files into each folder of versions.

    Each source is decoded once; its key is the path below the source. Files are written atomically
    and existing ones are skipped, so the same call resumes an interrupted copy. ``manifest.json``
    describes the folder.

    Text files up to a megabyte are copied into each folder; of other files only the first folder
    has a copy, and the others have hard links to it if the file system supports them: changing one
    changes all of these, never the source. In tars (webdataset) the images are changed and all
    other members kept, in their order; the key is the tar's path and the member's name. In tables
    (what ``datasets`` saved, Parquet) the column of the images is changed and all others kept; the
    key is the row's number, as in the opened dataset.

    Args:
        plan: what to copy.
        target: an empty folder, or one with an unfinished run of the same copy.
        edit: the change of an image.
        settings: the settings that determine the pixels, for the manifest; a copy with other
            settings is refused.
        before: the settings that the target has, if the copy there gets more versions.
        why: a sentence for an error, such as why a copy cannot be extended.
        on_start: called when the target was found to fit this copy, before long work.
        title: label of the progress display.
        workers: processes; all cores by default.
        backend: distribution of the work: :class:`~shiftproof.shards.Scheduled` for one of several
            commands over one target, :class:`~shiftproof.shards.Ray` for a cluster whose machines
            all see source and target under the same paths. None runs everything in this process and
            its workers.
        show_progress: None shows it on a terminal only.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: no image that can be read, a target with other content, or annotations whose
            paths leave the folder.
        RunMismatchError: the target holds a copy made with other settings.
        RunError: the disk is full.
    """
    plan = exclude_target(plan, target)
    tree, outputs = plan.tree, plan.outputs
    if not isinstance(backend, Ray) and not (target / MANIFEST).is_file():
        _check_readable(tree)
    all_settings: dict[str, Any] = {
        "shiftproof": __version__,
        "source": tree.root.name,
        "images": len(tree.images),
        **settings,
        "encoder": ENCODER[plan.image_format],
    }
    if tree.layout != "plain":
        all_settings |= {"layout": tree.layout, "fingerprints": compute_fingerprints(tree)}
    if tree.is_packed:
        all_settings["tables" if tree.tables else "tars"] = all_settings.pop("images")
    earlier_broken, earlier_omissions = claim_target(
        target,
        all_settings,
        tree.omissions,
        shared=isinstance(backend, Scheduled),
        before=None if before is None else {**all_settings, **before},
        why=why,
    )
    if on_start is not None:
        on_start()
    if backend is None:
        result = _copy_all(plan, target, edit, title, workers, show_progress)
    else:
        result = _copy_in_parts(plan, target, edit, title, backend, all_settings, show_progress)
    # Include the broken and unused files of earlier calls, which this call skipped.
    broken = {name: reason for name, reason in earlier_broken.items() if name not in outputs}
    files.write_json(
        target / MANIFEST,
        {
            "format": manifest.FORMAT,
            **all_settings,
            **earlier_omissions,
            "broken": broken | result.broken,
        },
    )
    return result


def _check_readable(tree: Tree) -> None:
    """Check that an image can be read, before a copy is started; stops at the first readable one.

    Images in tars and tables are not checked.
    """
    if not tree.is_packed:
        check_any_readable(str(tree.root), tree.images, lambda name: read_below(tree.root, name))


def _copy_all(
    plan: CopyPlan,
    target: Path,
    edit: Edit,
    title: str,
    workers: int | None,
    show_progress: bool | None,
) -> ExportResult:
    outputs = plan.outputs
    workers = default_processes() if workers is None else workers
    result = carry_files(plan, target, workers, show_progress)
    job = make_job(plan, target, edit)
    with progress(title, len(outputs) * len(plan.versions), show=show_progress) as advance:
        results = processes.map_ordered(
            _export_source, outputs.items(), context=job, workers=workers
        )
        for name, image_result in zip(outputs, results, strict=True):
            result.add(image_result)
            advance(len(plan.versions), note=name)
    return result


def make_job(plan: CopyPlan, target: Path, edit: Edit) -> Job:
    """Return what workers need to make a copy."""
    tree = plan.tree
    return Job(tree.root, target, tree.layout, plan.versions, edit, plan.image_format, tree.tables)


def _export_source(job: Job, names: tuple[str, str]) -> ExportResult:
    """Write all versions of one image, tar or table, in a worker."""
    if names[0] in job.tables:
        return export_table(job, names[0])
    return export_tar(job, names[0]) if job.layout == "webdataset" else _export_image(job, names)


def _export_image(job: Job, names: tuple[str, str]) -> ExportResult:
    """Write all versions of one image, in a worker."""
    name, output = names
    missing = job.list_missing(output)
    result = ExportResult(kept=len(job.versions) - len(missing))
    if not missing:
        return result
    start = time.process_time()
    try:
        image = read_below(job.root, name)
    except BrokenFileError as error:
        return ExportResult(broken={name: str(error)})
    result.decode_seconds = time.process_time() - start
    for version in missing:
        encoded = job.make_version(image, version, name, output, result)
        start = time.process_time()
        files.write_bytes(job.locate(version, output), encoded, durable=False)
        result.write_seconds += time.process_time() - start
    return result


# ---------------------------------------------------------------- in parts


@dataclass(frozen=True)
class CopyParts:
    """The job of a worker: part 0 is the other files, the rest are the images."""

    plan: CopyPlan
    job: Job

    @property
    def size(self) -> int:
        """Number of images per part; a tar or table counts as one."""
        if self.plan.tree.is_packed:
            return 1
        return max(PART_IMAGES, -(-len(self.plan.outputs) // MAX_PARTS))

    @property
    def parts(self) -> int:
        """Number of parts."""
        return 1 + -(-len(self.plan.outputs) // self.size)


def _copy_in_parts(
    plan: CopyPlan,
    target: Path,
    edit: Edit,
    title: str,
    backend: Backend,
    settings: dict[str, Any],
    show_progress: bool | None,
) -> ExportResult:
    """Write a share of the parts, or all on a cluster; return the total once all are done."""
    copy_parts = CopyParts(plan, make_job(plan, target, edit))
    job = shards.Job(title, _copy_part, copy_parts, copy_parts.parts, settings)
    parts = shards.run_shards(job, target / PARTS, backend, show=show_progress)
    claimed = target / f"{PARTS}-{os.getpid()}"
    try:
        # If two workers finish at the same time, only one of them merges the parts.
        parts.path.rename(claimed)
    except FileNotFoundError:
        raise UnfinishedError(f"{title}: another worker merges the parts in {target}.") from None
    result = ExportResult()
    for part in shards.PartFolder(claimed, copy_parts.parts).each():
        result.add(ExportResult.unpack(part))
    shutil.rmtree(claimed, ignore_errors=True)
    return result


def _copy_part(parts: CopyParts, number: int) -> shards.Arrays:
    """Make one part, in a worker, and return its report."""
    plan, job = parts.plan, parts.job
    for path in (job.root, job.target / MANIFEST):
        check_accessible(path)
    if number == 0:
        return carry_files(plan, job.target, 0, False).pack()
    start = (number - 1) * parts.size
    result = ExportResult()
    for names in itertools.islice(plan.outputs.items(), start, start + parts.size):
        for version in plan.versions:
            files.make_folder(job.locate(version, names[1]).parent)
        result.add(_export_source(job, names))
    return result.pack()
