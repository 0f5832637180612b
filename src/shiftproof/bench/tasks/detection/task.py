"""Detection: boxes or masks, and the dataset's own average precision (Michaelis et al. 2019)."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

from shiftproof.adapt import AdaptedDetector
from shiftproof.bench.cells.views import View, make_full_size_view, open_tree
from shiftproof.bench.tasks.detection.cell_measure import (
    CellMeasure,
    find_performance,
    measure_cell,
)
from shiftproof.bench.tasks.detection.gallery import save_gallery
from shiftproof.bench.tasks.detection.measures import MEASURES, check_wanted, make_measure
from shiftproof.bench.tasks.detection.recorder import DetectorRecording
from shiftproof.bench.tasks.interface import AdapterLike, Grid, Measured, Prepared, Task
from shiftproof.bench.tasks.named_models import (
    adapt_first,
    choose_titles,
    load_models,
    write_settings,
)
from shiftproof.bench.tasks.performance import BIAS_CORRECTED, Performance, summarize_performance
from shiftproof.bench.tasks.published import why_other_corruptions
from shiftproof.bench.tasks.summary import describe_resampling, list_broken
from shiftproof.compute import processes
from shiftproof.compute.progress import progress
from shiftproof.data import CorruptedData, DetectionData, ImageData, VocData, open_detection_data
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.text import read_json
from shiftproof.models import load_detector, match_classes
from shiftproof.models.detectors.detector import Detector, DetectorLike
from shiftproof.models.detectors.load import check_detector
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.parquet import read_same_images
from shiftproof.runs.records.detection import GROUND_TRUTH, read_detections
from shiftproof.runs.scores.grid import Images
from shiftproof.runs.scores.shared import BrokenImage
from shiftproof.types import Cell

DetectorOrSpec: TypeAlias = DetectorLike | str


@final
class Detection(Task):
    """Detectors on images with boxes: P in each cell, mPC and rPC.

    Args:
        measure: "coco", "coco-masks", "voc" (AP50, 11-point) or "voc-all-point"; "auto" takes the
            dataset's own: "voc" for Pascal VOC, else "coco".
        corrupted: corrupted copies to read instead of corrupting images: an open tree, or a
            folder ``corruption/severity/<path of the image>`` or with tars or tables in each
            severity.
        class_map: from a detector's class to one of the dataset, if their names differ.

    Raises:
        UnknownNameError: no such measure.
    """

    kind = "detection"

    def __init__(
        self,
        *,
        measure: str = "auto",
        corrupted: CorruptedData | str | Path | None = None,
        class_map: Mapping[str, str] | None = None,
    ) -> None:
        if measure != "auto" and measure not in MEASURES:
            raise UnknownNameError.of("measure", measure, ["auto", *MEASURES])
        self.measure_name = measure
        self.corrupted = corrupted
        self.class_map = class_map

    def prepare(
        self,
        models: DetectorOrSpec | Mapping[str, DetectorOrSpec],
        data: ImageData | str | Path,
        adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike],
        *,
        device: str,
    ) -> Prepared:
        """Load models and data given as text; match the detectors' classes with those of the data."""
        if isinstance(data, ImageData) and not isinstance(data, DetectionData):
            raise InputError(f"{data.name} has no boxes; expected a dataset for detection.")
        dataset = open_detection_data(data)
        measure = choose_measure(self.measure_name, dataset)
        truth = _without_outlines(dataset.ground_truth(), measure)
        check_wanted(dataset.name, make_measure(measure, truth), dataset.faults)
        tree = open_tree(self.corrupted, dataset)
        load = functools.partial(load_detector, device=device, vocabulary=dataset.classes)
        plain: dict[str, DetectorLike] = load_models(
            models, load, check=check_detector, noun="detector"
        )
        adapted = adapt_first(plain, adapters, AdaptedDetector, kind=Detector)
        named = {**plain, **adapted}
        recording = DetectorRecording(masks=measure == "coco-masks")
        matches = {
            name: match_classes(model.classes, dataset.classes, mapping=self.class_map)
            for name, model in named.items()
        }
        for name, model in named.items():
            recording.add(model, matches[name])

        return Prepared(
            models=named,
            titles=choose_titles(named),
            data=dataset,
            recording=recording,
            settings={
                **write_settings(plain, adapted, "detector"),
                "classes": {name: match.settings() for name, match in matches.items()},
                "measure": measure,
            },
            about={"classes": {"title": dataset.classes.title, "count": len(dataset.classes)}},
            make_view=functools.partial(make_full_size_view, dataset, tree),
            corrupted=tree,
            device=str(next(iter(plain.values())).settings.get("device", "cpu")),
            batch_size=8,
        )

    def begin(self, folder: RunFolder, prepared: Prepared) -> None:
        """Write the ground truth."""
        dataset = prepared.data
        assert isinstance(dataset, DetectionData)
        write_ground_truth(folder, dataset.ground_truth(), prepared.settings["measure"])

    def carry(self, folder: RunFolder, target: RunFolder, images: Collection[str]) -> None:
        """Write the ground truth of these images only: other objects would count as missed."""
        truth = read_json(folder.path / GROUND_TRUTH)
        files.write_json(target.path / GROUND_TRUTH, _select_images(folder, truth, images))

    def measure(
        self,
        folder: RunFolder,
        models: Sequence[str],
        grid: Grid,
        *,
        workers: int,
        show_progress: bool | None,
    ) -> Measured:
        """Return P in each cell, mPC and rPC, and P by size of object and by class."""
        ids, broken = _read_image_ids(folder, models, grid.cells)
        truth, places = _read_ground_truth(folder, ids, broken)
        cell_measure = CellMeasure.of(_read_measure(folder), truth, places)
        keys = [(name, cell) for name in models for cell in grid.cells]
        # What was measured with a cell counted all images.
        kept = {} if broken else _find_kept(folder, keys, cell_measure)
        performance = _measure(folder, keys, cell_measure, kept, workers, show_progress)
        objects = list(cell_measure.measure.wanted_per_category.values())
        return summarize_performance(
            {name: {cell: performance[name, cell] for cell in grid.cells} for name in models},
            grid,
            cell_measure.measure.name,
            cell_measure.measure.title,
            interval=describe_resampling(BIAS_CORRECTED, cell_measure.replicates),
            images=Images(len(ids), len(cell_measure.measure.image_ids), broken, sum(objects)),
            classes=list(cell_measure.measure.categories.values()),
            objects=objects,
            changed=why_other_corruptions(folder),
        )

    def save_gallery(
        self, folder: RunFolder, prepared: Prepared, view: View, cells: Sequence[Cell]
    ) -> None:
        """Save images in every cell with their detections, and those with the largest losses."""
        truth = read_json(folder.path / GROUND_TRUTH)
        save_gallery(folder, view, cells, prepared.data.samples, list(prepared.titles), truth)


def choose_measure(measure: str, data: DetectionData) -> str:
    """Return the name of the measure; "auto" is the dataset's own."""
    if measure != "auto":
        return measure
    return "voc" if isinstance(data, VocData) else "coco"


def write_ground_truth(folder: RunFolder, truth: Mapping[str, Any], measure: str) -> None:
    """Write the ground truth, with outlines only if masks are measured.

    An area that is not finite is written as text, since JSON has only finite numbers.
    """
    truth = _without_outlines(truth, measure)
    annotations = [
        one if math.isfinite(one["area"]) else {**one, "area": str(one["area"])}
        for one in truth["annotations"]
    ]
    files.write_json(folder.path / GROUND_TRUTH, {**truth, "annotations": annotations})


def _without_outlines(truth: Mapping[str, Any], measure: str) -> dict[str, Any]:
    if measure == "coco-masks":
        return dict(truth)
    annotations = [
        {key: value for key, value in one.items() if key != "segmentation"}
        for one in truth["annotations"]
    ]
    return {**truth, "annotations": annotations}


# ---------------------------------------------------------------- what is measured


def _read_measure(folder: RunFolder) -> str:
    settings = folder.info().get("settings")
    measure = settings.get("measure") if isinstance(settings, dict) else None
    if measure not in MEASURES:
        raise BrokenFileError(
            f"{folder.run_file}: expected the measure of a run of detectors, got {measure!r:.60}."
        )
    return str(measure)


def load_cell_measure(folder: RunFolder, ids: Sequence[str]) -> CellMeasure:
    """Return what the cells of a run are measured by where all its images can be read.

    Raises:
        BrokenFileError: the ground truth or the run's settings cannot be read.
    """
    return CellMeasure.of(_read_measure(folder), *_read_ground_truth(folder, ids, ()))


_Key: TypeAlias = tuple[str, Cell]


def _find_kept(
    folder: RunFolder, keys: Sequence[_Key], cell_measure: CellMeasure
) -> dict[_Key, Performance]:
    found = {key: find_performance(folder, *key, cell_measure) for key in keys}
    return {key: one for key, one in found.items() if one is not None}


def _measure(
    folder: RunFolder,
    keys: Sequence[_Key],
    cell_measure: CellMeasure,
    kept: Mapping[_Key, Performance],
    workers: int,
    show_progress: bool | None,
) -> dict[_Key, Performance]:
    """Return P of each model in each cell: what was kept, and the rest measured now."""
    missing = [key for key in keys if key not in kept]
    results = processes.map_ordered(
        measure_cell,
        [folder.records_file(*key) for key in missing],
        context=cell_measure,
        workers=workers if len(missing) > 1 else 0,
        lookahead=2,
    )
    measured = dict(kept)
    with progress("Measure", len(missing), show=show_progress) as advance:
        for key, result in zip(missing, results, strict=True):
            measured[key] = result
            advance(note=str(key[1]))
    return measured


def _read_image_ids(
    folder: RunFolder, models: Sequence[str], cells: Sequence[Cell]
) -> tuple[list[str], tuple[BrokenImage, ...]]:
    """Return the images of the run, and those that are unreadable in some cell, which are excluded.

    All tables are read, since all cells must be measured on the same images.
    """
    paths = {(name, cell): folder.records_file(name, cell) for name in models for cell in cells}
    read = read_same_images(paths, _read_images)
    first = [(cell, read[models[0], cell]) for cell in cells]
    return first[0][1].ids, list_broken((cell, one.ids, one.error) for cell, one in first)


@dataclass
class _ImagesOfTable:
    """The images of a table without what was found in them, which is much."""

    ids: list[str]
    error: list[str | None]


def _read_images(path: Path) -> _ImagesOfTable:
    found = read_detections(path)
    return _ImagesOfTable(found.ids, found.error)


def _read_ground_truth(
    folder: RunFolder, ids: Sequence[str], broken: Sequence[BrokenImage]
) -> tuple[dict[str, Any], list[Any]]:
    """Return the ground truth of the readable images, and for each image its id there or None."""
    path = folder.path / GROUND_TRUTH
    truth = read_json(path)
    try:
        image_id = {record["file_name"]: record["id"] for record in truth["images"]}
        left_out = {image_id[entry.id] for entry in broken}
        places = [None if image_id[one] in left_out else image_id[one] for one in ids]
        kept = {
            **truth,
            "images": [one for one in truth["images"] if one["id"] not in left_out],
            "annotations": [one for one in truth["annotations"] if one["image_id"] not in left_out],
        }
    except (KeyError, TypeError) as error:
        raise _explain_wrong_truth(path, error) from error
    return kept, places


def _select_images(folder: RunFolder, truth: Any, images: Collection[str]) -> dict[str, Any]:
    """Return the ground truth of some images only."""
    try:
        kept = [one for one in truth["images"] if one["file_name"] in images]
        ids = {one["id"] for one in kept}
        objects = [one for one in truth["annotations"] if one["image_id"] in ids]
        return {**truth, "images": kept, "annotations": objects}
    except (KeyError, TypeError) as error:
        raise _explain_wrong_truth(folder.path / GROUND_TRUTH, error) from error


def _explain_wrong_truth(path: Path, error: Exception) -> BrokenFileError:
    return BrokenFileError(
        f"{path}: not the ground truth of this run ({error!r:.100}). It was changed, or is of "
        "another one."
    )
