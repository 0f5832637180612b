"""Unsupervised performance estimation of detectors and segmenters, fitted on labeled images.

The model is shown the labeled images clean, and what it answers there, to them and to their mirror images,
is held against the truth. The same is asked of the unlabeled images, and of the labeled ones in corrupted
cells, whose truth is known: how far the estimates are off there is what they are worth. Half of the
labeled images teach and the other half is judged, both ways round, as a photograph knows how hard it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import msgspec
import numpy as np

from shiftproof.bench.estimates import Quality, judge
from shiftproof.compute.progress import progress
from shiftproof.corruptions import corrupt
from shiftproof.data import DetectionData, SegmentationData, open_data
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.metrics.dense_estimation import (
    HitRate,
    box_agreement,
    estimate_by_ratio,
    expect_average_precision,
    expect_mean_iou,
    find_hits,
    fit_hit_rate,
    label_agreement,
    mirror_boxes,
)
from shiftproof.metrics.detection import CocoEvaluator
from shiftproof.metrics.segmentation import class_ious, pixel_confusion
from shiftproof.models.detectors.class_match import ClassMatch, match_classes
from shiftproof.models.detectors.detector import DetectorLike
from shiftproof.models.segmenters.class_match import match_pixel_classes, translate_labels
from shiftproof.models.segmenters.segmenter import SegmenterLike
from shiftproof.rng import generator
from shiftproof.runs.scores.unlabeled import Belief, CellBelief, Off, Worst
from shiftproof.types import CLEAN, F64, Cell, Detections, Image, LabelMap, Sample

SEED = 0

Answer = TypeVar("Answer", Detections, LabelMap)


@dataclass(frozen=True)
class Answers(Generic[Answer]):
    """A model's predictions on images, and those on the mirrored images, mapped back.

    ``sums`` are those of each image's pixel probabilities, of segmenters that have some.
    """

    plain: list[Answer]
    mirrored: list[Answer]
    sums: list[F64] | None = None

    def pick(self, places: Sequence[int]) -> Answers[Answer]:
        """Return the predictions for some of the images."""
        sums = None if self.sums is None else [self.sums[p] for p in places]
        return Answers([self.plain[p] for p in places], [self.mirrored[p] for p in places], sums)


@dataclass(frozen=True)
class JudgedCell:
    """A corrupted cell of the labeled images: the truth, and the estimates by estimator. All in 0..1."""

    truth: float
    estimates: Mapping[str, float]


@dataclass(frozen=True)
class DenseEstimate:
    """Estimated performance of a model on unlabeled images. All in 0..1.

    Attributes:
        measure: the estimated measure: AP50 or mIoU.
        clean: the measure on the labeled clean images.
        labeled: number of labeled images.
        images: number of unlabeled images.
        estimates: estimate by estimator.
        quality: by estimator, its error in the corrupted cells of the labeled images, as 1 - P;
            empty where no cell was corrupted.
        cells: these cells, what was estimated and what was measured in each.
    """

    measure: str
    clean: float
    labeled: int
    images: int
    estimates: Mapping[str, float]
    quality: Mapping[str, Quality]
    cells: Mapping[Cell, JudgedCell]

    def to_json(self) -> dict[str, Any]:
        """Return it as ``unlabeled.json`` has it; errors in 0..1."""
        found: dict[str, Any] = msgspec.to_builtins(self._believe())
        return found

    def _believe(self) -> Belief:
        quality = {
            name: Off(
                one.cells,
                one.mean_absolute_error,
                -one.bias,
                Worst(str(one.worst.cell), 1 - one.worst.estimate, 1 - one.worst.error),
            )
            for name, one in self.quality.items()
        }
        cells = tuple(
            CellBelief(str(cell), one.truth, dict(one.estimates))
            for cell, one in self.cells.items()
        )
        return Belief(
            self.measure,
            self.clean,
            self.labeled,
            self.images,
            dict(self.estimates),
            quality,
            cells,
        )


# ---------------------------------------------------------------- the public call


def estimate_unlabeled(
    model: DetectorLike | SegmenterLike,
    labeled: DetectionData | SegmentationData,
    images: str | Path | Sequence[Image],
    *,
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = (3,),
    class_map: Mapping[str, str] | None = None,
    most: int = 100,
    batch_size: int = 4,
    show_progress: bool | None = None,
) -> DenseEstimate:
    """Estimate P (AP50) or mIoU of a model on images without labels.

    Estimators: ``"confidence"``: of detectors, how often boxes of a score are right is learned on clean ones,
    and the average precision to be expected follows, for as many objects in an image as there; of segmenters
    that give logits, the mIoU to be expected if their probabilities were right; and ``"mirror"``: how far
    the answers agree with those to the mirrored image. Both are taken in proportion
    to what they were on the clean images. Costs two forward passes per image and cell.

    Args:
        model: a detector or a segmenter; an adapted one is reset before each cell.
        labeled: images with ground truth, from the distribution of the training data.
        images: ``(H, W, 3)`` uint8 RGB of any sizes, without labels; or the folder, tar or table that
            they are in.
        corruptions: corruptions of the labeled images in which the estimates are validated.
        severities: severities of these.
        class_map: from the model's names of classes to the data's, as in ``bench.Detection``.
        most: maximum number of labeled images, evenly spread.
        batch_size: images per batch.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: fewer than two labeled images, none without labels, or nothing found in the clean ones.
    """
    samples = _spread(labeled.samples, most)
    if len(samples) < 2:
        raise InputError(f"Expected two labeled images or more, got {len(samples)}.")
    reading = _make_reading(model, labeled, samples, class_map)
    stream = _read(images)
    cells = [CLEAN, *(Cell(c, s) for c in corruptions for s in severities)]
    total = len(samples) * len(cells) + len(stream)
    with progress("Estimate", total, show=show_progress) as advance:

        def ask(pictures: Sequence[Image]) -> Answers[Any]:
            answers = _ask(model, reading, pictures, batch_size)
            for _ in pictures:
                advance()
            return answers

        answers = {cell: ask(_show(labeled, samples, cell)) for cell in cells}
        told = ask(stream)
    everything = list(range(len(samples)))
    learned = reading.learn(answers[CLEAN], everything)
    judged = _judge(reading, answers, len(samples))
    return DenseEstimate(
        measure=reading.measure,
        clean=learned.clean,
        labeled=len(samples),
        images=len(stream),
        estimates=learned.estimate(told),
        quality=_tell_quality(judged),
        cells=judged,
    )


def write_estimate(path: Path, estimates: Mapping[str, DenseEstimate]) -> None:
    """Write estimates by the model's name."""
    files.write_json(path, {name: one.to_json() for name, one in estimates.items()})


def _tell_quality(judged: Mapping[Cell, JudgedCell]) -> dict[str, Quality]:
    """Return how far the estimates are off, as 1 - P: estimators are judged by errors."""
    guessed = {
        cell: {name: 1 - value for name, value in one.estimates.items()}
        for cell, one in judged.items()
    }
    return judge(guessed, {cell: 1 - one.truth for cell, one in judged.items()})


def _judge(
    reading: _Reading[Any], answers: Mapping[Cell, Answers[Any]], count: int
) -> dict[Cell, JudgedCell]:
    """Return estimates and truth in the corrupted cells, learned on the other half of the images."""
    order = generator(SEED, "estimation halves", str(count)).permutation(count).tolist()
    halves = [sorted(order[: count // 2]), sorted(order[count // 2 :])]
    judged = {}
    for cell in answers:
        if cell.is_clean:
            continue
        found, truths = [], []
        for source, target in (halves, halves[::-1]):
            learned = reading.learn(answers[CLEAN], source)
            found.append(learned.estimate(answers[cell].pick(target)))
            truths.append(reading.score(answers[cell], target))
        means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        judged[cell] = JudgedCell(float(np.mean(truths)), means)
    return judged


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    return list(samples[:: max(1, -(-len(samples) // most))])


def _show(
    labeled: DetectionData | SegmentationData, samples: Sequence[Sample], cell: Cell
) -> list[Image]:
    images = [labeled.read(sample) for sample in samples]
    if cell.is_clean:
        return images
    return [
        corrupt(image, cell.corruption, cell.severity, key=sample.id)
        for image, sample in zip(images, samples, strict=True)
    ]


def _read(images: str | Path | Sequence[Image]) -> list[Image]:
    if isinstance(images, (str, Path)):
        data = open_data(str(images), classes=None, labeled=False)
        images = [data.read(sample) for sample in data.samples]
    if not len(images):
        raise InputError("Expected one image without labels or more, got none.")
    return list(images)


def _ask(
    model: Any, reading: _Reading[Any], images: Sequence[Image], batch_size: int
) -> Answers[Any]:
    """Return a model's predictions on images and on the mirrored images."""
    answers, sums = [], None
    for turned in (False, True):
        if hasattr(model, "reset"):
            model.reset()
        shown = [np.ascontiguousarray(i[:, ::-1]) if turned else i for i in images]
        found, told = reading.ask(model, shown, batch_size)
        sums = sums if turned else told
        answers.append(
            [
                reading.flip_back(one, image.shape[1]) if turned else reading.translate(one)
                for one, image in zip(found, images, strict=True)
            ]
        )
    plain, mirrored = answers
    return Answers(plain, mirrored, sums)


# ---------------------------------------------------------------- the two tasks


@dataclass(frozen=True)
class _CleanEvidence(ABC):
    """An estimator's data from the labeled clean images."""

    clean: float
    evidence: Mapping[str, float]

    @abstractmethod
    def observe(self, answers: Answers[Any]) -> dict[str, float]:
        """Return the evidence of some images, by estimator."""

    def estimate(self, answers: Answers[Any]) -> dict[str, float]:
        """Return the estimates of some images, by estimator."""
        return {
            name: estimate_by_ratio(self.clean, self.evidence[name], value)
            for name, value in self.observe(answers).items()
        }


class _Reading(ABC, Generic[Answer]):
    """Evaluation of one kind of model's predictions."""

    measure: str

    def ask(
        self, model: Any, images: Sequence[Image], batch_size: int
    ) -> tuple[Sequence[Answer], list[F64] | None]:
        """Return a model's answers, and the sums of its pixels' probabilities, if it has any."""
        return model.predict(images, batch_size=batch_size), None

    @abstractmethod
    def translate(self, answer: Answer) -> Answer:
        """Return a prediction in the dataset's classes."""

    @abstractmethod
    def flip_back(self, answer: Answer, width: int) -> Answer:
        """Map a prediction on a mirrored image back to the image."""

    @abstractmethod
    def score(self, answers: Answers[Answer], places: Sequence[int]) -> float:
        """Return the performance on some of the labeled images."""

    @abstractmethod
    def learn(self, answers: Answers[Answer], places: Sequence[int]) -> _CleanEvidence:
        """Fit on some of the labeled clean images; ``answers`` are the predictions for all."""


def _make_reading(
    model: Any,
    labeled: DetectionData | SegmentationData,
    samples: Sequence[Sample],
    class_map: Mapping[str, str] | None,
) -> _Reading[Any]:
    if isinstance(labeled, SegmentationData):
        match = match_pixel_classes(model.classes, labeled.classes, mapping=class_map)
        return _Labels(labeled, samples, match)
    match = match_classes(model.classes, labeled.classes, mapping=class_map)
    return _Boxes(labeled, samples, match)


@dataclass(frozen=True)
class _CleanEvidenceBoxes(_CleanEvidence):
    rate: HitRate
    objects: float

    def observe(self, answers: Answers[Detections]) -> dict[str, float]:
        return _observe_boxes(answers, self.rate, self.objects)


def _observe_boxes(answers: Answers[Detections], rate: HitRate, objects: float) -> dict[str, float]:
    """Return the evidence; ``objects`` are those of an image."""
    scores = np.concatenate([np.zeros(0), *(one.scores for one in answers.plain)])
    return {
        "confidence": expect_average_precision(rate.at(scores), objects * len(answers.plain)),
        "mirror": box_agreement(answers.plain, answers.mirrored),
    }


@final
class _Boxes(_Reading[Detections]):
    measure = "AP50"

    def __init__(self, data: DetectionData, samples: Sequence[Sample], match: ClassMatch) -> None:
        self._data, self._samples, self._match = data, samples, match

    def translate(self, answer: Detections) -> Detections:
        return self._match.translate(answer)

    def flip_back(self, answer: Detections, width: int) -> Detections:
        return mirror_boxes(self.translate(answer), width)

    def score(self, answers: Answers[Detections], places: Sequence[int]) -> float:
        data = self._data
        samples = [self._samples[place] for place in places]
        evaluator = CocoEvaluator(data.ground_truth(samples))
        found = [
            {
                "image_id": data.image_ids[sample.id],
                "category_id": data.category_ids[int(label)],
                "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
                "score": float(score),
            }
            for sample, place in zip(samples, places, strict=True)
            for box, score, label in zip(*_columns(answers.plain[place]), strict=True)
        ]
        return evaluator.accumulate(evaluator.match(found)).metrics()["AP50"] if found else 0.0

    def learn(self, answers: Answers[Detections], places: Sequence[int]) -> _CleanEvidenceBoxes:
        truths = [self._truth(place) for place in places]
        plain = [answers.plain[place] for place in places]
        scores = np.concatenate([np.zeros(0), *(one.scores for one in plain)])
        hits = [find_hits(one, truth) for one, truth in zip(plain, truths, strict=True)]
        objects = sum(map(len, truths)) / len(places)
        if not len(scores) or not objects:
            raise InputError(
                "Nothing is found in the labeled clean images, or there is nothing to find: there is "
                "nothing to learn the estimates from."
            )
        rate = fit_hit_rate(scores, np.concatenate(hits))
        evidence = _observe_boxes(answers.pick(places), rate, objects)
        return _CleanEvidenceBoxes(self.score(answers, places), evidence, rate, objects)

    def _truth(self, place: int) -> Detections:
        """Return the objects of a labeled image that count."""
        objects = self._data.objects[self._samples[place].id]
        counts = ~(np.asarray(objects.crowd, bool) | np.asarray(objects.difficult, bool))
        at = objects.positions[counts]
        corners = np.concatenate([at[:, :2], at[:, :2] + at[:, 2:]], axis=1)
        return Detections(corners, np.ones(len(at)), objects.labels[counts])


def _columns(found: Detections) -> tuple[Any, Any, Any]:
    return found.boxes.astype(np.float64), found.scores, found.labels


@dataclass(frozen=True)
class _CleanEvidenceLabels(_CleanEvidence):
    classes: int

    def observe(self, answers: Answers[LabelMap]) -> dict[str, float]:
        return _observe_labels(answers, self.classes)


def _observe_labels(answers: Answers[LabelMap], classes: int) -> dict[str, float]:
    """Return the evidence; confidence is in the model's own classes, as only its fall is used."""
    mirror = {"mirror": label_agreement(answers.plain, answers.mirrored, classes)}
    if answers.sums is None:
        return mirror
    return {"confidence": expect_mean_iou(np.sum(answers.sums, axis=0)), **mirror}


@final
class _Labels(_Reading[LabelMap]):
    measure = "mIoU"

    def __init__(
        self, data: SegmentationData, samples: Sequence[Sample], match: ClassMatch
    ) -> None:
        self._data, self._match = data, match
        self._truths = [data.read_mask(sample) for sample in samples]

    def ask(
        self, model: Any, images: Sequence[Image], batch_size: int
    ) -> tuple[Sequence[LabelMap], list[F64] | None]:
        if not hasattr(model, "predict_with_sums"):
            return super().ask(model, images, batch_size)
        found = model.predict_with_sums(images, batch_size=batch_size)
        sums = [one for _, one in found if one is not None]
        return [labels for labels, _ in found], sums if len(sums) == len(found) else None

    def translate(self, answer: LabelMap) -> LabelMap:
        return translate_labels(self._match, answer)

    def flip_back(self, answer: LabelMap, width: int) -> LabelMap:
        return np.ascontiguousarray(self.translate(answer)[:, ::-1])

    def score(self, answers: Answers[LabelMap], places: Sequence[int]) -> float:
        classes = len(self._data.classes)
        counts = sum(
            pixel_confusion(self._truths[place], answers.plain[place], classes) for place in places
        )
        table = np.asarray(counts)
        square = table[:, :classes]
        ious = class_ious(np.diagonal(square), table.sum(1), square.sum(0))
        return float(np.nanmean(ious))

    def learn(self, answers: Answers[LabelMap], places: Sequence[int]) -> _CleanEvidenceLabels:
        classes = len(self._data.classes)
        some = answers.pick(places)
        evidence = _observe_labels(some, classes)
        return _CleanEvidenceLabels(self.score(answers, places), evidence, classes)
