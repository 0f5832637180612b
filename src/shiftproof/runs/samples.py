"""The images of a run with a model's predictions in every cell, for FiftyOne or as JSON.

The JSON is one object: ``name``, ``kind``, ``model``, ``classes``, ``cells`` and ``samples``. A sample
has ``id``, ``filepath``, ``truth`` and ``predictions``, by cell:

- of classifiers ``truth`` is ``{"label"}`` and a prediction ``{"label", "confidence", "correct"}``;
- of detectors they are lists of ``{"label", "bounding_box"}``, with ``confidence`` and ``correct`` of
  what was found; a box is x, y, width and height as shares of the image, as FiftyOne has it, and is
  correct where it is the first by score on an object of its class with an overlap of 0.5;
- of segmenters a prediction is ``{"pixel_accuracy", "correct"}`` with the count of right pixels.

A prediction is null where the image could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftproof.errors import BrokenFileError, InputError, MissingExtraError, UnknownNameError
from shiftproof.io.text import read_json
from shiftproof.metrics.matching import Corners, compute_ious, match_by_score
from shiftproof.runs.records import classification, detection, segmentation
from shiftproof.runs.scores.reading import clean_text
from shiftproof.types import CLEAN, F64, Cell

if TYPE_CHECKING:
    from shiftproof.runs.run import Run

OVERLAP = 0.5
"""Minimum intersection over union of a box and its object (Everingham et al. 2010)."""


def list_samples(run: Run, model: str | None, images: Path | None) -> dict[str, Any]:
    """Return the images and a model's answers, the first's by default, as JSON takes them; see above.

    Raises:
        InputError: a run of another kind, or one without records.
        UnknownNameError: there is no such model.
        BrokenFileError: a file cannot be read.
    """
    if run.kind not in ("classification", "detection", "segmentation"):
        raise InputError(
            f"{run.path} is a run of the kind {run.kind!r}; its answers have no form that FiftyOne knows. "
            "Take its records()."
        )
    names = [one.name for one in run.scores.models]
    if model is not None and model not in names:
        raise UnknownNameError.of("model of the run", model, names)
    chosen = model or names[0]
    cells = [CLEAN] if run.scores.models[0].clean is not None else []
    cells += [one.cell for one in run.scores.models[0].cells]
    samples, classes = _read(run, chosen, cells)
    for sample in samples:
        sample["filepath"] = str(sample["id"] if images is None else images / sample["id"])
    return {
        "name": clean_text(run.path.resolve().name),
        "kind": run.kind,
        "model": chosen,
        "classes": classes,
        "cells": [str(cell) for cell in cells],
        "samples": samples,
    }


def _read(run: Run, model: str, cells: Sequence[Cell]) -> tuple[list[dict[str, Any]], list[str]]:
    truth = read_json(run.path / detection.GROUND_TRUTH) if run.kind == "detection" else None
    objects = _read_objects(run, truth) if truth is not None else {}
    classes = (
        [one["name"] for one in truth["categories"]] if truth is not None else _read_classes(run)
    )
    samples: dict[str, dict[str, Any]] = {}
    for cell in cells:
        record = run.cell(model, cell.corruption, cell.severity)
        for at, name in enumerate(record.ids):
            sample = samples.setdefault(name, {"id": name, "truth": None, "predictions": {}})
            answer, sample["truth"] = _answer(record, at, classes, objects.get(name))
            sample["predictions"][str(cell)] = answer
    return list(samples.values()), classes


def _read_classes(run: Run) -> list[str]:
    file = run.path / "classes.json"
    content = read_json(file) if file.is_file() else {}
    names = content.get("names") if isinstance(content, Mapping) else None
    return [str(one) for one in names or ()]


def _answer(
    record: classification.CellRecords
    | detection.DetectionRecords
    | segmentation.SegmentationRecords,
    at: int,
    classes: Sequence[str],
    objects: dict[str, Any] | None,
) -> tuple[Any, Any]:
    """Return the prediction for one image in one cell, and the truth."""
    readable = record.error[at] is None
    if isinstance(record, classification.CellRecords):
        target, prediction = int(record.target[at]), int(record.prediction[at])
        truth = {"label": classes[target]} if target >= 0 else None
        if not readable or prediction < 0:
            return None, truth
        return {
            "label": classes[prediction],
            "confidence": float(record.confidence[at]),
            "correct": None if target < 0 else target == prediction,
        }, truth
    if isinstance(record, detection.DetectionRecords):
        image = objects or {"objects": [], "size": (1, 1)}
        found = _list_boxes(record.found[at], image, classes) if readable else None
        return found, [_to_box(one["box"], one["label"], image["size"]) for one in image["objects"]]
    return (_count_pixels(record.counts[at]) if readable else None), None


def _count_pixels(counts: segmentation.PixelCounts) -> dict[str, Any] | None:
    total = int(counts.pixels.sum())
    right = int(counts.pixels[counts.truth == counts.prediction].sum())
    return {"pixel_accuracy": right / total, "correct": right} if total else None


# ---------------------------------------------------------------- boxes


def _read_objects(run: Run, truth: Any) -> dict[str, dict[str, Any]]:
    """Return the ground-truth objects by image, without crowds and difficult objects."""
    try:
        names = {one["id"]: one["name"] for one in truth["categories"]}
        found: dict[Any, tuple[str, dict[str, Any]]] = {
            one["id"]: (one["file_name"], {"size": (one["width"], one["height"]), "objects": []})
            for one in truth["images"]
        }
        for one in truth["annotations"]:
            if not one.get("iscrowd") and not one.get("difficult"):
                entry = {"box": one["bbox"], "label": names[one["category_id"]]}
                found[one["image_id"]][1]["objects"].append(entry)
    except (KeyError, TypeError, AttributeError) as error:
        raise BrokenFileError(
            f"{run.path / detection.GROUND_TRUTH}: expected the objects of this run as COCO "
            f"annotations ({error!r:.100})."
        ) from error
    return dict(found.values())


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
    made = fiftyone.Sample(filepath=str(Path(sample["filepath"]).resolve()))
    made["ground_truth"] = _make_label(fiftyone, sample["truth"], kind)
    for cell, answer in sample["predictions"].items():
        made[cell.replace("-", "_").replace(".", "_")] = _make_label(fiftyone, answer, kind)
    return made


def _make_label(fiftyone: Any, answer: Any, kind: str) -> Any:
    if answer is None:
        return None
    if kind == "detection":
        return fiftyone.Detections(detections=[fiftyone.Detection(**one) for one in answer])
    return (
        fiftyone.Classification(**answer) if kind == "classification" else answer["pixel_accuracy"]
    )
