"""COCO: one JSON with images, annotations and categories, beside a folder of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from shiftproof.classes import Classes
from shiftproof.data.detection.boxes import (
    NO_NAME,
    UNKNOWN_IMAGE,
    DetectionData,
    Fault,
    ImageObjects,
    RawObject,
    check_boxes,
    check_inside,
    find_size_faults,
    read_image_sizes,
)
from shiftproof.data.disk import join_below
from shiftproof.data.images.folder import name_folder
from shiftproof.errors import InputError
from shiftproof.io.text import read_json
from shiftproof.metrics.annotations import PARTS, Annotations, ImageId, read_annotations


@final
class CocoData(DetectionData):
    """Images with the boxes of a COCO annotation file.

    Image and category ids are the file's, so that results of other programs fit; the classes are
    the categories by ascending id. Crowds stay crowds. An annotation without ``iscrowd`` is no
    crowd, and one without ``area`` gets its box's. The file is read by
    :func:`~shiftproof.metrics.annotations.read_annotations`, like by the metrics: valid entries are
    kept, and invalid ones become faults.

    Args:
        images: the folder that ``file_name`` is relative to.
        annotations: the JSON file.
        root: the folder to which ids are relative: ``images``, the default, or a folder above it.
        paths: from each ``file_name`` to the image below ``root``, if names are no paths below
            ``images``.

    Raises:
        InputError: no COCO annotations, no image or category in them that can be used, a file that
            stands for two images, or paths that leave the folder.
        BrokenFileError: no JSON.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        *,
        root: str | Path | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> None:
        folder, path = Path(images), Path(annotations)
        home = folder if root is None else Path(root)
        prefix = _find_prefix(folder, home)
        value = read_json(path)
        where = path.name
        if not is_coco(value):
            raise InputError(
                f"{path}: expected COCO annotations, an object with images, annotations and "
                f"categories{describe_lacking(value)}. Are these the detections, or captions?"
            )
        read = read_annotations(where, value)
        _check_categories(where, read)
        faults = list(read.faults)
        named: dict[ImageId, str] = {}
        for identity, record in read.images.items():
            if record.file_name is None:
                faults.append(Fault(record.place, NO_NAME, kept=False, detail="no file_name"))
            else:
                named[identity] = (paths or {}).get(record.file_name) or join_below(
                    prefix, check_inside(where, record.file_name)
                )
        if not named:
            raise _nothing(where, "images", faults)
        rows = _list_rows(where, read, named, faults)
        sizes = read_image_sizes(home, named.values())
        said = [read.images[identity].size for identity in named]
        faults += find_size_faults(list(named.values()), sizes, said)
        objects: dict[str, ImageObjects] = {}
        for (identity, name), size, own in zip(named.items(), said, sizes, strict=True):
            if name in objects:
                raise InputError(f"{where}: {name} stands for two images; expected it once.")
            # Without a size no box can be outside.
            whole = size or own or (2**31, 2**31)
            objects[name], wrong = check_boxes(name, whole, rows[identity], keep_negative=True)
            faults += wrong
        super().__init__(
            f"{name_folder(home)} ({path.stem})",
            home,
            objects,
            Classes(tuple(read.categories.values())),
            image_ids={name: identity for identity, name in named.items()},
            category_ids=list(read.categories),
            faults=faults,
        )


def _check_categories(where: str, read: Annotations) -> None:
    if not read.categories:
        raise _nothing(where, "categories", read.faults)
    if not all(isinstance(category, int) for category in read.categories):
        raise InputError(
            f"{where}: expected whole numbers as category ids, got {next(iter(read.categories))!r:.40}."
        )


def _nothing(where: str, part: str, faults: Sequence[Fault]) -> InputError:
    first = f" (first: {faults[0]})" if faults else ""
    return InputError(f"{where}: expected {part}, and there are none that can be used{first}.")


def _list_rows(
    where: str, read: Annotations, named: Mapping[ImageId, str], faults: list[Fault]
) -> dict[ImageId, list[RawObject]]:
    """The annotations of each image that has a name."""
    rows: dict[ImageId, list[RawObject]] = {identity: [] for identity in named}
    labels = {category: place for place, category in enumerate(read.categories)}
    for at, identity in enumerate(read.image):
        if identity not in rows:
            detail = f"image_id {identity!r:.60}, which has no file_name"
            faults.append(Fault(f"{where}, {read.places[at]}", UNKNOWN_IMAGE, False, detail))
            continue
        x, y, width, height = read.boxes[at].tolist()
        rows[identity].append(
            RawObject(
                read.places[at],
                labels[read.category[at]],
                (x, y, width, height),
                area=float(read.area[at]) if read.has_area[at] else None,
                crowd=bool(read.crowd[at]),
                difficult=bool(read.difficult[at]),
                outline=read.outlines[at],
                instead=read.instead.get(at, ""),
            )
        )
    return rows


def describe_lacking(value: Any) -> str:
    """Return the missing parts of COCO annotations, as the end of an error sentence.

    >>> describe_lacking({"images": [], "annotations": []})
    '; it has no list of categories'
    """
    if not isinstance(value, dict):
        return ""
    absent = [part for part in PARTS if not isinstance(value.get(part), list)]
    return f"; it has no list of {' and none of '.join(absent)}" if absent else ""


def is_coco(value: Any) -> bool:
    """Return whether a JSON value is COCO annotations of objects."""
    return isinstance(value, dict) and all(isinstance(value.get(part), list) for part in PARTS)


def _find_prefix(folder: Path, home: Path) -> str:
    try:
        return folder.resolve().relative_to(home.resolve()).as_posix()
    except ValueError as error:
        raise InputError(f"{folder} is not below {home}; give a root above the images.") from error
