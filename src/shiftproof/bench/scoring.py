"""Score what another framework has found: its result files in, the same run as ours out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shiftproof.bench.arguments import default_workers
from shiftproof.bench.calibrators import COVERAGE
from shiftproof.bench.classification_scoring import holds_answers, score_answers
from shiftproof.bench.detection import Detection, summarize_performance, write_ground_truth
from shiftproof.bench.detection_gallery import save_gallery
from shiftproof.bench.detection_measures import MEASURES, Performance, check_wanted, make_measure
from shiftproof.bench.naming import Names
from shiftproof.bench.predictions import (
    PredictionFiles,
    find_predictions,
)
from shiftproof.bench.result_tables import SUFFIXES, VOC_CLASSES, read_table
from shiftproof.bench.segmentation_scoring import Named, holds_label_maps, score_label_maps
from shiftproof.bench.shared_cells import share_cells
from shiftproof.bench.summary import SEED, summarize
from shiftproof.bench.summary import score as score_measured
from shiftproof.compute.progress import progress
from shiftproof.data import CocoData, DetectionData, ImageData, VocData, open_detection_data
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import suggest_sibling
from shiftproof.io.holding import frees_folders
from shiftproof.io.text import read_json
from shiftproof.metrics.annotations import Annotations, read_annotations
from shiftproof.metrics.coco import (
    DetectionColumns,
    Objects,
    objects_of,
    read_detection_columns,
    read_objects,
)
from shiftproof.metrics.faults import NO_MASK, UNKNOWN_IMAGE, Fault, count_faults
from shiftproof.metrics.intervals import LEVEL
from shiftproof.models.classifiers.class_names import read_classes
from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder, leave_nothing_if_refused
from shiftproof.runs.names import plain
from shiftproof.runs.records.detection import (
    NOTHING,
    DetectionRecords,
    FoundInImage,
    write_detections,
)
from shiftproof.runs.result_faults import keep_faults, summarize_faults
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import Images
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.scores.shared import Resampling
from shiftproof.types import Cell, Sample, Settings

Predictions = str | Path


@frees_folders
def score(
    predictions: Predictions | Mapping[str, Predictions],
    data: ImageData | str | Path | None = None,
    *,
    out: str | Path,
    measure: str = "auto",
    classes: Named | None = None,
    class_map: Mapping[str, str] | None = None,
    calibrate: float | str | None = None,
    coverage: float = COVERAGE,
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Run:
    """Score the predictions of any framework under corruption; the run is like those of ``bench``.

    No model is run. Classifiers: ``.npz``, ``.npy``, ``.csv`` or ``.parquet`` files, one for each
    corruption and severity, or one table with the columns corruption, severity and image;
    :func:`~shiftproof.bench.answers.read_answers` documents their content. Every cell has one answer
    for each image.

    Segmenters: label maps as PNG in a folder for each corruption and severity,
    ``fog/3/<path of the image>.png`` and ``clean/<path of the image>.png``. Of palette images the
    indices are read; 255 means no class. Every cell has one label map for each image, of the size of
    the ground truth.

    Detectors: a file for each corruption and severity in COCO's format of results, a list of
    ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``.
    :func:`~shiftproof.bench.predictions.find_predictions` documents the file names. A file with an
    empty list is a cell without detections; missing files are named, and mPC is not computed.
    Unusable records are ignored and listed in ``run.json``.

    Args:
        predictions: the folder of the result files; or a table of results (``.pkl`` of mmdetection's
            test_robustness, ``.json``, ``.csv``), which has no intervals, as it has no images; or a
            mapping of model names to either, where the first is the baseline of comparisons.
        data: the ground truth. Detectors: a COCO JSON file, without its images, or anything that
            ``open_detection_data`` takes; result files name images by the ids of COCO data, or by
            path, file name, or file name without suffix, and categories by id (from 1 in the order of
            the classes where the data has none) or by name; a table needs no data. Classifiers:
            anything that ``open_data`` takes, or a CSV of path,label, whose images may be missing;
            None if the files contain images and labels. Segmenters: anything that
            ``open_segmentation_data`` takes.
        out: the folder of the run.
        measure: for detectors, as in :class:`Detection`.
        classes: for classifiers, the classes of the scores; by default ImageNet's classes for 1,000
            scores, else numbers. For segmenters, the meaning of the numbers in the label maps:
            "index" for indices of the data's classes (the default where the data's own label maps
            have the same), "label-maps" for the numbers in these, or as in
            ``open_segmentation_data``.
        class_map: for segmenters, from a class of the answers (or a number) to one of the data.
        calibrate: for classifiers, the share of the images that is held out to fit temperature and
            prediction sets on their clean answers, 0.2 or "fraction=0.2"; the rest is measured.
        coverage: the share of images whose prediction sets should contain the true class.
        workers: number of processes that measure.
        show_progress: None shows progress on a terminal only.

    Raises:
        InputError: files that cannot be used; predictions of other data; annotations without an
            object to be found; tables beside result files; answers without scores to calibrate on.
        BrokenFileError: a file cannot be read.
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    given = _name_predictions(predictions)
    task = task_of(given)
    _check_arguments(given, task, data, measure, classes, class_map, calibrate)
    if not isinstance(predictions, Mapping):
        given = {_NOUNS[task]: next(iter(given.values()))}
    with leave_nothing_if_refused(Path(out)):
        if task == "segmentation":
            assert data is not None
            return score_label_maps(
                given,
                data,
                Path(out),
                classes=classes,
                class_map=class_map,
                workers=workers,
                show_progress=show_progress,
            )
        if task == "classification":
            return score_answers(
                given,
                data,
                Path(out),
                classes=None if classes is None else read_classes(classes),
                calibrate=calibrate,
                coverage=coverage,
                workers=workers,
                show_progress=show_progress,
            )
        if _is_table(next(iter(given.values()))):
            return _score_tables(given, Path(out), measure)
        assert data is not None
        assert isinstance(data, (DetectionData, str, Path))
        return _score_files(given, data, Path(out), measure, workers, show_progress)


_NOUNS = {
    "classification": "classifier",
    "detection": "detector",
    "segmentation": "segmenter",
}
"""Default name of a single model, by task."""


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _check_arguments(
    given: Mapping[str, Path],
    task: str,
    data: ImageData | str | Path | None,
    measure: str,
    classes: object,
    class_map: object,
    calibrate: object,
) -> None:
    """Refuse files of two kinds, and arguments that say nothing of theirs.

    Raises:
        InputError: there are such.
    """
    if calibrate is not None and task != "classification":
        raise InputError(
            "Only classifiers can be calibrated, and these are answers of another kind; leave the "
            "calibration out."
        )
    if task != "detection" and measure != "auto":
        these = "label maps" if task == "segmentation" else "classes"
        raise InputError(f"The measure {measure!r} is of detections; these are {these}.")
    if task == "segmentation":
        if data is None:
            raise InputError(
                "Expected the data set beside the label maps: data=, a folder with the true ones."
            )
        return
    if class_map is not None:
        raise InputError("A class map is of segmenters' label maps; give none.")
    answers = [path for path in given.values() if holds_answers(path)]
    if answers and len(answers) < len(given):
        raise InputError(
            f"{answers[0]} are answers of a classifier and others are detections; score them apart."
        )
    if not answers:
        _check_detections(given, data, classes)


def _check_detections(
    given: Mapping[str, Path], data: ImageData | str | Path | None, classes: object
) -> None:
    """Refuse tables beside result files, and data that are no truth for either.

    Raises:
        InputError: there are such.
    """
    if classes is not None:
        raise InputError("The classes of detections are those of the annotations; give none.")
    tables = [path for path in given.values() if _is_table(path)]
    if tables and len(tables) < len(given):
        raise InputError(
            f"{tables[0]} is a table and {len(given) - len(tables)} others are "
            "folders of result files; score them apart."
        )
    if tables:
        return
    if data is None:
        raise InputError(
            "Expected the annotations beside the result files (--data, data=): a COCO JSON file or "
            "a data set with boxes."
        )
    if isinstance(data, ImageData) and not isinstance(data, DetectionData):
        raise InputError(
            f"{data.name} has no boxes; expected annotations for result files of boxes."
        )


def task_of(given: Mapping[str, Path]) -> str:
    """Return what answers are of, by their files: classification, detection or segmentation.

    Raises:
        InputError: some are label maps and others are not.
        BrokenFileError: a table that cannot be read.
    """
    maps = [path for path in given.values() if holds_label_maps(path)]
    if maps and len(maps) < len(given):
        raise InputError(f"{maps[0]} are label maps and others are not; score them apart.")
    if maps:
        return "segmentation"
    return "classification" if any(map(holds_answers, given.values())) else "detection"


def _name_predictions(predictions: Predictions | Mapping[str, Predictions]) -> dict[str, Path]:
    if not isinstance(predictions, Mapping):
        return {"detector": _there(predictions)}
    if not predictions:
        raise InputError("Expected at least one folder of predictions, got none.")
    for name in predictions:
        if not files.can_name_files(name):
            raise InputError(
                f"A model cannot be called {name!r}: it names a folder, so letters, digits, '_', "
                "'.', '+' and '-' only, and no '.' in front."
            )
    return {name: _there(path) for name, path in predictions.items()}


def _there(path: Predictions) -> Path:
    if not Path(path).exists():
        raise InputError(
            f"{path} does not exist; expected a folder of result files, or a table."
            f"{suggest_sibling(Path(path))}"
        )
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
    truth = _read_truth(data, measure)
    measured = make_measure(truth.measure, truth.annotations)
    check_wanted(truth.title, measured, truth.faults)
    masks = truth.measure == "coco-masks"
    objects = read_objects(truth.annotations, masks=masks)
    found = {name: find_predictions(path, masks=masks) for name, path in given.items()}
    shared = share_cells({name: one.files for name, one in found.items()})
    cells = shared.grid.cells
    folder = RunFolder.create(
        out,
        "detection",
        plain(
            {
                "models": {name: _about(given[name], one) for name, one in found.items()},
                "measure": truth.measure,
                "data": truth.settings,
                "images": {"source": "result files of another framework"},
                **shared.settings(),
            }
        ),
        {
            "classes": {"title": truth.title, "count": len(objects.categories)},
            **shared.about(),
            **(
                {"data_faults": msgspec.to_builtins(summarize_faults(truth.faults))}
                if truth.faults
                else {}
            ),
            "provenance": provenance("none", 0),
        },
    )
    write_ground_truth(folder, truth.annotations, truth.measure)
    total = len(found) * len(cells)
    with progress("Read", total, show=show_progress) as advance:
        for name, one in found.items():
            files.make_folder(folder.path / "records" / name)
            results = _Results(truth, objects, [one.files[cell] for cell in cells], masks=masks)
            for cell in cells:
                if not folder.has(name, cell):
                    records, faults = results.read(one.files[cell])
                    if faults:
                        keep_faults(folder, name, cell, faults)
                    write_detections(folder.records_file(name, cell), records)
                advance(note=str(cell))
            results.check_any_of_the_images()
    scores = summarize(
        folder,
        Detection(measure=truth.measure),
        {name: name for name in found},
        shared.grid,
        workers=default_workers("none") if workers is None else workers,
        show_progress=show_progress,
    )
    write_form(folder.scores_file, scores)
    save_gallery(folder, None, cells, truth.samples, list(found), truth.annotations)
    return Run(folder.path)


@dataclass(frozen=True)
class _Truth:
    """Annotations in COCO's form, each image's ``file_name`` its own, and what names an image."""

    annotations: dict[str, Any]
    names: Names
    measure: str
    title: str
    settings: Settings
    faults: Sequence[Fault]

    @property
    def samples(self) -> list[Sample]:
        """The images, in the order of the annotations."""
        return [Sample(str(record["file_name"])) for record in self.annotations["images"]]


def _read_truth(data: DetectionData | str | Path, measure: str) -> _Truth:
    if not isinstance(data, DetectionData) and Path(data).suffix.lower() == ".json":
        return _read_coco(Path(data), _measure_of(measure, is_voc=False))
    dataset = open_detection_data(data)
    measure = _measure_of(measure, is_voc=isinstance(dataset, VocData))
    annotations = dataset.ground_truth()
    faults = list(dataset.faults)
    if measure == "coco-masks":
        objects = read_objects(annotations, masks=True)
        names = {record["id"]: record["file_name"] for record in annotations["images"]}
        annotations = _as_coco(objects, names)
        faults += [fault for fault in objects.faults if fault.reason == NO_MASK]
    return _Truth(
        annotations,
        Names(annotations, has_ids=isinstance(dataset, CocoData)),
        measure,
        title=dataset.classes.title,
        settings=dataset.settings(),
        faults=faults,
    )


def _read_coco(path: Path, measure: str) -> _Truth:
    """Read a COCO file alone, without its images."""
    read = read_annotations(path.name, read_json(path))
    objects = objects_of(path.name, read, masks=measure == "coco-masks")
    annotations = _as_coco(objects, _file_names(read))
    return _Truth(
        annotations,
        Names(annotations, has_ids=True),
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


def _file_names(read: Annotations) -> dict[Any, str]:
    """Return for each image a file name that no other has."""
    counts = Counter(record.file_name for record in read.images.values())
    return {
        identity: record.file_name
        if record.file_name is not None and counts[record.file_name] == 1
        else f"image {identity}"
        for identity, record in read.images.items()
    }


def _as_coco(objects: Objects, names: Mapping[Any, str]) -> dict[str, Any]:
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


def _about(root: Path, found: PredictionFiles) -> Settings:
    return {
        "name": root.name,
        "predictions": {
            str(cell): files.file_fingerprint(path) for cell, path in sorted(found.files.items())
        },
        "files that are no cell": list(found.passed_over),
    }


class _Results:
    """Reads the result files of one detector; ``paths`` are all of them."""

    def __init__(
        self, truth: _Truth, objects: Objects, paths: Sequence[Path], *, masks: bool
    ) -> None:
        self._truth = truth
        self._objects = objects
        self._masks = masks
        self._records = 0
        self._foreign: list[Fault] = []
        # One file alone may name images that could be either; all together show what is meant.
        self._by_name = truth.names.may_clash and truth.names.decide(
            paths[0].parent.name,
            (
                one["image_id"]
                for path in paths
                for one in _read_results(path)
                if isinstance(one, Mapping) and "image_id" in one
            ),
        )

    def read(self, path: Path) -> tuple[DetectionRecords, tuple[Fault, ...]]:
        """Return what was found in each image, and what is wrong with the file."""
        value = self._truth.names.translate(_read_results(path), by_name=self._by_name)
        self._records += len(value)
        found = read_detection_columns(
            value, self._objects, masks=self._masks, strict=False, where=_show_path(path)
        )
        self._foreign += [fault for fault in found.faults if fault.reason == UNKNOWN_IMAGE]
        return _per_image(found, self._truth, self._objects), found.faults

    def check_any_of_the_images(self) -> None:
        """Refuse files of which no record is of an image of the ground truth, however few they are.

        Raises:
            InputError: there are records, and all are of other images.
        """
        if self._records and len(self._foreign) == self._records:
            first = self._foreign[0]
            raise InputError(
                f"{first.where}: {first.detail}. None of the {self._records} records is of one."
            )


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
    shared = share_cells(performance)
    grid = shared.grid
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
                **shared.settings(),
            }
        ),
        {
            "classes": {"title": "unknown", "count": None},
            **shared.about(),
            "provenance": provenance("none", 0),
        },
    )
    measured = summarize_performance(
        performance,
        grid,
        called,
        title,
        interval=Resampling(level=LEVEL, method="none", replicates=0, seed=SEED),
        images=Images(None, None),
        classes=_voc_classes(performance),
    )
    titles = {name: name for name in performance}
    write_form(folder.scores_file, score_measured("detection", measured, titles, grid))
    save_gallery(folder, None, grid.cells, [], list(performance), {})
    return Run(folder.path)


def _voc_classes(performance: Mapping[str, Mapping[Cell, Performance]]) -> Sequence[str]:
    """The names of the classes, where a table has Pascal VOC's twenty."""
    counts = {len(one.per_class) for cells in performance.values() for one in cells.values()}
    return VOC_CLASSES if counts == {len(VOC_CLASSES)} else ()
