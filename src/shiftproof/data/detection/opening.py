"""Opening datasets for detection."""

from __future__ import annotations

from pathlib import Path

from shiftproof.data.detection.box_layouts import BoxOptions
from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.coco_files import describe_nearly_coco
from shiftproof.data.find import find_dataset
from shiftproof.data.found import FoundDataset
from shiftproof.data.layouts import LAYOUTS, name_layouts_with, recognize_layout
from shiftproof.data.presence import check_presence, is_address
from shiftproof.errors import InputError

_EXPECTED = (
    "leftImg8bit and gtFine (Cityscapes), JPEGImages and Annotations, or images and XML files "
    "(Pascal VOC), a data.yaml, or images and labels (YOLO), or a JSON with images, annotations and "
    "categories (COCO)"
)


def open_detection_data(
    source: str | Path | DetectionData | FoundDataset,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    box_format: str | None = None,
) -> DetectionData:
    """Open a dataset for detection; its layout is recognized by the names of files and folders.

    See :func:`~shiftproof.data.find_dataset` for the layouts. An ambiguous dataset, such as one with
    two folders that have the images of a JSON, is refused.

    Ids are relative to the folder, so they are also the keys with which
    :func:`~shiftproof.data.export_corrupted` corrupts that folder.

    Args:
        source: the folder, the YAML or JSON file; webdataset tars, a dataset saved by ``datasets``,
            or Parquet files, with boxes beside each image (:class:`PackedDetectionData`); the result
            of ``find_dataset``; or a dataset, which is returned itself.
        split: for VOC, a list in ``ImageSets/Main`` or a folder, by default all images; for
            Cityscapes and YOLO, by default val; for COCO, it selects the JSON by its name or that of
            its folder.
        images: for COCO, the folder of the images, if several are possible; for tables, the column
            of the images.
        root: for YOLO, the folder of the data, overriding the YAML file.
        box_format: for tars and tables, "xywh" as in COCO, the default, or "xyxy".

    Raises:
        InputError: no dataset with boxes, an ambiguous one, or one that its reader refuses.
        BrokenFileError: annotations that cannot be read.
    """
    if isinstance(source, (DetectionData, FoundDataset)):
        if any(option is not None for option in (split, images, root, box_format)):
            raise InputError(
                "The dataset is open already: give split, images, root and box_format where it is "
                "opened."
            )
        return source if isinstance(source, DetectionData) else _open(source, BoxOptions())
    path = Path(source)
    check_presence(source, "boxes")
    layout = LAYOUTS["webdataset" if is_address(source) else recognize_layout(path)]
    if box_format is not None and "box_format" not in layout.options:
        raise InputError(f"{path} defines the format of its boxes, so a box format has no effect.")
    if layout.open_boxes is None:
        if images is not None:
            raise InputError(
                f"{path} is not {name_layouts_with('images')} data, so a folder of images has no effect."
            )
        nearly = describe_nearly_coco(path) if path.is_dir() else ""
        raise InputError(f"{path} is not a dataset with boxes: expected {_EXPECTED}{nearly}.")
    found_split = None if layout.has_own_splits else split
    found = find_dataset(source, split=found_split, images=images, root=root)
    column = None if images is None else str(images)
    return _open(found, BoxOptions(split, column, box_format or "xywh"))


def _open(found: FoundDataset, options: BoxOptions) -> DetectionData:
    open_boxes = LAYOUTS[found.layout].open_boxes
    if open_boxes is None:
        raise InputError(f"{found.source} is not a dataset with boxes: expected {_EXPECTED}.")
    return open_boxes(found, options)
