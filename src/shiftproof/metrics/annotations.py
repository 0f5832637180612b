"""Reader of COCO ground truth that keeps valid records and lists the faults of the others.

This is the only reader of such files. Records that pycocotools evaluates count here in the same
way; a record that cannot be read is skipped, and never aborts the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypeAlias

import numpy as np

from shiftproof.errors import InputError
from shiftproof.metrics.faults import (
    ID_AS_TEXT,
    ID_TWICE,
    LARGEST,
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
        area: ``(G,)`` as in the file; NaN also for the text "NaN".
        has_area: ``(G,)`` whether the file has a valid area.
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
    area: F64
    has_area: Flags
    crowd: Flags
    difficult: Flags
    outlines: Sequence[Any]
    faults: Sequence[Fault]


def read_annotations(where: str, value: Any) -> Annotations:
    """Read COCO's ground truth.

    Integral floats count as integers (pandas writes them); of two images or categories with the
    same id the last one counts, as in pycocotools.

    Args:
        where: name of the file in messages.
        value: the parsed JSON.

    Raises:
        InputError: it is no ground truth, or its boxes are x1, y1, x2, y2.
    """
    images, annotations, categories = _read_parts(where, value)
    faults: list[Fault] = []
    known_images = _read_images(where, images, faults)
    known_categories = _read_categories(where, categories, faults)
    rows = _Rows.read(where, annotations, faults)
    rows.list_duplicate_ids()
    # A record without a valid image gets no further faults.
    image = rows.find_ids("image_id", Ids(known_images))
    rows, image = rows.take([one is not None for one in image], image)
    category = rows.find_ids("category_id", Ids(known_categories))
    is_known = [one is not None for one in category]
    image, category = list(compress(image, is_known)), list(compress(category, is_known))
    rows, _ = rows.take(is_known, ())
    boxes = rows.read_boxes([known_images[image_id].size for image_id in image])
    area, has_area = rows.read_areas()
    return Annotations(
        images=known_images,
        categories=known_categories,
        places=rows.places,
        image=image,
        category=category,
        boxes=boxes,
        instead={
            row: f"bbox {show_value(rows.records[row].get('bbox'))}"
            for row in np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist()
        },
        area=area,
        has_area=has_area,
        crowd=rows.read_flags("iscrowd"),
        difficult=rows.read_flags("difficult") | rows.read_flags("ignore"),
        outlines=rows.read_outlines(),
        faults=faults,
    )


def clean_name(text: str) -> str:
    r"""Return text that UTF-8 can encode: lone surrogates are replaced by their code points.

    >>> clean_name("a\ud800.jpg")
    'aU+D800.jpg'
    """
    return re.sub(r"[\ud800-\udfff]", lambda match: f"U+{ord(match[0]):04X}", text)


class Ids:
    """Ids of images or categories, looked up by a record's value."""

    def __init__(self, ids: Iterable[Any]) -> None:
        self._ids = {known: known for known in ids}

    def find(self, value: Any) -> tuple[Any, bool]:
        """Return the matching id or None, and whether it was written with the right type."""
        if isinstance(value, str):
            text = clean_name(value)
            if text in self._ids:
                return text, True
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
            # "007" is a name, not a number.
            match = self._ids.get(number) if number is not None and str(number) == text else None
            return match, match is None
        number = read_integer(value)
        if number is None or number in self._ids:
            return self._ids.get(number), True
        match = self._ids.get(str(number))
        return match, match is None


def read_boxes(column: Sequence[Any]) -> tuple[F64, list[int]]:
    """Return ``(N, 4)`` numbers, with rows of NaN for invalid boxes, and the rows that had text."""
    boxes = _convert_boxes(column)
    as_text: list[int] = []
    if boxes is None:
        boxes = np.full((len(column), 4), np.nan)
        for row, box in enumerate(column):
            values = box.tolist() if isinstance(box, np.ndarray) else box
            if isinstance(values, (list, tuple)) and len(values) == 4:
                boxes[row] = [read_number(value) for value in values]
                has_text = any(isinstance(value, str) for value in values)
                if has_text and np.isfinite(boxes[row]).all():
                    as_text.append(row)
    boxes[~(np.abs(boxes) < LARGEST).all(axis=1)] = np.nan
    return boxes, as_text


def _convert_boxes(column: Sequence[Any]) -> F64 | None:
    """Convert all boxes at once, if all are four numbers."""
    if not column:
        return np.empty((0, 4))
    try:
        array = np.array(column)
    except (ValueError, OverflowError):
        return None
    is_valid = array.dtype.kind in "iuf" and array.ndim == 2 and array.shape[1] == 4
    return array.astype(np.float64) if is_valid else None


MANY_BOXES = 10
"""Number of boxes from which the order of their numbers indicates the format."""


def check_box_format(where: str, boxes: F64, sizes: Sequence[tuple[int, int] | None]) -> None:
    """Refuse boxes that are probably x1, y1, x2, y2: x2 >= x1 in all, and read as x, y, width,
    height most of them exceed their images.

    Args:
        where: name of the boxes' file in messages.
        boxes: ``(N, 4)``; rows of NaN are skipped.
        sizes: width and height of each box's image.

    Raises:
        InputError: they are x1, y1, x2, y2.
    """
    is_valid = ~np.isnan(boxes).any(axis=1)
    valid = boxes[is_valid]
    if len(valid) < MANY_BOXES or (valid[:, 2:] < valid[:, :2]).any():
        return
    limit = np.array([size or (np.inf, np.inf) for size in sizes], dtype=np.float64)[is_valid]
    beyond = (valid[:, :2] + valid[:, 2:] > limit + 1).any(axis=1)
    if beyond.mean() > 0.5:
        raise InputError(
            f"{where}: expected bbox as x, y, width, height, and {beyond.sum()} of {len(valid)} "
            f"boxes leave their image, such as {valid[beyond][0].tolist()}. If they are x1, y1, x2, "
            "y2, subtract x1 from x2 and y1 from y2."
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


def describe(value: Any) -> str:
    """Describe a value: its type, or a dictionary's first keys."""
    if isinstance(value, Mapping):
        keys = ", ".join(str(key)[:60] for key in list(value)[:5])
        return f"dictionary with the keys {keys or '(none)'}"
    return type(value).__name__


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


@dataclass(frozen=True, eq=False)
class _Rows:
    """Records of annotations, their places in the file, and the list of all faults."""

    where: str
    places: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    faults: list[Fault]

    @classmethod
    def read(cls, where: str, items: Sequence[Any], faults: list[Fault]) -> _Rows:
        """Return the items that are objects."""
        records, places = [], []
        for index, item in enumerate(items):
            place = f"annotations[{index}]"
            if not isinstance(item, Mapping):
                faults.append(Fault(f"{where}, {place}", NO_RECORD, False, describe(item)))
                continue
            if isinstance(item.get("id"), (int, str)):
                place += f" with the id {show_value(item['id'])}"
            records.append(item)
            places.append(place)
        return cls(where, places, records, faults)

    def take(self, kept: Sequence[bool], column: Sequence[Any]) -> tuple[_Rows, list[Any]]:
        """Return the rows where ``kept`` is true, and the values of a column in these."""
        places, records = list(compress(self.places, kept)), list(compress(self.records, kept))
        return _Rows(self.where, places, records, self.faults), list(compress(column, kept))

    def column(self, key: str) -> Iterable[tuple[int, Any]]:
        """Return the rows with their values of a field, None without one."""
        return enumerate(record.get(key) for record in self.records)

    def add_fault(self, row: int, reason: str, *, kept: bool, detail: str = "") -> None:
        """Add a fault of a row."""
        self.faults.append(Fault(f"{self.where}, {self.places[row]}", reason, kept, detail))

    def list_duplicate_ids(self) -> None:
        """Add a fault for each repeated id: pycocotools confuses such annotations."""
        seen: set[Any] = set()
        for row, annotation_id in self.column("id"):
            if isinstance(annotation_id, (int, str)):
                if annotation_id in seen:
                    self.add_fault(row, ID_TWICE, kept=True)
                seen.add(annotation_id)

    def find_ids(self, key: str, ids: Ids) -> list[Any]:
        """Return the id that each record refers to, or None."""
        unknown = UNKNOWN_IMAGE if key == "image_id" else UNKNOWN_CLASS
        found = []
        for row, value in self.column(key):
            match, has_right_type = ids.find(value)
            if match is None:
                self.add_fault(row, unknown, kept=False, detail=f"{key} {show_value(value)}")
            elif not has_right_type:
                detail = f"{key} {show_value(value)} for {show_value(match)}"
                self.add_fault(row, ID_AS_TEXT, kept=True, detail=detail)
            found.append(match)
        return found

    # ------------------------------------------------------------ the other columns

    def read_boxes(self, sizes: Sequence[tuple[int, int] | None]) -> F64:
        """Return ``(G, 4)``, rows of NaN for invalid boxes; ``sizes`` are those of their images."""
        boxes, as_text = read_boxes([record.get("bbox") for record in self.records])
        for row in as_text:
            detail = f"bbox {show_value(self.records[row]['bbox'])}"
            self.add_fault(row, NUMBER_AS_TEXT, kept=True, detail=detail)
        check_box_format(f"{self.where}: annotations", boxes, sizes)
        return boxes

    def read_areas(self) -> tuple[F64, Flags]:
        """Return ``(G,)`` the areas, and whether each is present."""
        area = np.zeros(len(self.records))
        has_area = np.zeros(len(self.records), dtype=np.bool_)
        for row, value in self.column("area"):
            if value is None:
                continue
            area[row] = read_number(value)
            has_area[row] = not math.isnan(area[row]) or _is_nan(value)
            is_odd = not 0 <= area[row] < LARGEST
            if is_odd or isinstance(value, str):
                reason = ODD_AREA if is_odd else NUMBER_AS_TEXT
                self.add_fault(row, reason, kept=True, detail=f"area {show_value(value)}")
        return area, has_area

    def read_flags(self, key: str) -> Flags:
        """Return ``(G,)`` a flag; False where it is missing."""
        flags = np.zeros(len(self.records), dtype=np.bool_)
        for row, record in enumerate(self.records):
            value = record.get(key, 0)
            if type(value) is int and value in (0, 1):
                flags[row] = value
                continue
            flag = read_flag(value)
            flags[row] = bool(flag)
            if flag is None or isinstance(value, str) or value not in (0, 1):
                self.add_fault(row, ODD_FLAG, kept=True, detail=f"{key} {show_value(value)}")
        return flags

    def read_outlines(self) -> list[Any]:
        """Return the segmentations; None for one that is neither polygons nor a code."""
        outlines = []
        for row, value in self.column("segmentation"):
            outline = _read_outline(value)
            if outline is None and value is not None and value != []:
                self.add_fault(row, ODD_OUTLINE, kept=True, detail=show_value(value))
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
