"""Score what another framework has found: its result files in, the same run as ours out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from shiftproof.bench.scoring.classifier_results import FORMS, check_detections
from shiftproof.bench.scoring.classifiers import holds_class_predictions, score_class_predictions
from shiftproof.bench.scoring.detectors import score_detections
from shiftproof.bench.scoring.result_files import parse_cell
from shiftproof.bench.scoring.result_tables import SUFFIXES, VOC_CLASSES, read_table
from shiftproof.bench.scoring.score_request import Named, ScoreRequest
from shiftproof.bench.scoring.segmenters import holds_label_maps, score_label_maps
from shiftproof.bench.scoring.shared_cells import find_shared_cells
from shiftproof.bench.tasks.classification.calibrators import COVERAGE
from shiftproof.bench.tasks.detection.gallery import save_gallery
from shiftproof.bench.tasks.performance import Performance, summarize_performance
from shiftproof.bench.tasks.summary import SEED
from shiftproof.bench.tasks.summary import score as score_measured
from shiftproof.data import DetectionData, ImageData
from shiftproof.data.presence import check_presence
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.folder_locks import releases_locks
from shiftproof.io.images import is_image
from shiftproof.metrics.intervals import LEVEL
from shiftproof.runs.folder import remove_if_refused
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import Images
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.scores.shared import Resampling
from shiftproof.shards import Backend, Ray, Scheduled
from shiftproof.types import Cell

Predictions = str | Path


@releases_locks
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
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> Run:
    """Score the predictions of any framework under corruption; the run is like those of ``bench``.

    No model is run. Every cell has one answer for each image. Classifiers: ``.npz``, ``.npy``,
    ``.csv``, ``.parquet`` or ``.json`` files, one for each corruption and severity, or one table with
    the columns corruption, severity and image; see
    :func:`~shiftproof.bench.scoring.classifier_results.read_class_predictions`. ``.json`` files are a
    classifier's where their first record has an image and its classes or scores, and no box.

    Segmenters: label maps as PNG of the ground truth's size, ``fog/3/<path of the image>.png`` and
    ``clean/<path of the image>.png``. Of palette images the indices are read; 255 means no class.

    Detectors: a file for each corruption and severity
    (:func:`~shiftproof.bench.scoring.result_files.find_predictions` has the names) in COCO's format
    of results, a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``,
    empty without detections. Where a file is missing, mPC is not computed. Unusable records are
    ignored and listed in ``run.json``.

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
        workers: number of processes that read and measure; 0 does it in this one.
        backend: who reads and measures, one part for each model in each cell:
            :class:`~shiftproof.shards.Scheduled` for one of several commands over one folder,
            :class:`~shiftproof.shards.Ray` for a cluster. None does all on this machine. Of a table
            of results nothing is left to share: every command writes the same scores.
        show_progress: None shows progress on a terminal only.

    Raises:
        InputError: files that cannot be used; predictions of other data; annotations without an
            object to be found; tables beside result files; answers without scores to calibrate on.
        BrokenFileError: a file cannot be read.
        RunMismatchError: ``out`` belongs to a run with other settings.
        UnfinishedError: this worker's share is done, others' are not.
    """
    given = _name_predictions(predictions)
    task = guess_task(given)
    if not isinstance(predictions, Mapping):
        given = {_NOUNS[task]: next(iter(given.values()))}
    if isinstance(backend, Ray):
        # Its machines work in other folders.
        given = {name: path.absolute() for name, path in given.items()}
    request = ScoreRequest(
        given=given, data=data, out=Path(out), measure=measure, classes=classes,
        class_map=class_map, calibrate=calibrate, coverage=coverage, workers=workers,
        backend=backend, show_progress=show_progress,
    )  # fmt: skip
    _check_request(request, task)
    with remove_if_refused(request.out, shared=isinstance(backend, Scheduled)):
        return _SCORES[task](request)


def _score_detections(request: ScoreRequest) -> Run:
    is_table = _is_table(next(iter(request.given.values())))
    return _score_tables(request) if is_table else score_detections(request)


_SCORES = {
    "classification": score_class_predictions,
    "detection": _score_detections,
    "segmentation": score_label_maps,
}

_NOUNS = {
    "classification": "classifier",
    "detection": "detector",
    "segmentation": "segmenter",
}
"""Default name of a single model, by task."""


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _check_request(request: ScoreRequest, task: str) -> None:
    """Refuse files of two kinds, and arguments that say nothing of theirs.

    Raises:
        InputError: there are such.
    """
    if request.calibrate is not None and task != "classification":
        raise InputError(
            "Only classifiers can be calibrated, and these are answers of another kind; leave the "
            "calibration out."
        )
    if task != "detection" and request.measure != "auto":
        these = "label maps" if task == "segmentation" else "classes"
        raise InputError(f"The measure {request.measure!r} is of detections; these are {these}.")
    if task == "segmentation":
        if request.data is None:
            raise InputError(
                "Expected the dataset beside the label maps: data=, a folder with the true ones."
            )
        return
    if request.class_map is not None:
        raise InputError("A class map is of segmenters' label maps; give none.")
    answers = [path for path in request.given.values() if holds_class_predictions(path)]
    if answers and len(answers) < len(request.given):
        raise InputError(
            f"{answers[0]} are answers of a classifier and others are detections; score them apart."
        )
    if not answers:
        _check_detections(request)


def _check_detections(request: ScoreRequest) -> None:
    """Refuse tables beside result files, and data that are no truth for either.

    Raises:
        InputError: there are such.
    """
    given, data = request.given, request.data
    for path in given.values():
        if not path.is_dir() and not _is_table(path):
            raise InputError(
                f"{path}: expected a folder with a file for each cell (fog/3{path.suffix}, "
                f"clean{path.suffix}), or a table with the columns corruption, severity and image."
            )
    if request.classes is not None:
        raise InputError(
            f"{next(iter(given.values()))} is read as results of a detector, whose classes are those of "
            f"the annotations; give none. {FORMS}; a single table of all cells has the columns "
            "corruption and severity, too."
        )
    tables = [path for path in given.values() if _is_table(path)]
    if tables and len(tables) < len(given):
        raise InputError(
            f"{tables[0]} is a table, and not all others are; score folders of result files apart."
        )
    if tables:
        return
    for path in given.values():
        _check_folder(path)
    if data is None:
        raise InputError(
            "Expected the annotations beside the result files (--data, data=): a COCO JSON file or "
            "a dataset with boxes."
        )
    if isinstance(data, ImageData) and not isinstance(data, DetectionData):
        raise InputError(
            f"{data.name} has no boxes; expected annotations for result files of boxes."
        )


def _check_folder(path: Path) -> None:
    """Refuse a folder whose files are of another task, or of none, in their words.

    Raises:
        InputError: its first JSON with a record has no detections; or it has images alone.
    """
    jsons = [
        one
        for one in sorted(path.rglob("*.json"))
        if parse_cell(one.relative_to(path).as_posix()) is not None
    ]
    for one in jsons:
        if check_detections(one, one.relative_to(path.parent).as_posix()):
            return
    if not jsons and any(is_image(one) for one in path.rglob("*")):
        raise InputError(
            f"{path} has images, and none in a folder named by a cell; expected label maps as "
            "fog/3/<path of the image>.png and clean/<path of the image>.png."
        )


def guess_task(given: Mapping[str, Path]) -> str:
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
    return "classification" if any(map(holds_class_predictions, given.values())) else "detection"


def _name_predictions(predictions: Predictions | Mapping[str, Predictions]) -> dict[str, Path]:
    if not isinstance(predictions, Mapping):
        return {"detector": _check_path(predictions)}
    if not predictions:
        raise InputError("Expected at least one folder of predictions, got none.")
    for name in predictions:
        if not files.can_name_files(name):
            raise InputError(
                f"A model cannot be called {name!r}: it names a folder, so letters, digits, '_', "
                "'.', '+' and '-' only, and no '.' in front."
            )
    return {name: _check_path(path) for name, path in predictions.items()}


def _check_path(path: Predictions) -> Path:
    check_presence(path, "results")
    return Path(path)


# ---------------------------------------------------------------- tables


def _score_tables(request: ScoreRequest) -> Run:
    given, measure = request.given, request.measure
    kind = "segm" if measure == "coco-masks" else "bbox"
    if measure not in ("auto", "coco", "coco-masks"):
        raise InputError(f"A table brings its own measure; leave out {measure!r}.")
    read = {name: read_table(path, kind=kind) for name, path in given.items()}
    names = {name for name, _ in read.values()}
    if len(names) > 1:
        raise InputError(f"The tables have different measures: {' and '.join(sorted(names))}.")
    performance = {name: cells for name, (_, cells) in read.items()}
    shared = find_shared_cells(performance)
    grid = shared.grid
    called = names.pop()
    title = f"{called}, as the table has it" + (" (masks)" if kind == "segm" else "")
    folder = request.create_folder(
        "detection",
        {
            "models": {
                name: {"name": path.name, "table": files.file_fingerprint(path)}
                for name, path in given.items()
            },
            "measure": measure,
            "data": {"name": "unknown", "kind": "table of results"},
            "images": {"source": "table of results"},
            **shared.settings(),
        },
        {"classes": {"title": "unknown", "count": None}, **shared.about()},
    )
    measured = summarize_performance(
        performance,
        grid,
        called,
        title,
        interval=Resampling(level=LEVEL, method="none", replicates=0, seed=SEED),
        images=Images(None, None),
        classes=_find_voc_classes(performance),
    )
    titles = {name: name for name in performance}
    write_form(folder.scores_file, score_measured("detection", measured, titles, grid))
    save_gallery(folder, None, grid.cells, [], list(performance), {})
    return Run(folder.path)


def _find_voc_classes(performance: Mapping[str, Mapping[Cell, Performance]]) -> Sequence[str]:
    """The names of the classes, where a table has Pascal VOC's twenty."""
    counts = {len(one.per_class) for cells in performance.values() for one in cells.values()}
    return VOC_CLASSES if counts == {len(VOC_CLASSES)} else ()
