"""COCO's detection metrics: average precision and recall, with confidence intervals over images.

The numbers are those of pycocotools, which loops over images, classes, thresholds and areas; here
these are axes of arrays. Matching is done once; a resample of the images only reweights the
matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.files import fingerprint
from shiftproof.metrics.annotations import ImageId
from shiftproof.metrics.coco import (
    DetectionSource,
    GroundTruthSource,
    read_detection_columns,
    read_objects,
)
from shiftproof.metrics.curves import (
    RECALLS,
    Curves,
    Events,
    average_known,
    compute_precision,
    count_hits,
    evaluate_curves,
    make_curves,
)
from shiftproof.metrics.faults import Fault
from shiftproof.metrics.intervals import (
    LEVEL,
    REPLICATES,
    Interval,
    blank_resamples,
    correct_bias,
    percentile_interval,
    resample_weights,
)
from shiftproof.metrics.masks import find_mask_pairs
from shiftproof.metrics.matching import (
    Pairs,
    find_box_pairs,
    match_greedily,
    sort_by_group_and_score,
    sort_by_overlap,
    sort_by_preference,
)
from shiftproof.types import F64, I64, Flags

OverlapKind: TypeAlias = Literal["boxes", "masks"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Thresholds of the intersection over union; inclusive."""

AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of areas in square pixels; both ends are inclusive."""

LIMITS = (1, 10, 100)
"""Maximum numbers of detections per image and class, by score."""

COCO_METRICS: Mapping[str, tuple[str, int | None, str, int]] = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0, "all", 100),
    "AP75": ("precision", 5, "all", 100),
    "APs": ("precision", None, "small", 100),
    "APm": ("precision", None, "medium", 100),
    "APl": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "ARs": ("recall", None, "small", 100),
    "ARm": ("recall", None, "medium", 100),
    "ARl": ("recall", None, "large", 100),
}
"""Definition of the twelve metrics: precision or recall, index of the threshold (None: mean over
all ten), range of areas, maximum number of detections per image and class."""


@dataclass(frozen=True, eq=False)
class Matches:
    """The matches of one detector's detections, per image; made and evaluated by a CocoEvaluator.

    Attributes:
        curves: for each range of areas the curves, with a cell for each threshold and category.
        ground_truth: fingerprint of the ground truth.
        faults: faults of the detections, including those that were skipped.
    """

    curves: tuple[Curves, ...]
    ground_truth: str
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, eq=False)
class CocoScores:
    """Precision and recall before averaging; NaN for categories without objects.

    Attributes:
        precision: ``(areas, thresholds, categories, recalls)`` in 0..1, of the 100 best detections
            per image.
        recall: ``(areas, thresholds, categories, limits)`` in 0..1.
        categories: from id to name, in the order of the axis.
    """

    precision: F64
    recall: F64
    categories: Mapping[int, str]

    def metrics(self) -> dict[str, float]:
        """Return the twelve metrics by name, NaN if no object has that size."""
        return {name: average_known(self._select(name)) for name in COCO_METRICS}

    def per_category(self, metric: str = "AP") -> dict[int, float]:
        """Return one of the twelve metrics for each category id, NaN for categories without
        objects.

        Their mean, ignoring NaN, is the metric over all categories.

        Raises:
            UnknownNameError: not one of the twelve.
        """
        _check_metrics([metric])
        values = self._select(metric)
        return {
            category_id: average_known(values[:, index])
            for index, category_id in enumerate(self.categories)
        }

    def _select(self, metric: str) -> F64:
        """Return the ``(thresholds, categories, ...)`` values that a metric averages."""
        measure, threshold, area, limit = COCO_METRICS[metric]
        thresholds = slice(None) if threshold is None else slice(threshold, threshold + 1)
        area_index = list(AREAS).index(area)
        if measure == "precision":
            return self.precision[area_index, thresholds]
        return self.recall[area_index, thresholds, :, LIMITS.index(limit)]


class CocoEvaluator:
    """Evaluates many sets of detections on one ground truth, which is read and indexed once.

    ``match`` is the expensive step; ``accumulate`` turns matches into scores, on the images or on a
    resample of them.

    Differs from pycocotools where that is wrong or fails: matches of an annotation with the id 0
    are false positives there; annotations may share an id; there may be no detections; records on
    which it fails are skipped and listed in ``faults`` if they are ground truth, and are an error
    among the detections. NaN replaces its -1. ``ignore`` in the ground truth has no effect, as in
    pycocotools: only crowds are ignored.

    >>> truth = {
    ...     "images": [{"id": 7}],
    ...     "categories": [{"id": 1, "name": "cat"}],
    ...     "annotations": [{"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20]}],
    ... }
    >>> evaluator = CocoEvaluator(truth)
    >>> box = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 15], "score": 0.9}
    >>> scores = evaluator.accumulate(evaluator.match([box])).metrics()
    >>> round(scores["AP50"], 3), round(scores["AP"], 3)
    (1.0, 0.6)
    """

    def __init__(self, ground_truth: GroundTruthSource, *, kind: OverlapKind = "boxes") -> None:
        """Read the ground truth.

        Args:
            ground_truth: COCO annotations, or the path of their file.
            kind: whether boxes or masks are compared; masks need pycocotools, the extra
                ``detection``.

        Raises:
            InputError: no ground truth, or an inconsistent one.
            MissingExtraError: masks, and pycocotools is not installed.
        """
        if kind not in ("boxes", "masks"):
            raise UnknownNameError.of("kind", kind, ["boxes", "masks"])
        objects = read_objects(ground_truth, masks=kind == "masks")
        if not objects.image_ids or not objects.categories:
            raise InputError("Expected ground truth with at least one image and one category.")
        self.kind = kind
        self._objects = objects
        group = objects.category * len(objects.image_ids) + objects.image
        order = np.argsort(group, kind="stable")
        self._order = order
        self._group = group[order]
        self._crowd = objects.crowd[order]
        self._ignored = _find_outside(objects.area[order]) | self._crowd
        image, category = objects.image[order], objects.category[order]
        self._wanted = [(image[~ignored], category[~ignored]) for ignored in self._ignored]
        self._fingerprint = fingerprint(
            [
                repr((self.kind, objects.image_ids, list(objects.categories))).encode(),
                *(
                    column.tobytes()
                    for column in (group, objects.boxes, objects.area, objects.crowd)
                ),
                *(code["counts"] for code in objects.masks or ()),
            ]
        )

    @property
    def image_ids(self) -> tuple[ImageId, ...]:
        """The images' ids, sorted: the order of ``weights``."""
        return self._objects.image_ids

    @property
    def image_sizes(self) -> tuple[tuple[int, int] | None, ...]:
        """(height, width) of each image of ``image_ids``, None if the file has none."""
        return self._objects.sizes

    @property
    def categories(self) -> Mapping[int, str]:
        """From id to name of the categories, by ascending id; ``Detections.labels`` index them."""
        return self._objects.categories

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Faults of the ground truth, both of skipped and of kept records."""
        return self._objects.faults

    @property
    def wanted(self) -> int:
        """Number of objects to detect: all except crowds and those of an impossible area."""
        return sum(self.wanted_per_category.values())

    @property
    def wanted_per_category(self) -> Mapping[int, int]:
        """From category id to its number of objects to detect."""
        _, category = self._wanted[0]
        counts = np.bincount(category, minlength=len(self.categories)).tolist()
        return dict(zip(self.categories, counts, strict=True))

    def match(self, detections: DetectionSource) -> Matches:
        """Match detections with objects at every threshold and area; images without detections may
        be omitted.

        Args:
            detections: COCO results, the path of their file, or a mapping from image id to
                ``Detections``.

        Raises:
            InputError: no detections, or none that belong to the ground truth.
        """
        found = read_detection_columns(detections, self._objects, masks=self.kind == "masks")
        group = found.category * len(self.image_ids) + found.image
        order, rank = sort_by_group_and_score(group, found.score, LIMITS[-1])
        group = group[order]
        objects = self._objects
        if found.masks is not None and objects.masks is not None:
            pairs = find_mask_pairs(
                group,
                [found.masks[index] for index in order],
                self._group,
                [objects.masks[index] for index in self._order],
                self._crowd,
                THRESHOLDS[0],
            )
        else:
            pairs = find_box_pairs(
                group,
                found.boxes[order],
                self._group,
                objects.boxes[self._order],
                self._crowd,
                THRESHOLDS[0],
            )
        return Matches(
            self._make_curves(
                pairs,
                found.category[order],
                found.image[order],
                found.score[order],
                _find_outside(found.area[order]),
                rank,
            ),
            self._fingerprint,
            found.faults,
        )

    def _make_curves(
        self,
        pairs: Pairs,
        category: I64,
        image: I64,
        score: F64,
        outside: Flags,
        rank: I64,
    ) -> tuple[Curves, ...]:
        """Return the curves of every area range; detections are sorted by category and image."""
        ranking = np.lexsort((-score, category))
        place = np.empty(len(ranking), dtype=np.int64)
        place[ranking] = np.arange(len(ranking))
        classes = np.arange(len(self.categories))
        class_start = np.searchsorted(category, classes)
        # Objects of a group are adjacent: the index of the first one identifies the group.
        group = np.searchsorted(self._group, self._group, "left")
        pairs = sort_by_overlap(pairs)
        areas = []
        for ignored, beyond in zip(self._ignored, outside, strict=True):
            candidates = sort_by_preference(pairs, ignored)
            # An unmatched detection counts if its area is within the range.
            listed = ~beyond[ranking]
            events = []
            for threshold in THRESHOLDS:
                # As in pycocotools, where an overlap of 1 suffices despite rounding.
                enough = np.flatnonzero(candidates.overlap >= min(threshold, 1 - 1e-10))
                detection, matched = match_greedily(candidates.take(enough), self._crowd, group)
                right, inside = ~ignored[matched], ~beyond[detection]
                kept = np.flatnonzero(right | inside)
                kept = kept[np.argsort(place[detection[kept]])]
                rows = detection[kept]
                events.append(
                    Events(
                        category=category[rows],
                        place=place[rows],
                        image=image[rows],
                        right=right[kept],
                        change=right[kept].astype(np.int8) - inside[kept],
                        rank=rank[rows],
                    )
                )
            areas.append(make_curves(image[ranking], listed, class_start, events))
        return tuple(areas)

    def accumulate(self, matches: Matches, weights: ArrayLike | None = None) -> CocoScores:
        """Return precision and recall.

        Args:
            matches: from this evaluator, or from another one of the same ground truth.
            weights: ``(I,)`` non-negative integer counts of the images of ``image_ids``; 1 each by
                default. An image that counts twice is equivalent to two copies with consecutive
                ids, unless two of its detections of a class have the same score.

        Raises:
            InputError: matches of another ground truth, or invalid weights.
        """
        self._check_matches(matches)
        weight = self._check_weights(weights)
        shape = (len(THRESHOLDS), len(self.categories))
        precision = np.empty((len(AREAS), *shape, len(RECALLS)))
        recall = np.empty((len(AREAS), *shape, len(LIMITS)))
        for area, curves in enumerate(matches.curves):
            positives = self._count_positives(area, weight)
            precision[area] = _compute_precision(curves, weight, positives)
            for index, limit in enumerate(LIMITS):
                hits = curves.select_hits(limit)
                recall[area, :, :, index] = _compute_recall(hits, weight, positives)
        return CocoScores(precision, recall, self.categories)

    def replicates(
        self,
        matches: Matches,
        metrics: Sequence[str] = tuple(COCO_METRICS),
        *,
        replicates: int = REPLICATES,
        seed: int = 0,
    ) -> dict[str, F64]:
        """Return for each metric ``(1 + replicates,)`` values: observed, then on resamples.

        The resamples depend only on the number of images and the seed, so statistics of the
        replicates of several detectors or corruptions (a difference, mPC) are paired. A metric
        without objects in a resample is NaN there, and so are all resamples of a single image.

        Args:
            matches: as for :meth:`accumulate`.
            metrics: names among the twelve; the APs take most of the time.
            replicates: number of resamples.
            seed: random seed of the resamples.

        Raises:
            InputError: matches of another ground truth, or no resamples.
            UnknownNameError: not one of the twelve.
        """
        self._check_matches(matches)
        _check_metrics(metrics)
        functions = [self._make_metric(matches, metric) for metric in metrics]
        weight = self._check_weights(None)
        rows = [[compute(weight) for compute in functions]]
        for block in resample_weights(len(self.image_ids), replicates, seed=seed):
            for weight in block.astype(np.int64):
                rows.append([compute(weight) for compute in functions])
        drawn = blank_resamples(np.array(rows), len(self.image_ids))
        return dict(zip(metrics, drawn.T, strict=True))

    def _make_metric(self, matches: Matches, metric: str) -> Callable[[I64], float]:
        """Return a metric as function of the weights, restricted to the curves that it needs."""
        measure, threshold, area_name, limit = COCO_METRICS[metric]
        area, count = list(AREAS).index(area_name), len(self.categories)
        curves = matches.curves[area]
        if threshold is not None:
            curves = curves.select_cells(threshold * count, (threshold + 1) * count)
        if measure == "recall":
            curves = curves.select_hits(limit)
        evaluate = _compute_precision if measure == "precision" else _compute_recall

        def compute(weight: I64) -> float:
            return average_known(evaluate(curves, weight, self._count_positives(area, weight)))

        return compute

    def _count_positives(self, area: int, weight: I64) -> I64:
        """Return ``(K,)`` the number of objects to detect."""
        image, category = self._wanted[area]
        counts = np.bincount(category, weights=weight[image], minlength=len(self.categories))
        return counts.astype(np.int64)

    def _check_weights(self, weights: ArrayLike | None) -> I64:
        count = len(self.image_ids)
        if weights is None:
            return np.ones(count, dtype=np.int64)
        values = np.asarray(weights)
        kind = values.dtype.kind
        are_integers = kind in "iu" or (kind == "f" and (values % 1 == 0).all())
        if values.shape != (count,) or not are_integers or (values < 0).any():
            raise InputError(
                f"Expected {pluralize(count, 'weight')}, one per image, integers of 0 or more, got shape "
                f"{values.shape}, {values.dtype}."
            )
        return values.astype(np.int64)

    def _check_matches(self, matches: Matches) -> None:
        if matches.ground_truth != self._fingerprint:
            raise InputError(
                "Expected matches with the ground truth of this evaluator; match the detections "
                "again."
            )


def _find_outside(area: F64) -> Flags:
    """Return ``(areas, N)`` whether an area is outside each range."""
    return np.array([(area < low) | (area > high) for low, high in AREAS.values()])


def _compute_precision(curves: Curves, weight: I64, positives: I64) -> F64:
    """Return ``(thresholds, K, recalls)``, NaN for categories without objects."""
    precision = compute_precision(
        curves, evaluate_curves(curves, weight), _count_hits_needed(positives)
    )
    table = precision.reshape(-1, len(positives), len(RECALLS))
    table[:, positives == 0] = np.nan
    return table


def _count_hits_needed(positives: I64) -> I64:
    """Return ``(K, recalls)`` the smallest number of objects that reaches a recall as float."""
    count = np.maximum(positives, 1)[:, None]
    needed = np.ceil(RECALLS * count)
    needed -= (needed - 1) / count >= RECALLS
    needed += needed / count < RECALLS
    return np.maximum(needed, 0).astype(np.int64)


def _compute_recall(hits: Curves, weight: I64, positives: I64) -> F64:
    """Return ``(thresholds, K)``, NaN for categories without objects."""
    found = count_hits(hits, weight).reshape(-1, len(positives)).astype(np.float64)
    return np.divide(found, positives, out=np.full_like(found, np.nan), where=positives > 0)


def _check_metrics(metrics: Sequence[str]) -> None:
    for metric in metrics:
        if metric not in COCO_METRICS:
            raise UnknownNameError.of("metric", metric, COCO_METRICS)


def coco_metrics(
    ground_truth: GroundTruthSource, detections: DetectionSource, *, kind: OverlapKind = "boxes"
) -> dict[str, float]:
    """Return COCO's twelve metrics, AP to ARl, in 0..1, as computed by pycocotools.

    NaN instead of pycocotools' -1 means that there is no object of that size.

    Args:
        ground_truth: COCO annotations, or the path of their file.
        detections: COCO results, the path of their file, or a mapping from image id to
            ``Detections``.
        kind: whether boxes or masks are compared; masks need the extra ``detection``.

    Raises:
        InputError: unusable files or records; see :class:`CocoEvaluator`, also for differences from
            pycocotools.
        MissingExtraError: masks, and pycocotools is not installed.
    """
    evaluator = CocoEvaluator(ground_truth, kind=kind)
    return evaluator.accumulate(evaluator.match(detections)).metrics()


def coco_intervals(
    evaluator: CocoEvaluator,
    matches: Matches,
    metrics: Sequence[str] = tuple(COCO_METRICS),
    *,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Return each metric with its bootstrap interval over images; None if it is NaN.

    Average precision is biased upwards on resamples if a category has few objects: copies of an
    image are detected as easily, and there are fewer distinct images. The resamples are corrected
    for that bias, see :func:`~shiftproof.metrics.intervals.correct_bias`. For the same reason the
    metric is higher on few images than on many of the same distribution; compare detectors only on
    the same images.

    Args:
        evaluator: evaluator of the ground truth.
        matches: matches of the detections.
        metrics: names among the twelve.
        level: confidence level.
        replicates: number of resamples.
        seed: random seed of the resamples.

    Raises:
        InputError: matches of other ground truth, no resamples, or a level outside 0..1.
        UnknownNameError: not one of the twelve.
    """
    by_metric = evaluator.replicates(matches, metrics, replicates=replicates, seed=seed)
    return {name: _make_interval(values, level) for name, values in by_metric.items()}


def coco_difference_intervals(
    evaluator: CocoEvaluator,
    matches: Matches,
    reference: Matches,
    metrics: Sequence[str] = tuple(COCO_METRICS),
    *,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Return each metric of ``matches`` minus that of ``reference``, with its paired interval.

    Both detectors are measured on the same resamples. Arguments and errors as for
    :func:`coco_intervals`.
    """
    own, subtracted = (
        evaluator.replicates(one, metrics, replicates=replicates, seed=seed)
        for one in (matches, reference)
    )
    return {name: _make_interval(own[name] - subtracted[name], level) for name in metrics}


def _make_interval(replicates: F64, level: float) -> Interval | None:
    return percentile_interval(correct_bias(replicates), level=level)
