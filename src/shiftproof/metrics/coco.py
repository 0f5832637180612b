"""COCO annotations and results as checked columns.

A box is x, y, width, height in pixels, in float64 as JSON has it. Ids may be sparse and in any
order; internally images and categories are indices into the sorted ids.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.io.text import read_json
from shiftproof.metrics.annotations import Annotations, ImageId, read_annotations
from shiftproof.metrics.coco_records import (
    MANY_BOXES,
    CocoRecords,
    Ids,
    check_box_format,
    describe,
    has_mask_alone,
    read_boxes,
)
from shiftproof.metrics.faults import (
    ID_AS_TEXT,
    NEGATIVE,
    NO_BOX,
    NO_FIELD,
    NO_MASK,
    NO_RECORD,
    NOT_FINITE,
    NUMBER_AS_TEXT,
    ODD_SCORE,
    SCORE_OUTSIDE,
    TWICE,
    UNKNOWN_CLASS,
    UNKNOWN_IMAGE,
    Fault,
    find_box_fault,
    read_number,
    show_value,
)
from shiftproof.metrics.masks import (
    Code,
    compute_areas,
    derive_boxes,
    encode_readable_masks,
)
from shiftproof.types import F64, I64, Detections, Flags

GroundTruthSource: TypeAlias = str | Path | Mapping[str, Any]
"""A COCO annotation file or its content: images, annotations, categories."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The ground-truth objects of a dataset, in the order of the file.

    Attributes:
        image_ids: the I images, sorted.
        categories: from id to name of the K categories, sorted by id.
        image: ``(G,)`` in 0..I-1.
        category: ``(G,)`` in 0..K-1.
        boxes: ``(G, 4)`` x, y, width, height.
        area: ``(G,)`` the annotation's area (of the mask, usually), else the box's.
        crowd: ``(G,)`` whether it is a crowd.
        difficult: ``(G,)`` whether VOC's protocol ignores it: ``difficult`` or ``ignore``.
        masks: G run-length codes, or None for boxes.
        sizes: (height, width) of each image, if the file has them.
        faults: all faults of the file, including records that were skipped.
    """

    image_ids: tuple[ImageId, ...]
    categories: Mapping[int, str]
    image: I64
    category: I64
    boxes: F64
    area: F64
    crowd: Flags
    difficult: Flags
    masks: tuple[Code, ...] | None
    sizes: tuple[tuple[int, int] | None, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, eq=False)
class DetectionColumns:
    """The detections of a dataset, in the order of the file; columns as in :class:`Objects`."""

    image: I64
    category: I64
    boxes: F64
    area: F64
    score: F64
    masks: tuple[Code, ...] | None
    faults: tuple[Fault, ...] = ()


DetectionSource: TypeAlias = (
    str | Path | Sequence[Mapping[str, Any]] | Mapping[Any, Detections] | DetectionColumns
)
"""A COCO result file, its list, a mapping from image id to ``Detections``, or checked columns."""


def read_objects(source: GroundTruthSource, *, masks: bool = False) -> Objects:
    """Read COCO ground truth.

    Invalid records are skipped and listed in ``faults``; see
    :func:`~shiftproof.metrics.annotations.read_annotations`. An annotation without ``iscrowd`` is
    no crowd; one without ``area`` gets that of its box or mask. Annotation ids are not needed.

    Raises:
        InputError: no ground truth, or an inconsistent one.
        MissingExtraError: masks, and pycocotools is not installed.
    """
    where, value = _load(source)
    return make_objects(where, read_annotations(where, value), masks=masks)


def make_objects(where: str, read: Annotations, *, masks: bool = False) -> Objects:
    """Return the objects of parsed annotations; errors as for :func:`read_objects`."""
    image_ids = tuple(sorted(read.images, key=lambda one: (isinstance(one, str), one)))
    image_index = {image_id: index for index, image_id in enumerate(image_ids)}
    category_index = {category_id: index for index, category_id in enumerate(read.categories)}
    image = _to_int64([image_index[image_id] for image_id in read.image])
    category = _to_int64([category_index[category_id] for category_id in read.category])
    sizes = tuple(
        None if (size := read.images[image_id].size) is None else (size[1], size[0])
        for image_id in image_ids
    )
    faults = list(read.faults)
    boxes = read.boxes
    if masks:
        if len(image) and not any(sizes):
            raise InputError(
                f"{where}: masks need the height and width of image {show_value(read.image[0])}, which "
                "the ground truth does not have."
            )
        codes, reasons = _encode_outlines(read.outlines, image, sizes, image_ids)
        faults += [
            Fault(f"{where}, {read.places[row]}", NO_MASK, False, reason)
            for row, reason in reasons.items()
        ]
        kept = np.array([code is not None for code in codes], dtype=np.bool_)
        areas = compute_areas([code for code in codes if code is not None])
        boxes = np.nan_to_num(boxes)  # not used for masks
    else:
        faults += _find_box_faults(where, read)
        codes = []
        kept = _are_numbers(boxes)
        areas = (boxes[:, 2] * boxes[:, 3])[kept]
    return Objects(
        image_ids=image_ids,
        categories=dict(read.categories),
        image=image[kept],
        category=category[kept],
        boxes=boxes[kept],
        area=np.where(read.has_area[kept], read.area[kept], areas),
        crowd=read.crowd[kept],
        difficult=read.difficult[kept],
        masks=tuple(code for code in codes if code is not None) if masks else None,
        sizes=sizes,
        faults=tuple(faults),
    )


def _find_box_faults(where: str, read: Annotations) -> list[Fault]:
    """Return the faults of boxes relative to their images, and of duplicate boxes."""
    faults: list[Fault] = []
    seen: dict[tuple[Any, ...], str] = {}
    rows = zip(read.places, read.image, read.category, read.boxes.tolist(), strict=True)
    for row, (place, image, category, (x, y, width, height)) in enumerate(rows):
        record = read.images[image]
        name = f"{record.file_name or where}, {place}"
        fault = find_box_fault(
            name,
            (x, y, width, height),
            record.size,
            keep_negative=True,
            instead=read.instead.get(row, ""),
        )
        if fault is not None:
            faults.append(fault)
            if not fault.kept:
                continue
        first = seen.setdefault((image, category, x, y, width, height), place)
        if first != place:
            faults.append(Fault(name, TWICE, True, f"as {first}"))
    return faults


def read_detection_columns(
    source: DetectionSource,
    objects: Objects,
    *,
    masks: bool = False,
    strict: bool = True,
    where: str | None = None,
) -> DetectionColumns:
    """Read COCO results, or detections per image, for the images of ``objects``.

    Odd records that pycocotools evaluates are kept and listed in ``faults``: a score outside 0..1,
    or a box of negative size, which matches nothing. Detections of categories that the ground truth
    lacks are skipped, as in pycocotools, and a record with a segmentation and no ``bbox`` has box and
    area of its mask, as there. An unusable record is an error, or with ``strict=False``
    skipped and listed. ``where`` is the source's name in messages.

    Differs from pycocotools in masks: the area of a detection is its mask's, even if the result
    also has a box. (pycocotools then uses the box's area, so common toolboxes remove the box from
    the file first.)

    Raises:
        InputError: no detections; an unusable record, if ``strict``; a list without any valid
            record, or none of the ground truth's images; scores that are no probabilities; boxes
            that are x1, y1, x2, y2.
        MissingExtraError: masks, and pycocotools is not installed.
    """
    if isinstance(source, DetectionColumns):
        return source
    name, value = _load(source)
    where = name if where is None else where
    if isinstance(value, Mapping) and all(isinstance(v, Detections) for v in value.values()):
        return _read_detections(value, objects, masks=masks)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise InputError(
            f"{where}: expected COCO results, a list of objects with image_id, category_id, bbox "
            f"and score, got a {describe(value)}. Is this the ground truth?"
        )
    found = _read_results(
        where, value, objects, masks=masks, min_records=1 if strict else MANY_BOXES
    )
    unusable = [fault for fault in found.faults if fault.reason in _UNUSABLE]
    if strict and unusable:
        raise _explain_refusal(unusable[0])
    return found


_UNUSABLE = (NO_RECORD, NO_FIELD, UNKNOWN_IMAGE, NOT_FINITE, NO_MASK, ODD_SCORE)
"""Reasons for which a record is unusable. An unknown class is not among them: pycocotools skips it,
as detectors have more classes than most datasets."""


def _explain_refusal(fault: Fault) -> InputError:
    return InputError(f"{fault.where}: {fault.detail}.")


def _read_results(
    where: str, items: Sequence[Any], objects: Objects, *, masks: bool, min_records: int
) -> DetectionColumns:
    """Return the detections; ``min_records`` suffice to recognize a file of another format."""
    fields = ("image_id", "category_id", "segmentation" if masks else "bbox", "score")
    rows = _select_complete(where, items, fields)
    image = _find_indices(rows, "image_id", objects.image_ids)
    if len(image) >= min_records and (image < 0).all():
        raise _explain_refusal(next(one for one in rows.faults if one.reason == UNKNOWN_IMAGE))
    rows, image = rows.take(image >= 0), image[image >= 0]
    category = _find_indices(rows, "category_id", tuple(objects.categories))
    rows, image, category = rows.take(category >= 0), image[category >= 0], category[category >= 0]
    score = _read_scores(rows, min_records)
    valid = ~np.isnan(score)
    rows, image, category, score = rows.take(valid), image[valid], category[valid], score[valid]
    if masks:
        codes, reasons = _encode_outlines(
            rows.column("segmentation"), image, objects.sizes, objects.image_ids
        )
        for row, reason in reasons.items():
            rows.add_fault(row, NO_MASK, kept=False, detail=reason)
        kept = np.array([code is not None for code in codes], dtype=np.bool_)
        valid_codes = tuple(code for code in codes if code is not None)
        boxes, area = np.zeros((len(valid_codes), 4)), compute_areas(valid_codes)
    else:
        boxes, mask_area = _read_boxes(rows, [objects.sizes[index] for index in image.tolist()])
        kept = _are_numbers(boxes)
        boxes, mask_area = boxes[kept], mask_area[kept]
        valid_codes = None
        area = np.where(np.isnan(mask_area), boxes[:, 2] * boxes[:, 3], mask_area)
    return DetectionColumns(
        image[kept], category[kept], boxes, area, score[kept], valid_codes, tuple(rows.faults)
    )


def _read_boxes(rows: CocoRecords, sizes: Sequence[tuple[int, int] | None]) -> tuple[F64, F64]:
    """Return ``(N, 4)``, with rows of NaN for invalid boxes; ``sizes`` are (height, width).

    A record with a segmentation and no ``bbox`` has the box of its mask, as in pycocotools. Also
    return ``(N,)`` the masks' pixels, NaN for all other records.
    """
    column = rows.column("bbox")
    boxes, as_text = read_boxes(column)
    check_box_format(
        rows.where, boxes, [None if size is None else (size[1], size[0]) for size in sizes]
    )
    areas = np.full(len(column), np.nan)
    boxless = [row for row, record in enumerate(rows.records) if has_mask_alone(record)]
    reasons: dict[int, str] = {}
    if boxless:
        masks = [rows.records[row]["segmentation"] for row in boxless]
        found, pixels, of_masks = derive_boxes(masks, [sizes[row] for row in boxless])
        boxes[boxless], areas[boxless] = found, pixels
        reasons = {boxless[place]: reason for place, reason in of_masks.items()}
    for row in np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist():
        detail = (
            f"no bbox, and none from the segmentation: {reasons[row]}"
            if row in reasons
            else _explain_invalid_box(column[row])
        )
        rows.add_fault(row, NOT_FINITE, kept=False, detail=detail)
    for row in boxless:
        if row not in reasons:
            shown = ", ".join(f"{value:g}" for value in boxes[row])
            rows.add_fault(row, NO_BOX, kept=True, detail=f"bbox {shown} of it")
    negative = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1)).tolist()
    for reason, listed in ((NEGATIVE, negative), (NUMBER_AS_TEXT, as_text)):
        for row in listed:
            rows.add_fault(row, reason, kept=True, detail=f"bbox {show_value(column[row])}")
    return boxes, areas


def _explain_invalid_box(box: Any) -> str:
    has_four = isinstance(box, (list, tuple)) and len(box) == 4
    if has_four and all(isinstance(value, (int, float)) for value in box):
        return f"expected a finite bbox, got {show_value(box)}"
    return f"expected bbox as four numbers, x, y, width, height, got {show_value(box)}"


def _select_complete(where: str, items: Sequence[Any], fields: Sequence[str]) -> CocoRecords:
    """Return the records that have all fields."""
    faults: list[Fault] = []
    complete: list[int] = []
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            detail = f"expected an object, got a {describe(item)}"
            faults.append(Fault(f"{where}[{index}]", NO_RECORD, False, detail))
        elif missing := [
            field
            for field in fields
            if field not in item and not (field == "bbox" and has_mask_alone(item))
        ]:
            has = ", ".join(str(key)[:60] for key in list(item)[:8]) or "nothing"
            detail = f"{missing[0]} is missing; it has {has}"
            faults.append(Fault(f"{where}[{index}]", NO_FIELD, False, detail))
        else:
            complete.append(index)
    if items and not complete:
        raise _explain_refusal(faults[0])
    return CocoRecords(where, "", complete, [items[index] for index in complete], faults)


def _find_indices(rows: CocoRecords, key: str, ids: Sequence[Any]) -> I64:
    """Return ``(N,)`` the index in ``ids`` of each record's value, -1 if it is missing."""
    known = {known_id: index for index, known_id in enumerate(ids)}
    lookup = Ids(ids)
    reason, what = (UNKNOWN_IMAGE, "image") if key == "image_id" else (UNKNOWN_CLASS, "category")
    found = np.full(len(rows.records), -1, dtype=np.int64)
    for row, value in enumerate(rows.column(key)):
        if type(value) is int and value in known:
            found[row] = known[value]
            continue
        match, has_right_type = lookup.find(value)
        if match is None:
            detail = f"{key}: {show_value(value)} is no {what} of the ground truth, which has "
            rows.add_fault(row, reason, kept=False, detail=detail + _list_some(ids))
            continue
        found[row] = known[match]
        if not has_right_type:
            detail = f"{key} {show_value(value)} for {show_value(match)}"
            rows.add_fault(row, ID_AS_TEXT, kept=True, detail=detail)
    return found


def _read_scores(rows: CocoRecords, min_records: int) -> F64:
    """Return ``(N,)`` scores, NaN for invalid ones."""
    column = rows.column("score")
    score = np.array([read_number(value) for value in column], dtype=np.float64)
    score[~np.isfinite(score)] = np.nan
    outside = (score < -ROUNDING) | (score > 1 + ROUNDING)
    if len(score) >= min_records and outside.sum() > 0.5 * np.isfinite(score).sum():
        row = int(np.argmax(outside))
        raise InputError(
            f"{rows.name(row)}: expected scores in 0..1, got {score[row]}; hand in probabilities, not "
            "logits or per cent."
        )
    for row in np.flatnonzero(~((score >= 0) & (score <= 1))).tolist():
        shown = show_value(column[row])
        if np.isnan(score[row]):
            expected = "a finite score" if isinstance(column[row], float) else "score as a number"
            detail = f"expected {expected}, got {shown}"
            rows.add_fault(row, ODD_SCORE, kept=False, detail=detail)
        else:
            rows.add_fault(row, SCORE_OUTSIDE, kept=True, detail=f"score {shown}")
    for row, value in enumerate(column):
        if isinstance(value, str) and not np.isnan(score[row]):
            rows.add_fault(row, NUMBER_AS_TEXT, kept=True, detail=f"score {show_value(value)}")
    return score


ROUNDING = 1e-3
"""How far outside 0..1 a probability may be rounded by float16; anything beyond is an error."""


def _read_detections(
    records: Mapping[Any, Detections], objects: Objects, *, masks: bool
) -> DetectionColumns:
    where = "detections"
    known: dict[Hashable, int] = {key: index for index, key in enumerate(objects.image_ids)}
    for image_id in records:
        if image_id not in known:
            raise InputError(
                f"{where}: {show_value(image_id)} is no image of the ground truth, which has "
                f"{_list_some(objects.image_ids)}."
            )
    if not records:
        empty = np.empty(0, dtype=np.int64)
        return DetectionColumns(
            empty, empty, np.empty((0, 4)), np.empty(0), np.empty(0), () if masks else None
        )
    lengths = [len(found) for found in records.values()]
    image = np.repeat([known[image_id] for image_id in records], lengths).astype(np.int64)
    category = np.concatenate([found.labels for found in records.values()])
    if category.max(initial=-1) >= len(objects.categories):
        raise InputError(
            f"{where}: expected labels from 0 to {len(objects.categories) - 1}, indexes into "
            f"{pluralize(len(objects.categories), 'category', 'categories')} sorted by id, got "
            f"{category.max()}."
        )
    corners = np.concatenate([found.boxes for found in records.values()]).astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    score = np.concatenate([found.scores for found in records.values()]).astype(np.float64)
    if not masks:
        return DetectionColumns(image, category, boxes, boxes[:, 2] * boxes[:, 3], score, None)
    segmentations: list[Any] = []
    for image_id, found in records.items():
        if found.masks is None and len(found):
            raise InputError(f"{where}, image {image_id!r}: expected masks, got boxes only.")
        segmentations += found.masks or ()
    codes, reasons = _encode_outlines(segmentations, image, objects.sizes, objects.image_ids)
    if reasons:
        row, reason = next(iter(reasons.items()))
        raise InputError(f"{where}: mask {row}: {reason}.")
    valid_codes = tuple(code for code in codes if code is not None)
    return DetectionColumns(image, category, boxes, compute_areas(valid_codes), score, valid_codes)


def _load(source: Any) -> tuple[str, Any]:
    """Return the name of the source in errors, and its content."""
    if isinstance(source, (str, Path)):
        return Path(source).name, read_json(Path(source))
    if isinstance(source, Mapping) and "annotations" in source:
        return "ground truth", source
    return "detections" if isinstance(source, Sequence) else "input", source


def _are_numbers(boxes: F64) -> Flags:
    """Return ``(N,)`` which rows are without NaN."""
    return np.asarray(~np.isnan(boxes).any(axis=1))


def _list_some(ids: Sequence[Any]) -> str:
    first = ", ".join(map(show_value, ids[:3]))
    return f"{len(ids)}: {first}{', ...' if len(ids) > 3 else ''}"


def _to_int64(values: Sequence[int]) -> I64:
    return np.array(values, dtype=np.int64)


def _encode_outlines(
    outlines: Sequence[Any],
    image: I64,
    sizes: Sequence[tuple[int, int] | None],
    ids: Sequence[ImageId],
) -> tuple[list[Code | None], dict[int, str]]:
    """Return the run-length code of each outline, or None, and the reasons by index."""
    codes: list[Code | None] = [None] * len(outlines)
    reasons: dict[int, str] = {}
    rows, image_sizes = [], []
    for row, index in enumerate(image.tolist()):
        if (size := sizes[index]) is None:
            name = show_value(ids[index])
            reasons[row] = f"the height and width of image {name}, which it needs, are not known"
        else:
            rows.append(row)
            image_sizes.append(size)
    encoded, invalid = encode_readable_masks([outlines[row] for row in rows], image_sizes)
    for row, code in zip(rows, encoded, strict=True):
        codes[row] = code
    reasons.update({rows[number]: reason for number, reason in invalid.items()})
    return codes, dict(sorted(reasons.items()))
