"""Write a corrupted copy of a dataset to disk, its annotations with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.corruptions import CorruptionFunction, corrupt
from shiftproof.corruptions.depth_sources import bind_image
from shiftproof.data.copies.changed_copy import CopyPlan, export_copy, plan_copy
from shiftproof.data.copies.estimate import Estimate, estimate_copy
from shiftproof.data.copies.extending import find_extent
from shiftproof.data.copies.writing import Exported, ImageFormat, Version
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
) -> Exported:
    """Write ``target/<corruption>/<severity>/<path below source>`` for every image.

    Each source is decoded once; the corruption is applied at full size; its random key is the path
    below ``source`` (for a single image: its name), so that ``corrupt`` gives the same pixels.
    Every file appears whole or not at all, and one that is there is not done again: an interrupted
    copy is resumed by the same call. ``manifest.json`` says what the folder holds. More corruptions
    or severities than a copy has extend it: the missing cells alone are written. Fewer take nothing
    away.

    A folder in the layout of COCO, Pascal VOC, Cityscapes or YOLO (by the marks that
    :func:`~shiftproof.data.find_dataset` names) is carried over whole: every cell is a data
    set of its own. Only photographs are corrupted; masks and all other files stay as they are, but
    for the images' new names in the annotations. Texts up to a megabyte are copied into each cell;
    of larger files and of other kinds the first cell has a copy, to which the other cells have hard
    links, where the disk can: to change one is to change all of these, never the source. In tars
    (webdataset) the images are corrupted and all other members kept, in their order; the key is the
    tar's path and the member's name. Of a dataset that Hugging Face's ``datasets`` saved, and of
    Parquet files, every cell is the same dataset with all its columns and rows, under the same
    names, its images corrupted; the key is the row's number as it is read here ("test/00000012"). A
    row whose image cannot be read stays without one, and is named.

    Args:
        source: an image, a tar, a Parquet file, or a folder.
        target: a folder that is empty, or holds the same copy unfinished or with other cells.
        corruptions: names, or folder name to name or function.
        severities: 1 to 5.
        seed: decides the noise.
        image_format: "png" is lossless; "jpeg" is saved at quality 95, which is another benchmark;
            "source" keeps names and formats, so that annotations stay as they are to the byte: JPEG
            at quality 95, the others lossless.
        split: the images of this split alone; those of the others are left out.
        images: the folder of the images (of tables the column), where several could be meant.
        root: YOLO: the folder of the data, in place of what the YAML file says.
        workers: processes; all cores by default.
        backend: who writes which images or tars, where several share the work; see
            :func:`~shiftproof.data.copies.changed_copy.export_copy`.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: no images, a target that holds other things, annotations whose paths leave the
            folder, or images whose new names could not be told apart.
        RunMismatchError: the target holds a copy made with other settings, or a corruption that has
            to be named again.
        UnfinishedError: this worker's share is done, and others' are not.
        RunError: the disk is full.
    """
    extent = find_extent(target, _name(corruptions), severities)
    plan, edit = _plan(
        source, extent.corruptions, extent.cells, seed, image_format, split=split, images=images,
        root=root,
    )  # fmt: skip
    return export_copy(
        plan,
        target,
        edit,
        settings={**extent.settings, "seed": seed},
        before=extent.before if extent.is_extended else None,
        begun=None if show_progress is False else extent.print_extent,
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
    """Return what :func:`export_corrupted` with the same arguments will take; write nothing.

    Of a copy that is extended it is what its new cells take.

    Up to twelve images, evenly spread (of tars and tables the first of the first one), go through all cells
    and
    stand for the others: where sizes differ much it is rough.

    Raises:
        InputError: as export_corrupted, and where none of the tried images can be read.
        BrokenFileError: a damaged tar, which the copy itself would leave out and name.
    """
    extent = find_extent(target, _name(corruptions), severities)
    cells = extent.new if extent.is_extended else extent.cells
    plan, edit = _plan(
        source, extent.corruptions, cells, seed, image_format, split=split, images=images, root=root
    )
    estimate = estimate_copy(plan, target, edit, workers=workers)
    return dataclasses.replace(estimate, extent=extent.describe())


def name_cell_folder(cell: Cell) -> str:
    """Return where the images of a cell lie below the target."""
    return f"{cell.corruption}/{cell.severity}"


@dataclass(frozen=True)
class _Corrupting:
    """The change: the corruption of the cell to whose folder a version belongs."""

    corruptions: dict[str, str | CorruptionFunction]
    cells: dict[str, Cell]
    seed: int

    def __call__(self, image: Image, version: Version, key: str) -> tuple[Image, dict[str, str]]:
        cell = self.cells[version.folder]
        corruption = bind_image(self.corruptions[cell.corruption], key)
        return corrupt(image, corruption, severity=cell.severity, seed=self.seed, key=key), {}


def _name(
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction],
) -> dict[str, str | CorruptionFunction]:
    """Return corruptions by their names, which name folders.

    Raises:
        InputError: a name cannot.
    """
    named: dict[str, str | CorruptionFunction] = {name: name for name in corruptions}
    if isinstance(corruptions, Mapping):
        named.update(corruptions)
    for name in named:
        if not files.can_name_files(name):
            raise InputError(
                f"A corruption cannot be called {name!r}: it names a folder, so letters, digits, "
                "'_', '.', '+' and '-' only, and no '.' in front."
            )
    return named


def _plan(
    source: Path,
    corruptions: Mapping[str, str | CorruptionFunction],
    cells: Sequence[Cell],
    seed: int,
    image_format: ImageFormat,
    *,
    split: str | None,
    images: str | Path | None,
    root: str | Path | None,
) -> tuple[CopyPlan, _Corrupting]:
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
    return plan, _Corrupting(dict(corruptions), by_folder, seed)
