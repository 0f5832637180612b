"""Boxes in COCO's form, stored in tars and tables beside their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from shiftproof.classes import Classes, name_classes, number_classes
from shiftproof.counts import plural
from shiftproof.data.detection.boxes import (
    NO_ANNOTATIONS,
    NO_FILE,
    DetectionData,
    Fault,
    ImageObjects,
    RawObject,
    check_boxes,
)
from shiftproof.data.images.rows import RowImages, read_class_names
from shiftproof.data.images.tars import Beside, TarData, TarFiles, read_object
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io.images import read_size
from shiftproof.metrics.faults import read_number
from shiftproof.types import Sample

OBJECTS = ("objects", "annotations")
"""The column, or the field of a sample's JSON, that holds the objects of an image."""

_BOXES = ("bbox", "boxes")
_CATEGORIES = ("category", "category_name", "label", "category_id", "categories", "labels")
_CROWDS = ("iscrowd", "is_crowd")
_LARGEST_CLASS = 100_000
_ANY_SIZE = (2**31, 2**31)
"""Size of an image whose size is unknown, so that no box is outside."""

BOX_FORMATS = ("xywh", "xyxy")
"""Formats of boxes: x, y, width, height as in COCO, or two corners."""


@dataclass(frozen=True)
class StatedObjects:
    """The stored annotation of one image.

    Attributes:
        value: its objects: a dict of lists, or a list of dicts; None without annotations.
        size: width and height, where they are stated.
        identity: the number that it is called by, where it has one.
    """

    value: Any
    size: tuple[int, int] | None = None
    identity: int | None = None


@final
class PackedDetectionData(DetectionData):
    """Images in tars or tables, with boxes stored beside them.

    Of a table the column ``objects`` (or ``annotations``) holds the objects of a row, as the
    detection data of the Hugging Face hub have it; of a tar the field of that name in the sample's
    JSON. They are lists of ``bbox`` and ``category`` (or ``category_id``, ``label``), and perhaps of
    ``area`` and ``iscrowd``, or a list of objects that each have these. Ids are those of the images.

    Args:
        images: the images.
        stated: what is stated of each, in their order.
        names: the class names of the table; without them the sorted names that occur, or numbers.
        box_format: ``"xywh"`` as COCO has boxes, or ``"xyxy"`` for two corners.

    Raises:
        InputError: no objects at all, lists of other lengths, categories that are no classes, or
            boxes that are those of the other format.
    """

    def __init__(
        self,
        images: TarData | RowImages,
        stated: Sequence[StatedObjects],
        *,
        names: Sequence[str] | None = None,
        box_format: str = "xywh",
    ) -> None:
        if box_format not in BOX_FORMATS:
            raise UnknownNameError.of("box format", box_format, BOX_FORMATS)
        keys = [sample.id for sample in images.samples]
        if all(each.value is None for each in stated):
            raise InputError(
                f"{images.name} has no boxes: expected {' or '.join(OBJECTS)}, of each image the "
                "lists bbox and category, as a column or in the JSON of a sample."
            )
        rows = [
            list(_list_objects(key, each.value)) for key, each in zip(keys, stated, strict=True)
        ]
        classes = _find_classes(images.name, rows, names)
        sizes = [
            each.size or _read_size(images, sample) or _ANY_SIZE
            for each, sample in zip(stated, images.samples, strict=True)
        ]
        if box_format == "xywh":
            _check_format(images.name, rows, sizes)
        objects: dict[str, ImageObjects] = {}
        faults: list[Fault] = []
        for key, size, found, each in zip(keys, sizes, rows, stated, strict=True):
            if size == _ANY_SIZE:
                faults.append(Fault(key, NO_FILE, kept=True, detail="missing or no image"))
            if each.value is None:
                faults.append(Fault(key, NO_ANNOTATIONS, kept=True, detail="nothing is stated"))
            converted = (one.row(classes, box_format) for one in found)
            objects[key], wrong = check_boxes(key, size, converted, keep_negative=True)
            faults += wrong
        identities = [each.identity for each in stated]
        are_known = None not in identities and len(set(identities)) == len(identities)
        image_ids = {
            key: each for key, each in zip(keys, identities, strict=True) if each is not None
        }
        super().__init__(
            images.name,
            Path(),
            objects,
            classes,
            image_ids=image_ids if are_known else None,
            faults=faults,
            images=images,
        )


def _read_size(images: TarData | RowImages, sample: Sample) -> tuple[int, int] | None:
    try:
        return read_size(images.content(sample))
    except BrokenFileError:  # named when it is read
        return None


def read_tar_boxes(tars: TarFiles, *, box_format: str = "xywh") -> PackedDetectionData:
    """Open the images of tars with the boxes in their samples' JSON.

    Raises:
        InputError: no boxes; see :class:`PackedDetectionData`.
        BrokenFileError: a damaged tar, or invalid JSON.
    """
    found: dict[str, StatedObjects] = {}

    def note(member: Beside) -> None:
        if member.suffix == "json":
            found[member.sample] = _parse_objects(read_object(member.read(), member.name))

    images = TarData(tars, labeled=False, note=note)
    stated = [found.get(sample, StatedObjects(None)) for sample in images.sample_keys]
    return PackedDetectionData(images, stated, box_format=box_format)


def read_row_boxes(images: RowImages, *, box_format: str = "xywh") -> PackedDetectionData:
    """Open the images of a table with the boxes of its column of objects.

    Raises:
        InputError: no boxes; see :class:`PackedDetectionData`.
    """
    column = next((name for name in OBJECTS if name in images.features), None)
    wanted = [name for name in (column, "width", "height", "image_id") if name in images.features]
    columns = {name: images.values(name) for name in wanted if name is not None}
    stated = [
        _parse_objects({name: values[row] for name, values in columns.items()})
        for row in range(len(images))
    ]
    names = None if column is None else _find_names(images.features[column])
    return PackedDetectionData(images, stated, names=names, box_format=box_format)


def _parse_objects(value: Mapping[str, Any]) -> StatedObjects:
    objects = next((value[name] for name in OBJECTS if name in value), None)
    width, height = _count(value.get("width")), _count(value.get("height"))
    size = None if width is None or height is None else (width, height)
    return StatedObjects(objects, size, _count(value.get("image_id")))


def _count(value: Any) -> int | None:
    """Return a non-negative integer, or None for any other value."""
    is_one = isinstance(value, int) and not isinstance(value, bool)
    return value if is_one and 0 <= value < 2**53 else None


@dataclass(frozen=True)
class _Object:
    place: str
    box: tuple[float, float, float, float]
    category: int | str
    area: float | None = None
    crowd: bool = False
    instead: str = field(default="")

    def row(self, classes: Classes, box_format: str) -> RawObject:
        x, y, width, height = self.box
        if box_format == "xyxy":
            width, height = width - x, height - y
        names = classes.names
        label = self.category if isinstance(self.category, int) else names.index(self.category)
        return RawObject(
            self.place, label, (x, y, width, height), self.area, self.crowd, instead=self.instead
        )


def _list_objects(key: str, value: Any) -> Iterator[_Object]:
    """Yield the annotated objects of an image.

    Raises:
        BrokenFileError: lists of other lengths, or an object without box or category.
    """
    for at, one in enumerate(_to_dicts(key, value), start=1):
        place = f"object {at}"
        box = next((one[name] for name in _BOXES if name in one), None)
        category = _read_category(f"{key}, {place}", one)
        four = box if isinstance(box, list | tuple) and len(box) == 4 else [None] * 4
        x, y, width, height = (read_number(each) for each in four)
        area = read_number(one.get("area"))
        crowd = next((one[name] for name in _CROWDS if name in one), 0)
        yield _Object(
            place,
            (x, y, width, height),
            category,
            area if area == area and area >= 0 else None,
            crowd in (1, True),
            "" if four is box else f"{box!r:.60}",
        )


def _read_category(place: str, one: Mapping[str, Any]) -> int | str:
    value = next((one[name] for name in _CATEGORIES if one.get(name) is not None), None)
    number_of_class = _count(value)
    if isinstance(value, str):
        return value
    if number_of_class is None or number_of_class > _LARGEST_CLASS:
        raise BrokenFileError(
            f"{place}: expected a category, the name or number of a class, got {value!r:.60}."
        )
    return number_of_class


def _to_dicts(key: str, value: Any) -> list[Mapping[str, Any]]:
    """Return objects one by one, from a list of objects or a list of each property."""
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return value
    if not isinstance(value, dict):
        raise BrokenFileError(
            f"{key}: expected objects as lists of bbox and category, got {value!r:.60}."
        )
    wanted = (*_BOXES, *_CATEGORIES, *_CROWDS, "area")
    lists = {name: value[name] for name in wanted if isinstance(value.get(name), list)}
    lengths = {len(each) for each in lists.values()}
    if len(lengths) > 1:
        shown = ", ".join(f"{len(each)} of {name}" for name, each in lists.items())
        raise BrokenFileError(f"{key}: expected lists of one length for its objects, got {shown}.")
    return [
        {name: each[at] for name, each in lists.items()} for at in range(next(iter(lengths), 0))
    ]


def _find_classes(
    name: str, rows: Sequence[Sequence[_Object]], names: Sequence[str] | None
) -> Classes:
    found = {one.category for each in rows for one in each}
    texts = sorted(each for each in found if isinstance(each, str))
    numbers = [each for each in found if isinstance(each, int)]
    if texts and numbers:
        raise InputError(
            f"{name}: expected categories that are all names or all numbers, got {texts[0]!r} and "
            f"{min(numbers)}."
        )
    if texts:
        return name_classes(texts)
    highest = max(numbers, default=0)
    if names is not None and highest >= len(names):
        raise InputError(
            f"{name}: the category {highest} is none of {plural(len(names), 'class')}."
        )
    return number_classes(highest + 1) if names is None else name_classes(names)


def _check_format(
    name: str, rows: Sequence[Sequence[_Object]], sizes: Sequence[tuple[int, int]]
) -> None:
    """Refuse boxes that leave their images as COCO's, and fit as two corners.

    Raises:
        InputError: most of them do.
    """
    total = corners = 0
    for found, (width, height) in zip(rows, sizes, strict=True):
        for one in found:
            x, y, third, fourth = one.box
            total += 1
            leaves = x + third > width + 1 or y + fourth > height + 1
            corners += leaves and x <= third <= width + 1 and y <= fourth <= height + 1
    if 2 * corners > total:
        raise InputError(
            f"{name}: {corners} of {total} boxes leave their images as x, y, width, height, and fit "
            "as x1, y1, x2, y2; say so (--box-format xyxy, box_format='xyxy')."
        )


def _find_names(feature: Any) -> list[str] | None:
    """Return the names of the classes of a column of objects, wherever they stand in it."""
    if isinstance(feature, list) and len(feature) == 1:
        return _find_names(feature[0])
    if not isinstance(feature, Mapping):
        return None
    if (names := read_class_names(feature)) is not None:
        return names
    inner = [feature[name] for name in (*_CATEGORIES, "feature") if name in feature]
    return next((found for each in inner if (found := _find_names(each)) is not None), None)
