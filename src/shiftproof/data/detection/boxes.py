"""What a dataset for detection is: named images with boxes, and what is wrong with them, listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
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
    box_fault,
    count_faults,
    read_number,
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
    "below",
    "check_boxes",
    "check_inside",
    "image_sizes",
    "number",
    "size_faults",
]

NO_FILE = "no image file"
OTHER_SIZE = "another size than annotated"
NO_ANNOTATIONS = "no annotations"
UNREADABLE = "annotations that cannot be read"
HIDDEN = "hidden by what lies before it"


@dataclass(frozen=True, eq=False)
class ImageObjects:
    """The labeled objects of one image, in the order of the file.

    Boxes are kept as position and size, the form in which COCO's measures are defined: turned into
    corners and back, a last bit would move and an overlap could fall short of its threshold.

    Attributes:
        width: of the image in pixels, as the annotations say, else as the file is.
        height: as ``width``.
        positions: ``(N, 4)`` float64 x, y, width, height in pixels, the image's left upper corner at
            0, 0; no 1 is added or taken away anywhere.
        labels: ``(N,)`` int64 indexes into the classes.
        crowd: ``(N,)`` whether it stands for many.
        difficult: ``(N,)`` whether VOC's rule leaves it out.
        areas: ``(N,)`` float64 square pixels: of the mask where there is one, else of the box.
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
        name: what tables and records call it.
        root: the folder below which the images lie.
        objects: of each image by its id; images without boxes are in it as well.
        classes: what the labels are indexes of.
        image_ids: number or name of each image in COCO's terms; 1, 2, ... where none are given.
        category_ids: rising, one for each class; 1, 2, ... where none are given.
        faults: what was found to be wrong.
        images: what reads the images, where they are no files below ``root``.

    Attributes:
        objects: id to :class:`ImageObjects`.
        faults: all that is wrong, in the order in which it was found.

    Raises:
        InputError: no images, ids that leave the root, or category ids that do not fit.
    """

    classes: Classes
    annotations = "boxes were drawn"
    """What errors say of the size of an image: its boxes were drawn in 640 x 480."""

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
                f"{name}: expected rising category ids, one for each of {plural(len(classes), 'class')}, got "
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
        """Return what changes with an image's file, or with a number of its boxes."""
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
        """Return how often each kind of fault was found."""
        return count_faults(self.faults)

    def settings(self) -> Settings:
        """Return what the record says of the data, also what is wrong with it."""
        return {
            **super().settings(),
            "objects": sum(len(found) for found in self.objects.values()),
            "classes": len(self.classes),
            "faults": self.fault_counts(),
            "left out": sum(not fault.kept for fault in self.faults),
        }


@dataclass
class RawObject:
    """One object as a reader found it, not checked yet.

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

    Boxes that cannot be measured (no number; a negative size, unless it is to be kept) are left out.
    Boxes outside the image or without area, and those that stand there twice, are kept as they are:
    the field's own tools count them.
    """
    kept: list[RawObject] = []
    faults: list[Fault] = []
    seen: dict[tuple[int, tuple[float, ...]], str] = {}
    for row in rows:
        place = f"{where}, {row.place}"
        fault = box_fault(
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


number = read_number
"""A number, or NaN for what is none."""


def check_inside(where: str, name: str) -> str:
    """Return a relative path that stays below the folder it is relative to.

    Raises:
        InputError: it is absolute, or ``..`` stands in it.
    """
    windows = PureWindowsPath(name)
    if not name or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
        raise InputError(
            f"{where}: expected a path below the dataset's folder, got {name!r}, which leaves it."
        )
    return name


def image_sizes(root: Path, names: Iterable[str]) -> list[tuple[int, int] | None]:
    """Return width and height of each image below ``root`` as it is read, None where it is not.

    Only the headers are read.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: read_size(root / name), names))


def size_faults(
    names: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    annotated: Sequence[tuple[int, int] | None],
) -> list[Fault]:
    """Return the images that are not there, or of another size than annotated."""
    faults = []
    for name, size, said in zip(names, sizes, annotated, strict=True):
        if size is None:
            faults.append(Fault(name, NO_FILE, kept=True, detail="missing or no image"))
        elif said is not None and said != size:
            detail = f"{size[0]} x {size[1]} pixels, annotated as {said[0]} x {said[1]}"
            faults.append(Fault(name, OTHER_SIZE, kept=True, detail=detail))
    return faults


def below(folder: str, name: str) -> str:
    """Join two relative paths with ``/``; ``folder`` may be ``.``."""
    return str(PurePosixPath(folder) / name)
