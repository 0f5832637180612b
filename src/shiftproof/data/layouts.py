"""The table of dataset layouts, and the recognition of a file or folder among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.box_layouts import (
    BoxReading,
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
from shiftproof.data.found import FoundDataset, Request
from shiftproof.data.images.cell_folders import is_corrupted_tree
from shiftproof.data.images.corrupted_arrays import is_corrupted_arrays
from shiftproof.data.images.image_layouts import (
    ImageReading,
    find_arrays,
    find_image,
    find_image_files,
    find_packed_tree,
    find_rows,
    find_table,
    find_tars,
    holds_parquet,
    holds_tars,
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
        marks: whether a folder has file names that are unique to this layout.
        traces: whether a folder has file names that other layouts may have, too; checked only if no
            layout has its marks.
        open_images: opens its images; None for layouts with boxes or label maps.
        open_boxes: opens its boxes, if it can have boxes.
        task: the task of its annotations, if they are specific to one.
        takes: the options of :func:`~shiftproof.data.open_data` and
            :func:`~shiftproof.data.open_detection_data` that apply to it.
        has_own_splits: whether its reader opens splits, from lists of images or folders.
    """

    title: str
    find: Callable[[Request], FoundDataset]
    is_file: Callable[[Path], bool] = _never
    marks: Callable[[Path], object] = _never
    traces: Callable[[Path], object] = _never
    open_images: Callable[[FoundDataset, ImageReading], ImageData] | None = None
    open_boxes: Callable[[FoundDataset, BoxReading], DetectionData] | None = None
    task: Literal["detection", "segmentation"] | None = None
    takes: frozenset[str] = frozenset()
    has_own_splits: bool = False


_TABLES = frozenset({"split", "column", "label_key", "box_format"})

LAYOUTS: dict[str, Layout] = {
    "saved": Layout(
        "a dataset saved by Hugging Face's datasets",
        find_rows,
        marks=is_saved_dataset,
        open_images=open_rows,
        open_boxes=open_row_boxes,
        takes=_TABLES,
    ),
    "cityscapes": Layout(
        "Cityscapes",
        find_cityscapes,
        marks=is_cityscapes,
        open_boxes=open_cityscapes,
        task="detection",
        takes=frozenset({"split", "label_set"}),
        has_own_splits=True,
    ),
    "voc": Layout(
        "Pascal VOC",
        find_voc_data,
        marks=list_voc_folders,
        traces=find_voc,
        open_boxes=open_voc,
        task="detection",
        takes=frozenset({"split", "label_set"}),
        has_own_splits=True,
    ),
    "yolo": Layout(
        "YOLO",
        find_yolo_data,
        is_file=is_yolo,
        marks=list_yolo_files,
        traces=has_labels,
        open_boxes=open_yolo,
        task="detection",
        takes=frozenset({"split", "root", "label_set"}),
        has_own_splits=True,
    ),
    "coco": Layout(
        "COCO",
        find_coco_data,
        is_file=lambda path: path.suffix.lower() == ".json",
        marks=list_coco_candidates,
        open_boxes=open_coco,
        task="detection",
        takes=frozenset({"split", "images", "label_set"}),
    ),
    **{
        name: Layout(
            layout.title,
            find_label_maps,
            traces=layout.is_there,
            task="segmentation",
            takes=frozenset({"split"}),
        )
        for name, layout in LABEL_MAP_LAYOUTS.items()
        if name != "cityscapes"  # has boxes, too, and its own row
    },
    "packed tree": Layout(
        "a -C tree of tars or tables",
        find_packed_tree,
        traces=is_packed_tree,
        open_images=open_packed_tree,
        takes=frozenset({"clean", "split", "column", "label_key"}),
        has_own_splits=True,
    ),
    "corrupted tree": Layout(
        "a -C tree",
        find_image_files,
        traces=is_corrupted_tree,
        open_images=open_corrupted_tree,
        takes=frozenset({"clean", "label_set"}),
    ),
    "corrupted arrays": Layout(
        "-C arrays",
        find_arrays,
        traces=is_corrupted_arrays,
        open_images=open_corrupted_arrays,
        takes=frozenset({"clean"}),
    ),
    "webdataset": Layout(
        "webdataset tars",
        find_tars,
        is_file=lambda path: is_tar(path.name),
        traces=holds_tars,
        open_images=open_tars,
        open_boxes=open_tar_boxes,
        takes=frozenset({"label_key", "box_format"}),
    ),
    "parquet": Layout(
        "Parquet files",
        find_rows,
        is_file=lambda path: is_parquet(path.name),
        traces=holds_parquet,
        open_images=open_rows,
        open_boxes=open_row_boxes,
        takes=_TABLES,
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
        traces=_always,
        open_images=open_folder,
        takes=frozenset({"images", "label_set"}),
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
    yield from (name for name, layout in LAYOUTS.items() if layout.marks(root))
    yield from (name for name, layout in LAYOUTS.items() if layout.traces(root))


def describe_other_layouts(path: Path, name: str) -> list[str]:
    """Describe further annotations in a folder that was recognized as ``name``."""
    taken = LAYOUTS[name]
    if not path.is_dir() or taken.task != "detection":
        return []
    return [
        f"annotations of {layout.title}: taken for {taken.title}; give their file to use them"
        for other, layout in LAYOUTS.items()
        if other != name and layout.task == "detection" and layout.marks(path)
    ]


def name_takers(option: str) -> str:
    """Name the layouts of annotations to which an option of ``Layout.takes`` applies.

    >>> name_takers("root")
    'YOLO'
    """
    taking = (one for one in LAYOUTS.values() if one.task is not None and option in one.takes)
    return " or ".join(layout.title for layout in taking)
