"""The stability of classifiers on the sequences of ImageNet-P, with one record per image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from shiftproof.bench.arguments import check_readable
from shiftproof.compute.progress import progress
from shiftproof.corruptions.sequences import DIFFICULTIES, PERTURBATIONS, perturb
from shiftproof.data import ImageData, open_data
from shiftproof.data.images.cells import check_clean
from shiftproof.data.presence import is_demo
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files, manifest
from shiftproof.io.folder_locks import releases_locks
from shiftproof.metrics.classification import top_classes
from shiftproof.metrics.intervals import Interval, percentile_interval, sum_resamples
from shiftproof.metrics.perturbation import TOP, flips, top5_distances
from shiftproof.models.preprocess import Preprocess
from shiftproof.provenance import provenance
from shiftproof.runs.info import normalize_settings
from shiftproof.runs.parquet import TableFormat, open_table, write_table
from shiftproof.shards import (
    Arrays,
    Backend,
    FileParts,
    Ray,
    Scheduled,
    check_finished,
    fill_parts,
    pack_files,
)
from shiftproof.shards.access import make_access_error
from shiftproof.types import I32, Image, Images, Sample

if TYPE_CHECKING:
    import pyarrow

    from shiftproof.models import ClassifierLike

FLIP = "flip probability"
DISTANCE = "top-5 distance"
FLIP_RATE = "flip rate"
DISTANCE_RATE = "top-5 distance rate"
MEAN = "mean"
"""The row of the mean over the perturbations: of the rates mFR and mT5D."""

WHAT = "Stability"

RUN_FILE = "stability.json"
SCORES_FILE = "scores.json"

SHORT_SIDE = 256 / 224
"""Ratio of the resized shorter side to the crop, for models without a resize of their own."""


@dataclass(frozen=True)
class Stability:
    """The measured stability.

    Attributes:
        figures: model to perturbation, or ``MEAN``, to ``FLIP``, ``DISTANCE`` and, with a
            reference, the rates relative to it, each with its interval over the images.
        images: number of images measured.
        broken: the reasons why others could not be read.
        reference: the model that the rates are relative to; None without rates.
        path: the folder of the run.
    """

    figures: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    images: int
    broken: Sequence[str]
    reference: str | None
    path: Path


@releases_locks
def measure_stability(
    models: ClassifierLike | Mapping[str, ClassifierLike],
    data: ImageData | str | Path,
    *,
    out: str | Path,
    perturbations: Sequence[str] = tuple(PERTURBATIONS),
    reference: str | None = None,
    difficulty: int = 1,
    seed: int = 0,
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> Stability:
    """Measure how often predictions flip on sequences in which images change a little.

    Hendrycks & Dietterich 2019, ImageNet-P: the flip probability FP and the unnormalized top-5 distance
    of each perturbation. The flip rate divides by that of a reference on the same frames, in the
    paper AlexNet; their means over the perturbations are mFR and mT5D. Labels are not used.

    Args:
        models: a classifier, or name to classifier, with a
            :class:`~shiftproof.models.Preprocess`. Models of fewer than five classes have no top-5
            distance.
        data: images, or a source for ``open_data``.
        out: the folder of the run; one that was interrupted is resumed.
        perturbations: names of ``corruptions.sequences.PERTURBATIONS``.
        reference: the model in ``models`` that the rates are relative to.
        difficulty: 1 to 3.
        seed: random seed of the noise.
        backend: where the records are made, one part for each model and perturbation:
            :class:`~shiftproof.shards.Scheduled` or :class:`~shiftproof.shards.Ray`; None makes all
            in this process.
        show_progress: None shows progress on a terminal only.

    Raises:
        UnfinishedError: this worker's share is done, but not those of others.
        InputError: an argument cannot be used.
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    named = models if isinstance(models, Mapping) else {"source": models}
    check_arguments(named, perturbations, reference, difficulty)
    images = open_images(data)
    folder = Path(out)
    if not (folder / RUN_FILE).is_file():
        check_readable(images)
    settings = {
        "kind": "stability",
        "models": {name: model.settings for name, model in named.items()},
        "data": images.settings(),
        "perturbations": list(perturbations),
        "reference": reference,
        "difficulty": difficulty,
        "seed": seed,
    }
    manifest.begin(
        folder,
        RUN_FILE,
        normalize_settings(settings),
        what="a run",
        about={"provenance": provenance("", 0)},
        subfolders=("records",),
        shared=isinstance(backend, Scheduled),
        why="A run over sequences cannot be extended; one of `bench` can.",
    )
    tables = _Tables(named, images, perturbations, difficulty, seed)
    parts = FileParts(folder, [[_locate_table(Path(), *one).as_posix()] for one in tables.pairs])
    if isinstance(backend, Ray):
        fill_parts(WHAT, _make_table, tables, parts, backend, show=show_progress)
    mine = parts.missing() if backend is None else backend.share(parts.missing())
    _record(folder, tables, [tables.pairs[number] for number in mine], show_progress)
    if backend is not None:
        check_finished(WHAT, parts, backend)
    scores = _compute_scores(folder, list(named), perturbations, reference, difficulty)
    files.write_json(folder / SCORES_FILE, to_json(scores))
    return scores


def open_images(data: ImageData | str | Path) -> ImageData:
    """Open images without labels, which needs no model.

    Raises:
        InputError: no images, or corrupted copies without clean images.
    """
    if isinstance(data, ImageData):
        return data
    # The demo photographs cannot be opened without their labels.
    found = open_data(data, classes=None, labeled=None if is_demo(data) else False)
    check_clean(found)
    return found


def check_arguments(
    models: Mapping[str, ClassifierLike],
    perturbations: Sequence[str],
    reference: str | None,
    difficulty: int,
) -> None:
    """Raise an InputError if an argument cannot be used."""
    if not models:
        raise InputError("Expected at least one classifier, got none.")
    check_perturbations(perturbations)
    if difficulty not in DIFFICULTIES:
        raise InputError(f"Expected a difficulty of 1, 2 or 3, got {difficulty!r}.")
    if reference is not None and reference not in models:
        raise UnknownNameError.of("reference", reference, models)
    for name, model in models.items():
        if not files.can_name_files(name):
            raise InputError(f"A model cannot be called {name!r}: it names files.")
        if not isinstance(model.preprocess, Preprocess):
            raise InputError(
                f"{name}: expected a Preprocess, which says how an image is resized before it is cut; "
                f"got {type(model.preprocess).__name__}."
            )
        if len(model.classes) < 2:
            raise InputError(f"{name}: a prediction cannot flip, since it has one class only.")


def check_perturbations(names: Sequence[str]) -> None:
    """Raise an InputError if there is none, an unknown one, or one twice."""
    for name in names:
        if name not in PERTURBATIONS:
            raise UnknownNameError.of("perturbation", name, PERTURBATIONS)
    if not names or len(set(names)) != len(names):
        raise InputError(f"Expected perturbations, each once, got {list(names)}.")


def resize_without_crop(image: Image, preprocess: Preprocess) -> Image:
    """Resize an image as a model does before its center crop."""
    if isinstance(preprocess.resize, int):
        side = preprocess.resize
    else:
        side = round(min(preprocess.size) * SHORT_SIDE)
    # The same preprocessing, with a crop that keeps the whole image.
    height, width = image.shape[:2]
    shorter = min(height, width)
    size = max(1, int(side * height / shorter)), max(1, int(side * width / shorter))
    resampling = PillowImage.Resampling[preprocess.interpolation.upper()]
    picture = PillowImage.fromarray(image).resize((size[1], size[0]), resampling)
    return np.asarray(picture, dtype=np.uint8)


def _locate_table(folder: Path, model: str, perturbation: str) -> Path:
    return folder / "records" / model / f"{perturbation}.parquet"


@dataclass(frozen=True, eq=False)
class _Tables:
    """The tables to record."""

    models: Mapping[str, ClassifierLike]
    data: ImageData
    perturbations: Sequence[str]
    difficulty: int
    seed: int

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Model and perturbation of each table."""
        return [(model, name) for name in self.perturbations for model in self.models]


def _make_table(tables: _Tables, number: int) -> Arrays:
    """Return one table as a file, made on a machine of a cluster."""
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        model, name = tables.pairs[number]
        _record(Path(scratch), tables, [(model, name)], False)
        ids, _, broken = _read(_locate_table(Path(scratch), model, name), name)
        if broken and not ids:
            raise make_access_error("the images", broken[0].removesuffix("."))
        return pack_files(Path(scratch))


def _record(
    folder: Path,
    tables: _Tables,
    pairs: Sequence[tuple[str, str]],
    show_progress: bool | None,
) -> None:
    """Write a table for each of these models and perturbations."""
    todo: dict[str, list[str]] = {}
    for model, name in pairs:
        todo.setdefault(name, []).append(model)
    data, models = tables.data, tables.models
    with progress(WHAT, len(data.samples) * len(todo), show=show_progress) as advance:
        for name, missing in todo.items():
            chosen = {one: models[one] for one in missing}
            rows: dict[str, list[tuple[str, I32 | None, str | None]]] = {one: [] for one in missing}
            for sample, frames in _make_frames(chosen, data, name, tables.difficulty, tables.seed):
                for one in missing:
                    rows[one].append(_make_row(sample, frames, one, chosen[one]))
                advance(1, note=f"{name} {sample.id}")
            for one in missing:
                files.make_folder(_locate_table(folder, one, name).parent)
                write_table(_locate_table(folder, one, name), _make_arrow_table(rows[one]))


Frames = dict[str, Images] | BrokenFileError


def _make_row(
    sample: Sample, frames: Frames, name: str, model: ClassifierLike
) -> tuple[str, I32 | None, str | None]:
    if isinstance(frames, BrokenFileError):
        return sample.id, None, str(frames)
    return sample.id, top_classes(model.predict(frames[name]), min(TOP, len(model.classes))), None


def _make_frames(
    models: Mapping[str, ClassifierLike], data: ImageData, name: str, difficulty: int, seed: int
) -> Iterator[tuple[Sample, Frames]]:
    """Yield the frames of each image for each model; the next image's are made meanwhile."""

    def make(sample: Sample) -> Frames:
        try:
            image = data.read(sample)
        except BrokenFileError as error:
            return error
        frames: dict[str, Images] = {}
        by_size: dict[tuple[object, ...], Images] = {}
        for one, model in models.items():
            preprocess = model.preprocess
            assert isinstance(preprocess, Preprocess)
            key = (preprocess.size, preprocess.resize, preprocess.interpolation)
            if key not in by_size:
                by_size[key] = perturb(
                    resize_without_crop(image, preprocess),
                    name,
                    size=preprocess.size,
                    difficulty=difficulty,
                    seed=seed,
                    key=sample.id,
                )
            frames[one] = by_size[key]
        return frames

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, data.samples[0])
        for sample, following in zip(data.samples, (*data.samples[1:], None), strict=True):
            frames = ahead.result()
            if following is not None:
                ahead = pool.submit(make, following)
            yield sample, frames


_FORMAT = TableFormat({"id": "string", "classes": "[int32]", "error": "string"})


def _make_arrow_table(rows: Sequence[tuple[str, I32 | None, str | None]]) -> pyarrow.Table:
    """Return rows as a table; ``classes`` holds the top five classes of each frame, concatenated.

    For models of fewer classes it holds all of them.
    """
    import pyarrow as pa

    columns = {
        "id": [row[0] for row in rows],
        "classes": [None if row[1] is None else row[1].reshape(-1).tolist() for row in rows],
        "error": [row[2] for row in rows],
    }
    return pa.table(columns, schema=_FORMAT.make_schema())


def _read(path: Path, perturbation: str) -> tuple[list[str], I32, list[str]]:
    """Return ids and rankings ``(N, F, 5)`` of the readable images, and the reasons for others.

    Rankings are ``(N, F, K)`` for a model of K < 5 classes.
    """
    with open_table(path, _FORMAT.make_schema()) as table:
        rows = table.column("classes").to_pylist()
        ids = table.column("id").to_pylist()
        frames = PERTURBATIONS[perturbation].count
        kept = [row for row in rows if row is not None]
        top = len(kept[0]) // frames if kept else TOP
        rankings = np.array(kept, np.int32).reshape(len(kept), frames, top)
        broken = [str(reason) for reason in table.column("error").to_pylist() if reason is not None]
        return (
            [name for name, row in zip(ids, rows, strict=True) if row is not None],
            rankings,
            broken,
        )


def _compute_scores(
    folder: Path,
    models: Sequence[str],
    perturbations: Sequence[str],
    reference: str | None,
    difficulty: int,
) -> Stability:
    broken: list[str] = []
    counted: list[str] = []
    columns: list[NDArray[np.float64]] = []
    for model in models:
        for name in perturbations:
            path = _locate_table(folder, model, name)
            ids, rankings, broken = _read(path, name)
            if not ids:
                raise BrokenFileError(f"{folder}: none of the images could be read. {broken[0]}")
            if counted and ids != counted:
                raise BrokenFileError(
                    f"{path}: its images are not those of the other tables. Delete the records and "
                    "start the run again."
                )
            counted = ids
            is_noise = PERTURBATIONS[name].is_noise
            columns.append(flips(rankings[:, :, 0], is_noise=is_noise, step=difficulty))
            columns.append(_compute_distances(rankings, is_noise=is_noise, step=difficulty))
    [sums] = sum_resamples([lambda: np.stack(columns, axis=1)], len(counted))
    means = (sums / len(counted)).T.reshape(len(models), len(perturbations), 2, -1)
    divisor = None if reference is None else means[models.index(reference)]
    figures = {
        model: _make_figures(means[at], divisor, perturbations) for at, model in enumerate(models)
    }
    return Stability(figures, len(counted), broken, reference, folder)


def _compute_distances(rankings: I32, *, is_noise: bool, step: int) -> NDArray[np.float64]:
    """Return the top-5 distances ``(N,)``; NaN where there are fewer classes."""
    if rankings.shape[2] < TOP:
        return np.full(len(rankings), np.nan)
    return top5_distances(rankings, is_noise=is_noise, step=step)


def _make_figures(
    means: NDArray[np.float64], divisor: NDArray[np.float64] | None, perturbations: Sequence[str]
) -> dict[str, dict[str, Interval]]:
    """Return the figures of a model from ``(perturbations, 2, 1 + R)`` means over images."""
    parts = {FLIP: means[:, 0], DISTANCE: means[:, 1]}
    if divisor is not None:
        # A reference that never flips in a resample gives no rate there.
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = means / divisor
        parts |= {FLIP_RATE: rates[:, 0], DISTANCE_RATE: rates[:, 1]}
    figures: dict[str, dict[str, Interval]] = {name: {} for name in (*perturbations, MEAN)}
    for measure, table in parts.items():
        for name, row in zip((*perturbations, MEAN), (*table, table.mean(axis=0)), strict=True):
            interval = percentile_interval(row)
            if interval is not None:
                figures[name][measure] = interval
    return figures


def to_json(scores: Stability) -> dict[str, object]:
    """Return the results for JSON."""

    def write_interval(figure: Interval) -> dict[str, float | None]:
        return {"value": figure.value, "low": figure.low, "high": figure.high}

    return {
        "images": scores.images,
        "broken": list(scores.broken),
        "reference": scores.reference,
        "models": {
            model: {
                name: {measure: write_interval(figure) for measure, figure in row.items()}
                for name, row in rows.items()
            }
            for model, rows in scores.figures.items()
        },
    }
