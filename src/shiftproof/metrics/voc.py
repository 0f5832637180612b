"""Pascal VOC's average precision at one overlap (Everingham et al. 2010, IJCV 88, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics.annotations import ImageId
from shiftproof.metrics.coco import (
    DetectionColumns,
    DetectionSource,
    GroundTruthSource,
    Objects,
    read_detection_columns,
    read_objects,
)
from shiftproof.metrics.curves import (
    Curves,
    Events,
    average_known,
    average_over_recall,
    compute_precision,
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
from shiftproof.metrics.matching import (
    find_box_pairs,
    find_run_starts,
    sort_by_group_and_score,
    sort_by_overlap,
)
from shiftproof.types import F64, I64, Flags

Rule: TypeAlias = Literal["11-point", "all-point"]
RULES = ("11-point", "all-point")


@dataclass(frozen=True, eq=False)
class VocScores:
    """Average precision in 0..1.

    Attributes:
        mean: mean over the categories with an object; NaN without any.
        per_category: by category id; NaN for categories without an object that is not difficult.
    """

    mean: float
    per_category: Mapping[int, float]


class VocEvaluator:
    """Evaluates many sets of detections on one ground truth, which is read and indexed once.

    Metric and arguments are those of :func:`voc_average_precision`.
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
        """From id to name of the categories, by ascending id; ``Detections.labels`` index them."""
        return self.objects.categories

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Faults of the ground truth, both of skipped and of kept records."""
        return self.objects.faults

    @property
    def wanted(self) -> int:
        """Number of objects to detect: all that are not difficult."""
        return sum(self.wanted_per_category.values())

    @property
    def wanted_per_category(self) -> Mapping[int, int]:
        """From category id to its number of objects to detect."""
        category = self.objects.category[~_find_difficult(self.objects)]
        counts = np.bincount(category, minlength=len(self.categories)).tolist()
        return dict(zip(self.categories, counts, strict=True))

    def match(self, detections: DetectionSource) -> Curves:
        """Match detections with objects; the other methods take the result.

        Raises:
            InputError: no detections, or none that belong to the ground truth.
        """
        return _match(self.objects, read_detection_columns(detections, self.objects), self.overlap)

    def scores(self, matches: Curves) -> VocScores:
        """Return the scores on all images."""
        averages = _make_average(self.objects, matches, self.rule)(self._count_once())
        per_category = dict(zip(self.categories, averages.tolist(), strict=True))
        return VocScores(average_known(averages), per_category)

    def replicates(self, matches: Curves, *, replicates: int = REPLICATES, seed: int = 0) -> F64:
        """Return ``(1 + replicates,)`` mean AP in 0..1: observed, then on resamples.

        The resamples of a single image are NaN.
        """
        compute = _make_average(self.objects, matches, self.rule)
        values = [average_known(compute(self._count_once()))]
        for block in resample_weights(len(self.image_ids), replicates, seed=seed):
            values += [average_known(compute(weights)) for weights in block.astype(np.int64)]
        return blank_resamples(np.array(values), len(self.image_ids))

    def _count_once(self) -> I64:
        """Return the weights of the original images."""
        return np.ones(len(self.image_ids), dtype=np.int64)


def voc_average_precision(
    ground_truth: GroundTruthSource,
    detections: DetectionSource,
    *,
    rule: Rule = "11-point",
    overlap: float = 0.5,
) -> VocScores:
    """Return average precision as the VOC challenges define it, per category and their mean.

    A category's detections in all images are ranked by decreasing score; each is assigned to the
    object that it overlaps most. It is correct if the overlap suffices and the object has no
    detection yet; a second detection of the same object is wrong, even if it overlaps another
    object. Difficult objects and their detections are ignored.

    Differs from the development kit and from voc_eval of py-faster-rcnn: the width of a box is the
    difference of its coordinates, without adding 1 pixel, and the recalls 0, 0.1, ..., 1 are
    compared exactly (the float 3 * 0.1 is above 3 / 10). A category without an object is NaN and
    ignored in the mean.

    Args:
        ground_truth: in COCO's format, or the path of such a file; an annotation is difficult if it
            has ``"difficult": 1``, ``"ignore": 1`` or ``"iscrowd": 1``.
        detections: COCO results, the path of their file, or a mapping from image id to
            ``Detections``. Ties keep their order.
        rule: "11-point", the mean of the interpolated precisions at the recalls 0, 0.1, ..., 1 (VOC
            2007, and the published Pascal-C numbers), or "all-point", the area under the monotone
            curve (VOC 2010 to 2012).
        overlap: threshold of the intersection over union, above 0 and up to 1.

    Raises:
        InputError: unusable files or records, or an overlap outside its range.
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
    """Return ``(1 + replicates,)`` mean AP: observed, then on resamples.

    The resamples depend only on the number of images and the seed, so differences of the replicates
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
    """Return the mean with its bootstrap interval over images; None if no category has an object.

    The resamples are corrected for bias, as in :func:`~shiftproof.metrics.coco_intervals`.
    Arguments and errors as for :func:`voc_replicates`; ``level`` is the confidence level.
    """
    values = voc_replicates(
        ground_truth, detections, rule=rule, overlap=overlap, replicates=replicates, seed=seed
    )
    return percentile_interval(correct_bias(values), level=level)


def _match(objects: Objects, found: DetectionColumns, overlap: float) -> Curves:
    images = len(objects.image_ids)
    group = objects.category * images + objects.image
    order = np.argsort(group, kind="stable")
    difficult = _find_difficult(objects)[order]
    found_group = found.category * images + found.image
    by_group, rank = sort_by_group_and_score(found_group, found.score)
    pairs = sort_by_overlap(
        find_box_pairs(
            found_group[by_group],
            found.boxes[by_group],
            group[order],
            objects.boxes[order],
            np.zeros(len(order), dtype=np.bool_),
            overlap,
        ),
        last=False,
    )
    best = find_run_starts(pairs.detection)
    detection, assigned = pairs.detection[best], pairs.object[best]
    # The first detection assigned to an object has the highest score.
    is_first = np.zeros(len(assigned), dtype=np.bool_)
    is_first[np.unique(assigned, return_index=True)[1]] = True
    right = is_first & ~difficult[assigned]

    ranking = np.lexsort((-found.score, found.category))
    place = np.empty(len(ranking), dtype=np.int64)
    place[ranking] = np.arange(len(ranking))
    kept = np.flatnonzero(right | difficult[assigned])
    kept = kept[np.argsort(place[by_group[detection[kept]]])]
    rows = by_group[detection[kept]]
    events = Events(
        category=found.category[rows],
        place=place[rows],
        image=found.image[rows],
        right=right[kept],
        change=right[kept].astype(np.int8) - 1,
        rank=rank[detection[kept]],
    )
    categories = np.arange(len(objects.categories))
    start = np.searchsorted(found.category[ranking], categories)
    listed = np.ones(len(ranking), dtype=np.bool_)
    return make_curves(found.image[ranking], listed, start, [events])


def _find_difficult(objects: Objects) -> Flags:
    return objects.difficult | objects.crowd


def _make_average(objects: Objects, curves: Curves, rule: Rule) -> Callable[[I64], F64]:
    """Return a function from the images' weights to ``(K,)`` average precisions."""
    wanted = ~_find_difficult(objects)
    image, category = objects.image[wanted], objects.category[wanted]

    def compute(weights: I64) -> F64:
        counts = np.bincount(category, weights=weights[image], minlength=len(objects.categories))
        positives = counts.astype(np.int64)
        values = evaluate_curves(curves, weights)
        if rule == "all-point":
            return average_over_recall(curves, values, weights, positives)
        # The smallest number of objects that is at least k tenths of all, in integers.
        needed = -(-positives[:, None] * np.arange(11) // 10)
        precision = compute_precision(curves, values, needed)
        return np.where(positives > 0, precision.mean(axis=1), np.nan)

    return compute
