"""Find and open datasets with boxes, by layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.cityscapes import CityscapesData
from shiftproof.data.detection.coco import CocoData, describe_lacking
from shiftproof.data.detection.coco_files import (
    CocoFile,
    describe_nearly_coco,
    find_coco,
    list_coco_candidates,
)
from shiftproof.data.detection.packed import read_row_boxes, read_tar_boxes
from shiftproof.data.detection.voc import VocData, list_voc_folders
from shiftproof.data.detection.voc_files import VocFiles, find_voc
from shiftproof.data.detection.yolo import YoloConfig, YoloData, is_yolo
from shiftproof.data.disk import find_images, join_below, list_folders, shorten
from shiftproof.data.found import FoundDataset, Part, Request
from shiftproof.data.images.parquet import ParquetImages
from shiftproof.data.images.saved import SavedDataset
from shiftproof.data.images.tars import TarFiles
from shiftproof.data.splits import is_asked
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.text import read_json


@dataclass(frozen=True)
class BoxReading:
    """Options for reading boxes.

    Attributes:
        split: the split to open; None for the layout's default.
        column: the column of the images in tables.
        box_format: the format of boxes in tars and tables, "xywh" or "xyxy".
    """

    split: str | None = None
    column: str | None = None
    box_format: str = "xywh"


# ---------------------------------------------------------------- COCO


def find_coco_data(request: Request) -> FoundDataset:
    """Find the JSON files of a folder, or read one, and the images of each."""
    path, split, images = request.path, request.split, request.images
    root = path
    candidates = [path] if path.is_file() else list_coco_candidates(path)
    if path.is_file():
        # A JSON file is one part, whatever its name.
        files, others = find_coco(path.parent, candidates, images=images)
        beside = _find_images_beside(path)
        if images is None and files and files[0].is_absent and beside is not None:
            above = path.absolute().parent.parent
            files, others = find_coco(above, candidates, images=beside)
        if not files:
            raise InputError(
                f"{path}: expected COCO annotations, an object with images, annotations and "
                f"categories{describe_lacking(read_json(path))}."
            )
        root = files[0].home
    else:
        files, others = find_coco(path, candidates, split=split, images=images)
        if not files:
            there = shorten(other.relative_to(path).as_posix() for other in candidates)
            asked = f"no split {split!r}" if split is not None else "no boxes in its JSON files"
            raise InputError(f"{path} has {asked}; there are {there}{describe_nearly_coco(path)}.")
        files, persons = _choose_main(files)
        others += persons
        root = next((file.home for file in files if file.problem is None), path)
    parts = tuple(_make_coco_part(root, file) for file in files)
    found = FoundDataset(root, "coco", path, parts, tuple(others))
    notes = [
        f"{part.annotations}: {part.missing:,} of the images that it names are not there"
        for part in parts
        if part.missing
    ]
    return replace(found, notes=tuple(notes))


def _find_images_beside(path: Path) -> Path | None:
    """Return the only sibling of a JSON's folder with a usual name such as ``images``.

    A sibling with another name may be another dataset, whose images may have the same names.
    """
    names = ("images", "image", "imgs", "img", "photos", "JPEGImages")
    there = [
        folder for folder in list_folders(path.absolute().parent.parent) if folder.name in names
    ]
    return there[0] if len(there) == 1 else None


def _make_coco_part(root: Path, file: CocoFile) -> Part:
    missing = set(file.missing)
    pictures = dict.fromkeys(path for text, path in file.names.items() if text not in missing)
    here, above = file.path.resolve(), root.resolve()
    inside = here.relative_to(above).as_posix() if here.is_relative_to(above) else file.name
    folders = (file.folder,) if file.problem is None else ()
    return Part(
        inside,
        inside,
        folders,
        tuple(pictures),
        file.names,
        len(missing),
        file.problem,
        file.is_absent,
    )


def _choose_main(files: Sequence[CocoFile]) -> tuple[list[CocoFile], list[str]]:
    """Return COCO's instance files without its other files (keypoints, ...), and notes on these."""
    instances = [file for file in files if file.path.stem.startswith("instances_")]
    others = [
        file
        for file in files
        if file.path.stem.startswith(("person_keypoints_", "image_info_", "captions_", "stuff_"))
    ]
    if not instances or not others:
        return list(files), []
    notes = [
        f"{file.name}: beside {instances[0].name}, which has all objects; give it alone to use it"
        for file in others
    ]
    return [file for file in files if file not in others], notes


def open_coco(found: FoundDataset, reading: BoxReading) -> DetectionData:
    """Open the only COCO file that was found."""
    part = found.the_part()
    return CocoData(
        found.root / part.folders[0],
        _locate_json(found, part.annotations),
        root=found.root,
        paths=part.names,
    )


def _locate_json(found: FoundDataset, name: str) -> Path:
    """Return the path of a JSON, which lies below the data's folder where the images lie elsewhere."""
    if found.source.is_file():
        return found.source
    is_inside = found.source.resolve().is_relative_to(found.root.resolve())
    return (found.root if is_inside else found.source) / name


# ---------------------------------------------------------------- YOLO


def list_yolo_files(root: Path) -> list[Path]:
    """Return the YAML files in a folder that describe YOLO data."""
    return sorted(path for path in root.iterdir() if is_yolo(path))


def find_yolo_data(request: Request) -> FoundDataset:
    """Find the splits of YOLO data, with or without a YAML file."""
    path, split, root = request.path, request.split, request.root
    config = path
    if path.is_dir() and (there := list_yolo_files(path)):
        if len(there) > 1:
            names = shorten(file.name for file in there)
            raise InputError(f"{path} holds {names}; give one of them.")
        config = there[0]
    layout = YoloConfig(config, root=root)
    if split is not None and split not in layout.splits:
        asked = [name for name in layout.splits if is_asked(split, name)]
        if not asked:
            layout.images(split)  # raises an error that lists the splits
        split = asked[0]
    wanted = list(layout.splits) if split is None else [split]
    parts = tuple(_make_yolo_part(layout, name, config) for name in wanted)
    notes = ["no YAML file and no classes.txt: the classes are numbers"] if layout.numbered else []
    return FoundDataset(layout.home, "yolo", config, parts, (), tuple(notes))


def _make_yolo_part(layout: YoloConfig, split: str, config: Path) -> Part:
    annotations = config.name if config.is_file() else ""
    folders = tuple(layout.folders(split))
    try:
        pictures = layout.images(split)
    except InputError as error:
        is_absent = not folders and not layout.leads_out(split)
        return Part(split, annotations, folders, (), problem=error, is_absent=is_absent)
    there = tuple(name for name in pictures if files.is_file(layout.home / name))
    return Part(split, annotations, folders, there, {}, len(pictures) - len(there))


def open_yolo(found: FoundDataset, reading: BoxReading) -> DetectionData:
    """Open a split of YOLO data; by default val, or the only split."""
    split = reading.split
    there = {part.title: part for part in found.parts}
    wanted = split or ("val" if "val" in there or len(there) != 1 else next(iter(there)))
    if split is None and wanted not in there:
        raise InputError(
            f"{found.source} has no split 'val'; it has {shorten(there)}. Give one as split "
            "(--split)."
        )
    if wanted not in there:
        request = Request(found.source, found.layout, wanted, root=found.root)
        wanted = find_yolo_data(request).parts[0].title
    root = found.root if found.source.is_file() and found.rooted else None
    return YoloData(found.source, wanted, root=root)


# ---------------------------------------------------------------- Pascal VOC


def find_voc_data(request: Request) -> FoundDataset:
    """Find the folders of images and XML files, in the published layout or by file names."""
    path, split = request.path, request.split
    devkits = list_voc_folders(path)
    if devkits:
        every = [
            VocFiles(folder, join_below(folder, "JPEGImages"), join_below(folder, "Annotations"))
            for folder in devkits
        ]
    else:
        every = find_voc(path)
    parts = []
    for found in every:
        narrowed = found if split is None else found.narrow(path, split)
        if narrowed is not None:
            title = path.name if narrowed.title == "." else narrowed.title
            pictures = narrowed.pictures(path)
            parts.append(Part(title, narrowed.annotations, (narrowed.images,), pictures))
    if not parts:
        there = dict.fromkeys(name for found in every for name in found.splits(path))
        raise InputError(
            f"{path} has no split {split!r}; there are the splits {shorten(there) or 'none'}."
        )
    return FoundDataset(path, "voc", path, tuple(parts))


def open_voc(found: FoundDataset, reading: BoxReading) -> DetectionData:
    """Open Pascal VOC: by the lists of ``ImageSets/Main``, or a folder of images."""
    split = reading.split
    if list_voc_folders(found.root):
        return VocData(found.root, split)
    if split is None or files.is_file(found.root / "ImageSets" / "Main" / f"{split}.txt"):
        part = found.the_part()
        return VocData(found.root, split, images=part.folders[0], annotations=part.annotations)
    narrowed = find_voc_data(Request(found.source, found.layout, split))
    part = narrowed.the_part()
    return VocData(found.root, images=part.folders[0], annotations=part.annotations)


# ---------------------------------------------------------------- Cityscapes


def find_cityscapes(request: Request) -> FoundDataset:
    """Find the splits of Cityscapes, in all folders of photographs."""
    path, split = request.path, request.split
    parts = []
    for folder in list_folders(path):
        if not folder.name.startswith("leftImg8bit"):
            continue
        for inner in list_folders(folder):
            if split is not None and inner.name != split:
                continue
            name = f"{folder.name}/{inner.name}"
            pictures = tuple(f"{name}/{found}" for found in _list_images(inner))
            title = inner.name if folder.name == "leftImg8bit" else name
            parts.append(Part(title, f"gtFine/{inner.name}", (name,), pictures))
    return FoundDataset(path, "cityscapes", path, tuple(parts))


def _list_images(folder: Path) -> tuple[str, ...]:
    try:
        return find_images(folder).names
    except InputError:  # none
        return ()


def open_cityscapes(found: FoundDataset, reading: BoxReading) -> DetectionData:
    """Open a split of Cityscapes; by default val, or the only split."""
    only = found.parts[0].title if len(found.parts) == 1 else "val"
    return CityscapesData(found.root, reading.split or only)


# ---------------------------------------------------------------- boxes beside packed images


def open_tar_boxes(found: FoundDataset, reading: BoxReading) -> DetectionData:
    """Open the boxes of webdataset tars."""
    tars = TarFiles.find(found.address or found.source)
    return read_tar_boxes(tars, box_format=reading.box_format)


def open_row_boxes(found: FoundDataset, reading: BoxReading) -> DetectionData:
    """Open the boxes of a saved dataset, or of Parquet files."""
    kind = SavedDataset if found.layout == "saved" else ParquetImages
    opened = kind(found.source, reading.split, labeled=False, column=reading.column)
    return read_row_boxes(opened, box_format=reading.box_format)
