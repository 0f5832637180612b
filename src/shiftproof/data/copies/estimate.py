"""The cost of a copy, estimated from a few of its images."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.compute.needs import Needs, measure_memory
from shiftproof.compute.tuning import default_processes
from shiftproof.data.copies.carried_files import COPIED_BYTES
from shiftproof.data.copies.changed_copy import CopyParts, make_job
from shiftproof.data.copies.plan import CopyPlan, exclude_target
from shiftproof.data.copies.tables import count_other_bytes, read_first_rows
from shiftproof.data.copies.tars import count_members, read_first_images
from shiftproof.data.copies.trees import TEXT_SUFFIXES, Tree
from shiftproof.data.copies.writing import Edit, encode, name_output
from shiftproof.data.disk import read_below, read_file_size
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.types import Image

SAMPLED_IMAGES = 12
SAMPLED_SECONDS = 10.0
"""CPU seconds after which an estimate tries no further image."""


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a copy, from a few of its images; nothing has been written.

    Attributes:
        layout: plain, coco, voc, cityscapes, yolo, webdataset, saved or parquet.
        images: number of changed images in each cell.
        cells: number of versions of each image: for a corrupted copy corruptions times severities.
        carried: number of other files in each cell.
        bytes: total size on disk.
        cpu_seconds: CPU time of decoding, changing and encoding, summed over the workers.
        workers: number of worker processes.
        sampled: the images that were measured.
        omissions: files that will not be changed, or not be copied, one sentence each.
        free_bytes: free space on the target's disk.
        memory: bytes of memory of all processes together.
        parts: maximum number of commands or machines that can share the work.
        extent: what the copy in the target has, and what would be added; None without one.
    """

    layout: str
    images: int
    cells: int
    carried: int
    bytes: int
    cpu_seconds: float
    workers: int
    sampled: tuple[str, ...]
    free_bytes: int
    omissions: tuple[str, ...] = ()
    memory: int = 0
    parts: int = 1
    extent: str | None = None

    @property
    def needs(self) -> Needs:
        """The resources needed on this machine, in the form that all verbs show."""
        return Needs(self.seconds, self.memory, self.bytes, self.parts)

    @property
    def seconds(self) -> float:
        """Wall time, if every worker has its own core."""
        return self.cpu_seconds / max(self.workers, 1)


def estimate_copy(
    plan: CopyPlan, target: Path, edit: Edit, *, workers: int | None = None
) -> Estimate:
    """Estimate the cost of a copy by ``export_copy`` with the same arguments; writes nothing.

    Up to twelve images, evenly spread (for tars and tables the first of the first file), are
    processed in all versions and represent the others; the estimate is rough if image sizes vary.

    Raises:
        InputError: none of the tried images can be read.
        BrokenFileError: a damaged tar, which the copy itself would leave out and report.
    """
    plan = exclude_target(plan, target)
    tree = plan.tree
    sources = _list_sources(plan)
    names, size, cpu_seconds = _try_edit(plan, edit, sources.samples)
    if not names:
        raise InputError(f"{tree.root}: none of the images tried for the estimate can be read.")
    target_folders = (target.resolve(), *target.resolve().parents)
    existing = next(folder for folder in target_folders if folder.exists())
    workers = default_processes() if workers is None else workers
    return Estimate(
        layout=tree.layout,
        images=sources.images,
        cells=len(plan.versions),
        carried=len(tree.carried),
        bytes=sources.other_bytes + size * sources.images // len(names),
        cpu_seconds=cpu_seconds * sources.images / len(names),
        workers=workers,
        sampled=tuple(names),
        free_bytes=shutil.disk_usage(existing).free,
        omissions=tree.omissions,
        memory=measure_memory(workers),
        parts=CopyParts(plan, make_job(plan, target, edit)).parts,
    )


@dataclass(frozen=True)
class _Sources:
    """The sources of a copy.

    Attributes:
        images: number of images.
        other_bytes: size in bytes of all other content of the copy.
        samples: id, new name and pixels of the images to try.
    """

    images: int
    other_bytes: int
    samples: Iterator[tuple[str, str, Image]]


def _list_sources(plan: CopyPlan) -> _Sources:
    tree, versions, count = plan.tree, len(plan.versions), SAMPLED_IMAGES
    # Files of a single image are written once for each form, and so are the entries of a JSON.
    other_bytes = _count_carried_bytes(tree, versions + plan.with_originals)
    if plan.with_originals:
        other_bytes += sum(read_file_size(tree.root / name) or 0 for name in tree.images)
    if tree.layout == "webdataset":
        counts = [count_members(tree.root / name) for name in tree.images]
        other_bytes += versions * sum(size for _, size in counts)
        tar = tree.images[0]
        samples = (
            (f"{tar}/{name}", name_output(name, plan.image_format), image)
            for name, image in read_first_images(tree.root / tar, count)
        )
        return _Sources(sum(images for images, _ in counts), other_bytes, samples)
    if tree.tables:
        tables = list(tree.tables.values())
        other_bytes += versions * sum(count_other_bytes(tree.layout, table) for table in tables)
        rows = read_first_rows(tree.layout, tables[0], plan.image_format, count)
        return _Sources(sum(table.rows for table in tables), other_bytes, rows)
    return _Sources(len(tree.images), other_bytes, _read_samples(plan))


def _try_edit(
    plan: CopyPlan, edit: Edit, samples: Iterator[tuple[str, str, Image]]
) -> tuple[list[str], int, float]:
    """Change the samples in all versions; return their ids, size in bytes and CPU seconds."""
    names: list[str] = []
    size = 0
    start = time.process_time()
    for key, output, image in samples:
        if not names:
            for version in plan.versions:  # compile and load before timing
                edit(image, version, key)
            start = time.process_time()
        names.append(key)
        for version in plan.versions:
            edited_image, _ = edit(image, version, key)
            size += len(encode(edited_image, output))
        if time.process_time() - start > SAMPLED_SECONDS:
            break
    return names, size, time.process_time() - start


def _read_samples(plan: CopyPlan) -> Iterator[tuple[str, str, Image]]:
    """Yield name, new name and pixels of evenly spread images, if they can be read."""
    names = plan.tree.images
    count = min(len(names), SAMPLED_IMAGES)
    for index in range(count):
        name = names[index * len(names) // count]
        with contextlib.suppress(BrokenFileError):
            yield name, plan.outputs[name], read_below(plan.tree.root, name)


def _count_carried_bytes(tree: Tree, cells: int) -> int:
    total = 0
    for name in tree.carried:
        size = (tree.root / name).stat().st_size
        is_copied = PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES and size <= COPIED_BYTES
        total += size * (cells if is_copied else 1)
    return total
