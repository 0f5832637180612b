"""The measures of detection in a cell: COCO's or Pascal VOC's average precision.

Each dataset has its own measure, and both keep the paper's name P for it (Michaelis et al. 2019,
arXiv 1907.07484, section 3.2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, final, get_args

import numpy as np

from shiftproof.bench.tasks.performance import Performance
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics.annotations import ImageId
from shiftproof.metrics.coco import DetectionColumns
from shiftproof.metrics.detection import CocoEvaluator, OverlapKind
from shiftproof.metrics.faults import Fault
from shiftproof.metrics.intervals import correct_bias
from shiftproof.metrics.voc import Rule, VocEvaluator
from shiftproof.types import F64, Settings

MeasureName: TypeAlias = Literal["coco", "coco-masks", "voc", "voc-all-point"]
MEASURES: tuple[MeasureName, ...] = get_args(MeasureName)

SIZES = ("small", "medium", "large")
"""COCO's ranges of area, up to 32 x 32 and 96 x 96 pixels and beyond."""


class DetectionMeasure(ABC):
    """A dataset's measure, with its ground truth read and indexed.

    Concrete subclasses are final.
    """

    name: str
    """Name of P: AP or AP50."""

    def __init__(self, ground_truth: CocoEvaluator | VocEvaluator) -> None:
        self._ground_truth = ground_truth

    @property
    def image_ids(self) -> tuple[ImageId, ...]:
        """The images of the ground truth, in the order of ``Found.image``."""
        return self._ground_truth.image_ids

    @property
    def wanted(self) -> int:
        """Number of objects to detect: without those that the measure ignores."""
        return self._ground_truth.wanted

    @property
    def categories(self) -> Mapping[int, str]:
        """From id to name of the categories, in the order of ``Performance.per_class``."""
        return self._ground_truth.categories

    @property
    def wanted_per_category(self) -> Mapping[int, int]:
        """From category id to its number of objects to detect.

        COCO's measure ignores crowds, and has no difficult objects; Pascal VOC's ignores both.
        """
        return self._ground_truth.wanted_per_category

    @property
    def faults(self) -> Sequence[Fault]:
        """Faults of the ground truth."""
        return self._ground_truth.faults

    @property
    @abstractmethod
    def title(self) -> str:
        """Full name of P."""

    @property
    @abstractmethod
    def sizes(self) -> Sequence[tuple[int, int] | None] | None:
        """(height, width) of the images, for masks."""

    @abstractmethod
    def settings(self) -> Settings:
        """Return the settings that determine the scores."""

    @abstractmethod
    def performance(self, found: DetectionColumns, *, replicates: int, seed: int) -> Performance:
        """Return the scores, with ``replicates`` resamples of the images."""


def make_measure(name: str, ground_truth: Mapping[str, Any]) -> DetectionMeasure:
    """Return a measure over ground truth in COCO's format.

    Args:
        name: "coco" (AP over IoU 0.50 to 0.95 of boxes), "coco-masks" (of masks), "voc" (AP50 by
            the 11-point rule of VOC 2007, which Pascal-C is measured by) or "voc-all-point".
        ground_truth: images, annotations and categories.

    Raises:
        UnknownNameError: no such measure.
        InputError: ground truth that contradicts itself.
        MissingExtraError: masks, and pycocotools is not installed.
    """
    if name == "coco":
        return Coco(ground_truth, "boxes")
    if name == "coco-masks":
        return Coco(ground_truth, "masks")
    if name == "voc":
        return Voc(ground_truth, "11-point")
    if name == "voc-all-point":
        return Voc(ground_truth, "all-point")
    raise UnknownNameError.of("measure", name, MEASURES)


def check_wanted(name: str, measure: DetectionMeasure, faults: Sequence[Fault]) -> None:
    """Check that the ground truth has objects to detect, before anything is measured.

    Raises:
        InputError: no object, or only such as the measure leaves out.
    """
    if measure.wanted == 0:
        left_out = [fault for fault in (*faults, *measure.faults) if not fault.kept]
        first = f" First of those that were left out: {left_out[0]}" if left_out else ""
        raise InputError(
            f"{name} has no object to find in {pluralize(len(measure.image_ids), 'image')}, so there is "
            f"nothing to measure a detector by (crowds and difficult objects do not count).{first}"
        )


@final
class Coco(DetectionMeasure):
    """COCO's average precision, mean over ten thresholds and all classes."""

    name = "AP"

    def __init__(self, ground_truth: Mapping[str, Any], kind: OverlapKind) -> None:
        self._evaluator = CocoEvaluator(ground_truth, kind=kind)
        super().__init__(self._evaluator)
        self._kind = kind

    @property
    def title(self) -> str:
        """Full name of P."""
        return f"AP of {self._kind} (COCO, mean over IoU 0.50 to 0.95)"

    @property
    def sizes(self) -> Sequence[tuple[int, int] | None] | None:
        """(height, width) of the images, for masks."""
        return self._evaluator.image_sizes if self._kind == "masks" else None

    def settings(self) -> Settings:
        """Return the settings that determine the scores."""
        return {"measure": "COCO", "kind": self._kind, "P": self.title}

    def performance(self, found: DetectionColumns, *, replicates: int, seed: int) -> Performance:
        """Return the scores."""
        matches = self._evaluator.match(found)
        scores = self._evaluator.accumulate(matches)
        numbers = scores.metrics()
        drawn = (
            self._evaluator.replicates(matches, ["AP"], replicates=replicates, seed=seed)["AP"]
            if replicates
            else np.array([numbers["AP"]])
        )
        return Performance(_remove_bias(drawn), numbers, list(scores.per_category().values()))


@final
class Voc(DetectionMeasure):
    """Pascal VOC's average precision at an overlap of one half, mean over the classes."""

    name = "AP50"

    def __init__(self, ground_truth: Mapping[str, Any], rule: Rule) -> None:
        self._evaluator = VocEvaluator(ground_truth, rule=rule)
        super().__init__(self._evaluator)

    @property
    def title(self) -> str:
        """Full name of P."""
        return f"AP50 (Pascal VOC, {self._evaluator.rule})"

    @property
    def sizes(self) -> None:
        """Return None: there are no masks."""
        return None

    def settings(self) -> Settings:
        """Return the settings that determine the scores."""
        return {"measure": "Pascal VOC", "rule": self._evaluator.rule, "P": self.title}

    def performance(self, found: DetectionColumns, *, replicates: int, seed: int) -> Performance:
        """Return the scores."""
        matches = self._evaluator.match(found)
        scores = self._evaluator.scores(matches)
        drawn = (
            self._evaluator.replicates(matches, replicates=replicates, seed=seed)
            if replicates
            else np.array([scores.mean])
        )
        return Performance(
            _remove_bias(drawn), {"AP50": scores.mean}, list(scores.per_category.values())
        )


def _remove_bias(drawn: F64) -> F64:
    """Return bias-corrected resamples, clipped to the range of P."""
    return np.clip(correct_bias(drawn), 0, 1)
