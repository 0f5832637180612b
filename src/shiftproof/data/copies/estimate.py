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
from shiftproof.data.copies.changed_copy import (
    COPIED_BYTES,
    CopyParts,
    CopyPlan,
    exclude_target,
    make_job,
)
from shiftproof.data.copies.tables import count_others, read_first_rows
from shiftproof.data.copies.tars import count_members, read_first_pictures
from shiftproof.data.copies.trees import TEXT_SUFFIXES, Tree
from shiftproof.data.copies.writing import Edit, encode, name_output
from shiftproof.data.disk import read_below
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
        BrokenFileError: a damaged tar, which the copy itself would leave out and name.
    """
    plan = exclude_target(plan, target)
    tree = plan.tree
    sources = _list_sources(plan)
    names, size, spent = _try_edit(plan, edit, sources.tried)
    if not names:
        raise InputError(f"{tree.root}: none of the images tried for the estimate can be read.")
    above = (target.resolve(), *target.resolve().parents)
    existing = next(folder for folder in above if folder.exists())
    workers = default_processes() if workers is None else workers
    return Estimate(
        layout=tree.layout,
        images=sources.images,
        cells=len(plan.versions),
        carried=len(tree.carried),
        bytes=sources.other_bytes + size * sources.images // len(names),
        cpu_seconds=spent * sources.images / len(names),
        workers=workers,
        sampled=tuple(names),
        free_bytes=shutil.disk_usage(existing).free,
        omissions=tree.omissions,
        memory=measure_memory(workers),
        parts=CopyParts(plan, make_job(plan, target, edit)).parts,
    )


@dataclass(frozen=True)
class _Sources:
    """The sources of a copy: number of images, bytes of all other content, and images to try."""

    images: int
    other_bytes: int
    tried: Iterator[tuple[str, str, Image]]


def _list_sources(plan: CopyPlan) -> _Sources:
    tree, versions, count = plan.tree, len(plan.versions), SAMPLED_IMAGES
    # Files of one image are written once for each form; so are the objects in a JSON.
    other_bytes = _count_carried_bytes(tree, versions + plan.with_originals)
    if plan.with_originals:
        other_bytes += sum(_read_file_size(tree.root / name) for name in tree.pictures)
    if tree.layout == "webdataset":
        counts = [count_members(tree.root / name) for name in tree.pictures]
        other_bytes += versions * sum(size for _, _, size in counts)
        tar = tree.pictures[0]
        tried = (
            (f"{tar}/{name}", name_output(name, plan.image_format), image)
            for name, image in read_first_pictures(tree.root / tar, count)
        )
        return _Sources(sum(members for members, _, _ in counts), other_bytes, tried)
    if tree.tables:
        tables = list(tree.tables.values())
        other_bytes += versions * sum(count_others(tree.layout, table) for table in tables)
        rows = read_first_rows(tree.layout, tables[0], plan.image_format, count)
        return _Sources(sum(table.rows for table in tables), other_bytes, rows)
    return _Sources(len(tree.pictures), other_bytes, _read_samples(plan))


def _try_edit(
    plan: CopyPlan, edit: Edit, tried: Iterator[tuple[str, str, Image]]
) -> tuple[list[str], int, float]:
    """Return which images were changed in all versions, their bytes, and the CPU seconds."""
    names: list[str] = []
    size = 0
    start = time.process_time()
    for key, output, image in tried:
        if not names:
            for version in plan.versions:  # compile and load before timing
                edit(image, version, f"before {key}")
            start = time.process_time()
        names.append(key)
        for version in plan.versions:
            changed, _ = edit(image, version, key)
            size += len(encode(changed, output))
        if time.process_time() - start > SAMPLED_SECONDS:
            break
    return names, size, time.process_time() - start


def _read_samples(plan: CopyPlan) -> Iterator[tuple[str, str, Image]]:
    """Yield name, new name and pixels of evenly spread readable images."""
    names = plan.tree.pictures
    count = min(len(names), SAMPLED_IMAGES)
    for place in range(count):
        name = names[place * len(names) // count]
        with contextlib.suppress(BrokenFileError):
            yield name, plan.outputs[name], read_below(plan.tree.root, name)


def _read_file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a broken link; reported when it is read
        return 0


def _count_carried_bytes(tree: Tree, cells: int) -> int:
    total = 0
    for name in tree.carried:
        size = (tree.root / name).stat().st_size
        is_copied = PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES and size <= COPIED_BYTES
        total += size * (cells if is_copied else 1)
    return total
