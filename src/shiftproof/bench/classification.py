"""Run a classifier and its adapted forms over the corruption grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.adapt import Adapter, make_adapter
from shiftproof.corruptions import COMMON
from shiftproof.data import CorruptedData, ImageData, check_labels, open_data
from shiftproof.errors import InputError, ModelError
from shiftproof.io import files
from shiftproof.io.holding import frees_folders
from shiftproof.models import ClassifierLike, load_classifier
from shiftproof.models.assumed import assumed_of
from shiftproof.provenance import provenance

from . import grid, summary
from .filling import fill
from .folder import RunFolder
from .gallery import save_gallery
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
from .passage import check_that_states_can_be_kept
from .protocol import Protocol, parse_protocol
from .records import ClassifierRecording
from .runs import Run
from .stream import episodes
from .unanswered import count_unanswered
from .views import Encode, FromDisk, OnTheFly, View

AdapterLike: TypeAlias = str | Adapter | Callable[[Any], Adapter]

SOURCE = "source"
"""The name of the model as it is, beside which the adapters stand."""


@frees_folders
def run(
    model: ClassifierLike | str,
    data: ImageData | str | Path,
    *,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike] = (),
    out: str | Path,
    batch_size: int = 64,
    protocol: Protocol | str = "online",
    seed: int = 0,
    encode: Encode = "none",
    workers: int | None = None,
    device: str = "cpu",
    show_progress: bool | None = None,
) -> Run:
    """Measure ``model``, as it is and under each adapter, on every corruption and severity.

    The corruption is applied to the image as resized and cropped for the model, as for ImageNet-C;
    :class:`~shiftproof.data.CorruptedData` is read from disk instead. By default every adapter is
    reset before each cell and sees its images once, in batches of ``batch_size`` of one corruption
    and one severity, in an order shuffled by ``seed`` that all cells share. ``protocol`` changes
    that: Schneider et al. 2020, Table 1, mix the five severities of a corruption, for one.

    Args:
        model: a classifier, or what ``load_classifier`` takes ("timm:resnet50").
        data: a data set, or what ``open_data`` takes: a folder, a CSV, a -C tree, "demo".
        corruptions: names, functions ``(image, severity, rng) -> image``, or name to either; of a
            -C tree the names of its folders.
        severities: any of 1 to 5.
        adapters: what to run beside the model: specs ("batchnorm:prior=0"), adapters of this
            model, or functions from a classifier to an adapter; as a mapping, with your names.
        out: the folder of the run. One that holds an unfinished run with the same settings is
            gone on with; finished cells are not done again.
        batch_size: images per forward pass, and the ``n`` of batch-norm adaptation; 1 or more.
        protocol: how the images are shown, a :class:`Protocol` or what ``parse_protocol`` takes
            ("online:mix=severities"). It moves no figure of the model as it is.
        seed: decides the noise of the corruptions and the order of the stream.
        encode: "jpeg" saves each corrupted image as JPEG (quality 85) and reads it back, as was
            done for the published files of ImageNet-C.
        workers: processes that read and corrupt beside the model; 0 does it in this one.
        device: where a model given as text is loaded: "cpu", "cuda", "mps", "auto".
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: something handed in cannot be used; nothing has been written then.
        MissingExtraError: safetensors is not installed, which writes what an adapter has learnt
            where it learns for longer than one cell.
        RunMismatchError: ``out`` belongs to a run with other settings.
        RunError: the disk is full, or workers die again and again; finished cells are kept.
    """
    source = load_classifier(model, device=device) if isinstance(model, str) else model
    dataset = data if isinstance(data, ImageData) else open_data(data, classes=source.classes)
    protocol = parse_protocol(protocol) if isinstance(protocol, str) else protocol
    on_disk = dataset if isinstance(dataset, CorruptedData) else None
    named = name_corruptions(
        corruptions, [cell.corruption for cell in on_disk.cells] if on_disk else ()
    )
    chosen = check_severities(severities)
    check_at_least_one("batch_size", batch_size)
    check_labels(dataset, source.classes)
    models = {SOURCE: source, **_name_adapters(adapters, source)}
    model_settings = source.settings
    device = str(model_settings.get("device", "cpu"))
    workers = default_workers(device) if workers is None else workers
    out = Path(out)

    view = _make_view(dataset, source, named, seed, encode)
    has_clean = on_disk is None or on_disk.has_clean
    cells = grid.cells_of(list(named), chosen, clean=has_clean)
    if on_disk is not None:
        check_cells(on_disk, cells)
    if not dataset.is_labelled and not has_clean:
        raise InputError(
            "Without labels the answers are compared with those on the clean images, and this data "
            "set has none: give labels (class folders), or the clean images."
        )
    streams = episodes(cells, dataset.samples, protocol, seed=seed)
    if len(models) > 1 and any(len(stream.visits) > 1 for stream in streams):
        check_that_states_can_be_kept()
    folder = RunFolder.create(
        out,
        "classification",
        plain(
            {
                "model": model_settings,
                "adapters": {
                    # The wrapped classifier stands under "model" already.
                    name: {k: v for k, v in model.settings.items() if k != "classifier"}
                    for name, model in models.items()
                    if name != SOURCE
                },
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
            "classes": {"title": source.classes.title, "count": len(source.classes)},
            "assumed": assumed_of({SOURCE: source}),
            "provenance": provenance(device, workers),
        },
    )
    if isinstance(view, OnTheFly):
        view.cache = files.make_folder(folder.cache)
    fill(
        folder,
        view,
        streams,
        dataset.samples,
        models,
        ClassifierRecording(),
        batch_size=batch_size,
        workers=workers,
        show_progress=show_progress,
    )
    scores = summary.summarise(
        folder,
        models={name: source.name if name == SOURCE else name for name in models},
        cells=cells,
        classes=source.classes,
        show_progress=show_progress,
    )
    if unanswered := count_unanswered(folder, list(models), cells):
        scores["images"]["unanswered"] = unanswered
    files.write_json(folder.scores_file, scores)
    save_gallery(folder, view, cells, dataset.samples, list(models), source.classes)
    folder.drop_cache()
    return Run(out)


def _name_adapters(
    adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike], source: ClassifierLike
) -> dict[str, Adapter]:
    if isinstance(adapters, str):
        raise InputError(f"Expected a list of adapters; write [{adapters!r}].")
    pairs = (
        list(adapters.items())
        if isinstance(adapters, Mapping)
        else [(a if isinstance(a, str) else None, a) for a in adapters]
    )
    named: dict[str, Adapter] = {}
    for given, item in pairs:
        if isinstance(item, str):
            adapter = make_adapter(item, source)
        elif isinstance(item, Adapter):
            adapter = item
        else:
            adapter = item(source)
        if not isinstance(adapter, Adapter):
            raise ModelError(
                f"Expected an adapter, a function that makes one, or a spec; got {adapter!r:.80}."
            )
        name = given or type(adapter).__name__
        safe = folder_name(name, "adapter")
        if safe in named or safe == SOURCE:
            raise InputError(
                f"Two models of the run are called {safe!r}; give them names of a mapping."
            )
        named[safe] = adapter
    return named


def _make_view(
    data: ImageData,
    source: ClassifierLike,
    corruptions: dict[str, CorruptionLike],
    seed: int,
    encode: Encode,
) -> View:
    check_encode(encode)
    geometry = source.preprocess.geometry
    if isinstance(data, CorruptedData):
        return FromDisk(data, geometry, source.preprocess.size)
    return OnTheFly(data, geometry, corruptions, seed=seed, encode=encode)
