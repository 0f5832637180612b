"""Unsupervised performance estimation of detectors and segmenters, fitted on labeled images.

Estimators are fitted on the model's predictions for the labeled clean images and their mirror images, and
applied to its predictions for the unlabeled images. Corrupted labeled images show how accurate the
estimates are. They are validated by two-fold cross-validation over the images, since clean and corrupted
versions of one photograph are about equally difficult.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import msgspec
import numpy as np

from shiftproof.bench.estimates.error_estimates import Quality, measure_quality
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
from shiftproof.runs.scores.unlabeled import (
    CellEstimate,
    EstimatorError,
    UnlabeledEstimate,
    WorstCell,
)
from shiftproof.types import CLEAN, F64, Cell, Detections, Image, LabelMap, Sample

SEED = 0

Prediction = TypeVar("Prediction", Detections, LabelMap)


@dataclass(frozen=True)
class MirroredPredictions(Generic[Prediction]):
    """A model's predictions on images, and those on the mirrored images, mapped back.

    ``sums`` are the summed pixel probabilities of each image, for segmenters that give some.
    """

    plain: list[Prediction]
    mirrored: list[Prediction]
    sums: list[F64] | None = None

    def pick(self, indices: Sequence[int]) -> MirroredPredictions[Prediction]:
        """Return the predictions for some of the images."""
        sums = None if self.sums is None else [self.sums[p] for p in indices]
        return MirroredPredictions(
            [self.plain[p] for p in indices], [self.mirrored[p] for p in indices], sums
        )


@dataclass(frozen=True)
class ValidatedCell:
    """A corrupted cell of the labeled images: true and estimated performance. All in 0..1."""

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
        cells: true and estimated performance in these cells.
    """

    measure: str
    clean: float
    labeled: int
    images: int
    estimates: Mapping[str, float]
    quality: Mapping[str, Quality]
    cells: Mapping[Cell, ValidatedCell]

    def to_json(self) -> dict[str, Any]:
        """Return the content for ``unlabeled.json``; errors in 0..1."""
        found: dict[str, Any] = msgspec.to_builtins(self._to_form())
        return found

    def _to_form(self) -> UnlabeledEstimate:
        quality = {
            name: EstimatorError(
                one.cells,
                one.mean_absolute_error,
                -one.bias,
                WorstCell(str(one.worst.cell), 1 - one.worst.estimate, 1 - one.worst.error),
            )
            for name, one in self.quality.items()
        }
        cells = tuple(
            CellEstimate(str(cell), one.truth, dict(one.estimates))
            for cell, one in self.cells.items()
        )
        return UnlabeledEstimate(
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

    AP50 is COCO's for all data: the objects that Pascal VOC calls difficult count like all others.

    Estimators: ``"confidence"``: for detectors the expected average precision, from the precision of boxes
    by score and the number of objects per image on the clean images; for segmenters with logits the
    expected mIoU if their probabilities were calibrated; and ``"mirror"``: the agreement of the
    predictions with those for the mirrored image. Both are scaled by their ratio to the truth on the clean
    images. Costs two forward passes per image and cell.

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
        InputError: fewer than two labeled images, no unlabeled one, or no detections in the clean ones.
    """
    samples = _spread(labeled.samples, most)
    if len(samples) < 2:
        raise InputError(f"Expected two labeled images or more, got {len(samples)}.")
    evaluator = _make_evaluator(model, labeled, samples, class_map)
    stream = _read_images(images)
    cells = [CLEAN, *(Cell(c, s) for c in corruptions for s in severities)]
    total = len(samples) * len(cells) + len(stream)
    with progress("Estimate", total, show=show_progress) as advance:

        def ask(pictures: Sequence[Image]) -> MirroredPredictions[Any]:
            predictions = _predict_mirrored(model, evaluator, pictures, batch_size)
            for _ in pictures:
                advance()
            return predictions

        predictions = {cell: ask(_corrupt_images(labeled, samples, cell)) for cell in cells}
        unlabeled = ask(stream)
    everything = list(range(len(samples)))
    fitted = evaluator.fit(predictions[CLEAN], everything)
    validated = _validate(evaluator, predictions, len(samples))
    return DenseEstimate(
        measure=evaluator.measure,
        clean=fitted.clean,
        labeled=len(samples),
        images=len(stream),
        estimates=fitted.estimate(unlabeled),
        quality=_measure_quality(validated),
        cells=validated,
    )


def write_estimate(path: Path, estimates: Mapping[str, DenseEstimate]) -> None:
    """Write estimates by the model's name."""
    files.write_json(path, {name: one.to_json() for name, one in estimates.items()})


def _measure_quality(validated: Mapping[Cell, ValidatedCell]) -> dict[str, Quality]:
    """Return the quality of the estimates as errors, 1 - P."""
    estimated = {
        cell: {name: 1 - value for name, value in one.estimates.items()}
        for cell, one in validated.items()
    }
    return measure_quality(estimated, {cell: 1 - one.truth for cell, one in validated.items()})


def _validate(
    evaluator: _Evaluator[Any], predictions: Mapping[Cell, MirroredPredictions[Any]], count: int
) -> dict[Cell, ValidatedCell]:
    """Return estimates and truth in the corrupted cells, each fitted on the other half of the images."""
    order = generator(SEED, "estimation halves", str(count)).permutation(count).tolist()
    halves = [sorted(order[: count // 2]), sorted(order[count // 2 :])]
    validated = {}
    for cell in predictions:
        if cell.is_clean:
            continue
        found, truths = [], []
        for source, target in (halves, halves[::-1]):
            fitted = evaluator.fit(predictions[CLEAN], source)
            found.append(fitted.estimate(predictions[cell].pick(target)))
            truths.append(evaluator.score(predictions[cell], target))
        means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        validated[cell] = ValidatedCell(float(np.mean(truths)), means)
    return validated


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    return list(samples[:: max(1, -(-len(samples) // most))])


def _corrupt_images(
    labeled: DetectionData | SegmentationData, samples: Sequence[Sample], cell: Cell
) -> list[Image]:
    images = [labeled.read(sample) for sample in samples]
    if cell.is_clean:
        return images
    return [
        corrupt(image, cell.corruption, cell.severity, key=sample.id)
        for image, sample in zip(images, samples, strict=True)
    ]


def _read_images(images: str | Path | Sequence[Image]) -> list[Image]:
    if isinstance(images, (str, Path)):
        data = open_data(str(images), classes=None, labeled=False)
        images = [data.read(sample) for sample in data.samples]
    if not len(images):
        raise InputError("Expected at least one unlabeled image, got none.")
    return list(images)


def _predict_mirrored(
    model: Any, evaluator: _Evaluator[Any], images: Sequence[Image], batch_size: int
) -> MirroredPredictions[Any]:
    """Return a model's predictions on images and on the mirrored images."""
    predictions, sums = [], None
    for is_mirrored in (False, True):
        if hasattr(model, "reset"):
            model.reset()
        shown = [np.ascontiguousarray(i[:, ::-1]) if is_mirrored else i for i in images]
        found, pixel_sums = evaluator.predict(model, shown, batch_size)
        sums = sums if is_mirrored else pixel_sums
        predictions.append(
            [
                evaluator.flip_back(one, image.shape[1])
                if is_mirrored
                else evaluator.translate(one)
                for one, image in zip(found, images, strict=True)
            ]
        )
    plain, mirrored = predictions
    return MirroredPredictions(plain, mirrored, sums)


# ---------------------------------------------------------------- the two tasks


@dataclass(frozen=True)
class _CleanEvidence(ABC):
    """An estimator's data from the labeled clean images."""

    clean: float
    evidence: Mapping[str, float]

    @abstractmethod
    def observe(self, predictions: MirroredPredictions[Any]) -> dict[str, float]:
        """Return the evidence of some images, by estimator."""

    def estimate(self, predictions: MirroredPredictions[Any]) -> dict[str, float]:
        """Return the estimates of some images, by estimator."""
        return {
            name: estimate_by_ratio(self.clean, self.evidence[name], value)
            for name, value in self.observe(predictions).items()
        }


class _Evaluator(ABC, Generic[Prediction]):
    """Evaluation of one kind of model's predictions."""

    measure: str

    def predict(
        self, model: Any, images: Sequence[Image], batch_size: int
    ) -> tuple[Sequence[Prediction], list[F64] | None]:
        """Return a model's predictions, and the sums of its pixel probabilities, if it has any."""
        return model.predict(images, batch_size=batch_size), None

    @abstractmethod
    def translate(self, prediction: Prediction) -> Prediction:
        """Return a prediction in the dataset's classes."""

    @abstractmethod
    def flip_back(self, prediction: Prediction, width: int) -> Prediction:
        """Map a prediction on a mirrored image back to the image."""

    @abstractmethod
    def score(self, predictions: MirroredPredictions[Prediction], indices: Sequence[int]) -> float:
        """Return the performance on some of the labeled images."""

    @abstractmethod
    def fit(
        self, predictions: MirroredPredictions[Prediction], indices: Sequence[int]
    ) -> _CleanEvidence:
        """Fit on some of the labeled clean images; ``answers`` are the predictions for all."""


def _make_evaluator(
    model: Any,
    labeled: DetectionData | SegmentationData,
    samples: Sequence[Sample],
    class_map: Mapping[str, str] | None,
) -> _Evaluator[Any]:
    if isinstance(labeled, SegmentationData):
        match = match_pixel_classes(model.classes, labeled.classes, mapping=class_map)
        return _SegmentationEvaluator(labeled, samples, match)
    match = match_classes(model.classes, labeled.classes, mapping=class_map)
    return _DetectionEvaluator(labeled, samples, match)


@dataclass(frozen=True)
class _DetectionEvidence(_CleanEvidence):
    rate: HitRate
    objects: float

    def observe(self, predictions: MirroredPredictions[Detections]) -> dict[str, float]:
        return _observe_boxes(predictions, self.rate, self.objects)


def _observe_boxes(
    predictions: MirroredPredictions[Detections], rate: HitRate, objects: float
) -> dict[str, float]:
    """Return the evidence; ``objects`` are those of an image."""
    scores = np.concatenate([np.zeros(0), *(one.scores for one in predictions.plain)])
    return {
        "confidence": expect_average_precision(rate.at(scores), objects * len(predictions.plain)),
        "mirror": box_agreement(predictions.plain, predictions.mirrored),
    }


@final
class _DetectionEvaluator(_Evaluator[Detections]):
    measure = "AP50"

    def __init__(self, data: DetectionData, samples: Sequence[Sample], match: ClassMatch) -> None:
        self._data, self._samples, self._match = data, samples, match

    def translate(self, prediction: Detections) -> Detections:
        return self._match.translate(prediction)

    def flip_back(self, prediction: Detections, width: int) -> Detections:
        return mirror_boxes(self.translate(prediction), width)

    def score(self, predictions: MirroredPredictions[Detections], indices: Sequence[int]) -> float:
        data = self._data
        samples = [self._samples[index] for index in indices]
        evaluator = CocoEvaluator(data.ground_truth(samples))
        found = [
            {
                "image_id": data.image_ids[sample.id],
                "category_id": data.category_ids[int(label)],
                "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
                "score": float(score),
            }
            for sample, index in zip(samples, indices, strict=True)
            for box, score, label in zip(*_split_detections(predictions.plain[index]), strict=True)
        ]
        return evaluator.accumulate(evaluator.match(found)).metrics()["AP50"] if found else 0.0

    def fit(
        self, predictions: MirroredPredictions[Detections], indices: Sequence[int]
    ) -> _DetectionEvidence:
        truths = [self._truth(index) for index in indices]
        plain = [predictions.plain[index] for index in indices]
        scores = np.concatenate([np.zeros(0), *(one.scores for one in plain)])
        hits = [find_hits(one, truth) for one, truth in zip(plain, truths, strict=True)]
        objects = sum(map(len, truths)) / len(indices)
        if not len(scores) or not objects:
            raise InputError(
                "The labeled clean images have no detections, or no objects, so the estimators cannot be "
                "fitted to them."
            )
        rate = fit_hit_rate(scores, np.concatenate(hits))
        evidence = _observe_boxes(predictions.pick(indices), rate, objects)
        return _DetectionEvidence(self.score(predictions, indices), evidence, rate, objects)

    def _truth(self, index: int) -> Detections:
        """Return the objects of a labeled image that count for COCO's AP50: all but crowds."""
        objects = self._data.objects[self._samples[index].id]
        counts = ~np.asarray(objects.crowd, bool)
        at = objects.positions[counts]
        corners = np.concatenate([at[:, :2], at[:, :2] + at[:, 2:]], axis=1)
        return Detections(corners, np.ones(len(at)), objects.labels[counts])


def _split_detections(found: Detections) -> tuple[Any, Any, Any]:
    return found.boxes.astype(np.float64), found.scores, found.labels


@dataclass(frozen=True)
class _SegmentationEvidence(_CleanEvidence):
    classes: int

    def observe(self, predictions: MirroredPredictions[LabelMap]) -> dict[str, float]:
        return _observe_labels(predictions, self.classes)


def _observe_labels(predictions: MirroredPredictions[LabelMap], classes: int) -> dict[str, float]:
    """Return the evidence; confidence is in the model's own classes, as only its fall is used."""
    mirror = {"mirror": label_agreement(predictions.plain, predictions.mirrored, classes)}
    if predictions.sums is None:
        return mirror
    return {"confidence": expect_mean_iou(np.sum(predictions.sums, axis=0)), **mirror}


@final
class _SegmentationEvaluator(_Evaluator[LabelMap]):
    measure = "mIoU"

    def __init__(
        self, data: SegmentationData, samples: Sequence[Sample], match: ClassMatch
    ) -> None:
        self._data, self._match = data, match
        self._truths = [data.read_mask(sample) for sample in samples]

    def predict(
        self, model: Any, images: Sequence[Image], batch_size: int
    ) -> tuple[Sequence[LabelMap], list[F64] | None]:
        if not hasattr(model, "predict_with_sums"):
            return super().predict(model, images, batch_size)
        found = model.predict_with_sums(images, batch_size=batch_size)
        sums = [one for _, one in found if one is not None]
        return [labels for labels, _ in found], sums if len(sums) == len(found) else None

    def translate(self, prediction: LabelMap) -> LabelMap:
        return translate_labels(self._match, prediction)

    def flip_back(self, prediction: LabelMap, width: int) -> LabelMap:
        return np.ascontiguousarray(self.translate(prediction)[:, ::-1])

    def score(self, predictions: MirroredPredictions[LabelMap], indices: Sequence[int]) -> float:
        classes = len(self._data.classes)
        counts = sum(
            pixel_confusion(self._truths[index], predictions.plain[index], classes)
            for index in indices
        )
        table = np.asarray(counts)
        square = table[:, :classes]
        ious = class_ious(np.diagonal(square), table.sum(1), square.sum(0))
        return float(np.nanmean(ious))

    def fit(
        self, predictions: MirroredPredictions[LabelMap], indices: Sequence[int]
    ) -> _SegmentationEvidence:
        classes = len(self._data.classes)
        some = predictions.pick(indices)
        evidence = _observe_labels(some, classes)
        return _SegmentationEvidence(self.score(predictions, indices), evidence, classes)
