"""Precision and recall of ranked detections, for all classes and settings in one pass.

A *cell* is one curve: a category under a setting, such as an IoU threshold. Few detections of a
cell are true positives; of the others only the number matters, as it lowers precision. So a cell
stores its *events*: the true positives, and the corrections to the count of the others. All metrics
are weighted sums over images, so a resample of the images is another set of weights and needs no new
matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from shiftproof.types import F64, I8, I32, I64, Flags

RECALLS = np.linspace(0.0, 1.0, 101)
"""COCO's recalls at which precision is evaluated."""

SPACING = float(np.spacing(1.0))
"""Added to the number of detections by pycocotools, to avoid 0 / 0."""


class Events(NamedTuple):
    """The events of the detections under one setting, by rank.

    All detections are ranked by category and then by decreasing score. An unmatched detection has
    no event.
    """

    category: I64
    place: I64
    """``(E,)`` the position of the detection in the ranking of all."""
    image: I64
    right: Flags
    """``(E,)`` whether the detection is a true positive."""
    change: I8
    """``(E,)`` 1 if it counts and is not listed, -1 if it is listed and does not count, else 0."""
    rank: I64
    """``(E,)`` its rank within its image and category, from 0."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The events of every cell, by cell and then by rank.

    Attributes:
        listed: ``(L,)`` image of each detection that counts unless an event says otherwise, by
            rank. Shared by all settings.
        listed_start: ``(C,)`` where each cell's category starts in ``listed``.
        start: ``(C + 1,)`` where each cell's events start.
        image: ``(E,)`` image of each event.
        listed_end: ``(E,)`` end in ``listed`` of the detections up to and including the event's.
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

    def select_cells(self, first: int, last: int) -> Curves:
        """Return the curves of the cells ``first`` to ``last``, exclusive."""
        events = slice(self.start[first], self.start[last])
        return replace(
            self,
            listed_start=self.listed_start[first:last],
            start=self.start[first : last + 1] - self.start[first],
            **{name: getattr(self, name)[events] for name in EVENT_COLUMNS},
        )

    def select_hits(self, limit: int) -> Curves:
        """Return the curves of true positives only, among the ``limit`` best per image and class.

        They suffice for recall, but not for precision.
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
        image: ``(D,)`` image of each detection, by category and then by decreasing score.
        listed: ``(D,)`` whether a detection counts if it is unmatched.
        category_start: ``(K,)`` where each category starts.
        settings: the events under each setting.
    """
    listed_before = np.concatenate([[0], np.cumsum(listed)])
    categories = np.arange(len(category_start))
    starts, offset = [], 0
    for events in settings:
        starts.append(offset + np.searchsorted(events.category, categories))
        offset += len(events.place)
    columns = Events(*(np.concatenate(column) for column in zip(*settings, strict=True)))
    return Curves(
        listed=image[listed].astype(np.int32),
        listed_start=np.tile(listed_before[category_start], len(settings)),
        start=np.append(np.concatenate(starts), offset),
        image=columns.image.astype(np.int32),
        listed_end=listed_before[columns.place + 1].astype(np.int32),
        right=columns.right,
        change=columns.change,
        rank=columns.rank.astype(np.int32),
    )


@dataclass(frozen=True, eq=False)
class CurveValues:
    """Values of the curves under one weighting: true positives and precision at every event.

    ``hits`` is cumulative over all cells and starts with 0, so a cell's own count is a difference.
    """

    hits: I64
    precision: F64


def evaluate_curves(curves: Curves, weights: I64) -> CurveValues:
    """Evaluate all curves with each image counted ``weights`` times, ``(I,)``.

    An image that counts twice is equivalent to two copies, adjacent in the ranking. (Precision has
    no maximum between two such copies, nor at an unmatched detection.)
    """
    weight = weights[curves.image]
    hits = _accumulate(weight * curves.right)
    counted = _accumulate(weight * curves.change)
    listed = _accumulate(weights[curves.listed])
    lengths = np.diff(curves.start)
    right = hits[1:] - np.repeat(hits[curves.start[:-1]], lengths)
    before = counted[curves.start[:-1]] + listed[curves.listed_start]
    total = counted[1:] + listed[curves.listed_end] - np.repeat(before, lengths)
    return CurveValues(hits, right / (total + SPACING))


def average_known(values: F64) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _accumulate(values: I64) -> I64:
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def count_hits(curves: Curves, weights: I64) -> I64:
    """Return ``(C,)`` the number of true positives of each cell."""
    return np.diff(_accumulate(weights[curves.image] * curves.right)[curves.start])


def compute_precision(curves: Curves, values: CurveValues, needed: I64) -> F64:
    """Return ``(C, R)`` the interpolated precision: its maximum at or beyond each recall.

    Args:
        curves: of C cells.
        values: of these curves.
        needed: ``(K, R)``, ascending along R from 0: true positives of each category at each
            recall. If a cell never reaches that number, the precision is 0.
    """
    from shiftproof.metrics.envelope import compute_envelope

    return compute_envelope(curves.start, values.hits, values.precision, needed)


def average_over_recall(curves: Curves, values: CurveValues, weights: I64, positives: I64) -> F64:
    """Return ``(C,)`` the area under the monotone curve; NaN without ``positives``, ``(C,)``."""
    weight = weights[curves.image] * curves.right
    areas = np.full(len(positives), np.nan)
    for cell in np.flatnonzero(positives):
        events = slice(curves.start[cell], curves.start[cell + 1])
        envelope = np.maximum.accumulate(values.precision[events][::-1])[::-1]
        areas[cell] = (weight[events] * envelope).sum() / positives[cell]
    return areas
