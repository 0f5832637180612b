"""Reader of COCO ground truth that keeps valid records and lists the faults of the others.

This is the only reader of such files. Records that pycocotools evaluates count here in the same
way; a record that cannot be read is skipped, and never aborts the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, TypeAlias

import numpy as np

from shiftproof.errors import InputError
from shiftproof.metrics.coco_records import (
    CocoRecords,
    Ids,
    check_box_format,
    clean_name,
    describe,
    has_mask_alone,
    read_boxes,
)
from shiftproof.metrics.faults import (
    ID_AS_TEXT,
    ID_TWICE,
    LARGEST,
    NO_BOX,
    NO_ID,
    NO_NAME,
    NO_RECORD,
    NO_SIZE,
    NUMBER_AS_TEXT,
    ODD_AREA,
    ODD_FLAG,
    ODD_OUTLINE,
    UNKNOWN_CLASS,
    UNKNOWN_IMAGE,
    Fault,
    read_flag,
    read_integer,
    read_number,
    show_value,
)
from shiftproof.metrics.masks import derive_boxes
from shiftproof.types import F64, Flags

ImageId: TypeAlias = int | str

PARTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class ImageRecord:
    """An image of the ground truth; ``size`` is (width, height), if the file has them."""

    place: str
    file_name: str | None
    size: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Annotations:
    """COCO's ground truth as columns, in the order of the file.

    Attributes:
        images: from id to record.
        categories: from id to name, by ascending id.
        places: G descriptions of the annotations' positions, for messages.
        image: G image ids.
        category: G category ids.
        boxes: ``(G, 4)`` x, y, width, height, with rows of NaN for invalid boxes.
        instead: from row to the value found in place of a valid box.
        boxless: the rows that have a segmentation, no ``bbox``, and no box from the one yet.
        area: ``(G,)`` as in the file; NaN also for the text "NaN"; of a box that was derived from a
            mask, the mask's.
        has_area: ``(G,)`` whether there is such an area.
        crowd: ``(G,)``, the flag ``iscrowd``.
        difficult: ``(G,)``, the flag ``difficult`` or ``ignore``.
        outlines: G segmentations as in the file; None if there is no valid one.
        faults: the faults found without comparing boxes with their images.
    """

    images: Mapping[ImageId, ImageRecord]
    categories: Mapping[Any, str]
    places: Sequence[str]
    image: Sequence[ImageId]
    category: Sequence[Any]
    boxes: F64
    instead: Mapping[int, str]
    boxless: Sequence[int]
    area: F64
    has_area: Flags
    crowd: Flags
    difficult: Flags
    outlines: Sequence[Any]
    faults: Sequence[Fault]


def read_annotations(where: str, value: Any) -> Annotations:
    """Read COCO's ground truth.

    Integral floats count as integers (pandas writes them); of two images or categories with the
    same id the last one counts, as in pycocotools. An annotation with a segmentation and no ``bbox``
    gets the box of its mask, see :func:`derive_missing_boxes`.

    Args:
        where: name of the file in messages.
        value: the parsed JSON.

    Raises:
        InputError: it is no ground truth, or its boxes are x1, y1, x2, y2.
        MissingExtraError: boxes have to be derived, and pycocotools is not installed.
    """
    images, annotations, categories = _read_parts(where, value)
    faults: list[Fault] = []
    known_images = _read_images(where, images, faults)
    known_categories = _read_categories(where, categories, faults)
    rows = _select_objects(where, annotations, faults)
    _list_duplicate_ids(rows)
    # A record without a valid image gets no further faults.
    image = _find_ids(rows, "image_id", Ids(known_images))
    is_known = np.array([one is not None for one in image], dtype=np.bool_)
    rows, image = rows.take(is_known), list(compress(image, is_known))
    category = _find_ids(rows, "category_id", Ids(known_categories))
    is_known = np.array([one is not None for one in category], dtype=np.bool_)
    rows, image, category = (
        rows.take(is_known), list(compress(image, is_known)), list(compress(category, is_known))
    )  # fmt: skip
    column = rows.column("bbox")
    boxes = _read_boxes(rows, [known_images[image_id].size for image_id in image])
    area, has_area = _read_areas(rows)
    outlines = _read_outlines(rows)
    boxless = [
        row
        for row, outline in enumerate(outlines)
        if outline is not None and has_mask_alone(rows.records[row])
    ]
    read = Annotations(
        images=known_images,
        categories=known_categories,
        places=[rows.place(row) for row in range(len(rows.records))],
        image=image,
        category=category,
        boxes=boxes,
        instead={
            row: _describe_box(column[row], rows.records[row])
            for row in np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist()
        },
        boxless=boxless,
        area=area,
        has_area=has_area,
        crowd=_read_flags(rows, "iscrowd"),
        difficult=_read_flags(rows, "difficult") | _read_flags(rows, "ignore"),
        outlines=outlines,
        faults=faults,
    )
    sizes = {image_id: record.size for image_id, record in known_images.items()}
    return derive_missing_boxes(where, read, sizes)


def derive_missing_boxes(
    where: str, read: Annotations, sizes: Mapping[ImageId, tuple[int, int] | None]
) -> Annotations:
    """Return the annotations with boxes of their masks where the file has none.

    The box of a mask is pycocotools' (:func:`~shiftproof.metrics.masks.derive_boxes`), as is that of
    results without boxes there. Each is listed in ``faults`` as kept. Where none can be derived, for
    lack of the image's size or of a valid mask, ``instead`` says why.

    Args:
        where: name of the file in messages.
        read: the annotations.
        sizes: (width, height) of the images by id, None if unknown.

    Raises:
        MissingExtraError: boxes have to be derived, and pycocotools is not installed.
    """
    if not read.boxless:
        return read
    rows = list(read.boxless)
    of_rows = [sizes.get(read.image[row]) for row in rows]
    found, areas, reasons = derive_boxes(
        [read.outlines[row] for row in rows],
        [None if size is None else (size[1], size[0]) for size in of_rows],
    )
    boxes, area, has_area = read.boxes.copy(), read.area.copy(), read.has_area.copy()
    instead, faults, boxless = dict(read.instead), list(read.faults), []
    for place, row in enumerate(rows):
        if place in reasons:
            instead[row] = f"no bbox, and none from the segmentation: {reasons[place]}"
            boxless.append(row)
            continue
        boxes[row] = found[place]
        if not has_area[row]:
            area[row], has_area[row] = areas[place], True
        instead.pop(row, None)
        shown = ", ".join(f"{value:g}" for value in found[place])
        faults.append(Fault(f"{where}, {read.places[row]}", NO_BOX, True, f"bbox {shown} of it"))
    return replace(
        read, boxes=boxes, area=area, has_area=has_area, instead=instead, boxless=boxless, faults=faults
    )  # fmt: skip


def _describe_box(value: Any, record: Mapping[str, Any]) -> str:
    """Describe what stands in place of a valid box."""
    if value is not None:
        return f"bbox {show_value(value)}"
    return (
        "no bbox, and a segmentation that cannot be read"
        if has_mask_alone(record)
        else "no bbox and no segmentation; expected one of them"
    )


# ---------------------------------------------------------------- the three lists


def _read_parts(where: str, value: Any) -> list[Sequence[Any]]:
    if not isinstance(value, Mapping):
        raise InputError(
            f"{where}: expected COCO ground truth, an object with images, annotations and "
            f"categories, got a {describe(value)}. Are these the detections?"
        )
    parts = []
    for key in PARTS:
        part = value.get(key)
        if not isinstance(part, Sequence) or isinstance(part, str):
            got = "none" if key not in value else f"a {describe(part)}"
            raise InputError(f"{where}: expected a list of {key}, got {got}.")
        parts.append(part)
    return parts


def _read_images(
    where: str, items: Sequence[Any], faults: list[Fault]
) -> dict[ImageId, ImageRecord]:
    found: dict[ImageId, ImageRecord] = {}
    for index, item in enumerate(items):
        place = f"{where}, images[{index}]"
        image_id = _read_id(place, item, faults)
        if image_id is None:
            continue
        if image_id in found:
            detail = f"{show_value(image_id)}; the last image of an id counts"
            faults.append(Fault(found.pop(image_id).place, ID_TWICE, False, detail))
        name = item.get("file_name")
        found[image_id] = ImageRecord(
            f"{place} with the id {show_value(image_id)}",
            clean_name(name) if isinstance(name, str) and name else None,
            _read_size(place, item, faults),
        )
    return found


def _read_size(place: str, item: Mapping[str, Any], faults: list[Fault]) -> tuple[int, int] | None:
    values = item.get("width"), item.get("height")
    width, height = map(read_integer, values)
    if width is not None and height is not None and 0 < width < 2**31 and 0 < height < 2**31:
        size, reason = (width, height), NUMBER_AS_TEXT
        is_fault = any(isinstance(value, str) for value in values)
    else:
        size, reason = None, NO_SIZE
        is_fault = any(value is not None for value in values)
    if is_fault:
        detail = f"width {show_value(values[0])}, height {show_value(values[1])}"
        faults.append(Fault(place, reason, True, detail))
    return size


def _read_categories(where: str, items: Sequence[Any], faults: list[Fault]) -> dict[Any, str]:
    found: dict[Any, tuple[str, str]] = {}
    for index, item in enumerate(items):
        place = f"{where}, categories[{index}]"
        category_id = _read_id(place, item, faults)
        if category_id is None:
            continue
        if isinstance(category_id, str) and (number := read_integer(category_id)) is not None:
            faults.append(Fault(place, ID_AS_TEXT, True, show_value(category_id)))
            category_id = number
        if category_id in found:
            detail = f"{show_value(category_id)}; the last category of an id counts"
            faults.append(Fault(found.pop(category_id)[0], ID_TWICE, False, detail))
        name = item.get("name")
        if name is None or name == "":
            faults.append(Fault(place, NO_NAME, True, f"id {show_value(category_id)}"))
            name = category_id
        found[category_id] = (place, clean_name(str(name)[:1000]))
    if any(isinstance(category_id, int) for category_id in found):
        for text in [category_id for category_id in found if isinstance(category_id, str)]:
            faults.append(Fault(found.pop(text)[0], NO_ID, False, show_value(text)))
    return {category_id: found[category_id][1] for category_id in sorted(found)}


def _read_id(place: str, item: Any, faults: list[Fault]) -> ImageId | None:
    """Return the id of an image or a category; without one, None, and a fault is added."""
    if not isinstance(item, Mapping):
        faults.append(Fault(place, NO_RECORD, False, describe(item)))
        return None
    value = item.get("id")
    if isinstance(value, str) and value:
        return clean_name(value)
    number = None if isinstance(value, str) else read_integer(value)
    if number is None:
        faults.append(Fault(place, NO_ID, False, f"id {show_value(value)}"))
    return number


# ---------------------------------------------------------------- columns of annotations


def _select_objects(where: str, items: Sequence[Any], faults: list[Fault]) -> CocoRecords:
    """Return the items that are JSON objects."""
    indices = []
    for index, item in enumerate(items):
        if isinstance(item, Mapping):
            indices.append(index)
        else:
            faults.append(Fault(f"{where}, annotations[{index}]", NO_RECORD, False, describe(item)))
    return CocoRecords(where, "annotations", indices, [items[index] for index in indices], faults)


def _list_duplicate_ids(rows: CocoRecords) -> None:
    """Add a fault for each repeated id: pycocotools confuses such annotations."""
    seen: set[Any] = set()
    for row, annotation_id in enumerate(rows.column("id")):
        if isinstance(annotation_id, (int, str)):
            if annotation_id in seen:
                rows.add_fault(row, ID_TWICE, kept=True)
            seen.add(annotation_id)


def _find_ids(rows: CocoRecords, key: str, ids: Ids) -> list[Any]:
    """Return the id that each record refers to, or None."""
    unknown = UNKNOWN_IMAGE if key == "image_id" else UNKNOWN_CLASS
    found = []
    for row, value in enumerate(rows.column(key)):
        match, has_right_type = ids.find(value)
        if match is None:
            rows.add_fault(row, unknown, kept=False, detail=f"{key} {show_value(value)}")
        elif not has_right_type:
            detail = f"{key} {show_value(value)} for {show_value(match)}"
            rows.add_fault(row, ID_AS_TEXT, kept=True, detail=detail)
        found.append(match)
    return found


def _read_boxes(rows: CocoRecords, sizes: Sequence[tuple[int, int] | None]) -> F64:
    """Return ``(G, 4)``, rows of NaN for invalid boxes; ``sizes`` are those of their images."""
    column = rows.column("bbox")
    boxes, as_text = read_boxes(column)
    for row in as_text:
        rows.add_fault(row, NUMBER_AS_TEXT, kept=True, detail=f"bbox {show_value(column[row])}")
    check_box_format(f"{rows.where}: annotations", boxes, sizes)
    return boxes


def _read_areas(rows: CocoRecords) -> tuple[F64, Flags]:
    """Return ``(G,)`` the areas, and whether each is present."""
    area = np.zeros(len(rows.records))
    has_area = np.zeros(len(rows.records), dtype=np.bool_)
    for row, value in enumerate(rows.column("area")):
        if value is None:
            continue
        area[row] = read_number(value)
        has_area[row] = not math.isnan(area[row]) or _is_nan(value)
        is_odd = not 0 <= area[row] < LARGEST
        if is_odd or isinstance(value, str):
            reason = ODD_AREA if is_odd else NUMBER_AS_TEXT
            rows.add_fault(row, reason, kept=True, detail=f"area {show_value(value)}")
    return area, has_area


def _read_flags(rows: CocoRecords, key: str) -> Flags:
    """Return ``(G,)`` a flag; False where it is missing."""
    flags = np.zeros(len(rows.records), dtype=np.bool_)
    for row, record in enumerate(rows.records):
        value = record.get(key, 0)
        if type(value) is int and value in (0, 1):
            flags[row] = value
            continue
        flag = read_flag(value)
        flags[row] = bool(flag)
        if flag is None or isinstance(value, str) or value not in (0, 1):
            rows.add_fault(row, ODD_FLAG, kept=True, detail=f"{key} {show_value(value)}")
    return flags


def _read_outlines(rows: CocoRecords) -> list[Any]:
    """Return the segmentations; None for one that is neither polygons nor a code."""
    outlines = []
    for row, value in enumerate(rows.column("segmentation")):
        outline = _read_outline(value)
        if outline is None and value is not None and value != []:
            rows.add_fault(row, ODD_OUTLINE, kept=True, detail=show_value(value))
        outlines.append(outline)
    return outlines


def _is_nan(value: Any) -> bool:
    """Return whether a value is NaN, as JSON's token or as the text that shiftproof writes."""
    if isinstance(value, str):
        return value.strip().lower() == "nan"
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _read_outline(value: Any) -> Any:
    """Return polygons or a run-length code of finite numbers; None if it is neither."""
    if isinstance(value, Mapping):
        size, counts = value.get("size"), value.get("counts")
        coded = isinstance(counts, bytes) or (
            counts.isascii() if isinstance(counts, str) else _are_finite(counts)
        )
        return {"size": size, "counts": counts} if coded and _are_finite(size) else None
    polygons = isinstance(value, (list, tuple)) and all(_are_finite(polygon) for polygon in value)
    return value if polygons and value else None


def _are_finite(values: Any) -> bool:
    try:
        return isinstance(values, (list, tuple, np.ndarray)) and math.isfinite(sum(values))
    except (TypeError, ValueError, OverflowError):
        return False
