"""Run models of any task over the corruption grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftproof.bench import grid
from shiftproof.bench import precision as planning
from shiftproof.bench.arguments import (
    CorruptionLike,
    check_at_least_one,
    check_cells,
    check_encode,
    check_severities,
    default_workers,
    grid_settings,
    name_corruptions,
)
from shiftproof.bench.calibrating import calibrate
from shiftproof.bench.classification import Classification
from shiftproof.bench.detection import Detection
from shiftproof.bench.doubts import tell_of_kept, warn_of_settings
from shiftproof.bench.episode_run import check_that_states_can_be_kept
from shiftproof.bench.extending import (
    adopt_names,
    check_at_hand,
    tell_extent,
    unite,
    write_scores,
)
from shiftproof.bench.on_device import CorruptOn, OnDevice, check_place
from shiftproof.bench.opening import keep_images, keep_images_here, select_images
from shiftproof.bench.protocol import Protocol, parse_protocol
from shiftproof.bench.segmentation import Segmentation
from shiftproof.bench.sharing import Filling, Stretch, fill_shared
from shiftproof.bench.stream import episodes
from shiftproof.bench.summary import summarize
from shiftproof.bench.task import AdapterLike, Grid, Prepared, Task
from shiftproof.bench.views import Encode, OnTheFly, View
from shiftproof.compute.processes import start_workers
from shiftproof.corruptions import COMMON
from shiftproof.data import DetectionData, ImageData, SegmentationData
from shiftproof.errors import InputError
from shiftproof.io.holding import frees_folders
from shiftproof.models.assumed import collect_assumed
from shiftproof.models.detectors.detector import Detector
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.names import plain
from shiftproof.runs.run import Run
from shiftproof.shards import Backend, Ray, Scheduled
from shiftproof.types import Cell, Settings


@frees_folders
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
    ImageNet-C; detectors on the image as loaded, at its full size. Data that are corrupted already
    (:class:`~shiftproof.data.CorruptedData`) are read from disk instead. Noise depends on ``seed``
    and the path of the image alone, so the pixels of detection data are those that
    ``shiftproof corrupt`` writes.

    By default every adapter is reset before each cell and sees its images once, in batches of
    ``batch_size`` of one corruption and one severity, in an order shuffled by ``seed`` that all
    cells share. ``protocol`` changes that: Schneider et al. 2020, Table 1, mix the five severities
    of a corruption, for one.

    Args:
        models: a model, text that the task's loader takes ("timm:resnet50"), or name to either, where
            the first is the one that the others are compared with.
        data: a dataset, or what the task opens: a folder, a CSV, a -C tree, COCO, "demo", ...
        task: :class:`Classification`, :class:`Detection` or :class:`Segmentation`, with their own
            options; a task of one's own. By default what the model is (:class:`Detector`,
            :class:`Segmenter`) or ``data`` has (boxes, label maps), else classification.
        corruptions: names, functions ``(image, severity, rng) -> image``, or name to either; of
            corrupted copies the names of their folders.
        severities: any of 1 to 5.
        adapters: what to run beside the first model: specs ("batchnorm:prior=0"), adapters of this
            model, or functions from a classifier to an adapter; as a mapping, with your names.
        images: so many images alone, drawn by their ids, of each class its share: the same ones in
            every run, and 10,000 contain the 5,000; or the name of a list, "robustbench". All by
            default. See :func:`~shiftproof.data.choose_images`.
        precision: as many images as bring the interval of mCE or mPC (of the mean where neither is
            claimed) to this half-width in points, planned from a pilot of 400 images, whose run is
            kept beside ``out`` with ``-pilot`` behind its name.
        out: the folder of the run. One that holds an unfinished run is resumed; finished cells are
            not done again. More corruptions, severities, adapters or models than the run there has
            extend it: the missing cells alone are measured, and what comes out is the run over all
            that was ever asked for. Fewer take nothing away.
        batch_size: images per forward pass, and the ``n`` of batch-norm adaptation; 64 of
            classifiers, 8 of detectors, 4 of segmenters by default.
        protocol: how the images are shown, a :class:`Protocol` or what ``parse_protocol`` takes
            ("online:mix=severities"). It moves no figure of a model that does not adapt.
        seed: decides the noise of the corruptions and the order of the stream.
        encode: "jpeg" saves each corrupted image as JPEG (quality 85) and reads it back, as was
            done for the published files of ImageNet-C.
        corrupt_on: "workers", or "device": batches are corrupted where the first model runs, with the
            19 corruptions of :func:`~shiftproof.corruptions.torch.corrupt_tensor`, of classifiers
            alone. On a GPU the noise is drawn by its own generator: other pixels, the same
            distribution.
        workers: processes that read and corrupt beside the model; 0 does it in this one.
        device: where a model given as text is loaded: "cpu", "cuda", "mps", "auto".
        backend: who makes the cells, one part for each model between two resets:
            :class:`~shiftproof.shards.Scheduled` for one of several commands over one folder,
            :class:`~shiftproof.shards.Ray` for a cluster. None makes all of them in this process. The
            records are the same.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: an argument cannot be used; nothing has been written then.
        UnfinishedError: this worker's share is done, and others' are not.
        LabelError: models and data have no class in common.
        MissingExtraError: a library is missing that the model, masks, or a checkpoint of what an
            adapter has learned needs.
        RunMismatchError: ``out`` belongs to a run with other settings, or to one that cannot be
            extended so.
        RunError: the disk is full, or workers die again and again; finished cells are kept.
    """
    if task is None:
        task = choose_task(models, data)
    if isinstance(task, Classification) and task.kept is None:
        # Thousands of sentences need not be read again where the resumed run has their vectors.
        task = Classification(
            calibrate=task.calibrate, coverage=task.coverage, kept=out, trust=task.trust
        )
    protocol = parse_protocol(protocol) if isinstance(protocol, str) else protocol
    chosen = check_severities(severities)
    if batch_size is not None:
        check_at_least_one("batch_size", batch_size)
    if precision is not None:
        _check_plannable(precision, images, backend)
        pilot = run(
            models, data, task=task, corruptions=corruptions, severities=chosen,
            images=planning.PILOT_IMAGES, out=planning.pilot_folder(Path(out)),
            batch_size=batch_size, seed=seed, encode=encode, corrupt_on=corrupt_on, workers=workers,
            device=device, backend=backend, show_progress=show_progress,
        )  # fmt: skip
        images = planning.plan_images(pilot, precision)
    if backend is None and not RunFolder(Path(out)).scores_file.is_file():
        # They start while the models are loaded.
        start_workers(default_workers(device) if workers is None else workers, (grid.__name__,))
    prepared = select_images(task.prepare(models, data, adapters, device=device), images, out)
    size = prepared.batch_size if batch_size is None else batch_size
    on_disk = prepared.corrupted
    named = name_corruptions(
        corruptions, [cell.corruption for cell in on_disk.cells] if on_disk else ()
    )
    check_encode(encode)
    workers = default_workers(prepared.device) if workers is None else workers
    settings, about = describe_run(
        prepared,
        _place_view(prepared.make_view(named, seed, encode), corrupt_on, prepared.device, task),
        named,
        chosen,
        batch_size=size,
        seed=seed,
        protocol=protocol,
        workers=workers,
    )
    whole = unite(
        Path(out), task.kind, prepared, named, chosen, settings, protocol,
        joins=isinstance(backend, Scheduled),
    )  # fmt: skip
    there = RunFolder(Path(out))
    is_done = whole.is_done(there)
    if not is_done:
        check_at_hand(whole, there, asks_again=task.asks_again)
    if show_progress is not False:
        tell_extent(whole, there)
    if is_done:
        return Run(out)
    prepared, cells = whole.prepared, whole.cells
    view = prepared.make_view(whole.corruptions, seed, encode)
    shown = _place_view(view, corrupt_on, prepared.device, task)
    if on_disk is not None:
        check_cells(on_disk, cells)
    samples = prepared.data.samples
    streams = episodes(cells, samples, protocol, seed=seed)
    if len(prepared.models) > 1 and any(len(stream.visits) > 1 for stream in streams):
        check_that_states_can_be_kept()
    folder = RunFolder.create(
        Path(out), task.kind, whole.settings, about, shared=isinstance(backend, Scheduled),
        extension=whole.write(about), before=whole.before,
    )  # fmt: skip
    renamed = adopt_names(folder)
    if prepared.keeps_images and isinstance(backend, Ray):
        keep_images_here(view)
    elif prepared.keeps_images:
        keep_images(folder, view)
    task.begin(folder, prepared)
    if show_progress is not False:
        warn_of_settings(prepared.settings.get("adapters", {}), size, protocol)
    recording = prepared.recording
    if prepared.held_out is not None:
        recording = calibrate(
            folder, prepared.held_out, prepared.models, protocol, batch_size=size, seed=seed,
            workers=workers, renamed=renamed, show_progress=show_progress,
        )  # fmt: skip
    stretch = Stretch(shown, streams, samples, prepared.models)
    fill_shared(
        folder,
        Filling([stretch], recording, size),
        backend,
        workers=workers,
        show_progress=show_progress,
    )
    _summarize(folder, task, prepared, cells, view, workers=workers, show_progress=show_progress)
    done = Run(folder.path)
    if show_progress is not False:
        tell_of_kept(done.events)
    return done


def _check_plannable(precision: float, images: int | str | None, backend: Backend | None) -> None:
    """Check that a pilot may plan the images."""
    if images is not None:
        raise InputError("The precision decides the number of images; give one of the two.")
    planning.check_precision(precision)
    if isinstance(backend, Scheduled):
        raise InputError(
            "The precision plans the images from a pilot, which one command has to run; leave out "
            "the workers, or give the number of images."
        )


def _summarize(
    folder: RunFolder,
    task: Task,
    prepared: Prepared,
    cells: Sequence[Cell],
    view: View,
    *,
    workers: int,
    show_progress: bool | None,
) -> None:
    """Write what follows from the records, and the pictures of the page; then drop what was kept."""
    folder.show_extended()
    scores = summarize(
        folder, task, prepared.titles, Grid(cells), workers=workers, show_progress=show_progress
    )
    write_scores(folder, scores, list(prepared.titles))
    task.save_gallery(folder, prepared, view, cells)
    folder.drop_cache()


def describe_run(
    prepared: Prepared,
    view: View,
    corruptions: Mapping[str, CorruptionLike],
    severities: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    protocol: Protocol,
    workers: int,
) -> tuple[Settings, Settings]:
    """Return what decides the figures of a run, and what only tells how they came about."""
    settings = grid_settings(
        prepared.data,
        view,
        corruptions,
        severities,
        batch_size=batch_size,
        seed=seed,
        protocol=protocol.settings,
    )
    about = {
        **prepared.about,
        "assumed": collect_assumed(prepared.models),
        "provenance": provenance(prepared.device, workers),
    }
    return plain({**prepared.settings, **settings}), about


def _place_view(view: View, corrupt_on: CorruptOn, device: str, task: Task) -> View:
    """Return the view of which batches are made: the given one, or one that leaves work to the device."""
    check_place(corrupt_on)
    if corrupt_on == "workers":
        return view
    if not isinstance(task, Classification) or not isinstance(view, OnTheFly):
        raise InputError(
            "Batches are corrupted on the device for classifiers, whose images have one size, and are "
            "made as they are shown; leave out --corrupt-on for others, and for copies on disk."
        )
    return OnDevice(view, device)


def choose_task(models: Any, data: Any) -> Task:
    """Return the task of models and data: what a model is, or the data has, else classification."""
    given = [*models.values()] if isinstance(models, Mapping) else [models]
    if isinstance(data, DetectionData) or any(isinstance(one, Detector) for one in given):
        return Detection()
    if isinstance(data, SegmentationData) or any(isinstance(one, Segmenter) for one in given):
        return Segmentation()
    return Classification()
