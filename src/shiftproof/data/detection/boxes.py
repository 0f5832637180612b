"""Datasets for detection: images with boxes, and the faults of their annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.data.dataset import ImageData
from shiftproof.data.disk import fingerprint_below, read_below
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.images import read_size
from shiftproof.metrics.faults import TWICE, Fault, count_faults, find_box_fault
from shiftproof.types import F64, I64, Flags, Image, Sample, Settings

NO_FILE = "no image file"
OTHER_SIZE = "another size than annotated"
NO_ANNOTATIONS = "no annotations"
UNREADABLE = "annotations that cannot be read"
HIDDEN = "hidden by what lies before it"

UNKNOWN_SIZE = (2**31, 2**31)
"""Width and height for images whose size is unknown, so that no box is outside."""


@dataclass(frozen=True, eq=False)
class ImageObjects:
    """The labeled objects of one image, in the order of the file.

    Boxes are stored as position and size, as in COCO's metrics: conversion to corners and back could
    change the last bit, and an overlap could fall below its threshold.

    Attributes:
        width: width of the image in pixels, by its annotations, or else by its file.
        height: height of the image in pixels.
        positions: ``(N, 4)`` float64 x, y, width, height in pixels; the upper left corner of the
            image is 0, 0, and 1 is never added or subtracted.
        labels: ``(N,)`` int64 indexes into the classes.
        crowd: ``(N,)`` whether the object is a crowd.
        difficult: ``(N,)`` whether VOC's rule ignores the object.
        areas: ``(N,)`` float64 square pixels: of the mask if there is one, else of the box.
        outlines: N segmentations in COCO's format, None for objects without; or None.
    """

    width: int
    height: int
    positions: F64
    labels: I64
    crowd: Flags
    difficult: Flags
    areas: F64
    outlines: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def boxes(self) -> F64:
        """``(N, 4)`` float64 x1, y1, x2, y2 in pixels."""
        return np.concatenate(
            [self.positions[:, :2], self.positions[:, :2] + self.positions[:, 2:]], axis=1
        )

    def to_bytes(self) -> bytes:
        """Return bytes for a fingerprint, which change with every value."""
        columns = (self.positions, self.labels, self.crowd, self.difficult, self.areas)
        shape = f"{self.width} {self.height} {len(self)} {self.outlines!r} ".encode()
        return shape + b"".join(column.tobytes() for column in columns)


class DetectionData(ImageData):
    """Images with boxes.

    The readers of the published formats are subclasses; boxes of any other origin can be given to
    this class. A sample's id is the path of its image below ``root`` and its key for randomness; it
    has no label of its own.

    Args:
        name: name in tables and records.
        root: the folder of the images.
        objects: objects by image id, including images without boxes.
        classes: the classes that labels index.
        image_ids: COCO's image ids; by default 1, 2, ...
        category_ids: COCO's category ids in ascending order, one for each class; by default 1, 2, ...
        faults: the faults of the annotations.
        images: a dataset that reads the images, if these are not files below ``root``.

    Attributes:
        objects: id to :class:`ImageObjects`.
        faults: all faults, in the order in which they were found.

    Raises:
        InputError: no images, ids that leave the root, or category ids that do not fit.
    """

    classes: Classes
    annotations = "boxes were drawn"
    """Wording of size errors: "its boxes were drawn in 640 x 480"."""

    def __init__(
        self,
        name: str,
        root: Path,
        objects: Mapping[str, ImageObjects],
        classes: Classes,
        *,
        image_ids: Mapping[str, int | str] | None = None,
        category_ids: Sequence[int] | None = None,
        faults: Iterable[Fault] = (),
        images: ImageData | None = None,
    ) -> None:
        super().__init__(name, [Sample(key) for key in objects], None)
        self._images = images
        self.root = root
        self.objects = dict(objects)
        self.classes = classes
        self.image_ids = (
            {key: number for number, key in enumerate(objects, start=1)}
            if image_ids is None
            else {key: image_ids[key] for key in objects}
        )
        self.category_ids = tuple(
            range(1, len(classes) + 1) if category_ids is None else category_ids
        )
        if list(self.category_ids) != sorted(set(self.category_ids)) or len(
            self.category_ids
        ) != len(classes):
            raise InputError(
                f"{name}: expected ascending category ids, one for each class ({len(classes):,}), got "
                f"{list(self.category_ids)}."
            )
        for key in objects:
            check_inside(name, key)
        self.faults = tuple(faults)

    def __repr__(self) -> str:
        boxes = sum(len(objects) for objects in self.objects.values())
        return (
            f"{type(self).__name__}({self.name!r}, {pluralize(len(self), 'image')} with "
            f"{pluralize(boxes, 'box')})"
        )

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB; see :class:`ImageData`."""
        return (
            read_below(self.root, sample.id) if self._images is None else self._images.read(sample)
        )

    def narrow(self, samples: Sequence[Sample], rule: str) -> DetectionData:
        """Return the dataset restricted to some of its images; see :class:`ImageData`."""
        narrowed = super().narrow(samples, rule)
        if self._images is not None:
            narrowed._images = self._images.narrow(samples, rule)
        return narrowed

    def get_size(self, sample: Sample) -> tuple[int, int]:
        """Return the height and width of the image in which the boxes were drawn."""
        objects = self.objects[sample.id]
        return objects.height, objects.width

    def content_fingerprints(self) -> list[str]:
        """Return a fingerprint of each image's file and its boxes."""
        contents = (
            fingerprint_below(self.root, (sample.id for sample in self.samples))
            if self._images is None
            else self._images.content_fingerprints()
        )
        return [
            files.fingerprint([content.encode(), self.objects[sample.id].to_bytes()])
            for sample, content in zip(self.samples, contents, strict=True)
        ]

    def ground_truth(self, samples: Iterable[Sample] | None = None) -> dict[str, Any]:
        """Return the annotations in COCO's JSON format: images, annotations and categories.

        Args:
            samples: the images; all by default.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for sample in self.samples if samples is None else samples:
            objects = self.objects[sample.id]
            image_id = self.image_ids[sample.id]
            images.append(
                {
                    "id": image_id,
                    "file_name": sample.id,
                    "width": objects.width,
                    "height": objects.height,
                }
            )
            for index in range(len(objects)):
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": self.category_ids[objects.labels[index]],
                    "bbox": objects.positions[index].tolist(),
                    "area": float(objects.areas[index]),
                    "iscrowd": int(objects.crowd[index]),
                    "difficult": int(objects.difficult[index]),
                }
                if objects.outlines is not None and objects.outlines[index] is not None:
                    annotation["segmentation"] = objects.outlines[index]
                annotations.append(annotation)
        categories = [
            {"id": category_id, "name": name}
            for category_id, name in zip(self.category_ids, self.classes.names, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}

    def fault_counts(self) -> dict[str, int]:
        """Return the number of faults of each kind."""
        return count_faults(self.faults)

    def settings(self) -> Settings:
        """Return the settings for the records, including the faults."""
        return {
            **super().settings(),
            "objects": sum(len(objects) for objects in self.objects.values()),
            "classes": len(self.classes),
            "faults": self.fault_counts(),
            "left out": sum(not fault.kept for fault in self.faults),
        }


@dataclass
class RawObject:
    """One object as read from a file, not yet checked.

    Attributes:
        place: its place in the file, for messages.
        label: index of its class.
        position: x, y, width, height in pixels, NaN for what is not a number.
        area: area in square pixels; by default that of the box.
        crowd: whether it is a crowd.
        difficult: whether VOC's rule ignores it.
        outline: its segmentation in COCO's format, if it has one.
        instead: the value found in place of four numbers, if known.
    """

    place: str
    label: int
    position: tuple[float, float, float, float]
    area: float | None = None
    crowd: bool = False
    difficult: bool = False
    outline: Any = None
    instead: str = ""


def check_boxes(
    where: str, size: tuple[int, int], rows: Iterable[RawObject], *, keep_negative: bool = False
) -> tuple[ImageObjects, list[Fault]]:
    """Return the objects of an image of ``size`` (width, height), and their faults.

    Invalid boxes (not numbers; a negative size, unless ``keep_negative``) are left out. Boxes outside
    the image, without area or duplicated are kept unchanged, since other tools count them, too.
    """
    kept: list[RawObject] = []
    faults: list[Fault] = []
    first_places: dict[tuple[int, tuple[float, ...]], str] = {}
    for row in rows:
        place = f"{where}, {row.place}"
        fault = find_box_fault(
            place, row.position, size, keep_negative=keep_negative, instead=row.instead
        )
        if fault is not None:
            faults.append(fault)
            if not fault.kept:
                continue
        first = first_places.setdefault((row.label, row.position), row.place)
        if first != row.place:
            faults.append(Fault(place, TWICE, kept=True, detail=f"as {first}"))
        kept.append(row)
    areas = [row.position[2] * row.position[3] if row.area is None else row.area for row in kept]
    outlines = tuple(row.outline for row in kept)
    width, height = size
    objects = ImageObjects(
        width,
        height,
        np.array([row.position for row in kept], dtype=np.float64).reshape(-1, 4),
        np.array([row.label for row in kept], dtype=np.int64),
        np.array([row.crowd for row in kept], dtype=np.bool_),
        np.array([row.difficult for row in kept], dtype=np.bool_),
        np.array(areas, dtype=np.float64),
        outlines if any(outline is not None for outline in outlines) else None,
    )
    return objects, faults


def check_inside(where: str, name: str) -> str:
    """Return a relative path that stays below the folder it is relative to.

    Raises:
        InputError: it is absolute, or contains ``..``.
    """
    windows = PureWindowsPath(name)
    if not name or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
        raise InputError(
            f"{where}: expected a path below the dataset's folder, got {name!r}, which leaves it."
        )
    return name


def read_image_sizes(root: Path, names: Iterable[str]) -> list[tuple[int, int] | None]:
    """Return width and height of each image below ``root``, None if it cannot be read.

    Only the headers are read.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: read_size(root / name), names))


def find_size_faults(
    names: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    annotated: Sequence[tuple[int, int] | None],
) -> list[Fault]:
    """Return the faults of images that do not exist or differ in size from their annotations."""
    faults = []
    for name, size, expected in zip(names, sizes, annotated, strict=True):
        if size is None:
            faults.append(Fault(name, NO_FILE, kept=True, detail="missing or no image"))
        elif expected is not None and expected != size:
            detail = f"{size[0]} x {size[1]} pixels, annotated as {expected[0]} x {expected[1]}"
            faults.append(Fault(name, OTHER_SIZE, kept=True, detail=detail))
    return faults
