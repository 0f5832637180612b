"""Precision and recall of ranked detections, of all classes and settings in one pass.

A *cell* is one curve: a category under a setting (a least overlap, say). Only
few of the detections of a cell move it up; the others only push precision down, and of them nothing
but their number matters. So a cell keeps its *events*: the detections that found an object, and
the corrections to the count of the others. Every figure is a sum over images with a weight for each,
so a resample of the images is another set of weights, and nothing is matched again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from shiftproof.types import F64, I8, I32, I64, Flags

SPACING = float(np.spacing(1.0))
"""What pycocotools adds to the number of detections, against 0 / 0."""


class Events(NamedTuple):
    """What is known of the detections under one setting, by rising place in the ranking.

    The ranking is of all detections, by category and then by falling score. One that found nothing
    has no event.
    """

    category: I64
    place: I64
    image: I64
    right: Flags
    """``(E,)`` whether the detection found an object that counts."""
    change: I8
    """``(E,)`` 1 where it counts and is not listed, -1 where it is listed and does not count, else 0."""
    rank: I64
    """``(E,)`` its place among those of its image and category, from 0."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The events of every cell, by cell and then by place in the ranking.

    Attributes:
        listed: ``(L,)`` image of each detection that counts unless an event says otherwise, by
            place in the ranking. All settings share it.
        listed_start: ``(C,)`` where each cell's category starts in ``listed``.
        start: ``(C + 1,)`` where each cell's events start.
        image: ``(E,)`` image of each event.
        listed_end: ``(E,)`` end in ``listed`` of the detections up to and with the event's.
        right: ``(E,)``, as in :class:`Events`.
        change: ``(E,)``
        rank: ``(E,)``
    """

    listed: I32
    listed_start: I64
    start: I64
    image: I32
    listed_end: I32
    right: Flags
    change: I8
    rank: I32

    def __len__(self) -> int:
        return len(self.listed_start)

    def cells(self, first: int, last: int) -> Curves:
        """Return the curves of the cells from ``first`` to before ``last``."""
        part = slice(self.start[first], self.start[last])
        return replace(
            self,
            listed_start=self.listed_start[first:last],
            start=self.start[first : last + 1] - self.start[first],
            **{name: getattr(self, name)[part] for name in EVENT_COLUMNS},
        )

    def hits(self, limit: int) -> Curves:
        """Return the curves of right answers alone, of the ``limit`` best of an image and class.

        They tell recall; the precision of the others is lost.
        """
        kept = np.flatnonzero(self.right & (self.rank < limit))
        return replace(
            self,
            start=np.searchsorted(kept, self.start),
            **{name: getattr(self, name)[kept] for name in EVENT_COLUMNS},
        )


EVENT_COLUMNS = ("image", "listed_end", "right", "change", "rank")


def make_curves(
    image: I64,
    listed: Flags,
    category_start: I64,
    settings: Sequence[Events],
) -> Curves:
    """Return the curves of a ranking: a cell for each setting and then for each of K categories.

    Args:
        image: ``(D,)`` image of each detection, by category and then by falling score.
        listed: ``(D,)`` whether a detection that found nothing counts.
        category_start: ``(K,)`` where each category starts.
        settings: what is known under each setting.
    """
    before = np.concatenate([[0], np.cumsum(listed)])
    categories = np.arange(len(category_start))
    starts, offset = [], 0
    for events in settings:
        starts.append(offset + np.searchsorted(events.category, categories))
        offset += len(events.place)
    columns = Events(*(np.concatenate(column) for column in zip(*settings, strict=True)))
    return Curves(
        listed=image[listed].astype(np.int32),
        listed_start=np.tile(before[category_start], len(settings)),
        start=np.append(np.concatenate(starts), offset),
        image=columns.image.astype(np.int32),
        listed_end=before[columns.place + 1].astype(np.int32),
        right=columns.right,
        change=columns.change,
        rank=columns.rank.astype(np.int32),
    )


@dataclass(frozen=True, eq=False)
class Course:
    """How the curves run under one weighting: right answers and precision at every event.

    ``found`` counts on through all cells and starts with 0, so that a cell's own number is a
    difference.
    """

    found: I64
    precision: F64


def course(curves: Curves, weights: I64) -> Course:
    """Return the course of all curves where each image counts ``weights`` times, ``(I,)``.

    An image that counts twice is as good as two copies, next to each other in the ranking. (Between
    two such copies, or at a detection that finds nothing, lies no maximum of precision.)
    """
    weight = weights[curves.image]
    found = _running(weight * curves.right)
    counted = _running(weight * curves.change)
    listed = _running(weights[curves.listed])
    lengths = np.diff(curves.start)
    right = found[1:] - np.repeat(found[curves.start[:-1]], lengths)
    before = counted[curves.start[:-1]] + listed[curves.listed_start]
    total = counted[1:] + listed[curves.listed_end] - np.repeat(before, lengths)
    return Course(found, right / (total + SPACING))


def _running(values: I64) -> I64:
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def found_per_cell(curves: Curves, weights: I64) -> I64:
    """Return ``(C,)`` how many objects each cell finds."""
    return np.diff(_running(weights[curves.image] * curves.right)[curves.start])


def precision_at(curves: Curves, course: Course, needed: I64) -> F64:
    """Return ``(C, R)`` the largest precision from the place on where enough objects are found.

    Args:
        curves: of C cells.
        course: of these curves.
        needed: ``(K, R)``, rising along R from 0: right answers of each category at each recall.
            Where a cell never finds so many, the precision is 0.
    """
    from shiftproof.metrics.envelope import envelope_at

    return envelope_at(curves.start, course.found, course.precision, needed)


def average_over_recall(curves: Curves, course: Course, weights: I64, positives: I64) -> F64:
    """Return ``(C,)`` the area under the monotone curve; NaN without ``positives``, ``(C,)``."""
    weight = weights[curves.image] * curves.right
    areas = np.full(len(positives), np.nan)
    for cell in np.flatnonzero(positives):
        events = slice(curves.start[cell], curves.start[cell + 1])
        envelope = np.maximum.accumulate(course.precision[events][::-1])[::-1]
        areas[cell] = (weight[events] * envelope).sum() / positives[cell]
    return areas
