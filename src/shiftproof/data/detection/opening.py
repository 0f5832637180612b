"""Open a dataset for detection that was found on the disk."""

from __future__ import annotations

from pathlib import Path

from shiftproof.data.detection.box_layouts import BoxReading
from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.coco_files import describe_nearly_coco
from shiftproof.data.find import find_dataset
from shiftproof.data.found import FoundDataset
from shiftproof.data.layouts import LAYOUTS, name_takers, recognize_layout
from shiftproof.data.presence import check_presence, is_address
from shiftproof.errors import InputError

_MARKS = (
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
    """Open a dataset for detection by the marks of its layout; nothing is inferred from values.

    :func:`~shiftproof.data.find_dataset` says by which marks. Where two readings are possible, such
    as two folders that hold images of the names in a JSON, neither is taken.

    Ids are relative to the folder, so they are also the keys with which
    :func:`~shiftproof.data.export_corrupted` corrupts that folder.

    Args:
        source: the folder, the YAML or JSON file; webdataset tars, a dataset that ``datasets``
            saved, or Parquet files, with boxes beside each image (:class:`PackedDetectionData`); what
            ``find_dataset`` found; or a dataset, which comes back as it is.
        split: VOC: a list in ``ImageSets/Main`` or a folder, all images by default. Cityscapes and
            YOLO: val by default. COCO: picks the JSON, by its name or that of its folder.
        images: COCO only: the folder of the images, where it is not the one that the names of JSON
            and folders tell.
            Tables: the column of the images.
        root: YOLO only: the folder of the data, in place of what the YAML file says.
        box_format: tars and tables only: "xywh", as COCO has boxes, by default, or "xyxy".

    Raises:
        InputError: no marks, several datasets or readings, or what the layout's reader refuses.
        BrokenFileError: annotations that cannot be read.
    """
    if isinstance(source, (DetectionData, FoundDataset)):
        if any(given is not None for given in (split, images, root, box_format)):
            raise InputError(
                "A dataset is open already: give split, images, root and box_format where it is "
                "made."
            )
        return source if isinstance(source, DetectionData) else _open(source, BoxReading())
    path = Path(source)
    check_presence(source, "boxes")
    layout = LAYOUTS["webdataset" if is_address(source) else recognize_layout(path)]
    if box_format is not None and "box_format" not in layout.takes:
        raise InputError(f"{path} says itself how boxes are meant, so a box format has no effect.")
    if layout.open_boxes is None:
        if images is not None:
            raise InputError(
                f"{path} is no {name_takers('images')} data, so a folder of images has no effect."
            )
        nearly = describe_nearly_coco(path) if path.is_dir() else ""
        raise InputError(f"{path} is no dataset with boxes: expected {_MARKS}{nearly}.")
    narrowed = None if layout.has_own_splits else split
    found = find_dataset(source, split=narrowed, images=images, root=root)
    column = None if images is None else str(images)
    return _open(found, BoxReading(split, column, box_format or "xywh"))


def _open(found: FoundDataset, reading: BoxReading) -> DetectionData:
    open_boxes = LAYOUTS[found.layout].open_boxes
    if open_boxes is None:
        raise InputError(f"{found.source} is no dataset with boxes: expected {_MARKS}.")
    return open_boxes(found, reading)
