"""Pascal VOC's average precision at one overlap (Everingham et al. 2010, IJCV 88, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics.annotations import ImageId
from shiftproof.metrics.coco import (
    DetectionSource,
    Found,
    GroundTruthSource,
    Objects,
    read_found,
    read_objects,
)
from shiftproof.metrics.curves import (
    Curves,
    Events,
    average_over_recall,
    course,
    make_curves,
    precision_at,
)
from shiftproof.metrics.faults import Fault
from shiftproof.metrics.intervals import (
    LEVEL,
    REPLICATES,
    Interval,
    percentile_interval,
    resample_weights,
    without_bias,
)
from shiftproof.metrics.matching import box_pairs, by_group_and_score, by_overlap, run_starts
from shiftproof.types import F64, I64, Flags

Rule: TypeAlias = Literal["11-point", "all-point"]
RULES = ("11-point", "all-point")


@dataclass(frozen=True, eq=False)
class VocScores:
    """Average precision in 0..1.

    Attributes:
        mean: over the categories that have an object; NaN where none has.
        per_category: by the category's id; NaN where it has no object that is not difficult.
    """

    mean: float
    per_category: Mapping[int, float]


class VocEvaluator:
    """Measures many detections against one ground truth, which is read and indexed once.

    What is measured, and the arguments, are those of :func:`voc_average_precision`.
    """

    def __init__(
        self, ground_truth: GroundTruthSource, *, rule: Rule = "11-point", overlap: float = 0.5
    ) -> None:
        if rule not in RULES:
            raise UnknownNameError.of("rule", rule, RULES)
        if not 0 < overlap <= 1:
            raise InputError(
                f"Expected an overlap above 0 and up to 1, such as 0.5, got {overlap}."
            )
        objects = read_objects(ground_truth)
        if not objects.image_ids or not objects.categories:
            raise InputError("Expected ground truth with at least one image and one category.")
        self.rule = rule
        self.overlap = overlap
        self.objects = objects

    @property
    def image_ids(self) -> tuple[ImageId, ...]:
        """The images' ids, sorted: the order of the resamples' weights."""
        return self.objects.image_ids

    @property
    def categories(self) -> Mapping[int, str]:
        """Id to name of the categories, by rising id: what ``Detections.labels`` are indexes of."""
        return self.objects.categories

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with the ground truth: what was left out, and what counts all the same."""
        return self.objects.faults

    @property
    def wanted(self) -> int:
        """How many objects there are to find: all that are not difficult."""
        return int((~_difficult(self.objects)).sum())

    def match(self, detections: DetectionSource) -> Curves:
        """Match detections with objects; what it returns is read by the other methods.

        Raises:
            InputError: no detections, or such that do not belong to the ground truth.
        """
        return _match(self.objects, read_found(detections, self.objects), self.overlap)

    def scores(self, matches: Curves) -> VocScores:
        """Return the averages on the images as they are."""
        averages = _averages(self.objects, matches, self.rule)(self._once())
        per_category = dict(zip(self.categories, averages.tolist(), strict=True))
        return VocScores(_mean(averages), per_category)

    def replicates(self, matches: Curves, *, replicates: int = REPLICATES, seed: int = 0) -> F64:
        """Return ``(1 + replicates,)`` mean AP in 0..1: on the images as they are, then on resamples."""
        averages = _averages(self.objects, matches, self.rule)
        values = [_mean(averages(self._once()))]
        for block in resample_weights(len(self.image_ids), replicates, seed=seed):
            values += [_mean(averages(drawn.astype(np.int64))) for drawn in block]
        return np.array(values)

    def _once(self) -> I64:
        return np.ones(len(self.image_ids), dtype=np.int64)


def voc_average_precision(
    ground_truth: GroundTruthSource,
    detections: DetectionSource,
    *,
    rule: Rule = "11-point",
    overlap: float = 0.5,
) -> VocScores:
    """Return average precision as the VOC challenges define it, per category and their mean.

    Of a category's detections, over all images by falling score, each goes to the object that it
    overlaps most. It is right where the overlap is enough and the object is not taken; a second one
    on the same object is wrong, even where it overlaps another object. Detections of difficult
    objects are left out, and so are these objects.

    Differs from the development kit and from voc_eval of py-faster-rcnn: a box is as wide as the
    difference of its coordinates, without 1 pixel more, and the recalls 0, 0.1, ..., 1 are compared
    exactly (3 of 10 is 0.3, which the float 3 * 0.1 is above of). A category without an object is NaN
    and no part of the mean.

    Args:
        ground_truth: in COCO's form, or the path of such a file; an annotation is difficult where it
            says ``"difficult": 1``, ``"ignore": 1`` or ``"iscrowd": 1``.
        detections: COCO results, the path of their file, or the image's id to ``Detections``. Of
            equal scores the earlier one comes first.
        rule: "11-point", the mean of the largest precisions from the recalls 0, 0.1, ..., 1 on (VOC
            2007, and the published Pascal-C numbers), or "all-point", the area under the monotone
            curve (VOC 2010 to 2012).
        overlap: least intersection over union, above 0 and up to 1.

    Raises:
        InputError: files or records that cannot be used, or an overlap outside its range.
        UnknownNameError: no such rule.

    >>> truth = {
    ...     "images": [{"id": 7}],
    ...     "categories": [{"id": 1, "name": "cat"}],
    ...     "annotations": [{"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20]}],
    ... }
    >>> box = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 15], "score": 0.9}
    >>> round(voc_average_precision(truth, [box]).mean, 6)
    1.0
    """
    evaluator = VocEvaluator(ground_truth, rule=rule, overlap=overlap)
    return evaluator.scores(evaluator.match(detections))


def voc_replicates(
    ground_truth: GroundTruthSource,
    detections: DetectionSource,
    *,
    rule: Rule = "11-point",
    overlap: float = 0.5,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> F64:
    """Return ``(1 + replicates,)`` the mean: on the images as they are, then on resamples of them.

    The resamples depend on the number of images and the seed alone, so differences of the replicates
    of two detectors are paired. Other arguments and errors as for :func:`voc_average_precision`.
    """
    evaluator = VocEvaluator(ground_truth, rule=rule, overlap=overlap)
    return evaluator.replicates(evaluator.match(detections), replicates=replicates, seed=seed)


def voc_interval(
    ground_truth: GroundTruthSource,
    detections: DetectionSource,
    *,
    rule: Rule = "11-point",
    overlap: float = 0.5,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval | None:
    """Return the mean with its bootstrap interval over images; None where no category has an object.

    The resamples are moved by their bias, as in :func:`~shiftproof.metrics.coco_intervals`. Arguments
    and errors as for :func:`voc_replicates`; ``level`` is the share of the resamples within the ends.
    """
    drawn = voc_replicates(
        ground_truth, detections, rule=rule, overlap=overlap, replicates=replicates, seed=seed
    )
    return percentile_interval(without_bias(drawn), level=level)


def _match(objects: Objects, found: Found, overlap: float) -> Curves:
    images = len(objects.image_ids)
    group = objects.category * images + objects.image
    order = np.argsort(group, kind="stable")
    difficult = _difficult(objects)[order]
    found_group = found.category * images + found.image
    by_group, rank = by_group_and_score(found_group, found.score)
    pairs = by_overlap(
        box_pairs(
            found_group[by_group],
            found.boxes[by_group],
            group[order],
            objects.boxes[order],
            np.zeros(len(order), dtype=np.bool_),
            overlap,
        ),
        last=False,
    )
    best = run_starts(pairs.detection)
    detection, finds = pairs.detection[best], pairs.object[best]
    # The first of those that go to an object has the highest score.
    first = np.zeros(len(finds), dtype=np.bool_)
    first[np.unique(finds, return_index=True)[1]] = True
    right = first & ~difficult[finds]

    ranking = np.lexsort((-found.score, found.category))
    place = np.empty(len(ranking), dtype=np.int64)
    place[ranking] = np.arange(len(ranking))
    known = np.flatnonzero(right | difficult[finds])
    known = known[np.argsort(place[by_group[detection[known]]])]
    rows = by_group[detection[known]]
    events = Events(
        category=found.category[rows],
        place=place[rows],
        image=found.image[rows],
        right=right[known],
        change=right[known].astype(np.int8) - 1,
        rank=rank[detection[known]],
    )
    categories = np.arange(len(objects.categories))
    start = np.searchsorted(found.category[ranking], categories)
    listed = np.ones(len(ranking), dtype=np.bool_)
    return make_curves(found.image[ranking], listed, start, [events])


def _difficult(objects: Objects) -> Flags:
    return objects.difficult | objects.crowd


def _averages(objects: Objects, curves: Curves, rule: Rule) -> Callable[[I64], F64]:
    """Return the function from the images' weights to ``(K,)`` average precisions."""
    wanted = ~_difficult(objects)
    image, category = objects.image[wanted], objects.category[wanted]

    def averages(weights: I64) -> F64:
        counts = np.bincount(category, weights=weights[image], minlength=len(objects.categories))
        positives = counts.astype(np.int64)
        run = course(curves, weights)
        if rule == "all-point":
            return average_over_recall(curves, run, weights, positives)
        # The least number of objects that is k tenths of all, in integers.
        needed = -(-positives[:, None] * np.arange(11) // 10)
        precision = precision_at(curves, run, needed)
        return np.where(positives > 0, precision.mean(axis=1), np.nan)

    return averages


def _mean(values: F64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
