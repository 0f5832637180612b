"""Run a classifier and its adapted forms over the corruption grid."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from shiftproof import files
from shiftproof.adapt import Adapter, make_adapter
from shiftproof.corruptions import COMMON, CORRUPTIONS
from shiftproof.corruptions.identity import identity_of
from shiftproof.data import CorruptedTree, ImageData, open_data
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models import ClassifierLike, load_classifier
from shiftproof.progress import progress
from shiftproof.types import Cell, Image, Settings

from . import grid, records, summary
from .folder import RunFolder, provenance
from .gallery import save_gallery
from .views import Encode, FromDisk, OnTheFly, View

if TYPE_CHECKING:
    from shiftproof.types import Sample

CorruptionLike: TypeAlias = str | Callable[..., Image]
AdapterLike: TypeAlias = str | Adapter | Callable[[Any], Adapter]

SOURCE = "source"
"""The name of the model as it is, beside which the adapters stand."""


class Run:
    """A finished run: where it is, and its figures."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder.open(path)
        self.path = path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def scores(self) -> dict[str, Any]:
        """The content of ``scores.json``."""
        scores: dict[str, Any] = files.read_json(self.folder.scores_file)
        return scores

    def records(self, model: str, corruption: str, severity: int) -> records.CellRecords:
        """Return one row per image; the clean cell is ``("clean", 0)``."""
        return records.read_cell(self.folder.records_file(model, Cell(corruption, severity)))


def run(
    model: ClassifierLike | str,
    data: ImageData | str | Path,
    *,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike] = (),
    out: str | Path,
    batch_size: int = 64,
    seed: int = 0,
    encode: Encode = "none",
    workers: int | None = None,
    device: str = "cpu",
    show_progress: bool | None = None,
) -> Run:
    """Measure ``model``, as it is and under each adapter, on every corruption and severity.

    The corruption is applied to the image as resized and cropped for the model (the protocol of
    ImageNet-C); a :class:`~shiftproof.data.CorruptedTree` is read from disk instead. Every adapter
    is reset before each cell and sees its images once, in batches of ``batch_size`` of one
    corruption and one severity, in an order shuffled by ``seed`` that all cells share. (Schneider
    et al. 2020, Table 1, mix the five severities of a corruption: another protocol.)

    Args:
        model: a classifier, or what ``load_classifier`` takes ("timm:resnet50").
        data: a data set, or what ``open_data`` takes: a folder, a CSV, a -C tree, "demo".
        corruptions: names, functions ``(image, severity, rng) -> image``, or name to either.
        severities: any of 1 to 5.
        adapters: what to run beside the model: specs ("batchnorm:prior=0"), adapters of this
            model, or functions from a classifier to an adapter; as a mapping, with your names.
        out: the folder of the run. One that holds an unfinished run with the same settings is
            gone on with; finished cells are not done again.
        batch_size: images per forward pass, and the ``n`` of batch-norm adaptation.
        seed: decides the noise of the corruptions and the order of the stream.
        encode: "jpeg" saves each corrupted image as JPEG (quality 85) and reads it back, as was
            done for the published files of ImageNet-C.
        workers: processes that read and corrupt beside the model; 0 does it in this one.
        device: where a model given as text is loaded: "cpu", "cuda", "mps", "auto".
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: something handed in cannot be used; nothing has been written then.
        RunMismatchError: ``out`` belongs to a run with other settings.
        RunError: the disk is full, or workers die again and again; finished cells are kept.
    """
    source = load_classifier(model, device=device) if isinstance(model, str) else model
    dataset = data if isinstance(data, ImageData) else open_data(data, classes=source.classes)
    named = _name_corruptions(corruptions)
    chosen = _check_severities(severities)
    _check_at_least_one("batch_size", batch_size)
    _check_labels(dataset.samples, len(source.classes))
    models = {SOURCE: source, **_name_adapters(adapters, source)}
    model_settings = source.settings
    device = str(model_settings.get("device", "cpu"))
    workers = default_workers(device) if workers is None else workers
    out = Path(out)

    view = _make_view(dataset, source, named, seed, encode)
    has_clean = not isinstance(dataset, CorruptedTree) or dataset.has_clean
    cells = grid.cells_of(list(named), chosen, clean=has_clean)
    if isinstance(dataset, CorruptedTree):
        _check_cells(dataset, cells)
    if not dataset.is_labelled and not has_clean:
        raise InputError(
            "Without labels the answers are compared with those on the clean images, and this tree "
            "has none: give labels (class folders), or the clean images."
        )
    folder = RunFolder.create(
        out,
        _plain(
            {
                "model": model_settings,
                "adapters": {
                    # The wrapped classifier stands under "model" already.
                    name: {k: v for k, v in model.settings.items() if k != "classifier"}
                    for name, model in models.items()
                    if name != SOURCE
                },
                "data": dataset.settings(),
                "images": view.settings(),
                "corruptions": {name: identity_of(item) for name, item in named.items()},
                "severities": chosen,
                "batch_size": batch_size,
                "seed": seed,
                "protocol": "online, one cell at a time, reset before each, shuffled",
            }
        ),
        {
            "classes": {"title": source.classes.title, "count": len(source.classes)},
            "provenance": provenance(device, workers),
        },
    )
    if isinstance(view, OnTheFly):
        view.cache = files.make_folder(folder.cache)
    _fill(folder, view, cells, dataset, models, batch_size, seed, workers, show_progress)
    scores = summary.summarise(
        folder,
        models={name: source.name if name == SOURCE else name for name in models},
        cells=cells,
        classes=source.classes,
        show_progress=show_progress,
    )
    files.write_json(folder.scores_file, scores)
    save_gallery(folder, view, cells, dataset.samples, list(models), source.classes)
    folder.drop_cache()
    return Run(out)


def _fill(
    folder: RunFolder,
    view: View,
    cells: Sequence[Cell],
    data: ImageData,
    models: Mapping[str, ClassifierLike],
    batch_size: int,
    seed: int,
    workers: int,
    show_progress: bool | None,
) -> None:
    """Do the cells that are not there yet; each is written when its last batch is through."""
    for name in models:
        files.make_folder(folder.path / "records" / name)
    todo = {
        cell: missing
        for cell in cells
        if (missing := [name for name in models if not folder.has(name, cell)])
    }
    stream = grid.shuffled(data.samples, seed)
    recorders: dict[str, records.CellRecorder] = {}
    with progress("Benchmark", len(todo) * len(stream), show=show_progress) as advance:
        for batch in grid.batches(view, list(todo), stream, batch_size=batch_size, workers=workers):
            names = todo[batch.cell]
            if not recorders:
                recorders = {name: records.CellRecorder() for name in names}
                for name in names:
                    model = models[name]
                    if isinstance(model, Adapter):
                        model.reset()
            for name, recorder in recorders.items():
                if batch.samples:
                    recorder.add(batch.samples, models[name].predict(_stack(batch.images)))
                for sample, reason in batch.broken:
                    recorder.add_broken(sample, reason)
            advance(len(batch.samples) + len(batch.broken), note=str(batch.cell))
            if batch.ends_cell:
                for name, recorder in recorders.items():
                    records.write_cell(
                        folder.records_file(name, batch.cell), recorder.finish(data.samples)
                    )
                recorders = {}


def _stack(images: Sequence[Image]) -> Any:
    """One array where all images have one size, as behind a preprocess with a fixed size."""
    same = all(image.shape == images[0].shape for image in images)
    return np.stack(images) if same else list(images)


# ---------------------------------------------------------------- what was handed in


def default_workers(device: str) -> int:
    """Return how many processes read and corrupt: most of the cores where the model runs elsewhere."""
    cores = os.cpu_count() or 1
    return max(1, cores // 2) if device == "cpu" else max(1, cores - 1)


def _name_corruptions(
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike],
) -> dict[str, CorruptionLike]:
    if isinstance(corruptions, str):
        raise InputError(f"Expected a list of corruptions; write [{corruptions!r}].")
    pairs = (
        list(corruptions.items())
        if isinstance(corruptions, Mapping)
        else [(c if isinstance(c, str) else getattr(c, "__name__", "corruption"), c)
              for c in corruptions]
    )  # fmt: skip
    if not pairs:
        raise InputError("Expected at least one corruption, got none.")
    named: dict[str, CorruptionLike] = {}
    for name, corruption in pairs:
        if name in named:
            raise InputError(f"The corruption {name!r} is given twice.")
        if name == "clean" or not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                f"A corruption cannot be called {name!r}: it names files, so letters, digits, "
                "'_', '.', '+' and '-' only, and not 'clean'."
            )
        if isinstance(corruption, str) and corruption not in CORRUPTIONS:
            raise UnknownNameError.of("corruption", corruption, CORRUPTIONS)
        named[name] = corruption
    return named


def _check_severities(severities: Sequence[int]) -> list[int]:
    chosen = list(severities)
    for severity in chosen:
        if isinstance(severity, bool) or severity not in (1, 2, 3, 4, 5):
            raise InputError(
                f"Expected severities from 1 to 5, got {severity!r}; the clean images are always "
                "run, as severity 0."
            )
    if not chosen or len(set(chosen)) != len(chosen):
        raise InputError(f"Expected severities from 1 to 5, each once, got {chosen}.")
    return sorted(int(severity) for severity in chosen)


def _check_at_least_one(what: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"Expected {what} of 1 or more, got {value!r}.")


def _check_labels(samples: Sequence[Sample], classes: int) -> None:
    if not samples:
        raise InputError("The data set has no images.")
    for sample in samples:
        if sample.label is not None and not 0 <= sample.label < classes:
            raise InputError(
                f"{sample.id} has the label {sample.label}, but the model has {classes} classes: "
                f"expected 0 to {classes - 1}."
            )


def _check_cells(tree: CorruptedTree, cells: Sequence[Cell]) -> None:
    missing = [str(cell) for cell in cells if not cell.is_clean and cell not in tree.cells]
    if missing:
        raise InputError(
            f"The tree {tree.name} has no folder for {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + ". Choose --corruptions and --severities that it has."
        )


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
        # The name names a folder; "batchnorm:prior=0" is a usual one.
        safe = re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "adapter"
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
    if encode not in ("none", "jpeg"):
        raise UnknownNameError.of("encode", encode, ["none", "jpeg"])
    geometry = source.preprocess.geometry
    if isinstance(data, CorruptedTree):
        return FromDisk(data, geometry, source.preprocess.size)
    return OnTheFly(data, geometry, corruptions, seed=seed, encode=encode)


def _plain(value: Any) -> Any:
    """Bring settings to the form in which JSON gives them back, so that they can be compared."""

    def fix(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): fix(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [fix(entry) for entry in item]
        if isinstance(item, float) and not math.isfinite(item):
            return str(item)
        return item

    plain: Settings = json.loads(json.dumps(fix(value), default=str))
    return plain
