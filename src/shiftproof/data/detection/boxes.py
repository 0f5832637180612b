"""Datasets for detection: images with boxes, and the faults of their annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from shiftproof.classes import Classes
from shiftproof.counts import plural
from shiftproof.data.dataset import ImageData
from shiftproof.data.disk import fingerprints_below, read_below
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.images import read_size
from shiftproof.metrics.faults import (
    BEYOND,
    NEGATIVE,
    NO_AREA,
    NO_NAME,
    NOT_FINITE,
    ODD_FLAG,
    OUTSIDE,
    TWICE,
    UNKNOWN_CLASS,
    UNKNOWN_IMAGE,
    Fault,
    count_faults,
    find_box_fault,
)
from shiftproof.types import F64, I64, Flags, Image, Sample, Settings

__all__ = [
    "BEYOND",
    "HIDDEN",
    "NEGATIVE",
    "NOT_FINITE",
    "NO_ANNOTATIONS",
    "NO_AREA",
    "NO_FILE",
    "NO_NAME",
    "ODD_FLAG",
    "OTHER_SIZE",
    "OUTSIDE",
    "TWICE",
    "UNKNOWN_CLASS",
    "UNKNOWN_IMAGE",
    "UNREADABLE",
    "DetectionData",
    "Fault",
    "ImageObjects",
    "RawObject",
    "check_boxes",
    "check_inside",
    "find_size_faults",
    "read_image_sizes",
]

NO_FILE = "no image file"
OTHER_SIZE = "another size than annotated"
NO_ANNOTATIONS = "no annotations"
UNREADABLE = "annotations that cannot be read"
HIDDEN = "hidden by what lies before it"


@dataclass(frozen=True, eq=False)
class ImageObjects:
    """The labeled objects of one image, in the order of the file.

    Boxes are stored as position and size, as in COCO's metrics: conversion to corners and back could
    change the last bit, and an overlap could fall below its threshold.

    Attributes:
        width: of the image in pixels, as the annotations say, else as the file is.
        height: as ``width``.
        positions: ``(N, 4)`` float64 x, y, width, height in pixels, the image's left upper corner at
            0, 0; no 1 is added or taken away anywhere.
        labels: ``(N,)`` int64 indexes into the classes.
        crowd: ``(N,)`` whether it is a crowd.
        difficult: ``(N,)`` whether VOC's rule ignores it.
        areas: ``(N,)`` float64 square pixels: of the mask if there is one, else of the box.
        outlines: N segmentations as COCO writes them, None for an object without; or None.
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

    def content(self) -> bytes:
        """Return bytes that change with every number."""
        columns = (self.positions, self.labels, self.crowd, self.difficult, self.areas)
        shape = f"{self.width} {self.height} {len(self)} {self.outlines!r} ".encode()
        return shape + b"".join(column.tobytes() for column in columns)


class DetectionData(ImageData):
    """Images with boxes.

    The readers of the published formats are its subclasses; boxes from anywhere else make one, too.
    It reads the image files itself. A sample's id is the path of its image below ``root`` and its key
    for randomness; it has no label of its own.

    Args:
        name: name in tables and records.
        root: the folder of the images.
        objects: objects by image id, including images without boxes.
        classes: the classes that labels index.
        image_ids: number or name of each image in COCO's terms; 1, 2, ... where none are given.
        category_ids: rising, one for each class; 1, 2, ... where none are given.
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
            {key: place for place, key in enumerate(objects, start=1)}
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
                f"{name}: expected rising category ids, one for each class ({len(classes):,}), got "
                f"{list(self.category_ids)}."
            )
        for key in objects:
            check_inside(name, key)
        self.faults = tuple(faults)

    def __repr__(self) -> str:
        boxes = sum(len(found) for found in self.objects.values())
        return (
            f"{type(self).__name__}({self.name!r}, {plural(len(self), 'image')} with {boxes} boxes)"
        )

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read.
        """
        return (
            read_below(self.root, sample.id) if self._images is None else self._images.read(sample)
        )

    def narrow(self, samples: Sequence[Sample], rule: str) -> DetectionData:
        """Return the same dataset with some of its images alone; see :class:`ImageData`."""
        narrowed = super().narrow(samples, rule)
        if self._images is not None:
            narrowed._images = self._images.narrow(samples, rule)
        return narrowed

    def size_of(self, sample: Sample) -> tuple[int, int]:
        """Return height and width of an image as its boxes were drawn in."""
        known = self.objects[sample.id]
        return known.height, known.width

    def content_fingerprints(self) -> list[str]:
        """Return a fingerprint of each image's file and its boxes."""
        contents = (
            fingerprints_below(self.root, (sample.id for sample in self.samples))
            if self._images is None
            else self._images.content_fingerprints()
        )
        return [
            files.fingerprint([content.encode(), self.objects[sample.id].content()])
            for sample, content in zip(self.samples, contents, strict=True)
        ]

    def ground_truth(self, samples: Iterable[Sample] | None = None) -> dict[str, Any]:
        """Return COCO annotations: images, annotations and categories, as JSON would hold them.

        Args:
            samples: those of a subset; all by default.
        """
        chosen = self.samples if samples is None else tuple(samples)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for sample in chosen:
            found = self.objects[sample.id]
            image_id = self.image_ids[sample.id]
            images.append(
                {
                    "id": image_id,
                    "file_name": sample.id,
                    "width": found.width,
                    "height": found.height,
                }
            )
            for at in range(len(found)):
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": self.category_ids[found.labels[at]],
                    "bbox": found.positions[at].tolist(),
                    "area": float(found.areas[at]),
                    "iscrowd": int(found.crowd[at]),
                    "difficult": int(found.difficult[at]),
                }
                if found.outlines is not None and found.outlines[at] is not None:
                    annotation["segmentation"] = found.outlines[at]
                annotations.append(annotation)
        categories = [
            {"id": category, "name": name}
            for category, name in zip(self.category_ids, self.classes.names, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}

    def fault_counts(self) -> dict[str, int]:
        """Return the number of faults of each kind."""
        return count_faults(self.faults)

    def settings(self) -> Settings:
        """Return the settings for the records, including the faults."""
        return {
            **super().settings(),
            "objects": sum(len(found) for found in self.objects.values()),
            "classes": len(self.classes),
            "faults": self.fault_counts(),
            "left out": sum(not fault.kept for fault in self.faults),
        }


@dataclass
class RawObject:
    """One object as read from a file, not yet checked.

    ``position`` is x, y, width, height in pixels, NaN where there was no number; ``instead`` says
    what was there in its place, where a reader knows.
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
    """Return the objects of an image of ``size`` (width, height), and what is wrong with them.

    Invalid boxes (not numbers; a negative size, unless ``keep_negative``) are left out. Boxes outside
    the image, without area or duplicated are kept unchanged, as other tools count them, too.
    """
    kept: list[RawObject] = []
    faults: list[Fault] = []
    seen: dict[tuple[int, tuple[float, ...]], str] = {}
    for row in rows:
        place = f"{where}, {row.place}"
        fault = find_box_fault(
            place, row.position, size, keep_negative=keep_negative, instead=row.instead
        )
        if fault is not None:
            faults.append(fault)
            if not fault.kept:
                continue
        first = seen.setdefault((row.label, row.position), row.place)
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
    for name, size, said in zip(names, sizes, annotated, strict=True):
        if size is None:
            faults.append(Fault(name, NO_FILE, kept=True, detail="missing or no image"))
        elif said is not None and said != size:
            detail = f"{size[0]} x {size[1]} pixels, annotated as {said[0]} x {said[1]}"
            faults.append(Fault(name, OTHER_SIZE, kept=True, detail=detail))
    return faults
