"""Open a data set for detection that was found on the disk."""

from __future__ import annotations

from pathlib import Path

from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.cityscapes import CityscapesData
from shiftproof.data.detection.coco import CocoData
from shiftproof.data.detection.coco_files import tell_nearly_coco
from shiftproof.data.detection.packed import boxes_of_rows, boxes_of_tars
from shiftproof.data.detection.voc import VocData, voc_folders
from shiftproof.data.detection.yolo import YoloData
from shiftproof.data.disk import shorten
from shiftproof.data.find import (
    DETECTION,
    MARKS,
    PACKED,
    FoundDataset,
    find_dataset,
    is_address,
    layout_of,
)
from shiftproof.data.images.parquet import ParquetImages
from shiftproof.data.images.saved import SavedDataset
from shiftproof.data.images.tars import TarFiles
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.border import suggest_sibling


def open_detection_data(
    source: str | Path | DetectionData | FoundDataset,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    box_format: str | None = None,
) -> DetectionData:
    """Open a data set for detection by the marks of its layout; nothing is inferred from values.

    :func:`~shiftproof.data.find_dataset` says by which marks. Where two readings are possible, such
    as two folders that hold images of the names in a JSON, neither is taken.

    Ids are relative to the folder, so they are also the keys with which
    :func:`~shiftproof.data.export_corrupted` corrupts that folder.

    Args:
        source: the folder, the YAML or JSON file; webdataset tars, a data set that ``datasets``
            saved, or Parquet files, with boxes beside each image (:class:`PackedDetectionData`); what
            ``find_dataset`` found; or a data set, which comes back as it is.
        split: VOC: a list in ``ImageSets/Main`` or a folder, all images by default. Cityscapes and
            YOLO: val by default. COCO: picks the JSON, by its name or that of its folder.
        images: COCO only: the folder of the images, where it is not the one that the names of JSON
            and folders tell.
            Tables: the column of the images.
        root: YOLO only: the folder of the data, in place of what the YAML file says.
        box_format: tars and tables only: "xywh", as COCO has boxes, by default, or "xyxy".

    Raises:
        InputError: no marks, several data sets or readings, or what the layout's reader refuses.
        BrokenFileError: annotations that cannot be read.
    """
    if isinstance(source, (DetectionData, FoundDataset)):
        if any(given is not None for given in (split, images, root, box_format)):
            raise InputError(
                "A data set is open already: give split, images, root and box_format where it is "
                "made."
            )
        return source if isinstance(source, DetectionData) else _open(source, None)
    path = Path(source)
    if not path.exists() and not is_address(source):
        raise InputError(
            f"{path} does not exist; expected a data set with boxes.{suggest_sibling(path)}"
        )
    layout = "webdataset" if is_address(source) else layout_of(path)
    if layout in PACKED:
        found = find_dataset(source, split=split, images=images, root=root)
        return _open_packed(found, split, images, "xywh" if box_format is None else box_format)
    if box_format is not None:
        raise InputError(f"{path} says itself how boxes are meant, so a box format has no effect.")
    if layout not in DETECTION:
        if images is not None:
            raise InputError(f"{path} is no COCO data, so a folder of images has no effect.")
        nearly = tell_nearly_coco(path) if path.is_dir() else ""
        raise InputError(f"{path} is no data set with boxes: expected {MARKS}{nearly}.")
    # Lists of images and folders of Cityscapes are the readers' own.
    narrowed = split if layout == "coco" else None
    return _open(find_dataset(path, split=narrowed, images=images, root=root), split)


def _open(found: FoundDataset, split: str | None) -> DetectionData:
    if found.layout in PACKED:
        return _open_packed(found, split, None, "xywh")
    if found.layout == "cityscapes":
        only = found.parts[0].title if len(found.parts) == 1 else "val"
        return CityscapesData(found.root, split or only)
    if found.layout == "voc":
        return _voc(found, split)
    if found.layout == "yolo":
        return _yolo(found, split)
    if found.layout != "coco":
        raise InputError(f"{found.source} is no data set with boxes: expected {MARKS}.")
    part = found.the_part()
    json = found.source if found.source.is_file() else found.root / part.annotations
    return CocoData(found.root / part.folders[0], json, root=found.root, paths=part.names)


def _open_packed(
    found: FoundDataset, split: str | None, images: str | Path | None, box_format: str
) -> DetectionData:
    if found.layout == "webdataset":
        return boxes_of_tars(TarFiles.find(found.address or found.source), box_format=box_format)
    kind = SavedDataset if found.layout == "saved" else ParquetImages
    column = None if images is None else str(images)
    opened = kind(found.source, split, labeled=False, column=column)
    return boxes_of_rows(opened, box_format=box_format)


def _voc(found: FoundDataset, split: str | None) -> DetectionData:
    if voc_folders(found.root):
        return VocData(found.root, split)
    if split is None or files.is_file(found.root / "ImageSets" / "Main" / f"{split}.txt"):
        part = found.the_part()
        return VocData(found.root, split, images=part.folders[0], annotations=part.annotations)
    narrowed = find_dataset(found.source, split=split)
    part = narrowed.the_part()
    return VocData(found.root, images=part.folders[0], annotations=part.annotations)


def _yolo(found: FoundDataset, split: str | None) -> DetectionData:
    there = {part.title: part for part in found.parts}
    wanted = split or ("val" if "val" in there or len(there) != 1 else next(iter(there)))
    if split is None and wanted not in there:
        raise InputError(
            f"{found.source} has no split 'val'; it has {shorten(there)}. Give one as split "
            "(--split)."
        )
    if wanted not in there:
        wanted = find_dataset(found.source, split=wanted, root=found.root).parts[0].title
    root = found.root if found.source.is_file() and found.rooted else None
    return YoloData(found.source, wanted, root=root)
