"""COCO: one JSON with images, annotations and categories, beside a folder of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from shiftproof.classes import Classes
from shiftproof.data.boxes import (
    UNKNOWN_CLASS,
    UNKNOWN_IMAGE,
    DetectionData,
    Fault,
    Row,
    below,
    check_inside,
    checked,
    four,
    image_sizes,
    number,
    size_faults,
)
from shiftproof.data.folder import name_of
from shiftproof.errors import InputError
from shiftproof.io.text import read_json


@final
class CocoData(DetectionData):
    """Images with the boxes of a COCO annotation file.

    Image and category ids are the file's, so that results of other programs fit; the classes are the
    categories by rising id. Crowds are kept as crowds. An annotation without ``iscrowd`` is none, one
    without ``area`` has its box's.

    Args:
        images: the folder that ``file_name`` is relative to.
        annotations: the JSON file.
        root: a folder above ``images``, or the same: what ids are relative to. The same by default.
        paths: the image below ``root`` of each ``file_name``, where that is no path below ``images``.

    Raises:
        InputError: no COCO annotations, ids that stand twice, or paths that leave the folder.
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
        prefix = _prefix(folder, home)
        value = read_json(path)
        where = path.name
        if not is_coco(value):
            raise InputError(
                f"{path}: expected COCO annotations, an object with images, annotations and "
                "categories. Are these the detections, or captions?"
            )
        categories = {_id(where, "categories", item): item for item in value["categories"]}
        if not categories or len(categories) < len(value["categories"]):
            raise InputError(f"{where}: expected categories, each id once.")
        ordered = _sorted_numbers(where, categories)
        labels = {category: place for place, category in enumerate(ordered)}

        records: dict[int | str, Mapping[str, Any]] = {}
        for item in value["images"]:
            identity = _id(where, "images", item)
            if identity in records:
                raise InputError(f"{where}: the image id {identity!r} stands twice.")
            if not isinstance(item.get("file_name"), str):
                raise InputError(f"{where}: image {identity!r} has no file_name.")
            records[identity] = item
        names = {
            identity: (paths or {}).get(item["file_name"])
            or below(prefix, check_inside(where, item["file_name"]))
            for identity, item in records.items()
        }
        rows: dict[int | str, list[Row]] = {identity: [] for identity in records}
        faults: list[Fault] = []
        for at, item in enumerate(value["annotations"]):
            place, row, image, reason = _row(at, item, labels, rows)
            if reason is not None:
                faults.append(Fault(f"{where}, {place}", *reason))
            elif row is not None:
                rows[image].append(row)
        sizes = image_sizes(home, names.values())
        said = [_said(item) for item in records.values()]
        faults += size_faults(list(names.values()), sizes, said)
        objects = {}
        for (identity, name), size, own in zip(names.items(), said, sizes, strict=True):
            if name in objects:
                raise InputError(f"{where}: {name} stands for two images; expected it once.")
            # Without any size no box can be outside.
            objects[name], wrong = checked(name, size or own or (2**31, 2**31), rows[identity])
            faults += wrong
        super().__init__(
            f"{name_of(home)} ({path.stem})",
            home,
            objects,
            Classes(tuple(str(categories[key].get("name", key)) for key in ordered)),
            image_ids={name: identity for identity, name in names.items()},
            category_ids=ordered,
            faults=faults,
        )


def is_coco(value: Any) -> bool:
    """Whether what a JSON file holds are COCO annotations of objects."""
    return isinstance(value, dict) and all(
        isinstance(value.get(part), list) for part in ("images", "annotations", "categories")
    )


def _row(
    at: int, item: Any, labels: Mapping[int, int], images: Mapping[int | str, list[Row]]
) -> tuple[str, Row | None, int | str, tuple[str, bool, str] | None]:
    """Return the place of an annotation, its row and image, or why there is none."""
    place = f"annotations[{at}]"
    if not isinstance(item, dict):
        return place, None, 0, ("no object of a JSON", False, str(type(item).__name__))
    if isinstance(item.get("id"), (int, str)):
        place += f" with the id {item['id']!r}"
    image, category = item.get("image_id"), item.get("category_id")
    if not isinstance(image, (int, str)) or image not in images:
        return place, None, 0, (UNKNOWN_IMAGE, False, f"image_id {image!r}")
    if not isinstance(category, int) or category not in labels:
        return place, None, 0, (UNKNOWN_CLASS, False, f"category_id {category!r}")
    box = item.get("bbox")
    outline = item.get("segmentation")
    row = Row(
        place,
        labels[category],
        four(box if isinstance(box, list) else ()),
        area=number(item["area"]) if "area" in item else None,
        crowd=bool(item.get("iscrowd", 0)),
        difficult=bool(item.get("difficult", 0)) or bool(item.get("ignore", 0)),
        outline=outline or None,
    )
    return place, row, image, None


def _id(where: str, part: str, item: Any) -> int | str:
    identity = item.get("id") if isinstance(item, dict) else None
    if isinstance(identity, bool) or not isinstance(identity, (int, str)):
        raise InputError(f"{where}: expected an id for each of the {part}, got {identity!r}.")
    return identity


def _sorted_numbers(where: str, keys: Mapping[int | str, Any]) -> list[int]:
    numbers = [key for key in keys if isinstance(key, int)]
    if len(numbers) < len(keys):
        raise InputError(f"{where}: expected whole numbers as category ids.")
    return sorted(numbers)


def _said(item: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = item.get("width"), item.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _prefix(folder: Path, home: Path) -> str:
    try:
        return folder.resolve().relative_to(home.resolve()).as_posix()
    except ValueError as error:
        raise InputError(f"{folder} is not below {home}; give a root above the images.") from error
