"""Scoring result files of detectors from other frameworks: COCO's lists of what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from shiftproof.bench.scoring.name_matching import NameIndex
from shiftproof.bench.scoring.result_files import PredictionFiles, find_predictions
from shiftproof.bench.scoring.score_request import ScoreRequest
from shiftproof.bench.scoring.shared_cells import find_shared_cells
from shiftproof.bench.tasks.detection.cell_measure import (
    CellMeasure,
    measure_cell,
    save_performance,
)
from shiftproof.bench.tasks.detection.gallery import save_gallery
from shiftproof.bench.tasks.detection.measures import MEASURES, check_wanted, make_measure
from shiftproof.bench.tasks.detection.task import Detection, load_cell_measure, write_ground_truth
from shiftproof.counts import pluralize
from shiftproof.data import CocoData, DetectionData, VocData, open_detection_data
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import show_name
from shiftproof.io.text import read_json
from shiftproof.metrics.annotations import Annotations, read_annotations
from shiftproof.metrics.coco import (
    DetectionColumns,
    Objects,
    make_objects,
    read_detection_columns,
    read_objects,
)
from shiftproof.metrics.faults import NO_MASK, UNKNOWN_IMAGE, Fault, count_faults
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.detection import (
    NO_DETECTIONS,
    DetectionRecords,
    ImageDetections,
    write_detections,
)
from shiftproof.runs.result_faults import FaultCounts, store_faults, summarize_faults
from shiftproof.runs.run import Run
from shiftproof.runs.scores.reading import read_form, write_form
from shiftproof.types import Cell, Sample, Settings


def score_detections(request: ScoreRequest) -> Run:
    """Score result files of detectors; see :func:`shiftproof.bench.score`."""
    truth = _read_truth(request.data, request.measure)
    check_wanted(truth.title, make_measure(truth.measure, truth.annotations), truth.faults)
    objects = read_objects(truth.annotations, masks=truth.has_masks)
    found = {
        name: find_predictions(path, masks=truth.has_masks) for name, path in request.given.items()
    }
    shared = find_shared_cells({name: one.files for name, one in found.items()})
    cells = shared.grid.cells
    by_name = {name: _uses_image_names(one, cells, truth.names) for name, one in found.items()}
    faults = msgspec.to_builtins(summarize_faults(truth.faults)) if truth.faults else None
    folder = request.create_folder(
        "detection",
        {
            "models": {
                name: _describe_source(request.given[name], one) for name, one in found.items()
            },
            "measure": truth.measure,
            "data": truth.settings,
            "images": {"source": "result files of another framework"},
            **shared.settings(),
        },
        {
            "classes": {"title": truth.title, "count": len(objects.categories)},
            **shared.about(),
            **({} if faults is None else {"data_faults": faults}),
        },
    )
    write_ground_truth(folder, truth.annotations, truth.measure)
    cell_measure = load_cell_measure(folder, [sample.id for sample in truth.samples])
    reader = _Results(
        truth, objects, {name: one.files for name, one in found.items()}, by_name, cell_measure
    )
    request.fill(folder, reader, cells, processes=request.processes)
    _settle_readings(folder, list(found), cells)
    request.summarize(folder, Detection(measure=truth.measure), shared.grid)
    save_gallery(folder, None, cells, truth.samples, list(found), truth.annotations)
    folder.drop_cache()
    return Run(folder.path)


@dataclass(frozen=True)
class _Truth:
    """Annotations in COCO's form, each image's ``file_name`` its own, and what names an image."""

    annotations: dict[str, Any]
    names: NameIndex
    measure: str
    title: str
    settings: Settings
    faults: Sequence[Fault]

    @property
    def has_masks(self) -> bool:
        """Whether masks are measured, not boxes."""
        return self.measure == "coco-masks"

    @property
    def samples(self) -> list[Sample]:
        """The images, in the order of the annotations."""
        return [Sample(str(record["file_name"])) for record in self.annotations["images"]]


def _read_truth(data: object, measure: str) -> _Truth:
    assert isinstance(data, (DetectionData, str, Path))
    if not isinstance(data, DetectionData) and Path(data).suffix.lower() == ".json":
        return _read_coco(Path(data), _measure_of(measure, is_voc=False))
    dataset = open_detection_data(data)
    measure = _measure_of(measure, is_voc=isinstance(dataset, VocData))
    annotations = dataset.ground_truth()
    faults = list(dataset.faults)
    if measure == "coco-masks":
        objects = read_objects(annotations, masks=True)
        names = {record["id"]: record["file_name"] for record in annotations["images"]}
        annotations = _to_coco(objects, names)
        faults += [fault for fault in objects.faults if fault.reason == NO_MASK]
    return _Truth(
        annotations,
        NameIndex(annotations, has_ids=isinstance(dataset, CocoData)),
        measure,
        title=dataset.classes.title,
        settings=dataset.settings(),
        faults=faults,
    )


def _read_coco(path: Path, measure: str) -> _Truth:
    """Read a COCO file alone, without its images."""
    read = read_annotations(path.name, read_json(path))
    objects = make_objects(path.name, read, masks=measure == "coco-masks")
    annotations = _to_coco(objects, _list_file_names(read))
    return _Truth(
        annotations,
        NameIndex(annotations, has_ids=True),
        measure,
        title=path.name,
        settings={
            "name": path.name,
            "kind": "COCO annotations",
            "fingerprint": files.file_fingerprint(path),
            "images": len(objects.image_ids),
            "objects": len(objects.boxes),
            "faults": count_faults(objects.faults),
            "left out": sum(not fault.kept for fault in objects.faults),
        },
        faults=objects.faults,
    )


def _list_file_names(read: Annotations) -> dict[Any, str]:
    """Return for each image a file name that no other has."""
    counts = Counter(record.file_name for record in read.images.values())
    return {
        identity: record.file_name
        if record.file_name is not None and counts[record.file_name] == 1
        else f"image {identity}"
        for identity, record in read.images.items()
    }


def _to_coco(objects: Objects, names: Mapping[Any, str]) -> dict[str, Any]:
    """Return what can be measured in COCO's form: the images in the order of ``names``."""
    sizes = dict(zip(objects.image_ids, objects.sizes, strict=True))
    images = []
    for identity, name in names.items():
        size = sizes[identity]
        sides = {} if size is None else {"width": size[1], "height": size[0]}
        images.append({"id": identity, "file_name": name, **sides})
    categories = list(objects.categories)
    annotations = []
    for at in range(len(objects.boxes)):
        annotation = {
            "id": at + 1,
            "image_id": objects.image_ids[objects.image[at]],
            "category_id": categories[objects.category[at]],
            "bbox": objects.boxes[at].tolist(),
            "area": float(objects.area[at]),
            "iscrowd": int(objects.crowd[at]),
            "difficult": int(objects.difficult[at]),
        }
        if objects.masks is not None:
            code = objects.masks[at]
            annotation["segmentation"] = {**code, "counts": code["counts"].decode("ascii")}
        annotations.append(annotation)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in objects.categories.items()],
    }


def _measure_of(measure: str, *, is_voc: bool) -> str:
    if measure == "auto":
        return "voc" if is_voc else "coco"
    if measure not in MEASURES:
        raise UnknownNameError.of("measure", measure, ["auto", *MEASURES])
    return measure


def _describe_source(root: Path, found: PredictionFiles) -> Settings:
    return {
        "name": root.name,
        "predictions": {
            str(cell): files.file_fingerprint(path) for cell, path in sorted(found.files.items())
        },
        "files that are no cell": list(found.ignored),
    }


# ---------------------------------------------------------------- a cell's result file


class CellReading(msgspec.Struct, frozen=True):
    """What one result file was like, kept until the run is summarized.

    Attributes:
        records: how many records it has.
        foreign: how many of them are of no image of the ground truth.
        first: the first of these in words.
        faults: what is wrong with it; None for nothing.
    """

    records: Annotated[int, Meta(ge=0)]
    foreign: Annotated[int, Meta(ge=0)]
    first: str = ""
    faults: FaultCounts | None = None


@dataclass(frozen=True, eq=False)
class _Results:
    """Reads the result files of all detectors, and measures each."""

    truth: _Truth
    objects: Objects
    files: Mapping[str, Mapping[Cell, Path]]
    by_name: Mapping[str, bool]
    cell_measure: CellMeasure

    def write(self, folder: RunFolder, model: str, cell: Cell) -> None:
        """Write what was found in each image, P of it, and what the file is like."""
        path = self.files[model][cell]
        results = self.truth.names.translate(_read_results(path), by_name=self.by_name[model])
        found = read_detection_columns(
            results, self.objects, masks=self.truth.has_masks, strict=False, where=_show_path(path)
        )
        table = folder.records_file(model, cell)
        write_detections(table, _per_image(found, self.truth, self.objects))
        save_performance(folder, model, cell, measure_cell(self.cell_measure, table))
        _save_reading(folder, model, cell, _describe(results, found.faults))


def _describe(results: Sequence[Any], faults: Sequence[Fault]) -> CellReading:
    foreign = [fault for fault in faults if fault.reason == UNKNOWN_IMAGE]
    return CellReading(
        len(results),
        len(foreign),
        show_name(f"{foreign[0].where}: {foreign[0].detail}") if foreign else "",
        summarize_faults(faults) if faults else None,
    )


def _uses_image_names(found: PredictionFiles, cells: Sequence[Cell], names: NameIndex) -> bool:
    """Return whether the result files of a detector name images by file instead of by id.

    One file alone may name images that could be either; all together show what is meant.

    Raises:
        InputError: they do both.
    """
    if not names.may_clash:
        return False
    paths = [found.files[cell] for cell in cells]
    images = (
        one["image_id"]
        for path in paths
        for one in _read_results(path)
        if isinstance(one, Mapping) and "image_id" in one
    )
    return names.uses_file_names(paths[0].parent.name, images)


def _save_reading(folder: RunFolder, model: str, cell: Cell, reading: CellReading) -> None:
    path = _add_file_name(folder, model, cell)
    files.make_folder(path.parent)
    write_form(path, reading)


def _add_file_name(folder: RunFolder, model: str, cell: Cell) -> Path:
    return folder.cache / "read" / model / f"{cell}.json"


def _find_reading(path: Path) -> CellReading | None:
    if not path.is_file():
        return None
    try:
        return read_form(path, CellReading)
    except BrokenFileError:
        if path.is_file():
            raise
        return None


def _settle_readings(folder: RunFolder, models: Sequence[str], cells: Sequence[Cell]) -> None:
    """Check what all result files are like, and write their faults into ``run.json``.

    A cell that was read by an earlier command may have no reading any more: its faults stand there.
    So they do where another worker ends at the same time, which takes the readings away.

    Raises:
        InputError: of a detector no record is of an image of the ground truth.
    """
    faults: dict[str, dict[Cell, FaultCounts]] = {}
    for name in models:
        found = {cell: _find_reading(_add_file_name(folder, name, cell)) for cell in cells}
        read = {cell: one for cell, one in found.items() if one is not None}
        if len(read) == len(cells):
            _check_any_of_the_images(list(read.values()))
        faults[name] = {cell: one.faults for cell, one in read.items() if one.faults is not None}
    store_faults(folder, {name: of_cells for name, of_cells in faults.items() if of_cells})


def _check_any_of_the_images(readings: Sequence[CellReading]) -> None:
    """Refuse files of which no record is of an image of the ground truth, however few they are."""
    records = sum(one.records for one in readings)
    if records and sum(one.foreign for one in readings) == records:
        first = next(one.first for one in readings if one.first)
        raise InputError(f"{first}. None of {pluralize(records, 'record')} is of one.")


def _read_results(path: Path) -> list[Any]:
    value = read_json(path)
    if not isinstance(value, list):
        raise InputError(
            f"{_show_path(path)}: expected COCO results, a list of objects with image_id, category_id, "
            f"bbox and score, got a {type(value).__name__}. Is this the ground truth, or a table?"
        )
    return value


def _show_path(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _per_image(found: DetectionColumns, truth: _Truth, objects: Objects) -> DetectionRecords:
    order = np.argsort(found.image, kind="stable")
    ends = np.searchsorted(found.image[order], np.arange(len(objects.image_ids) + 1))
    place = {identity: at for at, identity in enumerate(objects.image_ids)}
    images: list[ImageDetections] = []
    for record in truth.annotations["images"]:
        at = place[record["id"]]
        rows = order[ends[at] : ends[at + 1]]
        images.append(
            ImageDetections(
                found.category[rows].astype(np.int32),
                found.score[rows],
                found.boxes[rows],
                None
                if found.masks is None
                else tuple(found.masks[row]["counts"] for row in rows.tolist()),
            )
            if len(rows)
            else NO_DETECTIONS
        )
    return DetectionRecords(
        ids=[sample.id for sample in truth.samples],
        position=np.arange(len(images), dtype=np.int32),
        found=images,
        error=[None] * len(images),
    )
