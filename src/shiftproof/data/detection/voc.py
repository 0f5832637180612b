"""Pascal VOC: one XML for each image, lists of images for each split."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final
from xml.etree.ElementTree import Element

from shiftproof.classes import Classes
from shiftproof.data.detection.boxes import (
    NO_ANNOTATIONS,
    UNKNOWN_SIZE,
    UNREADABLE,
    DetectionData,
    RawObject,
    check_boxes,
    check_inside,
    find_size_faults,
    read_image_sizes,
)
from shiftproof.data.disk import (
    drop_suffix,
    find_images,
    join_below,
    list_two_levels,
    shorten,
)
from shiftproof.data.images.folder import name_folder
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.border import convert_errors
from shiftproof.io.images import is_image
from shiftproof.io.text import read_text
from shiftproof.io.xml import parse_xml
from shiftproof.metrics.faults import (
    ODD_FLAG,
    UNKNOWN_CLASS,
    UNKNOWN_IMAGE,
    Fault,
    read_flag,
    read_number,
    show_value,
)

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


@final
class VocData(DetectionData):
    """Images with the boxes of Pascal VOC: ``JPEGImages``, ``Annotations``, ``ImageSets/Main``.

    A box is x = xmin, y = ymin, width = xmax - xmin, height = ymax - ymin. Objects that are marked
    difficult (by any number but 0) are kept and marked. Parts of objects are ignored. If an object
    has only a polygon ``x1``, ``y1``, ``x2``, ``y2``, ..., as exported by Labelbox, its box is the
    smallest around it.

    Differs from the published tools, several of which subtract 1 from the corners or add it to the
    sizes.

    Args:
        root: the folder with these three, or one above with a single such folder in it (as
            ``VOCdevkit`` with ``VOC2007``). Ids are relative to it.
        split: a list in ``ImageSets/Main``; None for all images.
        classes: the class names; by default VOC's twenty if no other occurs, else those that occur,
            sorted.
        images: name of the folder of images.
        annotations: name of the folder of XML files.

    Raises:
        InputError: no such folders or split, two images with one stem, a path that leaves the folder.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        classes: Sequence[str] | None = None,
        images: str = "JPEGImages",
        annotations: str = "Annotations",
    ) -> None:
        root = Path(root)
        inner = _find_inner(root, images, annotations)
        base = root / inner
        by_stem = _group_by_stem(base / images)
        stems = sorted(by_stem) if split is None else read_split(base, split, by_stem)
        faults: list[Fault] = []
        annotated: dict[str, _ImageAnnotation] = {}
        for stem in stems:
            check_inside(split or "ImageSets", stem)
            name = join_below(inner, f"{images}/{by_stem.get(stem, f'{stem}.jpg')}")
            path = base / annotations / f"{stem}.xml"
            if not path.is_file():
                detail = f"expected {annotations}/{stem}.xml"
                faults.append(Fault(name, NO_ANNOTATIONS, kept=False, detail=detail))
                continue
            try:
                annotated[name] = _read_annotation(path)
            except BrokenFileError as error:
                faults.append(Fault(name, UNREADABLE, kept=False, detail=str(error)))
        if split is None:
            faults += [
                Fault(f"{annotations}/{path.name}", UNKNOWN_IMAGE, kept=False)
                for path in sorted((base / annotations).glob("*.xml"))
                if path.stem not in by_stem
            ]
        if not annotated:
            first = f" (first: {faults[0]})" if faults else ""
            raise InputError(f"{base} has no image with annotations that can be read{first}.")
        names = {name for image in annotated.values() for name, _ in image.rows}
        class_names = tuple(classes) if classes is not None else _choose_class_names(names)
        sizes = read_image_sizes(root, annotated)
        faults += find_size_faults(
            list(annotated), sizes, [image.size for image in annotated.values()]
        )
        objects = {}
        for (name, image), size in zip(annotated.items(), sizes, strict=True):
            rows, image_faults = _label_objects(name, image, class_names)
            objects[name], box_faults = check_boxes(name, image.size or size or UNKNOWN_SIZE, rows)
            faults += image_faults + box_faults
        title = name_folder(base) + (f" {split}" if split else "")
        super().__init__(title, root, objects, Classes(class_names), faults=faults)


def _group_by_stem(folder: Path) -> dict[str, str]:
    """Return the images of a folder by their names without suffix."""
    by_stem: dict[str, str] = {}
    for name in find_images(folder).names:
        stem = drop_suffix(name)
        if stem in by_stem:
            raise InputError(f"{folder}: {by_stem[stem]} and {name} share one annotation file.")
        by_stem[stem] = name
    return by_stem


def _label_objects(
    name: str, image: _ImageAnnotation, class_names: Sequence[str]
) -> tuple[list[RawObject], list[Fault]]:
    """Return the objects of an image with known classes, and the faults of the image."""
    faults = [replace(fault, where=f"{name}, {fault.where}") for fault in image.faults]
    labels = {class_name: label for label, class_name in enumerate(class_names)}
    rows = []
    for class_name, row in image.rows:
        if class_name in labels:
            row.label = labels[class_name]
            rows.append(row)
        else:
            faults.append(Fault(f"{name}, {row.place}", UNKNOWN_CLASS, False, repr(class_name)))
    return rows, faults


def read_split(base: Path, split: str, known: Collection[str] = ()) -> list[str]:
    """Return the images of a list in ``ImageSets/Main``, without suffix.

    A line is a name, which may have spaces and the suffix of an image; the lists of a class have a
    second column, -1, 0 or 1.

    Args:
        base: the folder with ``ImageSets``.
        split: the list's name.
        known: the existing images, without suffix; they decide which part of a line is the name.

    Raises:
        InputError: no such list.
        BrokenFileError: it cannot be read.
    """
    folder = base / "ImageSets" / "Main"
    path = folder / f"{check_inside('split', split)}.txt"
    if not path.is_file():
        splits = shorten(sorted(other.stem for other in folder.glob("*.txt")))
        raise InputError(f"{path} does not exist; there are the splits {splits or 'none'}.")
    lines = read_text(path, errors="replace").splitlines()
    return list(dict.fromkeys(_read_line(line.strip(), known) for line in lines if line.strip()))


def _read_line(line: str, known: Collection[str]) -> str:
    """Return the image of a line of a list, without suffix."""
    two_columns = re.fullmatch(r"(.*\S)\s+[-+]?[01]", line)
    names = [line, *([two_columns[1]] if two_columns else [])]
    candidates = [candidate for name in names for candidate in (name, _drop_image_suffix(name))]
    existing = next((name for name in candidates if name in known), None)
    return _drop_image_suffix(names[-1]) if existing is None else existing


def _drop_image_suffix(name: str) -> str:
    return drop_suffix(name) if is_image(Path(name)) else name


@dataclass(frozen=True)
class _ImageAnnotation:
    """The content of an XML file: image size, objects with their class names, and faults."""

    size: tuple[int, int] | None
    rows: list[tuple[str, RawObject]]
    faults: list[Fault]


def _read_annotation(path: Path) -> _ImageAnnotation:
    with convert_errors(path.name, "not annotations of Pascal VOC"):
        tree = parse_xml(path.read_bytes(), path.name)
        if tree.tag != "annotation":
            raise BrokenFileError(f"{path.name}: expected <annotation>, got <{tree.tag}>.")
        rows, faults = [], []
        for number, item in enumerate(tree.findall("object"), start=1):
            place = f"object {number}"
            name = (item.findtext("name") or "").strip()
            if not name:
                faults.append(Fault(place, UNKNOWN_CLASS, False, "no name"))
                continue
            text = (item.findtext("difficult") or "").strip()
            # As in voc_eval, any whole number but 0 marks an object.
            difficult = read_flag(text) if text else False
            if difficult is None or text not in ("", "0", "1"):
                faults.append(Fault(place, ODD_FLAG, True, f"difficult {text!r:.40}"))
            x1, y1, x2, y2 = _read_corners(item)
            row = RawObject(
                place,
                -1,
                (x1, y1, x2 - x1, y2 - y1),
                difficult=bool(difficult),
                instead=_describe_missing_box(item),
            )
            rows.append((name, row))
        width, height = (read_number(tree.findtext(f"size/{side}")) for side in ("width", "height"))
    is_valid = math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1
    return _ImageAnnotation((int(width), int(height)) if is_valid else None, rows, faults)


def _read_corners(item: Element) -> tuple[float, float, float, float]:
    """Return xmin, ymin, xmax, ymax of an object, NaN for what is not a number."""
    polygon = item.find("polygon")
    if item.find("bndbox") is None and polygon is not None:
        count = len(polygon) // 2
        xs, ys = (
            [read_number(polygon.findtext(f"{axis}{number}")) for number in range(1, count + 1)]
            for axis in "xy"
        )
        if count >= 2 and all(map(math.isfinite, [*xs, *ys])):
            return min(xs), min(ys), max(xs), max(ys)
    x1, y1, x2, y2 = (read_number(item.findtext(f"bndbox/{corner}")) for corner in _CORNERS)
    return x1, y1, x2, y2


def _describe_missing_box(item: Element) -> str:
    """Return the value in place of an object's box; "" if it has a box."""
    box = item.find("bndbox")
    if box is None:
        has_polygon = item.find("polygon") is not None
        return "no bndbox" + (", and no x1, y1, x2, y2, … in its polygon" if has_polygon else "")
    return ", ".join(f"{corner} {show_value(box.findtext(corner))}" for corner in _CORNERS)


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _choose_class_names(names: set[str]) -> tuple[str, ...]:
    return VOC_CLASSES if names <= set(VOC_CLASSES) else tuple(sorted(names))


def is_voc(root: Path, images: str = "JPEGImages", annotations: str = "Annotations") -> bool:
    """Return whether a folder has VOC's two folders."""
    return (root / images).is_dir() and (root / annotations).is_dir()


def list_voc_folders(root: Path) -> list[str]:
    """Return the folders of VOC data relative to ``root``: itself, or those one or two levels below."""
    if is_voc(root):
        return ["."]
    folders = filter(is_voc, list_two_levels(root))
    return [folder.relative_to(root).as_posix() for folder in folders]


def _find_inner(root: Path, images: str, annotations: str) -> str:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; expected one of Pascal VOC.")
    if is_voc(root, images, annotations):
        return "."
    inner = list_voc_folders(root)
    if len(inner) == 1:
        return inner[0]
    if inner:
        raise InputError(f"{root} holds {', '.join(inner)}; give one of them.")
    raise InputError(f"{root} has no folders {images} and {annotations}; expected Pascal VOC.")
