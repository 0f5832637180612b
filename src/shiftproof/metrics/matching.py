"""Matching detections with objects, for all images and classes at once.

Objects and detections are rows of arrays. A row's *group* is its image and class in one integer; only
rows of the same group can match.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shiftproof.types import F64, I64, Flags

BLOCK_PAIRS = 1 << 18
"""Pairs whose overlap is computed at once: 2 MB an array, so that they stay in the cache."""


class Pairs(NamedTuple):
    """Detections and objects that overlap enough, by rising detection and then rising object."""

    detection: I64
    object: I64
    overlap: F64

    def take(self, rows: I64) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.detection[rows], self.object[rows], self.overlap[rows])


def sort_by_group_and_score(group: I64, score: F64, limit: int | None = None) -> tuple[I64, I64]:
    """Return the order of detections by group and then by falling score, and each one's rank.

    Of equal scores the earlier row comes first. The rank counts from 0 within the group; with a
    ``limit`` only that many best of each group are kept.
    """
    order = np.lexsort((-score, group))
    first = find_run_starts(group[order])
    lengths = np.diff(np.append(first, len(order)))
    rank = np.arange(len(order)) - np.repeat(first, lengths)
    if limit is None:
        return order, rank
    kept = rank < limit
    return order[kept], rank[kept]


def find_run_starts(values: I64) -> I64:
    """Return where each run of equal values starts."""
    if len(values) == 0:
        return np.empty(0, dtype=np.int64)
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def split_pairs(detection_group: I64, object_group: I64) -> Iterator[tuple[I64, I64]]:
    """Return blocks of all (detection, object) pairs of equal group; both are sorted by group."""
    start = np.searchsorted(object_group, detection_group, "left")
    count = np.searchsorted(object_group, detection_group, "right") - start
    detections = np.flatnonzero(count)
    start, count = start[detections], count[detections]
    ends = np.cumsum(count)
    first = 0
    while first < len(detections):
        done = ends[first - 1] if first else 0
        # At least one detection, however many objects it meets.
        last = max(first + 1, int(np.searchsorted(ends, done + BLOCK_PAIRS, "right")))
        lengths = count[first:last]
        total = int(lengths.sum())
        offset = np.repeat(start[first:last] - (np.cumsum(lengths) - lengths), lengths)
        yield np.repeat(detections[first:last], lengths), np.arange(total) + offset
        first = last


def find_box_pairs(
    detection_group: I64,
    detection_boxes: F64,
    object_group: I64,
    object_boxes: F64,
    crowd: Flags,
    least: float,
) -> Pairs:
    """Return the pairs of one group whose boxes overlap by ``least`` or more.

    The overlap is intersection over union, of a crowd over the detection's own area. Widths are
    differences of coordinates, without the 1 pixel of the oldest tools.

    Args:
        detection_group: ``(D,)``, sorted.
        detection_boxes: ``(D, 4)`` x, y, width, height.
        object_group: ``(G,)``, sorted.
        object_boxes: ``(G, 4)`` x, y, width, height.
        crowd: ``(G,)``.
        least: above 0.
    """
    found = []
    one, other = _Corners.of(detection_boxes), _Corners.of(object_boxes)
    for d, g in split_pairs(detection_group, object_group):
        # In pycocotools' order of operations, so that overlaps at a threshold fall alike.
        width = np.minimum(one.right[d], other.right[g]) - np.maximum(one.left[d], other.left[g])
        meet = np.flatnonzero(width > 0)
        d, g, width = d[meet], g[meet], width[meet]
        height = np.minimum(one.bottom[d], other.bottom[g]) - np.maximum(one.top[d], other.top[g])
        meet = np.flatnonzero(height > 0)
        d, g = d[meet], g[meet]
        shared = width[meet] * height[meet]
        union = np.where(crowd[g], one.area[d], one.area[d] + other.area[g] - shared)
        overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        enough = np.flatnonzero(overlap >= least)
        found.append(Pairs(d[enough], g[enough], overlap[enough]))
    return join_pairs(found)


class _Corners(NamedTuple):
    left: F64
    top: F64
    right: F64
    bottom: F64
    area: F64

    @classmethod
    def of(cls, boxes: F64) -> _Corners:
        left, top, width, height = np.ascontiguousarray(boxes.T)
        return cls(left, top, width + left, height + top, width * height)


def join_pairs(found: list[Pairs]) -> Pairs:
    """Return all pairs of some blocks as one."""
    none = np.empty(0, dtype=np.int64)
    return Pairs(
        np.concatenate([none, *(pairs.detection for pairs in found)]),
        np.concatenate([none, *(pairs.object for pairs in found)]),
        np.concatenate([np.empty(0), *(pairs.overlap for pairs in found)]),
    )


def sort_by_overlap(pairs: Pairs, *, last: bool = True) -> Pairs:
    """Return the pairs by detection, of each the largest overlap first.

    Of equal overlaps the last object comes first, as COCO has it, or else the first one.
    """
    object_ = -pairs.object if last else pairs.object
    return pairs.take(np.lexsort((object_, -pairs.overlap, pairs.detection)))


def sort_by_preference(pairs: Pairs, ignored: Flags) -> Pairs:
    """Return the pairs of :func:`sort_by_overlap`, in each detection those first whose object counts."""
    key = 2 * pairs.detection + ignored[pairs.object]
    return pairs.take(np.argsort(key, kind="stable"))


def match_greedily(pairs: Pairs, crowd: Flags, object_group: I64) -> tuple[I64, I64]:
    """Return the matched detections, rising, and the object that each takes.

    Within a group the detections choose one after the other by rising index, each the first of its
    pairs whose object is free; a crowd stays free. That serial choice is the only stable matching of
    lists of wishes where all objects prefer the lower index, so it may be found in parallel: all
    propose at once, the refused ones strike that wish and propose again (Gale & Shapley 1962). Only
    groups with a refusal see another round, and few have one.

    Args:
        pairs: by detection and preference, see :func:`sort_by_preference`.
        crowd: ``(G,)``.
        object_group: ``(G,)``, small integers of 0 or more.
    """
    detection, wish = pairs.detection, pairs.object
    holder = np.empty(len(crowd), dtype=np.int64)
    busy = np.zeros(int(object_group.max(initial=-1)) + 1, dtype=np.bool_)
    matched: list[tuple[I64, I64]] = []
    while len(detection):
        first = find_run_starts(detection)
        proposer, wished = detection[first], wish[first]
        # Written from the back, so that of several the lowest index stays.
        holder[wished[::-1]] = proposer[::-1]
        refused = (holder[wished] != proposer) & ~crowd[wished]
        if not refused.any():
            matched.append((proposer, wished))
            break
        again = object_group[wished[refused]]
        busy[again] = True
        settled = ~busy[object_group[wished]]
        matched.append((proposer[settled], wished[settled]))
        kept = busy[object_group[wish]]
        kept[first[refused]] = False
        detection, wish = detection[kept], wish[kept]
        busy[again] = False
    if not matched:
        return pairs.detection, pairs.object
    detections, objects = (np.concatenate(columns) for columns in zip(*matched, strict=True))
    order = np.argsort(detections, kind="stable")
    return detections[order], objects[order]
