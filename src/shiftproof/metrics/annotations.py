"""Reader of COCO ground truth that keeps valid records and lists the faults of the others.

This is the only reader of such files. Records that pycocotools evaluates count here in the same
way; a record that cannot be read is skipped, and never aborts the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    rows.list_doubled_ids()
    # A record without a valid image gets no further faults.
    image = rows.find_all("image_id", Ids(known_images))
    rows, image = rows.take([one is not None for one in image], image)
    category = rows.find_all("category_id", Ids(known_categories))
    there = [one is not None for one in category]
    image, category = list(compress(image, there)), list(compress(category, there))
    rows, _ = rows.take(there, ())
    boxes = rows.read_boxes([known_images[identity].size for identity in image])
    area, has_area = rows.read_areas()
    return Annotations(
        images=known_images,
        categories=known_categories,
        places=rows.places,
        image=image,
        category=category,
        boxes=boxes,
        instead={
            at: f"bbox {show_value(rows.records[at].get('bbox'))}"
            for at in np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist()
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
    return re.sub(r"[\ud800-\udfff]", lambda half: f"U+{ord(half[0]):04X}", text)


class Ids:
    """Ids of images or categories, looked up by a record's value."""

    def __init__(self, ids: Iterable[Any]) -> None:
        self._ids = {identity: identity for identity in ids}

    def find(self, value: Any) -> tuple[Any, bool]:
        """Return the matching id or None, and whether it was written with the right type."""
        if isinstance(value, str):
            text = clean_name(value)
            if text in self._ids:
                return text, True
            whole = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
            # "007" is a name, not a number.
            meant = self._ids.get(whole) if whole is not None and str(whole) == text else None
            return meant, meant is None
        identity = read_integer(value)
        if identity is None or identity in self._ids:
            return self._ids.get(identity), True
        meant = self._ids.get(str(identity))
        return meant, meant is None


def read_boxes(column: Sequence[Any]) -> tuple[F64, list[int]]:
    """Return ``(N, 4)`` numbers, with rows of NaN for invalid boxes, and the rows that had text."""
    boxes = _convert_boxes(column)
    as_text: list[int] = []
    if boxes is None:
        boxes = np.full((len(column), 4), np.nan)
        for at, box in enumerate(column):
            values = box.tolist() if isinstance(box, np.ndarray) else box
            if isinstance(values, (list, tuple)) and len(values) == 4:
                boxes[at] = [read_number(one) for one in values]
                if any(isinstance(one, str) for one in values) and np.isfinite(boxes[at]).all():
                    as_text.append(at)
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
    whole = array.dtype.kind in "iuf" and array.ndim == 2 and array.shape[1] == 4
    return array.astype(np.float64) if whole else None


MANY_BOXES = 10
"""Number of boxes from which the order of their numbers indicates the format."""


def check_sizes(where: str, boxes: F64, sizes: Sequence[tuple[int, int] | None]) -> None:
    """Refuse boxes given as x1, y1, x2, y2: x2 >= x1 for all, and as sizes most would leave the
    image.

    Args:
        where: name of the boxes' file in messages.
        boxes: ``(N, 4)``; rows of NaN are skipped.
        sizes: width and height of each box's image.

    Raises:
        InputError: they are x1, y1, x2, y2.
    """
    there = ~np.isnan(boxes).any(axis=1)
    found = boxes[there]
    if len(found) < MANY_BOXES or (found[:, 2:] < found[:, :2]).any():
        return
    limit = np.array([size or (np.inf, np.inf) for size in sizes], dtype=np.float64)[there]
    beyond = (found[:, :2] + found[:, 2:] > limit + 1).any(axis=1)
    if beyond.mean() > 0.5:
        raise InputError(
            f"{where}: expected bbox as x, y, width, height, and {beyond.sum()} of {len(found)} "
            f"boxes leave their image, such as {found[beyond][0].tolist()}. If they are x1, y1, x2, "
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
    for at, item in enumerate(items):
        place = f"{where}, images[{at}]"
        identity = _read_identity(place, item, faults)
        if identity is None:
            continue
        if identity in found:
            detail = f"{show_value(identity)}; the last image of an id counts"
            faults.append(Fault(found.pop(identity).place, ID_TWICE, False, detail))
        name = item.get("file_name")
        found[identity] = ImageRecord(
            f"{place} with the id {show_value(identity)}",
            clean_name(name) if isinstance(name, str) and name else None,
            _read_size(place, item, faults),
        )
    return found


def _read_size(place: str, item: Mapping[str, Any], faults: list[Fault]) -> tuple[int, int] | None:
    given = [item.get(side) for side in ("width", "height")]
    width, height = (read_integer(one) for one in given)
    if width is not None and height is not None and all(0 < one < 2**31 for one in (width, height)):
        if any(isinstance(one, str) for one in given):
            detail = f"width {show_value(given[0])}, height {show_value(given[1])}"
            faults.append(Fault(place, NUMBER_AS_TEXT, True, detail))
        return width, height
    if any(one is not None for one in given):
        detail = f"width {show_value(given[0])}, height {show_value(given[1])}"
        faults.append(Fault(place, NO_SIZE, True, detail))
    return None


def _read_categories(where: str, items: Sequence[Any], faults: list[Fault]) -> dict[Any, str]:
    found: dict[Any, tuple[str, str]] = {}
    for at, item in enumerate(items):
        place = f"{where}, categories[{at}]"
        identity = _read_identity(place, item, faults)
        if identity is None:
            continue
        if isinstance(identity, str) and (whole := read_integer(identity)) is not None:
            faults.append(Fault(place, ID_AS_TEXT, True, show_value(identity)))
            identity = whole
        if identity in found:
            detail = f"{show_value(identity)}; the last category of an id counts"
            faults.append(Fault(found.pop(identity)[0], ID_TWICE, False, detail))
        name = item.get("name")
        if name is None or name == "":
            faults.append(Fault(place, NO_NAME, True, f"id {show_value(identity)}"))
            name = identity
        found[identity] = (place, clean_name(str(name)[:1000]))
    if any(isinstance(identity, int) for identity in found):
        for identity in [one for one in found if isinstance(one, str)]:
            faults.append(Fault(found.pop(identity)[0], NO_ID, False, show_value(identity)))
    return {identity: found[identity][1] for identity in sorted(found)}


def _read_identity(place: str, item: Any, faults: list[Fault]) -> ImageId | None:
    """Return the id of an image or a category; without one, None, and a fault is added."""
    if not isinstance(item, Mapping):
        faults.append(Fault(place, NO_RECORD, False, describe(item)))
        return None
    identity = item.get("id")
    if isinstance(identity, str) and identity:
        return clean_name(identity)
    whole = None if isinstance(identity, str) else read_integer(identity)
    if whole is None:
        faults.append(Fault(place, NO_ID, False, f"id {show_value(identity)}"))
    return whole


@dataclass(frozen=True, eq=False)
class _Rows:
    """Records of annotations, where each stands in the file, and the list of all that is wrong."""

    where: str
    places: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    faults: list[Fault]

    @classmethod
    def read(cls, where: str, items: Sequence[Any], faults: list[Fault]) -> _Rows:
        """Return the items that are objects."""
        records, places = [], []
        for at, item in enumerate(items):
            place = f"annotations[{at}]"
            if not isinstance(item, Mapping):
                faults.append(Fault(f"{where}, {place}", NO_RECORD, False, describe(item)))
                continue
            if isinstance(item.get("id"), (int, str)):
                place += f" with the id {show_value(item['id'])}"
            records.append(item)
            places.append(place)
        return cls(where, places, records, faults)

    def take(self, kept: Sequence[bool], column: Sequence[Any]) -> tuple[_Rows, list[Any]]:
        """Return the rows that are kept, and what a column has in these."""
        places, records = list(compress(self.places, kept)), list(compress(self.records, kept))
        return _Rows(self.where, places, records, self.faults), list(compress(column, kept))

    def column(self, key: str) -> Iterator[tuple[int, Any]]:
        """Yield each row with its value of a field, None without one."""
        return ((at, record.get(key)) for at, record in enumerate(self.records))

    def add_fault(self, at: int, reason: str, *, kept: bool, detail: str = "") -> None:
        """Add a fault of a row."""
        self.faults.append(Fault(f"{self.where}, {self.places[at]}", reason, kept, detail))

    def list_doubled_ids(self) -> None:
        """Annotations need no id here; pycocotools confuses annotations of the same id."""
        seen: set[Any] = set()
        for at, identity in self.column("id"):
            if isinstance(identity, (int, str)):
                if identity in seen:
                    self.add_fault(at, ID_TWICE, kept=True)
                seen.add(identity)

    def find_all(self, key: str, ids: Ids) -> list[Any]:
        """Return the id that each record refers to, or None."""
        unknown = UNKNOWN_IMAGE if key == "image_id" else UNKNOWN_CLASS
        found = []
        for at, value in self.column(key):
            identity, as_it_should = ids.find(value)
            if identity is None:
                self.add_fault(at, unknown, kept=False, detail=f"{key} {show_value(value)}")
            elif not as_it_should:
                detail = f"{key} {show_value(value)} for {show_value(identity)}"
                self.add_fault(at, ID_AS_TEXT, kept=True, detail=detail)
            found.append(identity)
        return found

    # ------------------------------------------------------------ the other columns

    def read_boxes(self, sizes: Sequence[tuple[int, int] | None]) -> F64:
        """Return ``(G, 4)``, rows of NaN for invalid boxes; ``sizes`` are those of their images."""
        boxes, as_text = read_boxes([record.get("bbox") for record in self.records])
        for at in as_text:
            detail = f"bbox {show_value(self.records[at]['bbox'])}"
            self.add_fault(at, NUMBER_AS_TEXT, kept=True, detail=detail)
        check_sizes(f"{self.where}: annotations", boxes, sizes)
        return boxes

    def read_areas(self) -> tuple[F64, Flags]:
        """Return ``(G,)`` the areas, and whether each is there."""
        area = np.zeros(len(self.records))
        has_area = np.zeros(len(self.records), dtype=np.bool_)
        for at, value in self.column("area"):
            if value is None:
                continue
            area[at] = read_number(value)
            has_area[at] = not math.isnan(area[at]) or _is_nan(value)
            odd = not 0 <= area[at] < LARGEST
            if odd or isinstance(value, str):
                reason = ODD_AREA if odd else NUMBER_AS_TEXT
                self.add_fault(at, reason, kept=True, detail=f"area {show_value(value)}")
        return area, has_area

    def read_flags(self, key: str) -> Flags:
        """Return ``(G,)`` a flag; one that is not there is not set."""
        flags = np.zeros(len(self.records), dtype=np.bool_)
        for at, record in enumerate(self.records):
            value = record.get(key, 0)
            if type(value) is int and value in (0, 1):
                flags[at] = value
                continue
            flag = read_flag(value)
            flags[at] = bool(flag)
            if flag is None or isinstance(value, str) or value not in (0, 1):
                self.add_fault(at, ODD_FLAG, kept=True, detail=f"{key} {show_value(value)}")
        return flags

    def read_outlines(self) -> list[Any]:
        """Return the segmentations; None for one that is neither polygons nor a code."""
        outlines = []
        for at, value in self.column("segmentation"):
            outline = _read_outline(value)
            if outline is None and value is not None and value != []:
                self.add_fault(at, ODD_OUTLINE, kept=True, detail=show_value(value))
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
    polygons = isinstance(value, (list, tuple)) and all(_are_finite(one) for one in value)
    return value if polygons and value else None


def _are_finite(values: Any) -> bool:
    try:
        return isinstance(values, (list, tuple, np.ndarray)) and math.isfinite(sum(values))
    except (TypeError, ValueError, OverflowError):
        return False
