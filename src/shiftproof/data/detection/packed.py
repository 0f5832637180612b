"""Boxes in COCO's form, stored in tars and tables beside their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from shiftproof.classes import Classes, name_classes, number_classes
from shiftproof.counts import pluralize
from shiftproof.data.detection.boxes import (
    NO_ANNOTATIONS,
    NO_FILE,
    UNKNOWN_SIZE,
    DetectionData,
    ImageObjects,
    RawObject,
    check_boxes,
)
from shiftproof.data.images.rows import RowImages, read_class_names
from shiftproof.data.images.tars import SampleMember, TarData, TarFiles, read_object
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io.images import read_size
from shiftproof.metrics.faults import Fault, read_number
from shiftproof.types import Sample

OBJECT_KEYS = ("objects", "annotations")
"""The column, or the field of a sample's JSON, that holds the objects of an image."""

_BOX_KEYS = ("bbox", "boxes")
_CATEGORY_KEYS = ("category", "category_name", "label", "category_id", "categories", "labels")
_CROWD_KEYS = ("iscrowd", "is_crowd")
_MAX_CLASS = 100_000
BOX_FORMATS = ("xywh", "xyxy")
"""Formats of boxes: x, y, width, height as in COCO, or two corners."""


@dataclass(frozen=True)
class ImageAnnotation:
    """The stored annotation of one image.

    Attributes:
        objects: a dict of lists, or a list of dicts; None without annotations.
        size: width and height, if given.
        image_id: the id of the image, if given.
    """

    objects: Any
    size: tuple[int, int] | None = None
    image_id: int | None = None


@final
class PackedDetectionData(DetectionData):
    """Images in tars or tables, with boxes stored beside them.

    In tables, the column ``objects`` (or ``annotations``) has the objects of a row, as in detection
    datasets of the Hugging Face hub; in tars, the field of that name in the sample's JSON. They are
    lists of ``bbox`` and ``category`` (or ``category_id``, ``label``), and optionally of ``area`` and
    ``iscrowd``, or a list of objects that each have these. Ids are those of the images.

    Args:
        images: the images.
        annotations: the annotation of each image, in their order.
        names: the class names of the table; by default the sorted names that occur, or numbers.
        box_format: ``"xywh"`` as in COCO, or ``"xyxy"`` for two corners.

    Raises:
        InputError: no objects at all, lists of different lengths, categories that are not classes,
            or boxes of the other format.
    """

    def __init__(
        self,
        images: TarData | RowImages,
        annotations: Sequence[ImageAnnotation],
        *,
        names: Sequence[str] | None = None,
        box_format: str = "xywh",
    ) -> None:
        if box_format not in BOX_FORMATS:
            raise UnknownNameError.of("box format", box_format, BOX_FORMATS)
        keys = [sample.id for sample in images.samples]
        if all(annotation.objects is None for annotation in annotations):
            raise InputError(
                f"{images.name} has no boxes: expected {' or '.join(OBJECT_KEYS)} with the lists bbox "
                "and category of each image, as a column or in the JSON of a sample."
            )
        image_objects = [
            list(_list_objects(key, annotation.objects))
            for key, annotation in zip(keys, annotations, strict=True)
        ]
        classes = _find_classes(images.name, image_objects, names)
        sizes = [
            annotation.size or _read_size(images, sample) or UNKNOWN_SIZE
            for annotation, sample in zip(annotations, images.samples, strict=True)
        ]
        if box_format == "xywh":
            _check_format(images.name, image_objects, sizes)
        objects: dict[str, ImageObjects] = {}
        faults: list[Fault] = []
        for key, size, found, annotation in zip(
            keys, sizes, image_objects, annotations, strict=True
        ):
            if size == UNKNOWN_SIZE:
                faults.append(Fault(key, NO_FILE, kept=True, detail="missing or no image"))
            if annotation.objects is None:
                faults.append(Fault(key, NO_ANNOTATIONS, kept=True, detail="nothing is stated"))
            rows = (one.to_raw(classes, box_format) for one in found)
            objects[key], box_faults = check_boxes(key, size, rows, keep_negative=True)
            faults += box_faults
        ids = [annotation.image_id for annotation in annotations]
        image_ids = {
            key: image_id for key, image_id in zip(keys, ids, strict=True) if image_id is not None
        }
        are_unique = len(set(image_ids.values())) == len(keys)
        super().__init__(
            images.name,
            Path(),
            objects,
            classes,
            image_ids=image_ids if are_unique else None,
            faults=faults,
            images=images,
        )


def _read_size(images: TarData | RowImages, sample: Sample) -> tuple[int, int] | None:
    try:
        return read_size(images.read_content(sample))
    except BrokenFileError:  # reported when it is read
        return None


def read_tar_boxes(tars: TarFiles, *, box_format: str = "xywh") -> PackedDetectionData:
    """Open the images of tars with the boxes in their samples' JSON.

    Raises:
        InputError: no boxes; see :class:`PackedDetectionData`.
        BrokenFileError: a damaged tar, or invalid JSON.
    """
    by_sample: dict[str, ImageAnnotation] = {}

    def parse_member(member: SampleMember) -> None:
        if member.suffix == "json":
            by_sample[member.sample] = _parse_annotation(read_object(member.read(), member.name))

    images = TarData(tars, labeled=False, on_member=parse_member)
    annotations = [by_sample.get(key, ImageAnnotation(None)) for key in images.sample_keys]
    return PackedDetectionData(images, annotations, box_format=box_format)


def read_row_boxes(images: RowImages, *, box_format: str = "xywh") -> PackedDetectionData:
    """Open the images of a table with the boxes of its column of objects.

    Raises:
        InputError: no boxes; see :class:`PackedDetectionData`.
    """
    column = next((name for name in OBJECT_KEYS if name in images.features), None)
    names = [name for name in (column, "width", "height", "image_id") if name in images.features]
    columns = {name: images.read_column(name) for name in names if name is not None}
    annotations = [
        _parse_annotation({name: values[row] for name, values in columns.items()})
        for row in range(len(images))
    ]
    class_names = None if column is None else _find_class_names(images.features[column])
    return PackedDetectionData(images, annotations, names=class_names, box_format=box_format)


def _parse_annotation(record: Mapping[str, Any]) -> ImageAnnotation:
    objects = next((record[key] for key in OBJECT_KEYS if key in record), None)
    width, height = _parse_count(record.get("width")), _parse_count(record.get("height"))
    size = None if width is None or height is None else (width, height)
    return ImageAnnotation(objects, size, _parse_count(record.get("image_id")))


def _parse_count(value: Any) -> int | None:
    """Return a non-negative integer, or None for any other value."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value if is_integer and 0 <= value < 2**53 else None


@dataclass(frozen=True)
class _Object:
    place: str
    box: tuple[float, float, float, float]
    category: int | str
    area: float | None = None
    crowd: bool = False
    instead: str = ""

    def to_raw(self, classes: Classes, box_format: str) -> RawObject:
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
        BrokenFileError: lists of different lengths, or an object without box or category.
    """
    for number, record in enumerate(_to_dicts(key, value), start=1):
        place = f"object {number}"
        box = next((record[name] for name in _BOX_KEYS if name in record), None)
        category = _read_category(f"{key}, {place}", record)
        values = box if isinstance(box, list | tuple) and len(box) == 4 else [None] * 4
        x, y, width, height = (read_number(value) for value in values)
        area = read_number(record.get("area"))
        crowd = next((record[name] for name in _CROWD_KEYS if name in record), 0)
        yield _Object(
            place,
            (x, y, width, height),
            category,
            area if area >= 0 else None,  # not for NaN
            crowd in (1, True),
            "" if values is box else _describe_box(box, record),
        )


def _describe_box(box: Any, record: Mapping[str, Any]) -> str:
    """Describe what stands in place of four numbers."""
    if box is not None:
        return f"{box!r:.60}"
    if record.get("segmentation"):
        return (
            "no bbox; only COCO's files have the boxes of their masks, so write it beside the mask"
        )
    return "no bbox"


def _read_category(where: str, record: Mapping[str, Any]) -> int | str:
    value = next((record[name] for name in _CATEGORY_KEYS if record.get(name) is not None), None)
    if isinstance(value, str):
        return value
    number = _parse_count(value)
    if number is None or number > _MAX_CLASS:
        raise BrokenFileError(
            f"{where}: expected a category, the name or number of a class, got {value!r:.60}."
        )
    return number


def _to_dicts(key: str, value: Any) -> list[Mapping[str, Any]]:
    """Return a dict for each object, from a list of dicts or a dict of lists."""
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(record, dict) for record in value):
        return value
    if not isinstance(value, dict):
        raise BrokenFileError(
            f"{key}: expected objects as lists of bbox and category, got {value!r:.60}."
        )
    names = (*_BOX_KEYS, *_CATEGORY_KEYS, *_CROWD_KEYS, "area")
    lists = {name: value[name] for name in names if isinstance(value.get(name), list)}
    lengths = {len(values) for values in lists.values()}
    if len(lengths) > 1:
        shown = ", ".join(f"{len(values)} of {name}" for name, values in lists.items())
        raise BrokenFileError(f"{key}: expected lists of one length for its objects, got {shown}.")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _find_classes(
    name: str, image_objects: Sequence[Sequence[_Object]], names: Sequence[str] | None
) -> Classes:
    categories = {one.category for objects in image_objects for one in objects}
    texts = sorted(category for category in categories if isinstance(category, str))
    numbers = [category for category in categories if isinstance(category, int)]
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
            f"{name}: the category {highest} is none of {pluralize(len(names), 'class')}."
        )
    return number_classes(highest + 1) if names is None else name_classes(names)


def _check_format(
    name: str, image_objects: Sequence[Sequence[_Object]], sizes: Sequence[tuple[int, int]]
) -> None:
    """Refuse boxes that leave their images as xywh, and fit as xyxy.

    Raises:
        InputError: most of them do.
    """
    total = xyxy_only = 0
    for objects, (width, height) in zip(image_objects, sizes, strict=True):
        for one in objects:
            x, y, third, fourth = one.box
            total += 1
            leaves = x + third > width + 1 or y + fourth > height + 1
            xyxy_only += leaves and x <= third <= width + 1 and y <= fourth <= height + 1
    if 2 * xyxy_only > total:
        raise InputError(
            f"{name}: {xyxy_only} of {total} boxes leave their images as x, y, width, height, and fit "
            "as x1, y1, x2, y2; if these are corners, say so (--box-format xyxy, box_format='xyxy')."
        )


def _find_class_names(feature: Any) -> list[str] | None:
    """Return the class names in the feature of a column of objects, at any depth."""
    if isinstance(feature, list) and len(feature) == 1:
        return _find_class_names(feature[0])
    if not isinstance(feature, Mapping):
        return None
    if (names := read_class_names(feature)) is not None:
        return names
    inner = (feature[key] for key in (*_CATEGORY_KEYS, "feature") if key in feature)
    return next(filter(None, map(_find_class_names, inner)), None)
