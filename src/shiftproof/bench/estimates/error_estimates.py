"""Unsupervised error estimation: validation on labeled runs, and estimates for unlabeled ones.

On a run with labels, each estimator is fitted on the clean images and compared with the true error in
every corrupted cell. Its deviations there give its accuracy on a stream without labels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.metrics import intervals
from shiftproof.metrics.estimation import (
    Threshold,
    compute_error_shares,
    find_differences,
    fit_confidence_threshold,
)
from shiftproof.metrics.intervals import Interval
from shiftproof.rng import generator
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.classification import CellRecords, read_tables
from shiftproof.runs.run import Run
from shiftproof.types import CLEAN, F64, Cell, Flags, Settings

SEED = 0

ESTIMATORS = {
    "atc": "average thresholded confidence",
    "doc": "difference of confidences",
    "disagreement": "disagreement with the first model",
}
"""Name in the files to title. Garg et al. 2022; Guillory et al. 2021; Jiang et al. 2022."""

WIDTH = 1.96
"""Half-width of a 95 % interval of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class EstimatedCell:
    """Estimated and true error in one cell, as fractions."""

    cell: Cell
    estimate: float
    error: float


@dataclass(frozen=True)
class Quality:
    """Accuracy of an estimator of one model over the corrupted cells, as fractions.

    ``bias`` is the mean of estimate minus error: it is negative for an optimistic estimator.
    ``within`` counts the cells whose deviation is at most ``WIDTH`` root mean squares.
    """

    cells: int
    mean_absolute_error: float
    root_mean_square: float
    bias: float
    within: int
    worst: EstimatedCell


@dataclass(frozen=True)
class CellEstimate:
    """Estimates of one cell: by estimator, the error in 0..1 with its interval.

    ``error`` is the truth where the run has labels, else None.
    """

    cell: Cell
    images: int
    estimates: Mapping[str, Interval]
    error: float | None = None


@dataclass(frozen=True)
class ModelEstimate:
    """Estimates of one model of a run, and their accuracy on labeled data.

    ``best`` names the estimator with the smallest root mean square over the calibration run's cells;
    ``max_error`` is the largest true error there.
    """

    name: str
    best: str
    quality: Mapping[str, Quality]
    max_error: float
    cells: tuple[CellEstimate, ...]


@dataclass(frozen=True)
class StreamEstimate:
    """Estimates for an unlabeled run, and their calibration data."""

    models: tuple[ModelEstimate, ...]
    calibration: Path
    images: int
    """Number of labeled clean images on which the estimators were fitted."""
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]


# ---------------------------------------------------------------- with labels


def estimate_grid(
    tables: Mapping[str, Mapping[Cell, CellRecords]],
) -> dict[str, dict[Cell, dict[str, float]]]:
    """Return the estimated error of each model in each corrupted cell, by estimator. Fractions.

    Clean and corrupted images show the same photographs, so a threshold fitted on them would depend on
    their difficulty. So they are split into random halves: the fit on the clean images of one half is
    applied to the corrupted images of the other, and vice versa. Both halves are of one dataset: on
    other data an estimator is likely worse.

    Args:
        tables: per model its labeled records by cell; the first model is the one that the
            disagreement is with.

    Returns:
        The estimates by model and corrupted cell; empty without a clean cell, or with too few images
        for two halves.
    """
    first = next(iter(tables.values()))
    return {
        name: _estimate_cells(table, None if table is first else first)
        for name, table in tables.items()
    }


def measure_quality(
    estimates: Mapping[Cell, Mapping[str, float]], errors: Mapping[Cell, float]
) -> dict[str, Quality]:
    """Return the accuracy of each estimator over the cells, by name.

    Args:
        estimates: per cell the estimated error by estimator.
        errors: per cell the true error; cells without one are skipped.
    """
    misses: dict[str, list[EstimatedCell]] = {}
    for cell, by_name in estimates.items():
        if cell in errors:
            for name, estimate in by_name.items():
                misses.setdefault(name, []).append(EstimatedCell(cell, estimate, errors[cell]))
    return {name: _summarize_misses(found) for name, found in misses.items()}


def _summarize_misses(misses: Sequence[EstimatedCell]) -> Quality:
    deviations = np.array([miss.estimate - miss.error for miss in misses])
    spread = math.sqrt(np.mean(deviations**2))
    return Quality(
        cells=len(misses),
        mean_absolute_error=float(np.abs(deviations).mean()),
        root_mean_square=spread,
        bias=float(deviations.mean()),
        within=int(np.count_nonzero(np.abs(deviations) <= WIDTH * spread + 1e-12)),
        worst=misses[int(np.abs(deviations).argmax())],
    )


def _estimate_cells(
    table: Mapping[Cell, CellRecords], other: Mapping[Cell, CellRecords] | None
) -> dict[Cell, dict[str, float]]:
    clean = table.get(CLEAN)
    if clean is None:
        return {}
    usable = clean.readable
    half = _draw_half(len(clean))
    pairs = [(half, ~half), (~half, half)]
    if not all((usable & source).any() for source, _ in pairs):
        return {}
    fitted = [(_fit(clean, usable & source), target) for source, target in pairs]
    found: dict[Cell, dict[str, float]] = {}
    for cell, record in table.items():
        counts = record.readable
        if cell.is_clean or not counts.any():
            continue
        sums: dict[str, float] = {}
        for source, target in fitted:
            for name, values in _per_image(source, record, counts & target).items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        found[cell] = {name: _clip_fraction(total / counts.sum()) for name, total in sums.items()}
        if other is not None:
            found[cell]["disagreement"] = float(
                find_differences(record.prediction, other[cell].prediction)[counts].mean()
            )
    return found


def _draw_half(count: int) -> Flags:
    """``(count,)`` bool: a random half of the images, the same for all models."""
    drawn = generator(SEED, "estimation halves", str(count)).permutation(count) < count // 2
    return np.asarray(drawn)


# ---------------------------------------------------------------- fitted on labeled clean images


@dataclass(frozen=True)
class _Source:
    """The estimators' parameters, fitted on the clean images."""

    threshold: Threshold
    error_and_confidence: float
    """Error plus mean confidence; minus a target's mean confidence it estimates the target's
    error."""


def _fit(clean: CellRecords, counts: Flags) -> _Source:
    confidence = _read_confidence(clean, counts)
    right = (clean.prediction == clean.target)[counts]
    return _Source(
        fit_confidence_threshold(confidence, right), float(1 - right.mean() + confidence.mean())
    )


def _per_image(source: _Source, record: CellRecords, counts: Flags) -> dict[str, F64]:
    """By estimator a value per image; the estimate is their mean, clipped to 0..1."""
    if not counts.any():
        return {}
    confidence = _read_confidence(record, counts)
    return {
        "atc": compute_error_shares(confidence, source.threshold),
        "doc": source.error_and_confidence - confidence,
    }


def _read_confidence(record: CellRecords, counts: Flags) -> F64:
    """Return scores with NaN as the least confident."""
    confidence = record.confidence[counts].astype(np.float64)
    return np.nan_to_num(confidence, copy=False, nan=0.0)


def _clip_fraction(value: float) -> float:
    return min(1.0, max(0.0, float(value)))


def _measure_errors(table: Mapping[Cell, CellRecords]) -> dict[Cell, float]:
    return {
        cell: float((record.prediction != record.target)[counts].mean())
        for cell, record in table.items()
        if (counts := record.readable).any()
    }


# ---------------------------------------------------------------- a stream without labels


def estimate_stream(run: Run | str | Path, calibration: Run | str | Path) -> StreamEstimate:
    """Estimate the error of each model of ``run`` in each of its cells, without its labels.

    The estimators are fitted on the labeled clean images of ``calibration``, a run of the same models.
    Its corrupted cells give their deviations: 1.96 times the root mean square of these, and the
    bootstrap interval over the images of ``run``, are independent and added in quadrature. On other
    kinds of shift, such as unknown classes or changed class frequencies, the deviations may well be
    larger than on the calibration's grid.

    Args:
        run: a finished run, or its folder; where it has labels, they are given beside the estimate
            and not used for it.
        calibration: a finished run with labels, a clean cell and at least one corruption, of the
            same model (by the fingerprint of its weights) and the same adapters.

    Raises:
        InputError: one of them is no finished run, or ``calibration`` cannot calibrate.
        RunMismatchError: the models are not the same.
        BrokenFileError: a file of a run is damaged.
    """
    target, calibrator = _FinishedRun.of(run), _FinishedRun.of(calibration)
    pairs = _match_models(target, calibrator)
    labeled = calibrator.tables(list(dict.fromkeys([calibrator.models[0], *pairs.values()])))
    clean = _check_calibration(calibrator, labeled)
    stream = target.tables(list(pairs))
    grid = estimate_grid(labeled)
    models = []
    for name, twin in pairs.items():
        errors = _measure_errors(labeled[twin])
        quality = measure_quality(grid[twin], errors)
        if not quality:
            raise InputError(
                f"{calibrator.folder.path} has too few readable images to learn from: expected at least "
                "two in its clean cell."
            )
        source = _fit(labeled[twin][CLEAN], labeled[twin][CLEAN].readable)
        other = None if name == target.models[0] else stream[target.models[0]]
        models.append(
            ModelEstimate(
                name=name,
                best=min(quality, key=lambda estimator: quality[estimator].root_mean_square),
                quality=quality,
                max_error=max(error for cell, error in errors.items() if not cell.is_clean),
                cells=_estimate_cells_without_labels(source, quality, stream[name], other),
            )
        )
    return StreamEstimate(
        models=tuple(models),
        calibration=calibrator.folder.path,
        images=int(clean.readable.sum()),
        corruptions=tuple(dict.fromkeys(c.corruption for c in calibrator.cells if not c.is_clean)),
        severities=tuple(sorted({c.severity for c in calibrator.cells if not c.is_clean})),
    )


def _estimate_cells_without_labels(
    source: _Source,
    quality: Mapping[str, Quality],
    table: Mapping[Cell, CellRecords],
    other: Mapping[Cell, CellRecords] | None,
) -> tuple[CellEstimate, ...]:
    """Return the estimates of every cell of one model, with intervals over its images."""
    read = {cell: record for cell, record in table.items() if record.readable.any()}
    columns = [
        functools.partial(_stack_columns, source, record, None if other is None else other[cell])
        for cell, record in read.items()
    ]
    if not columns:
        return ()
    count = len(next(iter(read.values())))
    names = list(ESTIMATORS)
    found = []
    for (cell, record), sums in zip(
        read.items(), intervals.sum_resamples(columns, count, seed=SEED), strict=True
    ):
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample of broken images alone
            means = np.clip(sums[:, 1:] / sums[:, :1], 0, 1)
        counts = record.readable
        known = (record.target >= 0)[counts].all()
        found.append(
            CellEstimate(
                cell=cell,
                images=int(counts.sum()),
                estimates={
                    name: _widen_interval(
                        means[:, names.index(name)], found_quality.root_mean_square
                    )
                    for name, found_quality in quality.items()
                    if name != "disagreement" or other is not None
                },
                error=float((record.prediction != record.target)[counts].mean()) if known else None,
            )
        )
    return tuple(found)


def _stack_columns(source: _Source, record: CellRecords, other: CellRecords | None) -> F64:
    """``(N, 4)``: whether the image counts, then the per-image term of each of ``ESTIMATORS``."""
    counts = record.readable
    columns = np.zeros((len(record), 1 + len(ESTIMATORS)))
    columns[:, 0] = counts
    for position, name in enumerate(ESTIMATORS, start=1):
        if name != "disagreement":
            columns[counts, position] = _per_image(source, record, counts)[name]
        elif other is not None:
            columns[:, position] = counts & find_differences(record.prediction, other.prediction)
    return columns


def _widen_interval(replicates: F64, spread: float) -> Interval:
    """Widen the bootstrap interval by the estimator's spread, in quadrature on each side."""
    interval = intervals.percentile_interval(replicates)
    assert interval is not None  # a cell without a readable image is left out before
    value = interval.value
    return Interval(
        value,
        _clip_fraction(value - math.hypot(value - interval.lower, WIDTH * spread)),
        _clip_fraction(value + math.hypot(interval.upper - value, WIDTH * spread)),
    )


# ---------------------------------------------------------------- the two runs


@dataclass(frozen=True)
class _FinishedRun:
    """A finished run, with the parts of its files that are needed here."""

    folder: RunFolder
    settings: Settings
    models: tuple[str, ...]
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, run: Run | str | Path) -> _FinishedRun:
        opened = Run(run) if isinstance(run, str | Path) else run
        folder = opened.folder
        if not folder.scores_file.is_file():
            raise InputError(
                f"{folder.path} holds a run that is not finished (no scores.json). Start it again "
                "with the same settings; it resumes where it stopped."
            )
        scored = opened.scores.models
        models = tuple(one.name for one in scored)
        named = [Cell(one.corruption, one.severity) for one in scored[0].cells]
        if any(map(_leaves_folder, [*models, *(cell.corruption for cell in named)])):
            raise BrokenFileError(
                f"{folder.scores_file}: its models and corruptions are not what a run writes. It is "
                "damaged or was edited; start the run again to write it anew."
            )
        has_clean = folder.records_file(models[0], CLEAN).is_file()
        cells = tuple([CLEAN, *named] if has_clean else named)
        return cls(folder, opened.info.settings, models, cells)

    def tables(self, models: Sequence[str]) -> dict[str, dict[Cell, CellRecords]]:
        return read_tables(self.folder.path, models, self.cells)


def _leaves_folder(name: str) -> bool:
    """Return whether a name used in a path would leave its folder."""
    return not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name


def _match_models(target: _FinishedRun, calibrator: _FinishedRun) -> dict[str, str]:
    """Return for each model of ``here`` the one of ``there`` that is the same."""
    differences = [
        what
        for what in ("fingerprint", "classes", "preprocess", "name")
        if _read_model_setting(target, what) != _read_model_setting(calibrator, what)
    ]
    # Models are matched by fingerprint; without one by name.
    if "name" in differences and _read_model_setting(target, "fingerprint") not in (
        None,
        "unknown",
    ):
        differences.remove("name")
    if differences:
        raise RunMismatchError(
            f"{calibrator.folder.path} cannot calibrate {target.folder.path}: expected a run of the same "
            f"model, but they differ in {', '.join(f'the {what}' for what in differences)}. Run "
            "the benchmark with this model on labeled images."
        )
    return {name: _match_model(target, calibrator, name) for name in target.models}


def _match_model(target: _FinishedRun, calibrator: _FinishedRun, name: str) -> str:
    if name == target.models[0]:
        return calibrator.models[0]
    wanted = _read_settings(target, name)
    same = [twin for twin in calibrator.models[1:] if _read_settings(calibrator, twin) == wanted]
    if wanted is None or not same:
        raise RunMismatchError(
            f"{calibrator.folder.path} has no adapter like {name!r} of {target.folder.path}, with the same "
            "settings and the same batch size. Run the benchmark with it on labeled images."
        )
    return name if name in same else same[0]


def _read_model_setting(opened: _FinishedRun, what: str) -> Any:
    models = opened.settings.get("models")
    model = models.get(opened.models[0]) if isinstance(models, dict) else None
    return model.get(what) if isinstance(model, dict) else None


def _read_settings(opened: _FinishedRun, name: str) -> Settings | None:
    """Return the settings that determine the predictions of an adapter or a further model; None for
    neither.
    """
    models = opened.settings.get("models")
    model = models.get(name) if isinstance(models, dict) else None
    if isinstance(model, dict):
        return {"model": {key: model.get(key) for key in ("fingerprint", "classes", "preprocess")}}
    adapters = opened.settings.get("adapters")
    found = adapters.get(name) if isinstance(adapters, dict) else None
    if not isinstance(found, dict):
        return None
    batches = {key: opened.settings.get(key) for key in ("batch_size", "protocol")}
    return {"adapter": found, **batches}


def _check_calibration(
    opened: _FinishedRun, tables: Mapping[str, Mapping[Cell, CellRecords]]
) -> CellRecords:
    """Return the clean cell of a run that can calibrate."""
    table = tables[opened.models[0]]
    clean = table.get(CLEAN)
    missing = (
        "its images have no labels"
        if any((record.target < 0).any() for record in table.values())
        else "it has no clean cell"
        if clean is None
        else "it has no corrupted cell, which says how far an estimate is off"
        if len(table) < 2
        else None
    )
    if missing is not None or clean is None:
        raise InputError(
            f"{opened.folder.path} cannot calibrate: {missing}. Give a run on labeled images, "
            "clean and corrupted."
        )
    return clean
