"""Matching detections with objects, of all images and classes at once or of one image.

Objects and detections are rows of arrays. A row's *group* is its image and class as one integer; only
rows of the same group can match.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shiftproof.types import F32, F64, I64, Flags

BLOCK_PAIRS = 1 << 18
"""Number of pairs whose overlap is computed at once: arrays of 2 MB, which fit into the cache."""


class Pairs(NamedTuple):
    """Detections and objects that overlap enough, by ascending detection, then ascending object."""

    detection: I64
    object: I64
    overlap: F64

    def take(self, rows: I64) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.detection[rows], self.object[rows], self.overlap[rows])


def sort_by_group_and_score(group: I64, score: F64, limit: int | None = None) -> tuple[I64, I64]:
    """Return the order of detections by group, then by decreasing score, and the rank of each.

    Equal scores keep their order. Ranks start at 0 in each group; with a ``limit`` only the best
    ones of each group are returned.
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
        # At least one detection, however many objects its group has.
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
    min_overlap: float,
) -> Pairs:
    """Return the pairs of the same group whose boxes overlap by at least ``min_overlap``.

    The overlap is the intersection over union; with a crowd, the intersection over the detection's
    area. Widths are differences of coordinates, without adding 1 pixel as the oldest tools do.

    Args:
        detection_group: ``(D,)``, sorted.
        detection_boxes: ``(D, 4)`` x, y, width, height.
        object_group: ``(G,)``, sorted.
        object_boxes: ``(G, 4)`` x, y, width, height.
        crowd: ``(G,)``.
        min_overlap: above 0.
    """
    found = []
    one, other = Corners.from_positions(detection_boxes), Corners.from_positions(object_boxes)
    for d, g in split_pairs(detection_group, object_group):
        # In pycocotools' order of operations, which decides about overlaps equal to a threshold.
        width = np.minimum(one.right[d], other.right[g]) - np.maximum(one.left[d], other.left[g])
        kept = np.flatnonzero(width > 0)
        d, g, width = d[kept], g[kept], width[kept]
        height = np.minimum(one.bottom[d], other.bottom[g]) - np.maximum(one.top[d], other.top[g])
        kept = np.flatnonzero(height > 0)
        d, g = d[kept], g[kept]
        shared = width[kept] * height[kept]
        union = np.where(crowd[g], one.area[d], one.area[d] + other.area[g] - shared)
        overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        kept = np.flatnonzero(overlap >= min_overlap)
        found.append(Pairs(d[kept], g[kept], overlap[kept]))
    return join_pairs(found)


class Corners(NamedTuple):
    """Corners and areas of boxes, ``(N,)`` each."""

    left: F64
    top: F64
    right: F64
    bottom: F64
    area: F64

    @classmethod
    def from_positions(cls, boxes: F64) -> Corners:
        """Return the corners of ``(N, 4)`` x, y, width, height."""
        left, top, width, height = np.ascontiguousarray(boxes.T)
        return cls(left, top, width + left, height + top, width * height)

    @classmethod
    def from_corners(cls, boxes: F64) -> Corners:
        """Return the corners of ``(N, 4)`` x1, y1, x2, y2."""
        left, top, right, bottom = np.ascontiguousarray(boxes.T)
        return cls(left, top, right, bottom, (right - left) * (bottom - top))


def compute_ious(one: Corners, other: Corners) -> F64:
    """Return ``(D, E)`` the intersection over union of D boxes with E others; 0 for empty boxes.

    >>> boxes = Corners.from_positions(np.array([[0.0, 0, 2, 1], [1, 0, 2, 1]]))
    >>> compute_ious(boxes, boxes).round(3)
    array([[1.   , 0.333],
           [0.333, 1.   ]])
    """
    width = np.minimum(one.right[:, None], other.right) - np.maximum(one.left[:, None], other.left)
    height = np.minimum(one.bottom[:, None], other.bottom) - np.maximum(one.top[:, None], other.top)
    shared = width.clip(0) * height.clip(0)
    union = one.area[:, None] + other.area - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def match_by_score(ious: F64, scores: F64 | F32, min_overlap: float) -> I64:
    """Match the detections of one image with its objects, one to one.

    By decreasing score, each detection gets the free object with the largest overlap, if that is
    large enough.

    Args:
        ious: ``(D, E)``, 0 for pairs of different classes.
        scores: ``(D,)``.
        min_overlap: above 0.

    Returns:
        ``(D,)`` the index of the object, -1 without one.
    """
    matched = np.full(len(scores), -1, dtype=np.int64)
    is_free = np.ones(ious.shape[1], dtype=np.bool_)
    for row in np.argsort(-scores, kind="stable"):
        overlaps = np.where(is_free, ious[row], 0.0)
        if overlaps.max(initial=0.0) >= min_overlap:
            matched[row] = overlaps.argmax()
            is_free[matched[row]] = False
    return matched


def join_pairs(parts: list[Pairs]) -> Pairs:
    """Concatenate pairs."""
    none = np.empty(0, dtype=np.int64)
    return Pairs(
        np.concatenate([none, *(pairs.detection for pairs in parts)]),
        np.concatenate([none, *(pairs.object for pairs in parts)]),
        np.concatenate([np.empty(0), *(pairs.overlap for pairs in parts)]),
    )


def sort_by_overlap(pairs: Pairs, *, last: bool = True) -> Pairs:
    """Return the pairs by detection, and of each detection by decreasing overlap.

    Of equal overlaps the ``last`` object comes first, as in COCO, else the first one.
    """
    order = -pairs.object if last else pairs.object
    return pairs.take(np.lexsort((order, -pairs.overlap, pairs.detection)))


def sort_by_preference(pairs: Pairs, ignored: Flags) -> Pairs:
    """Return the pairs of :func:`sort_by_overlap`, ignored objects last in each detection."""
    key = 2 * pairs.detection + ignored[pairs.object]
    return pairs.take(np.argsort(key, kind="stable"))


def match_greedily(pairs: Pairs, crowd: Flags, object_group: I64) -> tuple[I64, I64]:
    """Return the matched detections, ascending, and the object of each.

    In each group, by ascending index, every detection gets the first of its pairs whose object is
    free; a crowd stays free. This is the only stable matching if all objects prefer the lowest index,
    so it can be found in parallel: all detections propose at once, those that are refused strike
    that object off their list and propose again (Gale & Shapley 1962). Only groups with a refusal
    need another round, and few have one.

    Args:
        pairs: by detection and preference, see :func:`sort_by_preference`.
        crowd: ``(G,)``.
        object_group: ``(G,)``, small integers of 0 or more.
    """
    detection, candidate = pairs.detection, pairs.object
    holder = np.empty(len(crowd), dtype=np.int64)
    is_open = np.zeros(int(object_group.max(initial=-1)) + 1, dtype=np.bool_)
    matched: list[tuple[I64, I64]] = []
    while len(detection):
        first = find_run_starts(detection)
        proposer, proposed = detection[first], candidate[first]
        # Assigned in reverse, so that the lowest of several indices remains.
        holder[proposed[::-1]] = proposer[::-1]
        refused = (holder[proposed] != proposer) & ~crowd[proposed]
        if not refused.any():
            matched.append((proposer, proposed))
            break
        open_groups = object_group[proposed[refused]]
        is_open[open_groups] = True
        is_final = ~is_open[object_group[proposed]]
        matched.append((proposer[is_final], proposed[is_final]))
        kept = is_open[object_group[candidate]]
        kept[first[refused]] = False
        detection, candidate = detection[kept], candidate[kept]
        is_open[open_groups] = False
    if not matched:
        return pairs.detection, pairs.object
    detections, objects = (np.concatenate(columns) for columns in zip(*matched, strict=True))
    order = np.argsort(detections, kind="stable")
    return detections[order], objects[order]
