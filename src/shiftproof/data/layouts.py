"""The table of dataset layouts, and the recognition of a file or folder among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.box_layouts import (
    BoxOptions,
    find_cityscapes,
    find_coco_data,
    find_voc_data,
    find_yolo_data,
    list_yolo_files,
    open_cityscapes,
    open_coco,
    open_row_boxes,
    open_tar_boxes,
    open_voc,
    open_yolo,
)
from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.cityscapes import is_cityscapes
from shiftproof.data.detection.coco_files import list_coco_candidates
from shiftproof.data.detection.voc import list_voc_folders
from shiftproof.data.detection.voc_files import find_voc
from shiftproof.data.detection.yolo import has_labels, is_yolo
from shiftproof.data.disk import holds_packed
from shiftproof.data.found import FoundDataset, Request
from shiftproof.data.images.cell_folders import find_first_cell
from shiftproof.data.images.corrupted_arrays import is_corrupted_arrays
from shiftproof.data.images.image_layouts import (
    ImageOptions,
    find_arrays,
    find_image,
    find_image_files,
    find_packed_tree,
    find_rows,
    find_table,
    find_tars,
    open_corrupted_arrays,
    open_corrupted_tree,
    open_folder,
    open_image,
    open_packed_tree,
    open_rows,
    open_table,
    open_tars,
)
from shiftproof.data.images.packed_tree import is_packed_tree
from shiftproof.data.images.parquet import is_parquet
from shiftproof.data.images.saved import is_saved_dataset
from shiftproof.data.segmentation.label_map_layouts import LABEL_MAP_LAYOUTS, find_label_maps
from shiftproof.io.tars import is_tar


def _never(path: Path) -> bool:
    return False


def _always(path: Path) -> bool:
    return True


@dataclass(frozen=True)
class Layout:
    """One row of ``LAYOUTS``: how a layout is recognized, read and named.

    Attributes:
        title: name shown to users.
        find: finds its splits and images without opening them.
        is_file: whether a file has this layout.
        is_folder: whether a folder has file names that are unique to this layout.
        may_be_folder: whether a folder has file names that other layouts may have, too; checked only
            if ``is_folder`` of no layout is true.
        open_images: opens its images; None for layouts with boxes or label maps.
        open_boxes: opens its boxes, if it can have boxes.
        task: the task of its annotations, if they are specific to one.
        options: the options of :func:`~shiftproof.data.open_data` and
            :func:`~shiftproof.data.open_detection_data` that apply to it.
        has_own_splits: whether its reader opens splits, from lists of images or folders.
    """

    title: str
    find: Callable[[Request], FoundDataset]
    is_file: Callable[[Path], bool] = _never
    is_folder: Callable[[Path], object] = _never
    may_be_folder: Callable[[Path], object] = _never
    open_images: Callable[[FoundDataset, ImageOptions], ImageData] | None = None
    open_boxes: Callable[[FoundDataset, BoxOptions], DetectionData] | None = None
    task: Literal["detection", "segmentation"] | None = None
    options: frozenset[str] = frozenset()
    has_own_splits: bool = False


_TABLE_OPTIONS = frozenset({"split", "column", "label_key", "box_format"})

LAYOUTS: dict[str, Layout] = {
    "saved": Layout(
        "a dataset saved by Hugging Face's datasets",
        find_rows,
        is_folder=is_saved_dataset,
        open_images=open_rows,
        open_boxes=open_row_boxes,
        options=_TABLE_OPTIONS,
    ),
    "cityscapes": Layout(
        "Cityscapes",
        find_cityscapes,
        is_folder=is_cityscapes,
        open_boxes=open_cityscapes,
        task="detection",
        options=frozenset({"split", "label_set"}),
        has_own_splits=True,
    ),
    "voc": Layout(
        "Pascal VOC",
        find_voc_data,
        is_folder=list_voc_folders,
        may_be_folder=find_voc,
        open_boxes=open_voc,
        task="detection",
        options=frozenset({"split", "label_set"}),
        has_own_splits=True,
    ),
    "yolo": Layout(
        "YOLO",
        find_yolo_data,
        is_file=is_yolo,
        is_folder=list_yolo_files,
        may_be_folder=has_labels,
        open_boxes=open_yolo,
        task="detection",
        options=frozenset({"split", "root", "label_set"}),
        has_own_splits=True,
    ),
    "coco": Layout(
        "COCO",
        find_coco_data,
        is_file=lambda path: path.suffix.lower() == ".json",
        is_folder=list_coco_candidates,
        open_boxes=open_coco,
        task="detection",
        options=frozenset({"split", "images", "label_set"}),
    ),
    **{
        name: Layout(
            layout.title,
            find_label_maps,
            may_be_folder=layout.matches,
            task="segmentation",
            options=frozenset({"split"}),
        )
        for name, layout in LABEL_MAP_LAYOUTS.items()
        if name != "cityscapes"  # has boxes, too, and its own row
    },
    "packed tree": Layout(
        "a -C tree of tars or tables",
        find_packed_tree,
        may_be_folder=is_packed_tree,
        open_images=open_packed_tree,
        options=frozenset({"clean", "split", "column", "label_key"}),
        has_own_splits=True,
    ),
    "corrupted tree": Layout(
        "a -C tree",
        find_image_files,
        may_be_folder=find_first_cell,
        open_images=open_corrupted_tree,
        options=frozenset({"clean", "label_set"}),
    ),
    "corrupted arrays": Layout(
        "-C arrays",
        find_arrays,
        may_be_folder=is_corrupted_arrays,
        open_images=open_corrupted_arrays,
        options=frozenset({"clean"}),
    ),
    "webdataset": Layout(
        "webdataset tars",
        find_tars,
        is_file=lambda path: is_tar(path.name),
        may_be_folder=partial(holds_packed, is_packed=is_tar),
        open_images=open_tars,
        open_boxes=open_tar_boxes,
        options=frozenset({"label_key", "box_format"}),
    ),
    "parquet": Layout(
        "Parquet files",
        find_rows,
        is_file=lambda path: is_parquet(path.name),
        may_be_folder=partial(holds_packed, is_packed=is_parquet),
        open_images=open_rows,
        open_boxes=open_row_boxes,
        options=_TABLE_OPTIONS,
    ),
    "table": Layout(
        "a CSV file",
        find_table,
        is_file=lambda path: path.suffix.lower() == ".csv",
        open_images=open_table,
    ),
    "image": Layout("one image", find_image, is_file=_always, open_images=open_image),
    "plain": Layout(
        "a plain folder of images",
        find_image_files,
        may_be_folder=_always,
        open_images=open_folder,
        options=frozenset({"images", "label_set"}),
    ),
}
"""The layouts by name, in order of precedence."""


def recognize_layout(path: Path) -> str:
    """Return the layout of a file or folder, a key of ``LAYOUTS``, from names of files and folders."""
    if path.is_file():
        return next(name for name, layout in LAYOUTS.items() if layout.is_file(path))
    return next(_list_layouts(path))


def _list_layouts(root: Path) -> Iterator[str]:
    """Yield the layouts of a folder in order of precedence."""
    yield from (name for name, layout in LAYOUTS.items() if layout.is_folder(root))
    yield from (name for name, layout in LAYOUTS.items() if layout.may_be_folder(root))


def describe_other_layouts(path: Path, name: str) -> list[str]:
    """Describe further annotations in a folder that was recognized as ``name``."""
    recognized = LAYOUTS[name]
    if not path.is_dir() or recognized.task != "detection":
        return []
    return [
        f"annotations of {layout.title}: ignored, since the folder is read as {recognized.title}; give "
        "their file to use them"
        for other, layout in LAYOUTS.items()
        if other != name and layout.task == "detection" and layout.is_folder(path)
    ]


def name_layouts_with(option: str) -> str:
    """Name the layouts of annotations that have an option.

    >>> name_layouts_with("root")
    'YOLO'
    """
    return " or ".join(
        layout.title
        for layout in LAYOUTS.values()
        if layout.task is not None and option in layout.options
    )
