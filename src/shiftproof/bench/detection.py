"""Run detectors over the corruption grid (Michaelis et al. 2019, arXiv 1907.07484)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.adapt import AdaptedDetector
from shiftproof.corruptions import COMMON
from shiftproof.data import CorruptedTree, DetectionData, VocData, open_detection_data
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.holding import frees_folders
from shiftproof.models import load_detector, match_classes
from shiftproof.models.assumed import assumed_of
from shiftproof.models.detector import Detector, DetectorLike
from shiftproof.provenance import provenance

from . import detection_summary, grid
from .detection_gallery import save_gallery
from .detection_records import DetectorRecording
from .filling import fill
from .folder import RunFolder
from .given import (
    CorruptionLike,
    check_at_least_one,
    check_cells,
    check_encode,
    check_severities,
    default_workers,
    folder_name,
    grid_settings,
    name_corruptions,
    plain,
)
from .measures import MEASURES, check_wanted, make_measure
from .passage import check_that_states_can_be_kept
from .protocol import Protocol, parse_protocol
from .runs import Run
from .stream import episodes
from .views import Encode, FromTree, OnTheFly, View, as_loaded

DetectorGiven: TypeAlias = DetectorLike | str


@frees_folders
def run_detection(
    detectors: DetectorGiven | Mapping[str, DetectorGiven],
    data: DetectionData | str | Path,
    *,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    adapters: Sequence[str] = (),
    out: str | Path,
    measure: str = "auto",
    corrupted: str | Path | None = None,
    class_map: Mapping[str, str] | None = None,
    batch_size: int = 8,
    protocol: Protocol | str = "online",
    seed: int = 0,
    encode: Encode = "none",
    workers: int | None = None,
    device: str = "cpu",
    show_progress: bool | None = None,
) -> Run:
    """Measure detectors on every corruption and severity: P in each cell, mPC and rPC.

    The corruption is applied to the image as loaded, at its full size, before any resizing. It
    depends on ``seed`` and the path of the image alone, so the pixels are those that
    ``shiftproof corrupt`` writes. Boxes stay as they are.

    Args:
        detectors: a detector, or what ``load_detector`` takes ("torchvision:retinanet_resnet50_fpn");
            or name to either, where the first is the one that the others are compared with.
        data: a data set with boxes, or what ``open_detection_data`` takes.
        corruptions: names, functions ``(image, severity, rng) -> image``, or name to either; with
            ``corrupted`` the names of its folders.
        severities: any of 1 to 5.
        adapters: specs of ``batchnorm`` ("batchnorm:prior=16"), each run beside the first detector.
        out: the folder of the run. One that holds an unfinished run with the same settings is
            gone on with; finished cells are not done again.
        measure: "coco", "coco-masks", "voc" (AP50, 11-point) or "voc-all-point"; "auto" takes the
            data set's own: "voc" for Pascal VOC, else "coco".
        corrupted: a folder of corrupted copies, ``corruption/severity/<path of the image>``, to be
            read in the place of corrupting here.
        class_map: from a detector's class to one of the data set, where the names do not say.
        batch_size: images per batch, and the ``n`` of batch-norm adaptation; 1 or more.
        protocol: how the images are shown, as for :func:`run`; it moves no figure of a detector that
            does not adapt.
        seed: decides the noise of the corruptions and the order of the stream.
        encode: "jpeg" saves each corrupted image as JPEG (quality 85) and reads it back.
        workers: processes that read and corrupt beside the detector; 0 does it in this one.
        device: where detectors given as text are loaded.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: something handed in cannot be used; nothing has been written then.
        LabelError: detector and data set have no class in common.
        MissingExtraError: masks, and pycocotools is not installed.
        RunMismatchError: ``out`` belongs to a run with other settings.
        RunError: the disk is full, or workers die again and again; finished cells are kept.
    """
    dataset = open_detection_data(data)
    protocol = parse_protocol(protocol) if isinstance(protocol, str) else protocol
    chosen = check_severities(severities)
    check_at_least_one("batch_size", batch_size)
    measure = _measure_of(measure, dataset)
    truth = _kept(dataset.ground_truth(), measure)
    check_wanted(dataset.name, make_measure(measure, truth), dataset.faults)
    tree = None if corrupted is None else CorruptedTree(corrupted, labelled=False)
    named = name_corruptions(corruptions, [c.corruption for c in tree.cells] if tree else ())
    models = _models(detectors, adapters, device)
    first = next(iter(models.values()))
    recording = DetectorRecording(masks=measure == "coco-masks")
    matches = {
        name: match_classes(model.classes, dataset.classes, mapping=class_map)
        for name, model in models.items()
    }
    for name, model in models.items():
        recording.add(model, matches[name])
    view = _view(dataset, tree, named, seed, encode)
    cells = grid.cells_of(list(named), chosen, clean=True)
    if tree is not None:
        check_cells(tree, cells)
    streams = episodes(cells, dataset.samples, protocol, seed=seed)
    if any(len(stream.visits) > 1 for stream in streams):
        check_that_states_can_be_kept()
    settings = first.settings
    where = str(settings.get("device", "cpu"))
    workers = default_workers(where) if workers is None else workers
    folder = RunFolder.create(
        Path(out),
        "detection",
        plain(
            {
                "models": {name: model.settings for name, model in models.items()},
                "classes": {name: match.settings() for name, match in matches.items()},
                "measure": measure,
                **grid_settings(
                    dataset,
                    view,
                    named,
                    chosen,
                    batch_size=batch_size,
                    seed=seed,
                    protocol=protocol.settings,
                ),
            }
        ),
        {
            "classes": {"title": dataset.classes.title, "count": len(dataset.classes)},
            "assumed": assumed_of(models),
            "provenance": provenance(where, workers),
        },
    )
    detection_summary.write_ground_truth(folder, truth)
    fill(
        folder,
        view,
        streams,
        dataset.samples,
        models,
        recording,
        batch_size=batch_size,
        workers=workers,
        show_progress=show_progress,
    )
    scores = detection_summary.summarise(
        folder,
        models={name: _title(name, model) for name, model in models.items()},
        cells=cells,
        measure=measure,
        workers=workers,
        show_progress=show_progress,
    )
    files.write_json(folder.scores_file, scores)
    save_gallery(folder, view, cells, dataset.samples, list(models), truth)
    return Run(folder.path)


# ---------------------------------------------------------------- what was handed in


def _measure_of(measure: str, data: DetectionData) -> str:
    if measure == "auto":
        return "voc" if isinstance(data, VocData) else "coco"
    if measure not in MEASURES:
        raise UnknownNameError.of("measure", measure, ["auto", *MEASURES])
    return measure


def _models(
    given: DetectorGiven | Mapping[str, DetectorGiven], adapters: Sequence[str], device: str
) -> dict[str, DetectorLike]:
    if isinstance(adapters, str):
        raise InputError(f"Expected a list of adapters; write [{adapters!r}].")
    if isinstance(given, Mapping):
        pairs = list(given.items())
        if not pairs:
            raise InputError("Expected at least one detector, got none.")
    else:
        pairs = [("source", given)]
    models: dict[str, DetectorLike] = {}
    for name, item in pairs:
        models[_safe(name, models)] = (
            load_detector(item, device=device) if isinstance(item, str) else item
        )
    first = next(iter(models.values()))
    for spec in adapters:
        if not isinstance(first, Detector):
            raise ModelError(
                f"Expected a Detector to adapt, got {type(first).__name__}; wrap its network."
            )
        models[_safe(spec, models)] = AdaptedDetector(first, spec)
    return models


def _safe(name: str, others: Mapping[str, object]) -> str:
    """A name that can name a folder, as no other does."""
    safe = folder_name(name, "detector")
    if safe in others:
        raise InputError(f"Two detectors of the run are called {safe!r}; give them other names.")
    return safe


def _title(name: str, model: DetectorLike) -> str:
    return model.name if name == "source" else name


def _view(
    data: DetectionData,
    tree: CorruptedTree | None,
    corruptions: Mapping[str, CorruptionLike],
    seed: int,
    encode: Encode,
) -> View:
    check_encode(encode)
    if tree is None:
        return OnTheFly(data, as_loaded, corruptions, seed=seed, encode=encode)
    if encode != "none":
        raise InputError("The corrupted copies are read as they are; leave encode out.")
    return FromTree(data, tree)


def _kept(truth: dict[str, Any], measure: str) -> dict[str, Any]:
    """The ground truth as the run keeps it: outlines only where masks are measured."""
    if measure == "coco-masks":
        return truth
    return {
        **truth,
        "annotations": [
            {key: value for key, value in one.items() if key != "segmentation"}
            for one in truth["annotations"]
        ],
    }
