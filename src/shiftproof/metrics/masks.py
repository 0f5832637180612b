"""Masks as COCO's run-length codes, and their overlaps, by pycocotools."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from shiftproof.errors import InputError
from shiftproof.io.images import MAX_PIXELS
from shiftproof.lazy import import_extra
from shiftproof.metrics.faults import show_value
from shiftproof.metrics.matching import Pairs, find_run_starts, join_pairs
from shiftproof.types import F64, I64, Flags

Code: TypeAlias = Mapping[str, Any]
"""``{"size": [height, width], "counts": bytes}``, compressed."""


def _import_pycocotools() -> Any:
    return import_extra("pycocotools.mask", "detection")


def encode_masks(
    where: str, segmentations: Sequence[Any], sizes: Sequence[tuple[int, int]]
) -> tuple[Code, ...]:
    """Return the compressed codes of polygons, of uncompressed or of compressed codes.

    Input is checked before it is passed to pycocotools, which is written in C and does not
    terminate on two codes of different length.

    Args:
        where: name of the list in errors.
        segmentations: N lists of polygons ``[x1, y1, x2, y2, ...]``, or codes.
        sizes: (height, width) of the image of each.

    Raises:
        InputError: a segmentation of another kind, or not of the image's size.
        MissingExtraError: pycocotools is not installed.
    """
    codes, reasons = encode_readable_masks(segmentations, sizes)
    if reasons:
        index, reason = next(iter(reasons.items()))
        raise InputError(f"{where}[{index}]: {reason}.")
    return tuple(code for code in codes if code is not None)


def encode_readable_masks(
    segmentations: Sequence[Any], sizes: Sequence[tuple[int, int]]
) -> tuple[list[Code | None], dict[int, str]]:
    """Return the compressed codes, None for invalid masks, and the reasons by index.

    Arguments as for :func:`encode_masks`.
    """
    library = _import_pycocotools()
    codes: list[Code | None] = []
    reasons: dict[int, str] = {}
    for index, (segmentation, size) in enumerate(zip(segmentations, sizes, strict=True)):
        try:
            codes.append(_encode_mask(library, segmentation, size))
        except ValueError as error:
            reasons[index] = str(error)
            codes.append(None)
    encoded = [index for index, code in enumerate(codes) if code is not None]
    pixels = _count_pixels([code["counts"] for code in codes if code is not None])
    for index, count in zip(encoded, pixels.tolist(), strict=True):
        height, width = sizes[index]
        if count != height * width:
            reasons[index] = (
                "the counts of the mask do not fill its image of height and width "
                f"{[height, width]}"
            )
            codes[index] = None
    return codes, dict(sorted(reasons.items()))


def _encode_mask(library: Any, segmentation: Any, size: tuple[int, int]) -> Code:
    """Return the code of a mask; raises a ValueError with the reason if it is invalid."""
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"its image claims {size[0]} x {size[1]} pixels, more than masks may have, {MAX_PIXELS}"
        )
    if isinstance(segmentation, Mapping):
        return _encode_run_lengths(library, segmentation, size)
    if isinstance(segmentation, (list, tuple)) and segmentation:
        polygons = [_read_polygon(polygon, size) for polygon in segmentation]
        code: Code = library.merge(library.frPyObjects(polygons, *size))
        return code
    raise ValueError(
        f"expected segmentation as polygons or a run-length code, got {show_value(segmentation)}"
    )


def _encode_run_lengths(
    library: Any, segmentation: Mapping[str, Any], size: tuple[int, int]
) -> Code:
    mask_size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(mask_size, Sequence) or list(mask_size) != list(size):
        raise ValueError(
            f"expected a mask of the image's height and width, {list(size)}, got "
            f"{show_value(mask_size)}"
        )
    if isinstance(counts, str) and counts.isascii():
        return {"size": list(size), "counts": counts.encode("ascii")}
    if isinstance(counts, bytes):
        return {"size": list(size), "counts": counts}
    if isinstance(counts, Sequence) and all(
        isinstance(count, int) and 0 <= count <= size[0] * size[1] for count in counts
    ):
        code: Code = library.frPyObjects({"size": list(size), "counts": list(counts)}, *size)
        return code
    raise ValueError(f"expected the counts of a mask, got {show_value(counts)}")


def _read_polygon(polygon: Any, size: tuple[int, int]) -> list[float]:
    height, width = size
    try:
        points = [float(value) for value in polygon]
    except (TypeError, ValueError, OverflowError):
        points = []
    if len(points) < 6 or len(points) % 2:
        raise ValueError(
            f"expected a polygon as x1, y1, x2, y2, x3, y3, ..., got {show_value(polygon)}"
        )
    # pycocotools visits every pixel along an edge: an edge to 1e9 would fill the memory.
    limit = 10 * max(height, width)
    if not all(math.isfinite(value) and abs(value) <= limit for value in points):
        raise ValueError(f"a polygon reaches far beyond its {height} x {width} image")
    corners = np.array(points).reshape(-1, 2)
    steps = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum()
    if steps > MAX_STEPS:
        raise ValueError(
            f"the edges of a polygon are {steps:.0f} pixels long, more than {MAX_STEPS}"
        )
    return points


MAX_STEPS = 4_000_000
"""Maximum length of a polygon's edges in pixels, as many as 2,000 x 2,000; it bounds the memory."""


def _count_pixels(counts: Sequence[bytes]) -> I64:
    """Return ``(N,)`` the sum of the runs of each compressed code, -1 if it is damaged.

    A byte minus 48 has 5 bits of a number, low ones first; the sixth bit means that more follow,
    and the highest bit of a number's last byte is its sign. From the fourth run on, the number is
    the difference from the run two before.
    """
    lengths = np.array([len(code) for code in counts], dtype=np.int64)
    damaged = lengths == 0
    values = np.frombuffer(b"".join(counts), dtype=np.uint8).astype(np.int64) - 48
    byte_code = np.repeat(np.arange(len(counts)), lengths)
    damaged[byte_code[(values < 0) | (values > 63)]] = True
    # A truncated code is damaged; it is terminated here so that it does not run into the next one.
    last = np.cumsum(lengths)[lengths > 0] - 1
    damaged[byte_code[last[values[last] & 32 != 0]]] = True
    is_end = (values & 32) == 0
    is_end[last] = True
    end = np.flatnonzero(is_end)
    if len(end) == 0:
        return np.full(len(counts), -1)
    start = np.concatenate([[0], end[:-1] + 1])
    size = end + 1 - start
    code = byte_code[start]
    damaged[code[size > 6]] = True
    place = np.minimum(np.arange(len(values)) - np.repeat(start, size), 6)
    number = np.add.reduceat((values & 31) << (5 * place), start)
    number -= np.where(values[end] & 16, 1 << (5 * np.minimum(size, 6)), 0)

    # Three chains in each code: the first run alone, then the odd ones and the even ones.
    first = find_run_starts(code)
    index = np.arange(len(code)) - np.repeat(first, np.diff(np.append(first, len(code))))
    chain = 3 * code + np.where(index == 0, 0, 1 + index % 2)
    order = np.argsort(chain, kind="stable")
    sums = np.cumsum(number[order])
    first = find_run_starts(chain[order])
    before = np.where(first > 0, sums[first - 1], 0)
    run = sums - np.repeat(before, np.diff(np.append(first, len(order))))
    damaged[code[order][run < 0]] = True
    total = np.zeros(len(counts), dtype=np.int64)
    np.add.at(total, code[order], run)
    total[damaged] = -1
    return total


def derive_boxes(
    segmentations: Sequence[Any], sizes: Sequence[tuple[int, int] | None]
) -> tuple[F64, F64, dict[int, str]]:
    """Return the boxes of masks, as pycocotools derives them (``toBbox``).

    A box encloses the pixels of its mask: x, y, width and height are whole numbers. Polygons are
    drawn into a mask first, so their box may differ from their corners by a pixel.

    Args:
        segmentations: N lists of polygons ``[x1, y1, x2, y2, ...]``, or run-length codes.
        sizes: (height, width) of the image of each, None if unknown; a code has its own.

    Returns:
        ``(N, 4)`` x, y, width, height and ``(N,)`` the masks' pixels, both NaN where there is no box,
        and the reasons by index.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    known: dict[int, tuple[int, int]] = {}
    reasons: dict[int, str] = {}
    for index, (segmentation, size) in enumerate(zip(segmentations, sizes, strict=True)):
        own_size = size if size is not None else _read_code_size(segmentation)
        if own_size is None:
            reasons[index] = (
                "the width and height of its image are not known; write them into images"
            )
        else:
            known[index] = own_size
    codes, invalid = encode_readable_masks(
        [segmentations[index] for index in known], list(known.values())
    )
    rows = [index for index, code in zip(known, codes, strict=True) if code is not None]
    encoded = [code for code in codes if code is not None]
    boxes = np.full((len(segmentations), 4), np.nan)
    areas = np.full(len(segmentations), np.nan)
    boxes[rows], areas[rows] = _compute_boxes(encoded), compute_areas(encoded)
    for place, reason in invalid.items():
        reasons[list(known)[place]] = reason
    return boxes, areas, dict(sorted(reasons.items()))


def _read_code_size(segmentation: Any) -> tuple[int, int] | None:
    """Return the height and width in a run-length code."""
    size = segmentation.get("size") if isinstance(segmentation, Mapping) else None
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        return None
    height, width = size
    is_size = type(height) is int and type(width) is int and height > 0 and width > 0
    return (height, width) if is_size else None


def _compute_boxes(codes: Sequence[Code]) -> F64:
    """Return ``(N, 4)`` x, y, width, height of each mask."""
    library = _import_pycocotools()
    # As for the areas, at most 255 at once.
    parts = [
        np.asarray(library.toBbox(list(codes[start : start + 255]))).reshape(-1, 4)
        for start in range(0, len(codes), 255)
    ]
    return np.concatenate([np.empty((0, 4)), *parts])


def compute_areas(codes: Sequence[Code]) -> F64:
    """Return ``(N,)`` the pixels of each mask."""
    library = _import_pycocotools()
    # Some versions of pycocotools store the number of masks as uint8, so at most 255 at once.
    parts = [library.area(list(codes[start : start + 255])) for start in range(0, len(codes), 255)]
    return np.concatenate([np.empty(0), *parts])


def find_mask_pairs(
    detection_group: I64,
    detection_masks: Sequence[Code],
    object_group: I64,
    object_masks: Sequence[Code],
    crowd: Flags,
    min_overlap: float,
) -> Pairs:
    """Return the pairs of the same group whose masks overlap by at least ``min_overlap``.

    Arguments and overlap as for :func:`~shiftproof.metrics.matching.find_box_pairs`.
    """
    library = _import_pycocotools()
    found = []
    bounds = np.append(find_run_starts(detection_group), len(detection_group)).tolist()
    for first, last in pairwise(bounds):
        group = detection_group[first]
        left = int(np.searchsorted(object_group, group, "left"))
        right = int(np.searchsorted(object_group, group, "right"))
        if left == right:
            continue
        overlap = np.asarray(
            library.iou(
                list(detection_masks[first:last]),
                list(object_masks[left:right]),
                crowd[left:right].astype(int).tolist(),
            )
        )
        d, g = np.nonzero(overlap >= min_overlap)
        found.append(Pairs(d + first, g + left, overlap[d, g]))
    return join_pairs(found)
