"""Run models of any task over the corruption grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftproof.bench.arguments import CorruptionLike, choose_workers
from shiftproof.bench.cells import batching
from shiftproof.bench.cells.episode_run import check_states_can_be_saved
from shiftproof.bench.cells.filling import Workload
from shiftproof.bench.cells.on_device import CorruptOn
from shiftproof.bench.cells.protocol import Protocol, read_protocol
from shiftproof.bench.cells.recording import Recording
from shiftproof.bench.cells.sharing import FillJob, fill_shared
from shiftproof.bench.cells.views import Encode
from shiftproof.bench.grid import precision as planning
from shiftproof.bench.grid.extending import (
    MergedRun,
    check_all_given,
    describe_extent,
    link_renamed_records,
    merge_run,
    write_scores,
)
from shiftproof.bench.grid.request import GridRequest, LoadedGrid
from shiftproof.bench.grid.run_folder import cache_images_on_disk, cache_images_per_process
from shiftproof.bench.grid.setting_warnings import report_kept_statistics, warn_about_settings
from shiftproof.bench.tasks.classification.calibrating import calibrate
from shiftproof.bench.tasks.classification.task import Classification
from shiftproof.bench.tasks.detection.task import Detection
from shiftproof.bench.tasks.interface import AdapterLike, Grid, Task
from shiftproof.bench.tasks.segmentation.task import Segmentation
from shiftproof.bench.tasks.summary import summarize
from shiftproof.compute.processes import start_workers
from shiftproof.corruptions import COMMON
from shiftproof.corruptions.extent import print_extent
from shiftproof.data import DetectionData, ImageData, SegmentationData
from shiftproof.errors import InputError
from shiftproof.io.folder_locks import releases_locks
from shiftproof.models.detectors.detector import Detector
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.rng import check_seed
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.run import Run
from shiftproof.shards import Backend, Ray, Scheduled


def run(
    models: Any,
    data: ImageData | str | Path,
    *,
    task: Task | None = None,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike] = (),
    images: int | str | None = None,
    precision: float | None = None,
    out: str | Path,
    batch_size: int | None = None,
    protocol: Protocol | str = "online",
    seed: int = 0,
    encode: Encode = "none",
    corrupt_on: CorruptOn = "workers",
    workers: int | None = None,
    device: str = "cpu",
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> Run:
    """Measure models, as they are and under each adapter, on every corruption and severity.

    Classifiers see the corruption on the image as resized and cropped for the model, as in
    ImageNet-C; detectors and segmenters on the image at its full size. Noise depends on ``seed`` and
    the path of the image alone, so the pixels of full-size images are those that ``shiftproof
    corrupt`` writes. Every adapter is reset before each cell, whose images come once, in an order
    shuffled by ``seed`` that all cells share, unless ``protocol`` says otherwise.

    Args:
        models: a model, text that the task's loader takes ("timm:resnet50"), or name to either; the
            first is the one that the others are compared with.
        data: a dataset, or what the task opens: a folder, a CSV, a -C tree, COCO, "demo", ...
        task: :class:`Classification`, :class:`Detection`, :class:`Segmentation` or one of one's own;
            by default what the model is, or ``data`` has (boxes, label maps), else classification.
        corruptions: names, functions ``(image, severity, rng) -> image``, or name to either; of
            corrupted copies (:class:`~shiftproof.data.CorruptedData`) the names of their folders.
        severities: any of 1 to 5.
        adapters: what to run beside the first model: specs ("batchnorm:prior=0"), adapters of this
            model, or functions from a classifier to an adapter; as a mapping, with your names.
        images: so many images alone, or the name of a list, "robustbench"; see
            :func:`~shiftproof.data.choose_images`. All by default.
        precision: as many images as bring the interval of mCE or mPC (of the mean where neither is
            claimed) to this half-width in points, planned from a pilot of 400 images, whose run is
            kept beside ``out`` with ``-pilot`` behind its name.
        out: the folder of the run. An unfinished run there is resumed; more corruptions, severities,
            adapters or models extend it by the missing cells alone; fewer take nothing away.
        batch_size: images per forward pass, and the ``n`` of batch-norm adaptation; 64 of
            classifiers, 8 of detectors, 4 of segmenters by default.
        protocol: how the images are shown, or the text of it ("online:mix=severities"). It moves no
            figure of a model that does not adapt.
        seed: decides the noise of the corruptions and the order of the stream.
        encode: "jpeg" saves each corrupted image as JPEG (quality 85) and reads it back, as was
            done for the published files of ImageNet-C.
        corrupt_on: "workers", or "device": classifiers' batches are corrupted where the model runs,
            by :func:`~shiftproof.corruptions.torch.corrupt_tensor`. On a GPU the noise is drawn by
            its own generator: other pixels, the same distribution.
        workers: processes that read and corrupt beside the model; 0 does it in this one.
        device: where a model given as text is loaded: "cpu", "cuda", "mps", "auto".
        backend: :class:`~shiftproof.shards.Scheduled` for one of several commands over one folder,
            :class:`~shiftproof.shards.Ray` for a cluster; the records are the same. None makes all
            cells in this process.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: an argument cannot be used; nothing has been written then.
        UnfinishedError: this worker's share is done, and others' are not.
        LabelError: models and data have no class in common.
        MissingExtraError: a library is missing for the model, masks, or an adapter's checkpoints.
        RunMismatchError: ``out`` holds another run, or one that cannot be extended so.
        RunError: the disk is full, or workers die again and again; finished cells are kept.
    """
    task = choose_task(models, data) if task is None else task
    request = GridRequest(
        models=models, data=data, task=_keep_vectors(task, out),
        corruptions=corruptions, severities=severities, adapters=adapters, images=images,
        batch_size=batch_size, protocol=read_protocol(protocol), seed=check_seed(seed), encode=encode,
        corrupt_on=corrupt_on, workers=workers, device=device, show_progress=show_progress,
    )  # fmt: skip
    return fill_grid(_plan_images(request, Path(out), precision, backend), Path(out), backend)


def _keep_vectors(task: Task, out: str | Path) -> Task:
    """Thousands of sentences need not be read again where the resumed run has their vectors."""
    if not isinstance(task, Classification) or task.run_folder is not None:
        return task
    return Classification(
        calibrate=task.calibrate, coverage=task.coverage, run_folder=out, trust=task.trust
    )


def _plan_images(
    request: GridRequest, out: Path, precision: float | None, backend: Backend | None
) -> GridRequest:
    """Return the request with the images that a precision needs, planned from a pilot."""
    if precision is None:
        return request
    if request.images is not None:
        raise InputError("The precision decides the number of images; give one of the two.")
    planning.check_precision(precision)
    if isinstance(backend, Scheduled):
        raise InputError(
            "The precision plans the images from a pilot, which one command has to run; leave out "
            "the workers, or give the number of images."
        )
    pilot = dataclasses.replace(
        request, adapters=(), protocol=Protocol(), images=planning.PILOT_IMAGES
    )
    done = fill_grid(pilot, planning.locate_pilot(out), backend)
    return dataclasses.replace(request, images=planning.plan_images(done, precision))


@releases_locks
def fill_grid(request: GridRequest, out: Path, backend: Backend | None = None) -> Run:
    """Measure what is asked for, and what else the run in the folder has; see :func:`run`."""
    stored = RunFolder(out)
    if backend is None and not stored.scores_file.is_file():
        # They start while the models are loaded.
        workers = choose_workers(request.device) if request.workers is None else request.workers
        start_workers(workers, (batching.__name__,))
    merged = merge_run(out, request.load(out), joins=isinstance(backend, Scheduled))
    is_done = merged.is_done(stored)
    if not is_done:
        check_all_given(merged, stored, gallery_needs_models=request.task.gallery_needs_models)
    extent = None if request.show_progress is False else describe_extent(merged, stored)
    if is_done:
        print_extent(extent)
        return Run(out)
    grid = merged.grid
    grid.check_copies()
    workload = Workload(
        grid.batch_view, grid.list_episodes(), grid.prepared.data.samples, grid.prepared.models
    )
    _check_states(workload)
    folder = _open(merged, out, backend)
    print_extent(
        extent
    )  # not before: what is refused has nothing to do with the cells that are there
    recording = _calibrate(folder, grid)
    fill_shared(
        folder, FillJob([workload], recording, grid.batch_size), backend,
        workers=grid.workers, show_progress=request.show_progress,
    )  # fmt: skip
    _summarize(folder, grid)
    done = Run(folder.path)
    if request.show_progress is not False:
        report_kept_statistics(done.events)
    return done


def _check_states(workload: Workload) -> None:
    if len(workload.models) > 1 and any(len(one.visits) > 1 for one in workload.episodes):
        check_states_can_be_saved()


def _open(merged: MergedRun, out: Path, backend: Backend | None) -> RunFolder:
    """Return the folder of the run, with what the task keeps beside the records."""
    grid, about = merged.grid, merged.grid.about()
    prepared, request = grid.prepared, grid.request
    folder = RunFolder.create(
        out, request.task.kind, merged.settings, about, shared=isinstance(backend, Scheduled),
        extension=merged.make_extension(about), before=merged.previous,
    )  # fmt: skip
    link_renamed_records(folder)
    if prepared.keeps_images and isinstance(backend, Ray):
        cache_images_per_process(grid.view)
    elif prepared.keeps_images:
        cache_images_on_disk(folder, grid.view)
    request.task.begin(folder, prepared)
    if request.show_progress is not False:
        adapters = prepared.settings.get("adapters", {})
        warn_about_settings(adapters, grid.batch_size, request.protocol)
    return folder


def _calibrate(folder: RunFolder, grid: LoadedGrid) -> Recording:
    """Return how answers are kept: with what follows from held-out images, where there are some."""
    prepared, request = grid.prepared, grid.request
    if prepared.held_out is None:
        return prepared.recording
    return calibrate(
        folder, prepared.held_out, prepared.models, request.protocol,
        batch_size=grid.batch_size, seed=request.seed, workers=grid.workers,
        show_progress=request.show_progress,
    )  # fmt: skip


def _summarize(folder: RunFolder, grid: LoadedGrid) -> None:
    """Write what follows from the records, and the pictures of the page; then drop what was kept."""
    task, prepared, cells = grid.request.task, grid.prepared, grid.cells
    folder.show_extended()
    scores = summarize(
        folder, task, prepared.titles, Grid(cells), workers=grid.workers,
        show_progress=grid.request.show_progress,
    )  # fmt: skip
    write_scores(folder, scores, list(prepared.titles))
    task.save_gallery(folder, prepared, grid.view, cells)
    folder.drop_cache()


def choose_task(models: Any, data: Any) -> Task:
    """Return the task of models and data: what a model is, or the data has, else classification."""
    given = [*models.values()] if isinstance(models, Mapping) else [models]
    if isinstance(data, DetectionData) or any(isinstance(one, Detector) for one in given):
        return Detection()
    if isinstance(data, SegmentationData) or any(isinstance(one, Segmenter) for one in given):
        return Segmentation()
    return Classification()
