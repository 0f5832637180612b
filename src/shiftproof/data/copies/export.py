"""Write a changed copy of a dataset with its annotations: the code shared by all kinds of copies.

The kinds are corrupted copies (:mod:`shiftproof.data.copies.corrupted_copy`) and stylized ones.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from shiftproof import shards
from shiftproof._version import __version__
from shiftproof.compute import processes
from shiftproof.compute.progress import progress
from shiftproof.compute.tuning import default_processes
from shiftproof.data.copies.renaming import Form, carry_over, name_carried
from shiftproof.data.copies.tables import export_table
from shiftproof.data.copies.tars import export_tar
from shiftproof.data.copies.trees import TEXT_SUFFIXES, Tree, name_outputs, open_tree
from shiftproof.data.copies.writing import (
    ENCODER,
    Edit,
    ExportResult,
    ImageFormat,
    Job,
    Version,
    mark_name,
)
from shiftproof.data.disk import read_below
from shiftproof.data.images.cells import FINGERPRINT_BYTES
from shiftproof.data.layouts import LAYOUTS
from shiftproof.data.readable import check_any_readable
from shiftproof.errors import BrokenFileError, InputError, UnfinishedError, UnknownNameError
from shiftproof.io import files, manifest
from shiftproof.io.folder_locks import lock_exclusively, lock_for_setup, releases_locks
from shiftproof.io.images import is_image
from shiftproof.io.placeholders import ensure_local
from shiftproof.io.text import read_object
from shiftproof.shards import Backend, Ray, Scheduled
from shiftproof.shards.access import check_accessible

MANIFEST = "manifest.json"

PARTS = ".parts"
"""Folder in a copy for the reports of its parts, until all parts are done."""

PART_IMAGES = 16
MAX_PARTS = 4096
"""Images per part, and the maximum number of parts; beyond it parts get larger."""

COPIED_BYTES = 1_000_000
"""Text files up to this size are copied into each folder; larger files are hard links to the first
copy."""


@dataclass(frozen=True)
class CopyPlan:
    """The plan of a copy, made before anything is written.

    Attributes:
        tree: the source dataset.
        outputs: the new name of each image, without marks.
        versions: the versions of every image; the same marks in every folder.
        with_originals: whether the copy also has the unchanged images.
        image_format: file format of the changed images.
    """

    tree: Tree
    outputs: dict[str, str]
    versions: tuple[Version, ...]
    with_originals: bool
    image_format: ImageFormat

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The folders of the versions, each once."""
        return tuple(dict.fromkeys(version.folder for version in self.versions))

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The forms of the images in each folder."""
        marks = dict.fromkeys(version.mark for version in self.versions)
        forms = [Form("", {name: name for name in self.outputs})] if self.with_originals else []
        for mark in marks:
            layout, outputs = self.tree.layout, self.outputs.items()
            forms.append(
                Form(mark, {name: mark_name(layout, new_name, mark) for name, new_name in outputs})
            )
        return tuple(forms)


def plan_copy(
    source: Path,
    versions: Sequence[Version],
    *,
    image_format: ImageFormat,
    with_originals: bool = False,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> CopyPlan:
    """Inspect a source and choose all names; see :func:`export_copy`.

    ``split``, ``images`` and ``root`` are those of :func:`~shiftproof.data.find_dataset`.

    A folder in the layout of COCO, Pascal VOC, Cityscapes or YOLO (by the marks that
    :func:`~shiftproof.data.find_dataset` names) is copied as a whole. Only photographs are changed;
    masks and all other files are unchanged, except for the images' new names in the annotations
    (see :mod:`shiftproof.data.copies.renaming`).

    Raises:
        InputError: no images, or two files of the copy with the same name.
    """
    if image_format not in ENCODER:
        raise UnknownNameError.of("image format", image_format, ENCODER)
    tree = open_tree(source, split=split, images=images, root=root)
    outputs = name_outputs(tree, image_format)
    plan = CopyPlan(tree, outputs, tuple(versions), with_originals, image_format)
    if tree.tables and any(form.mark for form in plan.forms):
        raise InputError(
            f"{source} is {LAYOUTS[tree.layout].title}, whose copies hold every image once: leave out the "
            "originals, and write several versions into folders of their own."
        )
    if len(plan.forms) > 1:
        _check_unique_names(plan)
    return plan


def _check_unique_names(plan: CopyPlan) -> None:
    """Check that no two files of the copy have the same name."""
    seen = set(plan.tree.carried)
    for form in plan.forms:
        for name in form.outputs.values():
            if name in seen:
                raise InputError(
                    f"{plan.tree.root}: two files of the copy would be called {name}; is the source "
                    "such a copy already? Rename one."
                )
            seen.add(name)


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
        all_settings |= {"layout": tree.layout, "fingerprints": _compute_fingerprints(tree)}
    if tree.is_packed:
        all_settings["tables" if tree.tables else "tars"] = all_settings.pop("images")
    earlier_broken, earlier_omissions = _claim_target(
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
    result = _carry_all(plan, target, workers, show_progress)
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


_PACKED_SUFFIXES = frozenset({".arrow", ".parquet", ".tar"})


def _check_target(plan: CopyPlan, target: Path) -> None:
    """Refuse a target that is named like a file: a copy is a folder, even of a single image."""
    if target.is_dir() or not (is_image(target) or target.suffix.lower() in _PACKED_SUFFIXES):
        return
    first = PurePosixPath(plan.folders[0], next(iter(plan.forms[0].outputs.values())))
    raise InputError(
        f"Expected a folder for the copy, got the name of a file, {target}. Give for example "
        f"{target.with_suffix('')}, in which {first} will be written."
    )


def exclude_target(plan: CopyPlan, target: Path) -> CopyPlan:
    """Leave out files in the target: a copy within its own source may have some already.

    Raises:
        InputError: nothing is left, or the target is named like a file.
    """
    _check_target(plan, target)
    root, target_path = plan.tree.root.resolve(), target.resolve()
    if target_path == root or not target_path.is_relative_to(root):
        return plan
    prefix = f"{target_path.relative_to(root).as_posix()}/"

    def exclude(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if not name.startswith(prefix))

    tree = dataclasses.replace(
        plan.tree, images=exclude(plan.tree.images), carried=exclude(plan.tree.carried)
    )
    if not tree.images:
        raise InputError(f"{plan.tree.root} holds no images outside of the target folder.")
    return dataclasses.replace(
        plan, tree=tree, outputs={name: plan.outputs[name] for name in exclude(plan.outputs)}
    )


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
        return _carry_all(plan, job.target, 0, False).pack()
    start = (number - 1) * parts.size
    result = ExportResult()
    for names in itertools.islice(plan.outputs.items(), start, start + parts.size):
        for version in plan.versions:
            files.make_folder(job.locate(version, names[1]).parent)
        result.add(_export_source(job, names))
    return result.pack()


# ---------------------------------------------------------------- files that are carried over


@dataclass(frozen=True)
class _CarryJob:
    tree: Tree
    target: Path
    folders: tuple[str, ...]
    forms: tuple[Form, ...]


def _carry_all(
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


def _compute_fingerprints(tree: Tree) -> dict[str, str]:
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


def _claim_target(
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
