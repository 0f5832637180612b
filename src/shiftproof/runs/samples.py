"""The images of a run with a model's predictions in every cell, for FiftyOne or as JSON.

The JSON is one object: ``name``, ``kind``, ``model``, ``classes``, ``cells`` and ``samples``. A sample
has ``id``, ``filepath``, ``truth`` and ``predictions``, which are by cell:

- classifiers: ``truth`` is ``{"label"}``, a prediction ``{"label", "confidence", "correct"}``;
- detectors: both are lists of ``{"label", "bounding_box"}``; predicted boxes also have ``confidence``
  and ``correct``. A box is x, y, width and height as fractions of the image, as in FiftyOne. It is
  correct if, by decreasing score, it is the first on an object of its class with an IoU of 0.5;
- segmenters: a prediction is ``{"pixel_accuracy", "correct"}`` with the number of correct pixels.

A prediction is null if the image could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftproof.errors import BrokenFileError, InputError, MissingExtraError
from shiftproof.io.text import read_json
from shiftproof.metrics.matching import Corners, compute_ious, match_by_score
from shiftproof.runs.records import classification, detection, segmentation
from shiftproof.runs.scores.classification import CLASS_NAMES, ClassNames
from shiftproof.runs.scores.reading import clean_text, read_form
from shiftproof.runs.scores.segmentation import TRUTH, Truth
from shiftproof.types import F64, Cell

if TYPE_CHECKING:
    from shiftproof.runs.run import Run

OVERLAP = 0.5
"""Minimum intersection over union of a box and its object (Everingham et al. 2010)."""


def list_samples(run: Run, model: str, images: Path | None) -> dict[str, Any]:
    """Return the images and a model's predictions in the form described above.

    Raises:
        InputError: a run of another kind.
        BrokenFileError: a file cannot be read.
    """
    if run.kind not in ("classification", "detection", "segmentation"):
        raise InputError(
            f"{run.path} is a run of the kind {run.kind!r}; its answers have no form that FiftyOne "
            "knows. Take its records()."
        )
    cells = run.scores.list_cells()
    samples, classes = _read_samples(run, model, cells)
    for sample in samples:
        sample["filepath"] = str(sample["id"] if images is None else images / sample["id"])
    return {
        "name": clean_text(run.path.resolve().name),
        "kind": run.kind,
        "model": model,
        "classes": classes,
        "cells": [str(cell) for cell in cells],
        "samples": samples,
    }


def _read_samples(
    run: Run, model: str, cells: Sequence[Cell]
) -> tuple[list[dict[str, Any]], list[str]]:
    truth = read_json(run.path / detection.GROUND_TRUTH) if run.kind == "detection" else None
    objects = _read_objects(run, truth) if truth is not None else {}
    classes = _read_classes(run) if truth is None else [one["name"] for one in truth["categories"]]
    samples: dict[str, dict[str, Any]] = {}
    for cell in cells:
        record = run.cell(model, cell.corruption, cell.severity)
        for row, name in enumerate(record.ids):
            sample = samples.setdefault(name, {"id": name, "truth": None, "predictions": {}})
            prediction, sample["truth"] = _read_row(record, row, classes, objects.get(name))
            sample["predictions"][str(cell)] = prediction
    return list(samples.values()), classes


def _read_classes(run: Run) -> list[str]:
    if run.kind == "segmentation":
        return list(read_form(run.path / TRUTH, Truth).classes)
    return list(read_form(run.path / CLASS_NAMES, ClassNames).names)


def _read_row(
    record: classification.CellRecords
    | detection.DetectionRecords
    | segmentation.SegmentationRecords,
    row: int,
    classes: Sequence[str],
    objects: dict[str, Any] | None,
) -> tuple[Any, Any]:
    """Return the prediction for one image in one cell, and the truth."""
    readable = record.error[row] is None
    if isinstance(record, classification.CellRecords):
        target, prediction = int(record.target[row]), int(record.prediction[row])
        truth = {"label": classes[target]} if target >= 0 else None
        if not readable or prediction < 0:
            return None, truth
        return {
            "label": classes[prediction],
            "confidence": float(record.confidence[row]),
            "correct": None if target < 0 else target == prediction,
        }, truth
    if isinstance(record, detection.DetectionRecords):
        image = objects or {"objects": [], "size": (1, 1)}
        found = _list_boxes(record.found[row], image, classes) if readable else None
        return found, [_to_box(one["box"], one["label"], image["size"]) for one in image["objects"]]
    return (_count_pixels(record.counts[row]) if readable else None), None


def _count_pixels(counts: segmentation.PixelCounts) -> dict[str, Any] | None:
    total = int(counts.pixels.sum())
    right = int(counts.pixels[counts.truth == counts.prediction].sum())
    return {"pixel_accuracy": right / total, "correct": right} if total else None


# ---------------------------------------------------------------- boxes


def _read_objects(run: Run, truth: Any) -> dict[str, dict[str, Any]]:
    """Return the ground-truth objects by image, without crowds and difficult objects."""
    try:
        names = {category["id"]: category["name"] for category in truth["categories"]}
        images: dict[Any, tuple[str, dict[str, Any]]] = {
            image["id"]: (
                image["file_name"], {"size": (image["width"], image["height"]), "objects": []}
            )
            for image in truth["images"]
        }  # fmt: skip
        for annotation in truth["annotations"]:
            if not annotation.get("iscrowd") and not annotation.get("difficult"):
                entry = {"box": annotation["bbox"], "label": names[annotation["category_id"]]}
                images[annotation["image_id"]][1]["objects"].append(entry)
    except (KeyError, TypeError, AttributeError) as error:
        raise BrokenFileError(
            f"{run.path / detection.GROUND_TRUTH}: expected the objects of this run as COCO "
            f"annotations ({error!r:.100})."
        ) from error
    return dict(images.values())


def _list_boxes(
    found: detection.ImageDetections, truth: Mapping[str, Any], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the boxes of an image by decreasing score, each with whether it is correct."""
    objects = truth["objects"]
    names = [classes[label] for label in found.labels.tolist()]
    positions = np.array([one["box"] for one in objects], dtype=np.float64).reshape(-1, 4)
    ious = compute_ious(Corners.from_positions(found.positions), Corners.from_positions(positions))
    for column, one in enumerate(objects):
        ious[[name != one["label"] for name in names], column] = 0
    matched = match_by_score(ious, found.scores, OVERLAP)
    return [
        {
            **_to_box(found.positions[row], names[row], truth["size"]),
            "confidence": float(found.scores[row]),
            "correct": bool(matched[row] >= 0),
        }
        for row in np.argsort(-found.scores, kind="stable")
    ]


def _to_box(box: Sequence[float] | F64, label: str, size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    x, y, w, h = (float(value) for value in box)
    return {"label": label, "bounding_box": [x / width, y / height, w / width, h / height]}


# ---------------------------------------------------------------- FiftyOne


def make_dataset(content: Mapping[str, Any], name: str | None) -> Any:
    """Return the samples as a ``fiftyone.Dataset``: ``ground_truth``, and a field for each cell.

    Raises:
        MissingExtraError: fiftyone is not installed.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise MissingExtraError(
            "This needs fiftyone, which is not installed: python -m pip install fiftyone. "
            "run.to_samples() gives the same as JSON."
        ) from error
    dataset = fiftyone.Dataset(name)
    dataset.add_samples(
        [_make_sample(fiftyone, one, content["kind"]) for one in content["samples"]]
    )
    return dataset


def _make_sample(fiftyone: Any, sample: Mapping[str, Any], kind: str) -> Any:
    converted = fiftyone.Sample(filepath=str(Path(sample["filepath"]).resolve()))
    converted["ground_truth"] = _make_label(fiftyone, sample["truth"], kind)
    for cell, prediction in sample["predictions"].items():
        field = cell.replace("-", "_").replace(".", "_")
        converted[field] = _make_label(fiftyone, prediction, kind)
    return converted


def _make_label(fiftyone: Any, label: Any, kind: str) -> Any:
    if label is None:
        return None
    if kind == "detection":
        return fiftyone.Detections(detections=[fiftyone.Detection(**box) for box in label])
    if kind == "classification":
        return fiftyone.Classification(**label)
    return label["pixel_accuracy"]
