"""The classification task: top-1 error, mCE and related metrics."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import msgspec
import numpy as np

from shiftproof.adapt import Adapter, make_adapter
from shiftproof.bench.cells.views import Encode, FromDisk, OnTheFly, View
from shiftproof.bench.estimates.error_estimates import ESTIMATORS, estimate_grid, measure_quality
from shiftproof.bench.tasks.classification.calibrating import (
    HeldOut,
    HeldOutLike,
    hold_out,
    read_calibrations,
)
from shiftproof.bench.tasks.classification.calibrators import COVERAGE
from shiftproof.bench.tasks.classification.confidence_figures import replicate_figures
from shiftproof.bench.tasks.classification.gallery import save_gallery
from shiftproof.bench.tasks.classification.recorder import ClassifierRecording
from shiftproof.bench.tasks.classification.trust import measure_trust
from shiftproof.bench.tasks.classification.unanswered import list_unanswered
from shiftproof.bench.tasks.interface import AdapterLike, Grid, Measured, Prepared, Task
from shiftproof.bench.tasks.named_models import choose_titles, load_models, write_settings
from shiftproof.bench.tasks.published import why_cells_lack, why_other_corruptions
from shiftproof.bench.tasks.summary import SEED, average, describe_resampling, list_broken
from shiftproof.compute.progress import progress
from shiftproof.corruptions import COMMON
from shiftproof.counts import pluralize
from shiftproof.data import CorruptedData, ImageData, check_labels, open_data
from shiftproof.data.images.opening import check_data
from shiftproof.errors import InputError, LabelError, ModelError
from shiftproof.metrics import corruption as corruption_metrics
from shiftproof.metrics import intervals
from shiftproof.metrics.estimation import find_differences
from shiftproof.models import ClassifierLike, Preprocess, load_classifier
from shiftproof.models.classifiers.load import check_classifier
from shiftproof.models.preprocess import Preprocessing
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.names import make_folder_name
from shiftproof.runs.records.classification import CellRecords, read_tables
from shiftproof.runs.resamples import Replicates, divide, round_figure
from shiftproof.runs.scores.classification import (
    CLASS_NAMES,
    ClassErrors,
    ClassNames,
    Detail,
    EstimatedCell,
    Estimator,
)
from shiftproof.runs.scores.grid import Headline, Images, Measure
from shiftproof.runs.scores.reading import read_form, write_form
from shiftproof.runs.scores.trust import Trust
from shiftproof.types import CLEAN, F64, Cell

CLEAN_ERROR = Headline(
    "clean", "Clean error", "images as they are", lower_is_better=True, unit="share"
)
MEAN_ERROR = Headline(
    "mean", "Error under corruption", "mean over the grid", lower_is_better=True, unit="share"
)
MEAN_DISAGREEMENT = Headline(
    "mean",
    "Disagreement under corruption",
    "mean over the grid",
    lower_is_better=True,
    unit="share",
)
MCE = Headline("mce", "mCE", "against AlexNet", lower_is_better=True, unit="share")
RELATIVE_MCE = Headline(
    "relative_mce", "Relative mCE", "rise over the clean error, against AlexNet's",
    lower_is_better=True, unit="share", card=False,
)  # fmt: skip
RPC = Headline("rpc", "rPC", "accuracy that is kept", lower_is_better=False, unit="share")
CALIBRATION = Headline(
    "calibration_error",
    "Calibration error",
    "confidence against truth",
    lower_is_better=True,
    unit="share",
)

HEADLINES = (CLEAN_ERROR, MEAN_ERROR, MCE, RELATIVE_MCE, RPC, CALIBRATION)

ERROR = Measure("error", "error", lower_is_better=True, unit="share")
DISAGREEMENT = Measure(
    "disagreement", "disagreement with the clean prediction", lower_is_better=True, unit="share"
)
WITH_LABELS = (
    ERROR,
    Measure("top5_error", "top-5 error", lower_is_better=True, unit="share"),
    Measure("calibration_error", "calibration error", lower_is_better=True, unit="share"),
    Measure("loss", "loss", lower_is_better=True, unit="nats", high=None),
)


@final
class Classification(Task):
    """Classifiers on labeled images: error, mCE and related metrics (Hendrycks & Dietterich 2019).

    Without labels the answers are held against those on the clean images: disagreement.

    Args:
        calibrate: labeled clean images on which each model gets a temperature and the thresholds of its
            prediction sets before it is measured: a dataset, what ``open_data`` takes, or the share
            of the run's own images that is held out for it (0.2 or "fraction=0.2").
        coverage: target coverage of the prediction sets, between 0 and 1.
        run_folder: the folder of a run that may have the vectors of zero-shot classes already, for models
            given as text; ``bench.run`` takes the run's own.
        trust: whether to evaluate confidences: Brier score, risk against coverage and prediction
            sets.
    """

    kind = "classification"

    def __init__(
        self,
        *,
        calibrate: HeldOutLike | None = None,
        coverage: float = COVERAGE,
        run_folder: str | Path | None = None,
        trust: bool = True,
    ) -> None:
        self.calibrate = calibrate
        self.coverage = coverage
        self.run_folder = run_folder
        self.trust = trust

    def prepare(
        self,
        models: ClassifierLike | str | Mapping[str, ClassifierLike | str],
        data: ImageData | str | Path,
        adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike],
        *,
        device: str,
    ) -> Prepared:
        """Load models given as specs, name them, and check that labels and classes match."""
        if not isinstance(data, ImageData):
            check_data(data)
        load = functools.partial(load_classifier, device=device, run_folder=self.run_folder)
        named: dict[str, ClassifierLike] = load_models(
            models, load, check=check_classifier, noun="classifier"
        )
        first = next(iter(named.values()))
        dataset = data if isinstance(data, ImageData) else open_data(data, classes=first.classes)
        check_labels(dataset, first.classes)
        for name, model in named.items():
            _check_alike(name, model, first)
        held = None
        if self.calibrate is not None:
            dataset, held = hold_out(dataset, self.calibrate, first.classes, self.coverage)
        on_disk = dataset if isinstance(dataset, CorruptedData) else None
        has_clean = on_disk is None or on_disk.has_clean
        if not dataset.is_labeled and not has_clean:
            raise InputError(
                "Without labels the answers are compared with those on the clean images, and this "
                "dataset has none: give labels (class folders), or the clean images."
            )
        adapted = _name_adapters(adapters, first, named)
        geometry = first.preprocess.geometry

        def make_view(corruptions: Mapping[str, Any], seed: int, encode: Encode) -> View:
            if on_disk is not None:
                return FromDisk(on_disk, geometry, first.preprocess.size)
            return OnTheFly(dataset, geometry, corruptions, seed=seed, encode=encode)

        held_out = None if held is None else _show_held_out(held, first, self.coverage)
        return Prepared(
            models={**named, **adapted},
            titles={**choose_titles(named), **{name: name for name in adapted}},
            data=dataset,
            recording=ClassifierRecording(),
            settings={
                **write_settings(named, adapted, "classifier"),
                # Set only if given, so that runs without it can be resumed.
                **({} if held_out is None else {"calibration": held_out.settings}),
            },
            about={"classes": {"title": first.classes.title, "count": len(first.classes)}},
            make_view=make_view,
            corrupted=on_disk,
            has_clean=has_clean,
            keeps_images=True,
            device=str(first.settings.get("device", "cpu")),
            held_out=held_out,
        )

    def begin(self, folder: RunFolder, prepared: Prepared) -> None:
        """Write the classes of the outputs, and cache the vectors of zero-shot classes, which are
        slow to compute.
        """
        classes = next(iter(prepared.models.values())).classes
        write_form(folder.path / CLASS_NAMES, ClassNames(classes.title, tuple(classes.names)))
        for model in prepared.models.values():
            vectors = getattr(model, "class_vectors", None)
            if vectors is not None:
                vectors.save(folder.path)

    def measure(
        self,
        folder: RunFolder,
        models: Sequence[str],
        grid: Grid,
        *,
        workers: int,
        show_progress: bool | None,
    ) -> Measured:
        """Return error, top-5 error, calibration and loss in each cell, mCE and related
        headlines.
        """
        tables = read_tables(folder.path, models, grid.cells)
        classes = read_form(folder.path / CLASS_NAMES, ClassNames)
        first = tables[models[0]]
        labeled = bool((first[grid.cells[0]].target >= 0).all())
        reason = why_no_mce(grid, labeled, classes) or why_other_corruptions(folder)
        cells = _replicate(tables, labeled, len(classes.names), show_progress)
        trust: Mapping[str, Trust] = {}
        if labeled and self.trust:
            trust = measure_trust(
                tables, cells, grid.averaged, read_calibrations(folder).models,
                classes=len(classes.names), show_progress=show_progress,
            )  # fmt: skip
        details = _detail(tables, cells, grid, classes.names, trust) if labeled else {}
        found = {name: _summarize(cells[name], grid, labeled, reason) for name in models}
        is_whole = set(COMMON) <= set(grid.corruptions) and grid.severities == [1, 2, 3, 4, 5]
        return Measured(
            measures=WITH_LABELS if labeled else (DISAGREEMENT,),
            headlines=HEADLINES if labeled else (MEAN_DISAGREEMENT,),
            cells=cells,
            images=_count_images(tables, first),
            interval=describe_resampling("paired percentile bootstrap over images"),
            claim="mCE",
            reason=reason,
            complete=is_whole and why_cells_lack(grid) is None,
            summaries={name: summary for name, (summary, _) in found.items()},
            corruptions={name: corruptions for name, (_, corruptions) in found.items()},
            counts={
                name: {cell: int(one.readable.sum()) for cell, one in table.items()}
                for name, table in tables.items()
            },
            details={name: msgspec.to_builtins(detail) for name, detail in details.items()},
        )

    def save_gallery(
        self, folder: RunFolder, prepared: Prepared, view: View, cells: Sequence[Cell]
    ) -> None:
        """Save the gallery: photographs in every cell, and those with most errors."""
        classes = next(iter(prepared.models.values())).classes
        save_gallery(folder, view, cells, prepared.data.samples, list(prepared.titles), classes)


# ---------------------------------------------------------------- models and held-out images


def _show_held_out(data: ImageData, first: ClassifierLike, coverage: float) -> HeldOut:
    """Return the clean held-out images at the models' input size."""
    geometry = first.preprocess.geometry
    if not isinstance(data, CorruptedData):
        return HeldOut(data, coverage, OnTheFly(data, geometry, {}, seed=0, encode="none"))
    if not data.has_clean:
        raise InputError(
            f"{data.name} has no clean images to hold out; give clean ones to calibrate on, a folder "
            "with labels."
        )
    return HeldOut(data, coverage, FromDisk(data, geometry, first.preprocess.size))


def _check_alike(name: str, model: ClassifierLike, first: ClassifierLike) -> None:
    """Check that the models can be evaluated on the same images in one run."""
    if model is first:
        return
    if model.classes.names != first.classes.names:
        if sorted(model.classes.names) == sorted(first.classes.names):
            raise LabelError(
                f"{name} lists the classes of the first model in another order; run them one by one and "
                "compare the runs by `shiftproof report`, which matches classes by name."
            )
        raise LabelError(
            f"{name} answers {pluralize(len(model.classes), 'class')} ({model.classes.title}), the "
            f"first model "
            f"{len(first.classes)} ({first.classes.title}); run them one by one and compare the runs "
            "by `shiftproof report`."
        )
    if not _have_same_geometry(model.preprocess, first.preprocess):
        raise ModelError(
            f"{name} resizes and crops images in another way than the first model, so that the "
            "corruption would be another one; run them one by one and compare the runs by "
            "`shiftproof report`."
        )


def _have_same_geometry(one: Preprocessing, other: Preprocessing) -> bool:
    """Return whether two models see the same pixels; they may normalize these each in its own way."""
    if isinstance(one, Preprocess) and isinstance(other, Preprocess):
        one = dataclasses.replace(one, mean=other.mean, std=other.std)
    return one == other


def _name_adapters(
    adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike],
    source: ClassifierLike,
    models: Mapping[str, object],
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
        safe = make_folder_name(name, "adapter")
        if safe in named or safe in models:
            raise InputError(
                f"Two models of the run are called {safe!r}; give them names of a mapping."
            )
        named[safe] = adapter
    return named


# ---------------------------------------------------------------- measures


def why_no_mce(grid: Grid, labeled: bool, classes: ClassNames) -> str | None:
    """Return why mCE is not claimed for a grid, or None."""
    if not labeled:
        return "the images have no labels"
    if classes.title != "imagenet-1k":
        return (
            "mCE is normalized by AlexNet's errors on ImageNet's 1,000 classes, and this model "
            f"has others ({classes.title}, {len(classes.names)})"
        )
    missing = [name for name in COMMON if name not in grid.corruptions]
    if missing:
        were = "was" if len(missing) == 1 else "were"
        return f"{len(missing)} of the 15 corruptions {were} not run ({', '.join(missing)})"
    if grid.severities != [1, 2, 3, 4, 5]:
        return f"only the severities {', '.join(map(str, grid.severities))} of 1 to 5 were run"
    return why_cells_lack(grid)


def _replicate(
    tables: Mapping[str, Mapping[Cell, CellRecords]],
    labeled: bool,
    classes: int,
    show_progress: bool | None,
) -> dict[str, dict[Cell, dict[str, Replicates]]]:
    """Return the replicates of all cells: observed, and on every resample of the images."""
    keys = [(name, cell) for name, table in tables.items() for cell in table]
    if labeled:
        figures = replicate_figures(
            [(tables[name][cell], None) for name, cell in keys],
            classes,
            title="Intervals",
            show_progress=show_progress,
        )
    else:
        figures = _replicate_disagreement(
            [(tables[name][cell], tables[name].get(CLEAN)) for name, cell in keys], show_progress
        )
    found: dict[str, dict[Cell, dict[str, Replicates]]] = {name: {} for name in tables}
    for (name, cell), values in zip(keys, figures, strict=True):
        found[name][cell] = values
    return found


def _replicate_disagreement(
    records: Sequence[tuple[CellRecords, CellRecords | None]], show_progress: bool | None
) -> list[dict[str, Replicates]]:
    count = len(records[0][0])
    columns = [functools.partial(_stack_disagreement, one, clean) for one, clean in records]
    blocks = intervals.count_blocks(count)
    with progress("Intervals", len(columns) * blocks, show=show_progress) as advance:
        sums = intervals.sum_resamples(columns, count, seed=SEED, done=advance)
    return [{"disagreement": divide(one[:, 1], one[:, 0])} for one in sums]


def _stack_disagreement(record: CellRecords, clean: CellRecords | None) -> F64:
    """``(N, 2)``: whether the image counts, and whether the answer is another than on the clean one."""
    assert clean is not None
    counts = record.readable & clean.readable
    differs = counts & find_differences(record.prediction, clean.prediction)
    return np.stack([counts, differs], axis=1).astype(np.float64)


def _summarize(
    cells: Mapping[Cell, Mapping[str, Replicates]], grid: Grid, labeled: bool, reason: str | None
) -> tuple[dict[str, Replicates], dict[str, dict[str, Replicates]]]:
    """Return a model's headlines other than clean and mean, and further measures of corruptions."""
    if not labeled:
        return {}, {}
    averaged = grid.averaged
    summary = {
        "calibration_error": np.mean(
            [cells[cell]["calibration_error"] for cell in averaged], axis=0
        )
    }
    clean = cells[CLEAN]["error"] if grid.has_clean else None
    if clean is not None:
        mean = average([cells[cell]["error"] for cell in averaged])
        summary["rpc"] = divide(1 - mean, 1 - clean)
    if reason is not None:
        return summary, {}
    names = list(COMMON)
    error = np.stack(
        [
            np.stack(
                [cells[Cell(name, severity)]["error"] for severity in grid.severities], axis=-1
            )
            for name in names
        ],
        axis=-2,
    )  # (1 + R, corruptions, severities)
    ce = corruption_metrics.corruption_errors(error, names)
    summary["mce"] = ce.mean(axis=-1)
    corruptions = {name: {"ce": ce[:, place]} for place, name in enumerate(names)}
    if clean is not None:
        relative = corruption_metrics.relative_corruption_errors(error, clean, names)
        summary["relative_mce"] = relative.mean(axis=-1)
        for place, name in enumerate(names):
            corruptions[name]["relative_ce"] = relative[:, place]
    return summary, corruptions


# ---------------------------------------------------------------- specific to classification


def _count_images(
    tables: Mapping[str, Mapping[Cell, CellRecords]], first: Mapping[Cell, CellRecords]
) -> Images:
    """Return how many images a run has; ``first`` is the table of its first model."""
    some = next(iter(first.values()))
    return Images(
        total=len(some),
        used=int(sum(some.readable)),
        broken=list_broken((cell, one.ids, one.error) for cell, one in first.items()),
        unanswered=list_unanswered(tables),
    )


def _detail(
    tables: Mapping[str, Mapping[Cell, CellRecords]],
    cells: Mapping[str, Mapping[Cell, Mapping[str, Replicates]]],
    grid: Grid,
    classes: Sequence[str],
    trust: Mapping[str, Trust],
) -> dict[str, Detail]:
    """Return by model the errors by class, the label-free estimates, and the evaluation of confidences."""
    estimates_by_model = estimate_grid(tables)
    return {
        name: Detail(
            classes=_score_classes(table, grid, classes),
            estimators=_describe_estimators(estimates_by_model.get(name, {}), cells[name]),
            estimates={
                str(cell): {estimator: round_figure(value) for estimator, value in found.items()}
                for cell, found in estimates_by_model.get(name, {}).items()
            },
            trust=trust.get(name),
        )
        for name, table in tables.items()
    }


def _describe_estimators(
    by_cell: Mapping[Cell, Mapping[str, float]], cells: Mapping[Cell, Mapping[str, Replicates]]
) -> tuple[Estimator, ...]:
    """Return each estimator's errors over the corrupted cells, and its worst cell."""
    errors = {
        cell: float(value) for cell in by_cell if np.isfinite(value := cells[cell]["error"][0])
    }
    return tuple(
        Estimator(
            name=name,
            title=ESTIMATORS[name],
            cells=quality.cells,
            mean_absolute_error=round_figure(quality.mean_absolute_error),
            root_mean_square=round_figure(quality.root_mean_square),
            bias=round_figure(quality.bias),
            within=quality.within,
            worst=EstimatedCell(
                quality.worst.cell.corruption,
                quality.worst.cell.severity,
                round_figure(quality.worst.estimate),
                round_figure(quality.worst.error),
            ),
        )
        for name, quality in measure_quality(by_cell, errors).items()
    )


def _score_classes(
    table: Mapping[Cell, CellRecords], grid: Grid, names: Sequence[str]
) -> tuple[ClassErrors, ...]:
    """Return per class the errors on clean images and over the cells of the mean, the worst class
    first.

    All images of a class in these cells count alike, so an image that could be read in some cells
    only counts in those.
    """
    count = len(names)
    clean_wrong, clean_seen = _count_by_class(table, [CLEAN] if grid.has_clean else [], count)
    wrong, seen = _count_by_class(table, grid.averaged, count)
    some = next(iter(table.values()))
    images = np.bincount(some.target[some.readable], minlength=count)
    rows = [
        ClassErrors(
            name=names[index],
            index=index,
            images=int(images[index]),
            clean_error=round_figure(clean_wrong[index] / clean_seen[index])
            if clean_seen[index]
            else None,
            error=round_figure(wrong[index] / seen[index]),
        )
        for index in np.flatnonzero(seen).tolist()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.error, row.index)))


def _count_by_class(
    table: Mapping[Cell, CellRecords], cells: Sequence[Cell], count: int
) -> tuple[F64, F64]:
    """Return ``(count,)`` the number of wrong answers and of readable images of each class."""
    wrong, seen = np.zeros(count), np.zeros(count)
    for record in (table[cell] for cell in cells):
        target = record.target[record.readable]
        missed = (record.prediction != record.target)[record.readable]
        seen += np.bincount(target, minlength=count)
        wrong += np.bincount(target, weights=missed, minlength=count)
    return wrong, seen
