"""Find and open datasets with boxes, by layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.counts import pluralize
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
from shiftproof.data.images.tables import TABLE_READERS
from shiftproof.data.images.tars import TarFiles
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.text import read_json


@dataclass(frozen=True)
class BoxOptions:
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
        sibling = _find_images_beside(path)
        if images is None and files and files[0].is_absent and sibling is not None:
            files, others = find_coco(path.absolute().parent.parent, candidates, images=sibling)
        if not files:
            raise InputError(
                f"{path}: expected COCO annotations, an object with images, annotations and "
                f"categories{describe_lacking(read_json(path))}."
            )
        root = files[0].image_root
    else:
        files, others = find_coco(path, candidates, split=split, images=images)
        if not files:
            names = shorten(other.relative_to(path).as_posix() for other in candidates)
            lacking = f"no split {split!r}" if split is not None else "no boxes in its JSON files"
            raise InputError(f"{path} has {lacking}; it has {names}{describe_nearly_coco(path)}.")
        files, unused = _choose_main(files)
        others += unused
        root = next((file.image_root for file in files if file.problem is None), path)
    parts = tuple(_make_coco_part(root, file) for file in files)
    notes = [
        f"{part.annotations}: "
        f"{pluralize(part.missing, 'of its images is missing', 'of its images are missing')}"
        for part in parts
        if part.missing
    ]
    return FoundDataset(root, "coco", path, parts, tuple(others), tuple(notes))


def _find_images_beside(path: Path) -> Path | None:
    """Return the only sibling of a JSON's folder with a usual name such as ``images``.

    A sibling with another name may be another dataset, whose images may have the same names.
    """
    names = ("images", "image", "imgs", "img", "photos", "JPEGImages")
    siblings = [
        folder for folder in list_folders(path.absolute().parent.parent) if folder.name in names
    ]
    return siblings[0] if len(siblings) == 1 else None


def _make_coco_part(root: Path, file: CocoFile) -> Part:
    missing = set(file.missing)
    images = dict.fromkeys(path for name, path in file.names.items() if name not in missing)
    json_path, root_path = file.path.resolve(), root.resolve()
    is_inside = json_path.is_relative_to(root_path)
    name = json_path.relative_to(root_path).as_posix() if is_inside else file.name
    folders = (file.folder,) if file.problem is None else ()
    return Part(
        name,
        name,
        folders,
        tuple(images),
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


def open_coco(found: FoundDataset, options: BoxOptions) -> DetectionData:
    """Open the only COCO file that was found."""
    part = found.get_only_part()
    return CocoData(
        found.root / part.folders[0],
        _locate_json(found, part.annotations),
        root=found.root,
        paths=part.names,
    )


def _locate_json(found: FoundDataset, name: str) -> Path:
    """Return the path of a JSON, which may be below the given folder while the images are not."""
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
    source = path
    if path.is_dir() and (yaml_files := list_yolo_files(path)):
        if len(yaml_files) > 1:
            names = shorten(file.name for file in yaml_files)
            raise InputError(f"{path} holds {names}; give one of them.")
        source = yaml_files[0]
    config = YoloConfig(source, root=root)
    splits = list(config.splits) if split is None else [config.find_split(split)]
    parts = tuple(_make_yolo_part(config, name, source) for name in splits)
    notes = (
        ["no YAML file and no classes.txt: the classes are numbers"] if config.is_numbered else []
    )
    return FoundDataset(config.root, "yolo", source, parts, (), tuple(notes))


def _make_yolo_part(config: YoloConfig, split: str, source: Path) -> Part:
    annotations = source.name if source.is_file() else ""
    folders = tuple(config.list_folders(split))
    try:
        images = config.list_images(split)
    except InputError as error:
        is_absent = not folders and not config.is_outside(split)
        return Part(split, annotations, folders, (), problem=error, is_absent=is_absent)
    existing = tuple(name for name in images if files.is_file(config.root / name))
    return Part(split, annotations, folders, existing, {}, len(images) - len(existing))


def open_yolo(found: FoundDataset, options: BoxOptions) -> DetectionData:
    """Open a split of YOLO data; by default val, or the only split."""
    splits = found.splits
    split = options.split or (splits[0] if len(splits) == 1 else "val")
    if options.split is None and split not in splits:
        raise InputError(
            f"{found.source} has no split 'val'; it has {shorten(splits)}. Give one as split "
            "(--split)."
        )
    if split not in splits:
        request = Request(found.source, found.layout, split, root=found.root)
        split = find_yolo_data(request).parts[0].title
    root = found.root if found.source.is_file() and found.is_root_given else None
    return YoloData(found.source, split, root=root)


# ---------------------------------------------------------------- Pascal VOC


def find_voc_data(request: Request) -> FoundDataset:
    """Find the folders of images and XML files, in the published layout or by file names."""
    path, split = request.path, request.split
    devkits = list_voc_folders(path)
    if devkits:
        datasets = [
            VocFiles(folder, join_below(folder, "JPEGImages"), join_below(folder, "Annotations"))
            for folder in devkits
        ]
    else:
        datasets = find_voc(path)
    parts = []
    for dataset in datasets:
        narrowed = dataset if split is None else dataset.narrow(path, split)
        if narrowed is not None:
            title = path.name if narrowed.title == "." else narrowed.title
            images = narrowed.list_images(path)
            parts.append(Part(title, narrowed.annotations, (narrowed.images,), images))
    if not parts:
        splits = dict.fromkeys(name for dataset in datasets for name in dataset.list_splits(path))
        raise InputError(f"{path} has no split {split!r}; it has {shorten(splits) or 'none'}.")
    return FoundDataset(path, "voc", path, tuple(parts))


def open_voc(found: FoundDataset, options: BoxOptions) -> DetectionData:
    """Open Pascal VOC: by the lists of ``ImageSets/Main``, or a folder of images."""
    split = options.split
    if list_voc_folders(found.root):
        return VocData(found.root, split)
    if split is None or files.is_file(found.root / "ImageSets" / "Main" / f"{split}.txt"):
        part = found.get_only_part()
        return VocData(found.root, split, images=part.folders[0], annotations=part.annotations)
    narrowed = find_voc_data(Request(found.source, found.layout, split))
    part = narrowed.get_only_part()
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
            images = tuple(f"{name}/{image}" for image in _list_images(inner))
            title = inner.name if folder.name == "leftImg8bit" else name
            parts.append(Part(title, f"gtFine/{inner.name}", (name,), images))
    return FoundDataset(path, "cityscapes", path, tuple(parts))


def _list_images(folder: Path) -> tuple[str, ...]:
    try:
        return find_images(folder).names
    except InputError:  # none
        return ()


def open_cityscapes(found: FoundDataset, options: BoxOptions) -> DetectionData:
    """Open a split of Cityscapes; by default val, or the only split."""
    only = found.parts[0].title if len(found.parts) == 1 else "val"
    return CityscapesData(found.root, options.split or only)


# ---------------------------------------------------------------- boxes beside packed images


def open_tar_boxes(found: FoundDataset, options: BoxOptions) -> DetectionData:
    """Open the boxes of webdataset tars."""
    tars = TarFiles.find(found.address or found.source)
    return read_tar_boxes(tars, box_format=options.box_format)


def open_row_boxes(found: FoundDataset, options: BoxOptions) -> DetectionData:
    """Open the boxes of a saved dataset, or of Parquet files."""
    reader = TABLE_READERS[found.layout]
    images = reader(found.source, options.split, labeled=False, column=options.column)
    return read_row_boxes(images, box_format=options.box_format)
