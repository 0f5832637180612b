"""Write a corrupted copy of a dataset and its annotations to disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.corruptions import CorruptionFunction, corrupt
from shiftproof.corruptions.depth_sources import bind_image
from shiftproof.data.copies.changed_copy import export_copy
from shiftproof.data.copies.estimate import Estimate, estimate_copy
from shiftproof.data.copies.extending import find_extent
from shiftproof.data.copies.plan import CopyPlan, plan_copy
from shiftproof.data.copies.writing import ExportResult, ImageFormat, Version
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.shards import Backend
from shiftproof.types import Cell, Image


def export_corrupted(
    source: Path,
    target: Path,
    *,
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
    seed: int = 0,
    image_format: ImageFormat = "png",
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    workers: int | None = None,
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> ExportResult:
    """Write ``target/<corruption>/<severity>/<path below source>`` for every image.

    Each source is decoded once; the corruption is applied at full size; its random key is the path
    below ``source`` (for a single image: its name), so that ``corrupt`` gives the same pixels.
    Files are written atomically and existing ones are skipped, so the same call resumes an
    interrupted copy. ``manifest.json`` describes the folder. If the copy there has fewer corruptions
    or severities than are requested, only the missing cells are written; cells are never removed.

    A folder in the layout of COCO, Pascal VOC, Cityscapes or YOLO (recognized as by
    :func:`~shiftproof.data.find_dataset`) is copied as a whole: every cell is a complete dataset.
    Only photographs are corrupted; masks and all other files stay unchanged, except for the images'
    new names in the annotations. Text files up to a megabyte are copied into each cell; of other
    files only the first cell has a copy, and the other cells have hard links to it if the file
    system supports them: changing one changes all of these, never the source. In tars (webdataset)
    the images are corrupted and all other members kept, in their order; the key is the tar's path
    and the member's name. For a dataset saved by Hugging Face's ``datasets``, and for Parquet files,
    every cell is the same dataset with all its columns and rows, with corrupted images; the key is
    the id of the row in the opened dataset ("test/00000012"). A row whose image cannot be read stays
    without one, and is reported.

    Args:
        source: an image, a tar, a Parquet file, or a folder.
        target: an empty folder, or one with the same copy, unfinished or with other cells.
        corruptions: names, or folder name to name or function.
        severities: 1 to 5.
        seed: seed of the random numbers.
        image_format: "png" is lossless; "jpeg" is saved at quality 95, which is another benchmark;
            "source" keeps names and formats, so that annotations stay unchanged to the byte: JPEG
            at quality 95, the others lossless.
        split: only the images of this split; those of the others are left out.
        images: the folder of the images (for tables, the column), if several are possible.
        root: for YOLO, the folder of the data, overriding the YAML file.
        workers: processes; all cores by default.
        backend: distribution of the work; see :func:`~shiftproof.data.copies.changed_copy.export_copy`.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: no images, a target with other content, annotations whose paths leave the
            folder, or images that would get the same name.
        RunMismatchError: the target holds a copy made with other settings, or with a corruption
            that has to be requested again.
        UnfinishedError: this worker's share is done, but not all the others'.
        RunError: the disk is full.
    """
    extent = find_extent(target, _name_corruptions(corruptions), severities)
    plan, edit = _plan_corrupted(
        source, extent.corruptions, extent.cells, seed, image_format, split=split, images=images,
        root=root,
    )  # fmt: skip
    return export_copy(
        plan,
        target,
        edit,
        settings={**extent.settings, "seed": seed},
        before=extent.before if extent.is_extended else None,
        on_start=None if show_progress is False else extent.print_extent,
        title="Corrupting",
        workers=workers,
        backend=backend,
        show_progress=show_progress,
    )


def estimate_export(
    source: Path,
    target: Path,
    *,
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
    seed: int = 0,
    image_format: ImageFormat = "png",
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    workers: int | None = None,
) -> Estimate:
    """Estimate the cost of :func:`export_corrupted` with the same arguments; writes nothing.

    For a copy that is extended, it is the cost of the new cells. See
    :func:`~shiftproof.data.copies.estimate.estimate_copy`.

    Raises:
        InputError: as for export_corrupted, or none of the tried images can be read.
        BrokenFileError: a damaged tar, which the copy itself would leave out and name.
    """
    extent = find_extent(target, _name_corruptions(corruptions), severities)
    cells = extent.new if extent.is_extended else extent.cells
    plan, edit = _plan_corrupted(
        source, extent.corruptions, cells, seed, image_format, split=split, images=images, root=root
    )
    estimate = estimate_copy(plan, target, edit, workers=workers)
    return dataclasses.replace(estimate, extent=extent.describe())


def name_cell_folder(cell: Cell) -> str:
    """Return the folder of a cell's images below the target."""
    return f"{cell.corruption}/{cell.severity}"


@dataclass(frozen=True)
class _CorruptionEdit:
    """The corruption of each version of an image, by the folder of its cell."""

    corruptions: dict[str, str | CorruptionFunction]
    cells: dict[str, Cell]
    seed: int

    def __call__(self, image: Image, version: Version, key: str) -> tuple[Image, dict[str, str]]:
        cell = self.cells[version.folder]
        corruption = bind_image(self.corruptions[cell.corruption], key)
        return corrupt(image, corruption, severity=cell.severity, seed=self.seed, key=key), {}


def _name_corruptions(
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction],
) -> dict[str, str | CorruptionFunction]:
    """Return corruptions by the names of their folders.

    Raises:
        InputError: a name that a folder cannot have.
    """
    by_name: dict[str, str | CorruptionFunction] = (
        dict(corruptions)
        if isinstance(corruptions, Mapping)
        else {name: name for name in corruptions}
    )
    for name in by_name:
        if not files.can_name_files(name):
            raise InputError(
                f"A corruption cannot be called {name!r}: a folder is named after it, so expected "
                "only letters, digits, '_', '.', '+' and '-', without a leading '.'."
            )
    return by_name


def _plan_corrupted(
    source: Path,
    corruptions: Mapping[str, str | CorruptionFunction],
    cells: Sequence[Cell],
    seed: int,
    image_format: ImageFormat,
    *,
    split: str | None,
    images: str | Path | None,
    root: str | Path | None,
) -> tuple[CopyPlan, _CorruptionEdit]:
    plan = plan_copy(
        source,
        [Version(name_cell_folder(cell)) for cell in cells],
        image_format=image_format,
        split=split,
        images=images,
        root=root,
    )
    if not cells:
        raise InputError("Expected at least one corruption and one severity, got none.")
    by_folder = {name_cell_folder(cell): cell for cell in cells}
    return plan, _CorruptionEdit(dict(corruptions), by_folder, seed)
