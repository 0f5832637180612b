"""Score what another framework has found: its result files in, the same run as ours out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from shiftproof.corruptions import CORRUPTIONS
from shiftproof.data import DetectionData, VocData, open_detection_data
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.holding import frees_folders
from shiftproof.io.text import read_json
from shiftproof.metrics.coco import Found, Objects, read_found, read_objects
from shiftproof.progress import progress
from shiftproof.provenance import provenance
from shiftproof.types import CLEAN, Cell, Sample, Settings

from . import detection_summary
from .detection_gallery import save_gallery
from .detection_records import NOTHING, DetectionRecords, FoundInImage, write_detections
from .folder import RunFolder
from .given import default_workers, plain
from .measures import MEASURES, Performance
from .predictions import PredictionFiles, find_predictions
from .result_tables import SUFFIXES, VOC_CLASSES, read_table
from .runs import Run

Predictions = str | Path


@frees_folders
def score(
    predictions: Predictions | Mapping[str, Predictions],
    data: DetectionData | str | Path | None = None,
    *,
    out: str | Path,
    measure: str = "auto",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Run:
    """Score the detections of any framework under corruption, and write a run like those of ``bench``.

    Nothing is detected here: for each corruption and severity there is a file in COCO's format of
    results, a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``. How
    the files may be called is said by :func:`~shiftproof.bench.predictions.find_predictions`. A file
    with an empty list is a cell in which nothing was found; a file that is not there is named, and
    no mPC is claimed.

    Args:
        predictions: the folder of the result files; or a table of results (``.pkl`` of mmdetection's
            test_robustness, ``.json``, ``.csv``), which has no intervals, as there are no images in
            it; or name to either, where the first is the one that the others are compared with.
        data: the annotations: a COCO JSON file alone, without its images, or whatever
            ``open_detection_data`` takes. Result files of data without ids of their own (VOC, YOLO,
            Cityscapes) name images by path, file name, or file name without suffix, and categories
            by name or from 1 in the order of the classes. A table needs none.
        out: the folder of the run.
        measure: as for :func:`run_detection`.
        workers: processes that measure.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: files or records that cannot be used, named with their place; predictions of
            other data; tables beside result files.
        BrokenFileError: a file cannot be read.
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    given = _named(predictions)
    tables = {name: path for name, path in given.items() if path.suffix.lower() in SUFFIXES}
    if tables and len(tables) < len(given):
        raise InputError(
            f"{next(iter(tables.values()))} is a table and {len(given) - len(tables)} others are "
            "folders of result files; score them apart."
        )
    if tables:
        return _score_tables(tables, Path(out), measure)
    if data is None:
        raise InputError(
            "Expected the annotations beside the result files: data=, a COCO JSON file or a data "
            "set with boxes."
        )
    return _score_files(given, data, Path(out), measure, workers, show_progress)


def _named(predictions: Predictions | Mapping[str, Predictions]) -> dict[str, Path]:
    if not isinstance(predictions, Mapping):
        return {"detector": _there(predictions)}
    if not predictions:
        raise InputError("Expected at least one folder of predictions, got none.")
    for name in predictions:
        if not files.can_name_files(name):
            raise InputError(
                f"A detector cannot be called {name!r}: it names a folder, so letters, digits, '_', "
                "'.', '+' and '-' only, and no '.' in front."
            )
    return {name: _there(path) for name, path in predictions.items()}


def _there(path: Predictions) -> Path:
    if not Path(path).exists():
        raise InputError(f"{path} does not exist; expected a folder of result files, or a table.")
    return Path(path)


# ---------------------------------------------------------------- result files


def _score_files(
    given: Mapping[str, Path],
    data: DetectionData | str | Path,
    out: Path,
    measure: str,
    workers: int | None,
    show_progress: bool | None,
) -> Run:
    truth = _read_truth(data)
    measure = _measure_of(measure, truth)
    masks = measure == "coco-masks"
    objects = read_objects(truth.annotations, masks=masks)
    found = {name: find_predictions(path, masks=masks) for name, path in given.items()}
    cells, missing = _cells(found)
    folder = RunFolder.create(
        out,
        "detection",
        plain(
            {
                "models": {name: _about(given[name], one) for name, one in found.items()},
                "measure": measure,
                "data": truth.settings,
                "images": {"source": "result files of another framework"},
                "corruptions": dict.fromkeys(_corruptions(cells)),
                "severities": sorted({cell.severity for cell in cells if not cell.is_clean}),
            }
        ),
        {
            "classes": {"title": truth.title, "count": len(objects.categories)},
            "provenance": provenance("none", 0),
        },
    )
    files.write_json(folder.path / detection_summary.GROUND_TRUTH, truth.annotations)
    total = len(found) * len(cells)
    with progress("Read", total, show=show_progress) as advance:
        for name, one in found.items():
            files.make_folder(folder.path / "records" / name)
            for cell in cells:
                if not folder.has(name, cell):
                    records = _records(one.files[cell], truth, objects, masks=masks)
                    write_detections(folder.records_file(name, cell), records)
                advance(note=str(cell))
    scores = detection_summary.summarise(
        folder,
        models={name: name for name in found},
        cells=cells,
        measure=measure,
        missing=missing,
        workers=default_workers("none") if workers is None else workers,
        show_progress=show_progress,
    )
    files.write_json(folder.scores_file, scores)
    save_gallery(folder, None, cells, truth.samples, list(found), truth.annotations)
    return Run(folder.path)


@dataclass(frozen=True)
class _Truth:
    """Annotations in COCO's form, each image's ``file_name`` its own, and what names an image."""

    annotations: dict[str, Any]
    images: Mapping[Any, Any]
    categories: Mapping[Any, int]
    is_voc: bool
    title: str
    settings: Settings

    @property
    def samples(self) -> list[Sample]:
        """The images, in the order of the annotations."""
        return [Sample(str(record["file_name"])) for record in self.annotations["images"]]


def _read_truth(data: DetectionData | str | Path) -> _Truth:
    if not isinstance(data, DetectionData) and Path(data).suffix.lower() == ".json":
        path = Path(data)
        value = read_json(path)
        objects = read_objects(value if isinstance(value, Mapping) else path)
        annotations = _with_names(value)
        known: Mapping[Any, Any] = {identity: identity for identity in objects.image_ids}
        return _Truth(
            annotations,
            known,
            {identity: identity for identity in objects.categories},
            is_voc=False,
            title=path.name,
            settings={
                "name": path.name,
                "kind": "COCO annotations",
                "fingerprint": files.file_fingerprint(path),
                "images": len(objects.image_ids),
                "objects": len(objects.boxes),
            },
        )
    dataset = open_detection_data(data)
    annotations = dataset.ground_truth()
    categories = {record["name"]: record["id"] for record in annotations["categories"]}
    return _Truth(
        annotations,
        _aliases(annotations["images"]),
        {**categories, **{identity: identity for identity in dataset.category_ids}},
        is_voc=isinstance(dataset, VocData),
        title=dataset.classes.title,
        settings=dataset.settings(),
    )


def _with_names(value: Mapping[str, Any]) -> dict[str, Any]:
    """Annotations in which every image has a file name that no other has."""
    names = Counter(str(record.get("file_name")) for record in value["images"])
    images = []
    for record in value["images"]:
        name = record.get("file_name")
        unique = isinstance(name, str) and names[name] == 1
        images.append({**record, "file_name": name if unique else f"image {record['id']}"})
    return {**value, "images": images}


def _aliases(images: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
    """All that names an image which has no id of its own: its path, name, stem, and stem as a number."""
    found: dict[Any, Any] = {}
    doubled: set[Any] = set()
    for record in images:
        path = PurePosixPath(record["file_name"])
        names: list[Any] = [str(path), path.name, str(path.with_suffix("")), path.stem]
        names += [int(path.stem)] if re.fullmatch(r"[0-9]{1,18}", path.stem) else []
        for name in dict.fromkeys(names):
            doubled |= {name} & found.keys()
            found[name] = record["id"]
    return {name: identity for name, identity in found.items() if name not in doubled}


def _measure_of(measure: str, truth: _Truth) -> str:
    if measure == "auto":
        return "voc" if truth.is_voc else "coco"
    if measure not in MEASURES:
        raise UnknownNameError.of("measure", measure, ["auto", *MEASURES])
    return measure


def _about(root: Path, found: PredictionFiles) -> Settings:
    return {
        "name": root.name,
        "predictions": {
            str(cell): files.file_fingerprint(path) for cell, path in sorted(found.files.items())
        },
        "files that are no cell": list(found.passed_over),
    }


def _cells(found: Mapping[str, PredictionFiles]) -> tuple[list[Cell], list[Cell]]:
    """The cells that all detectors have, in order, and those that are missing to make a whole grid."""
    everywhere = set.intersection(*(set(one.files) for one in found.values()))
    anywhere = set.union(*(set(one.files) for one in found.values()))
    if not any(not cell.is_clean for cell in everywhere):
        raise InputError(
            "Expected at least one corrupted cell that all detectors have; there are "
            f"{', '.join(map(str, sorted(anywhere)[:5]))}."
        )
    severities = {cell.severity for cell in anywhere if not cell.is_clean}
    whole = {CLEAN} | {
        Cell(name, severity) for name in _corruptions(anywhere) for severity in severities
    }
    return _ordered(everywhere), _ordered(whole - everywhere)


def _corruptions(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.corruption for cell in _ordered(cells) if not cell.is_clean))


def _ordered(cells: Iterable[Cell]) -> list[Cell]:
    place = {name: at for at, name in enumerate(CORRUPTIONS)}
    return sorted(
        cells,
        key=lambda cell: (not cell.is_clean, place.get(cell.corruption, len(place)), cell),
    )


def _records(path: Path, truth: _Truth, objects: Objects, *, masks: bool) -> DetectionRecords:
    value = read_json(path)
    where = f"{path.parent.name}/{path.name}"
    if not isinstance(value, list):
        raise InputError(
            f"{where}: expected COCO results, a list of objects with image_id, category_id, bbox and "
            f"score, got a {type(value).__name__}. Is this the ground truth, or a table?"
        )
    value = [
        _translated(f"{where}[{at}]", one, truth) if isinstance(one, Mapping) else one
        for at, one in enumerate(value)
    ]
    try:
        found = read_found(value, objects, masks=masks)
    except InputError as error:
        # Its own words name the list and the place in it, not the file.
        text = re.sub(r"^(detections|input|ground truth)\b", "", str(error))
        raise InputError(
            f"{where}{'' if text.startswith('[') else ': '}{text.lstrip(': ')}"
        ) from error
    return _per_image(found, truth, objects)


def _translated(where: str, record: Mapping[str, Any], truth: _Truth) -> dict[str, Any]:
    """The record with the ids of the ground truth; what is unknown stays, and is refused later."""
    image, category = record.get("image_id"), record.get("category_id")
    try:
        return {
            **record,
            **({"image_id": truth.images.get(image, image)} if "image_id" in record else {}),
            **(
                {"category_id": truth.categories.get(category, category)}
                if "category_id" in record
                else {}
            ),
        }
    except TypeError as error:
        raise InputError(
            f"{where}: expected image_id and category_id as numbers or names, got {image!r:.40} and "
            f"{category!r:.40}."
        ) from error


def _per_image(found: Found, truth: _Truth, objects: Objects) -> DetectionRecords:
    order = np.argsort(found.image, kind="stable")
    ends = np.searchsorted(found.image[order], np.arange(len(objects.image_ids) + 1))
    place = {identity: at for at, identity in enumerate(objects.image_ids)}
    images: list[FoundInImage] = []
    for record in truth.annotations["images"]:
        at = place[record["id"]]
        rows = order[ends[at] : ends[at + 1]]
        images.append(
            FoundInImage(
                found.category[rows].astype(np.int32),
                found.score[rows],
                found.boxes[rows],
                None
                if found.masks is None
                else tuple(found.masks[row]["counts"] for row in rows.tolist()),
            )
            if len(rows)
            else NOTHING
        )
    return DetectionRecords(
        ids=[sample.id for sample in truth.samples],
        position=np.arange(len(images), dtype=np.int32),
        found=images,
        error=[None] * len(images),
    )


# ---------------------------------------------------------------- tables


def _score_tables(given: Mapping[str, Path], out: Path, measure: str) -> Run:
    kind = "segm" if measure == "coco-masks" else "bbox"
    if measure not in ("auto", "coco", "coco-masks"):
        raise InputError(f"A table brings its own measure; leave out {measure!r}.")
    read = {name: read_table(path, kind=kind) for name, path in given.items()}
    names = {name for name, _ in read.values()}
    if len(names) > 1:
        raise InputError(f"The tables have different measures: {' and '.join(sorted(names))}.")
    performance = {name: cells for name, (_, cells) in read.items()}
    found = {
        name: PredictionFiles(dict.fromkeys(cells, Path()), ())
        for name, cells in performance.items()
    }
    cells, missing = _cells(found)
    called = names.pop()
    title = f"{called}, as the table has it" + (" (masks)" if kind == "segm" else "")
    folder = RunFolder.create(
        out,
        "detection",
        plain(
            {
                "models": {
                    name: {"name": path.name, "table": files.file_fingerprint(path)}
                    for name, path in given.items()
                },
                "measure": measure,
                "data": {"name": "unknown", "kind": "table of results"},
                "images": {"source": "table of results"},
                "corruptions": dict.fromkeys(_corruptions(cells)),
                "severities": sorted({cell.severity for cell in cells if not cell.is_clean}),
            }
        ),
        {
            "classes": {"title": "unknown", "count": None},
            "provenance": provenance("none", 0),
        },
    )
    scores = detection_summary.of_performance(
        performance,
        {name: name for name in performance},
        cells,
        missing,
        called,
        title,
        classes=_voc_classes(performance),
    )
    files.write_json(folder.scores_file, scores)
    save_gallery(folder, None, cells, [], list(performance), {})
    return Run(folder.path)


def _voc_classes(performance: Mapping[str, Mapping[Cell, Performance]]) -> Sequence[str]:
    """The names of the classes, where a table has Pascal VOC's twenty."""
    counts = {len(one.per_class) for cells in performance.values() for one in cells.values()}
    return VOC_CLASSES if counts == {len(VOC_CLASSES)} else ()
