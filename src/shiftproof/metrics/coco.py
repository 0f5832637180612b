"""COCO annotations and results as columns: the border where they are checked.

A box is x, y, width, height in pixels, in float64 as JSON has it. Ids may be sparse and in any order;
inside, an image is its place among the sorted ids, and so is a category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import InputError
from shiftproof.io.images import MAX_PIXELS
from shiftproof.io.text import read_json
from shiftproof.metrics.masks import Code, areas_of, run_length_codes
from shiftproof.types import Detections

ImageId: TypeAlias = int | str

GroundTruthSource: TypeAlias = str | Path | Mapping[str, Any]
"""A COCO annotation file or what is in it: images, annotations, categories."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The labelled objects of a data set, in the order of the file.

    Attributes:
        image_ids: the I images, sorted.
        categories: id to name of the K categories, sorted by id.
        image: ``(G,)`` in 0..I-1.
        category: ``(G,)`` in 0..K-1.
        boxes: ``(G, 4)`` x, y, width, height.
        area: ``(G,)`` the annotation's area (of the mask, usually), else the box's.
        crowd: ``(G,)`` whether it stands for many.
        difficult: ``(G,)`` whether VOC's rule leaves it out: ``difficult`` or ``ignore``.
        masks: G codes, or None where boxes were asked for.
        sizes: height and width of each image, where the file has them.
    """

    image_ids: tuple[ImageId, ...]
    categories: Mapping[int, str]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    masks: tuple[Code, ...] | None
    sizes: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """The detections in a data set, in the order of the file; columns as in :class:`Objects`."""

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    score: NDArray[np.float64]
    masks: tuple[Code, ...] | None


DetectionSource: TypeAlias = (
    str | Path | Sequence[Mapping[str, Any]] | Mapping[Any, Detections] | Found
)
"""A COCO result file, the list in it, the image's id to its ``Detections``, or checked columns."""


def read_objects(source: GroundTruthSource, *, masks: bool = False) -> Objects:
    """Read COCO ground truth.

    Differs from pycocotools, which fails on an annotation without ``iscrowd`` or ``area`` (here 0 and
    the box's or mask's area) and leaves annotations of unknown images or categories out in silence
    (here they are refused). The annotations' own ids are not needed.

    Raises:
        InputError: no ground truth, or one that contradicts itself.
        MissingExtraError: masks, and pycocotools is not installed.
    """
    where, value = _load(source)
    if not isinstance(value, Mapping):
        raise InputError(
            f"{where}: expected COCO ground truth, an object with images, annotations and "
            f"categories, got a {_kind(value)}. Are these the detections?"
        )
    images = _part(where, value, "images")
    annotations = _part(where, value, "annotations")
    categories = _part(where, value, "categories")
    image_ids = _unique_ids(where, "images", images)
    category_ids = _unique_ids(where, "categories", categories)
    names = {record["id"]: str(record.get("name", record["id"])) for record in reversed(categories)}
    of_image = {record["id"]: record for record in images}
    sizes = tuple(_size(of_image[identity]) for identity in image_ids)

    table = f"{where}: annotations"
    image = _indexes(table, annotations, "image_id", image_ids, "image of the ground truth")
    category = _indexes(
        table, annotations, "category_id", category_ids, "category of the ground truth"
    )
    codes = None
    if masks:
        codes = _codes(table, annotations, image, sizes, image_ids)
    if masks and not all("bbox" in record for record in annotations):
        boxes = np.zeros((len(annotations), 4))  # not looked at where masks are measured
    else:
        boxes = _boxes(table, annotations)
        _refuse_corners(table, boxes, image, sizes)
    own = areas_of(codes) if codes is not None else boxes[:, 2] * boxes[:, 3]
    given = [record.get("area") for record in annotations]
    area = _numbers(table, "area", [0 if value is None else value for value in given])
    if (area < 0).any():
        at = int(np.argmin(area))
        raise InputError(f"{table}[{at}]: expected an area of 0 or more, got {given[at]!r:.60}.")
    missing = np.array([value is None for value in given], dtype=np.bool_)
    return Objects(
        image_ids=image_ids,
        categories={identity: names[identity] for identity in category_ids},
        image=image,
        category=category,
        boxes=boxes,
        area=np.where(missing, own, area),
        crowd=_flags(table, annotations, "iscrowd"),
        difficult=_flags(table, annotations, "difficult") | _flags(table, annotations, "ignore"),
        masks=codes,
        sizes=sizes,
    )


def read_found(source: DetectionSource, objects: Objects, *, masks: bool = False) -> Found:
    """Read COCO results, or detections per image, for the images of ``objects``.

    Differs from pycocotools in masks: the area of a detection is its mask's, also where the result
    has a box as well. (pycocotools takes the box's then, for which the common toolboxes take the box
    out of the file first.)

    Raises:
        InputError: no detections, or such that do not belong to the ground truth.
        MissingExtraError: masks, and pycocotools is not installed.
    """
    if isinstance(source, Found):
        return source
    where, value = _load(source)
    if isinstance(value, Mapping) and all(isinstance(v, Detections) for v in value.values()):
        return _from_records(value, objects, masks=masks)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise InputError(
            f"{where}: expected COCO results, a list of objects with image_id, category_id, bbox "
            f"and score, got a {_kind(value)}. Is this the ground truth?"
        )
    image = _indexes(where, value, "image_id", objects.image_ids, "image of the ground truth")
    category = _indexes(
        where, value, "category_id", tuple(objects.categories), "category of the ground truth"
    )
    score = _numbers(where, "score", _column(where, value, "score"))
    outside = np.flatnonzero((score < 0) | (score > 1))
    if len(outside):
        raise InputError(
            f"{where}[{outside[0]}]: expected scores in 0..1, got {score[outside[0]]}; hand in "
            "probabilities, not logits or per cent."
        )
    if masks:
        codes = _codes(where, value, image, objects.sizes, objects.image_ids)
        return Found(image, category, np.zeros((len(value), 4)), areas_of(codes), score, codes)
    boxes = _boxes(where, value)
    _refuse_corners(where, boxes, image, objects.sizes)
    return Found(image, category, boxes, boxes[:, 2] * boxes[:, 3], score, None)


def _from_records(records: Mapping[Any, Detections], objects: Objects, *, masks: bool) -> Found:
    where = "detections"
    known: dict[Hashable, int] = {identity: at for at, identity in enumerate(objects.image_ids)}
    for identity in records:
        if identity not in known:
            raise _no_such(where, identity, "image of the ground truth", objects.image_ids)
    if not records:
        none = np.empty(0, dtype=np.int64)
        return Found(none, none, np.empty((0, 4)), np.empty(0), np.empty(0), () if masks else None)
    lengths = [len(found) for found in records.values()]
    image = np.repeat([known[identity] for identity in records], lengths).astype(np.int64)
    category = np.concatenate([found.labels for found in records.values()])
    if category.max(initial=-1) >= len(objects.categories):
        raise InputError(
            f"{where}: expected labels from 0 to {len(objects.categories) - 1}, indexes into the "
            f"{len(objects.categories)} categories sorted by id, got {category.max()}."
        )
    corners = np.concatenate([found.boxes for found in records.values()]).astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    score = np.concatenate([found.scores for found in records.values()]).astype(np.float64)
    if not masks:
        return Found(image, category, boxes, boxes[:, 2] * boxes[:, 3], score, None)
    coded = []
    for identity, found in records.items():
        if found.masks is None and len(found):
            raise InputError(f"{where}, image {identity!r}: expected masks, got boxes only.")
        coded += [{"segmentation": mask} for mask in found.masks or ()]
    codes = _codes(where, coded, image, objects.sizes, objects.image_ids)
    return Found(image, category, boxes, areas_of(codes), score, codes)


def _load(source: Any) -> tuple[str, Any]:
    """Return what to call the source in an error, and its content."""
    if isinstance(source, (str, Path)):
        return Path(source).name, read_json(Path(source))
    if isinstance(source, Mapping) and "annotations" in source:
        return "ground truth", source
    return "detections" if isinstance(source, Sequence) else "input", source


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"dictionary with the keys {', '.join(map(str, list(value)[:5])) or '(none)'}"
    return type(value).__name__


def _part(where: str, value: Mapping[str, Any], key: str) -> Sequence[Any]:
    part = value.get(key)
    if not isinstance(part, Sequence) or isinstance(part, str):
        got = "none" if key not in value else f"a {_kind(part)}"
        raise InputError(f"{where}: expected a list of {key}, got {got}.")
    return part


def _unique_ids(where: str, part: str, records: Sequence[Any]) -> tuple[Any, ...]:
    ids = _column(f"{where}: {part}", records, "id")
    try:
        unique = sorted(set(ids))
    except TypeError as error:
        raise InputError(
            f"{where}: expected the ids of {part} of one kind, all integers."
        ) from error
    if len(unique) != len(ids):
        twice = next(identity for identity, count in Counter(ids).items() if count > 1)
        raise InputError(f"{where}: expected every id once among {part}, got {twice!r} twice.")
    return tuple(unique)


def _size(record: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = record.get("height"), record.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _column(where: str, records: Sequence[Any], key: str) -> list[Any]:
    try:
        return [record[key] for record in records]
    except (KeyError, TypeError, IndexError):
        pass
    for at, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InputError(f"{where}[{at}]: expected an object, got a {_kind(record)}.")
        if key not in record:
            raise InputError(f"{where}[{at}]: {key} is missing; it has {', '.join(record)}.")
    raise InputError(f"{where}: expected a list of objects with {key}.")


def _indexes(
    where: str, records: Sequence[Any], key: str, ids: Sequence[Any], what: str
) -> NDArray[np.int64]:
    known = {identity: at for at, identity in enumerate(ids)}
    column = _column(where, records, key)
    try:
        return np.fromiter((known[identity] for identity in column), np.int64, len(column))
    except (KeyError, TypeError):
        pass
    for at, identity in enumerate(column):
        if not isinstance(identity, Hashable) or identity not in known:
            raise _no_such(f"{where}[{at}]: {key}", identity, what, ids)
    raise InputError(f"{where}: expected each {key} to be an {what}.")


def _no_such(where: str, identity: Any, what: str, ids: Sequence[Any]) -> InputError:
    some = ", ".join(repr(one) for one in ids[:3])
    return InputError(
        f"{where}: {identity!r} is no {what}, which has {len(ids)}: {some}"
        f"{', ...' if len(ids) > 3 else ''}."
    )


def _boxes(where: str, records: Sequence[Any]) -> NDArray[np.float64]:
    column = _column(where, records, "bbox")
    if not column:
        return np.empty((0, 4))
    boxes = _array(column)
    if boxes is None or boxes.ndim != 2 or boxes.shape[1] != 4:
        at = _first(column, lambda box: (a := _array(box)) is None or a.shape != (4,))
        raise InputError(
            f"{where}[{at}]: expected bbox as four numbers, x, y, width, height, got "
            f"{column[at]!r:.60}."
        )
    _refuse_not_finite(where, "bbox", boxes.sum(axis=1), column)
    negative = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    if len(negative):
        raise InputError(
            f"{where}[{negative[0]}]: expected bbox as x, y, width, height with no negative size, "
            f"got {boxes[negative[0]].tolist()} ({len(negative)} of {len(boxes)} boxes)."
        )
    return boxes


def _refuse_corners(
    where: str,
    boxes: NDArray[np.float64],
    image: NDArray[np.int64],
    sizes: Sequence[tuple[int, int] | None],
) -> None:
    """Refuse boxes that are x1, y1, x2, y2: all have x2 >= x1, and read as sizes most leave the image."""
    if len(boxes) < MANY_BOXES or (boxes[:, 2:] < boxes[:, :2]).any():
        return
    limit = np.array([size or (np.inf, np.inf) for size in sizes])[image]
    beyond = (boxes[:, :2] + boxes[:, 2:] > limit[:, ::-1] + 1).any(axis=1)
    if beyond.mean() > 0.5:
        raise InputError(
            f"{where}: expected bbox as x, y, width, height, and {beyond.sum()} of {len(boxes)} "
            f"boxes leave their image, such as {boxes[beyond][0].tolist()}. If they are x1, y1, x2, "
            "y2, subtract x1 from x2 and y1 from y2."
        )


MANY_BOXES = 10
"""From here on, that all sizes are above the positions says something about the format."""


def _codes(
    where: str,
    records: Sequence[Any],
    image: NDArray[np.int64],
    sizes: Sequence[tuple[int, int] | None],
    ids: Sequence[ImageId],
) -> tuple[Code, ...]:
    of_each = []
    for index in image:
        size = sizes[index]
        if size is None:
            raise InputError(
                f"{where}: masks need the height and width of image {ids[index]!r}, which the ground "
                "truth does not have."
            )
        if size[0] * size[1] > MAX_PIXELS:
            raise InputError(
                f"{where}: image {ids[index]!r} claims {size[0]} x {size[1]} pixels, more than masks "
                f"may have, {MAX_PIXELS}."
            )
        of_each.append(size)
    return run_length_codes(where, _column(where, records, "segmentation"), of_each)


FLAGS = (bool, int, np.bool_, np.integer)


def _flags(where: str, records: Sequence[Any], key: str) -> NDArray[np.bool_]:
    column = [record.get(key, 0) for record in records]
    at = _first(column, lambda flag: not isinstance(flag, FLAGS) or flag not in (0, 1))
    if at < len(column):
        raise InputError(f"{where}[{at}]: expected {key} as 0 or 1, got {column[at]!r:.60}.")
    return np.array(column, dtype=np.bool_)


def _numbers(where: str, key: str, column: list[Any]) -> NDArray[np.float64]:
    if not column:
        return np.empty(0)
    values = _array(column)
    if values is None or values.ndim != 1:
        at = _first(column, lambda value: (a := _array(value)) is None or a.ndim != 0)
        raise InputError(f"{where}[{at}]: expected {key} as a number, got {column[at]!r:.60}.")
    _refuse_not_finite(where, key, values, column)
    return values


def _refuse_not_finite(
    where: str, key: str, values: NDArray[np.float64], column: list[Any]
) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(f"{where}[{bad[0]}]: expected a finite {key}, got {column[bad[0]]!r:.60}.")


def _array(values: Any) -> NDArray[np.float64] | None:
    """Return numbers as float64, or None: strings are not read as numbers, nor True as 1."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return None
    return array.astype(np.float64) if array.dtype.kind in "iuf" else None


def _first(column: list[Any], bad: Callable[[Any], bool]) -> int:
    """Return the place of the first bad value, or the length where there is none."""
    return next((at for at, value in enumerate(column) if bad(value)), len(column))
