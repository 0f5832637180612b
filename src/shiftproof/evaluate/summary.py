"""From records to scores: accuracies with paired intervals, and accuracy by similarity."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from shiftproof.bench.tasks.summary import average, list_broken
from shiftproof.compute.progress import progress
from shiftproof.errors import InputError
from shiftproof.evaluate.audited import MatchedAudit, read_audit
from shiftproof.evaluate.sets import OpenSet
from shiftproof.io.border import show_name
from shiftproof.metrics import intervals
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.classification import CellRecords, read_tables
from shiftproof.runs.resamples import Replicates, divide, round_figure, round_interval
from shiftproof.runs.run import EvaluationRun
from shiftproof.runs.scores.evaluation import (
    MEASURE,
    Accuracy,
    AuditFigures,
    Bin,
    BySimilarity,
    Closeness,
    EvaluatedModel,
    EvaluationScores,
    TestSet,
)
from shiftproof.runs.scores.reading import FORMAT
from shiftproof.runs.scores.shared import Resampling
from shiftproof.similarity import accuracy_by_similarity
from shiftproof.types import F64, Cell, Flags

SEED = 0

BINS = 10
"""Number of bins of equal size by similarity."""

MIN_IN_BIN = 10
"""Minimum number of images per bin; small test sets have fewer bins."""

_Tables: TypeAlias = "dict[str, dict[str, CellRecords]]"
"""From test set to model to its records."""


def summarize(
    folder: RunFolder,
    models: Mapping[str, str],
    sets: Sequence[OpenSet],
    audited: MatchedAudit | None,
    *,
    show_progress: bool | None = None,
) -> EvaluationScores:
    """Return the content of ``scores.json``; depends only on the records and the audit.

    ``models`` are from name to title; the others are compared with the first.

    Raises:
        BrokenFileError: a file of the run or the audit cannot be read.
        InputError: a test set without any readable image.
    """
    names = list(models)
    tables = {one.name: _read(folder, names, one.name) for one in sets}
    found: dict[str, dict[str, tuple[Replicates, Replicates]]] = {name: {} for name in names}
    with progress("Intervals", len(sets), show=show_progress) as advance:
        for number, one in enumerate(sets):
            for name, pair in replicate_set(tables[one.name], number, one.name).items():
                found[name][one.name] = pair
            advance(note=one.name)
    first = names[0]
    return EvaluationScores(
        format=FORMAT,
        kind="evaluation",
        measure=MEASURE,
        interval=Resampling(
            intervals.LEVEL,
            "paired percentile bootstrap over the images of each test set",
            intervals.REPLICATES,
            SEED,
        ),
        sets=tuple(_describe(one, tables[one.name]) for one in sets),
        models=tuple(_score_model(name, models[name], found[name]) for name in names),
        differences=tuple(
            _score_model(name, "", _subtract(found[name], found[first]), against=first)
            for name in names[1:]
        ),
        audit=None if audited is None else _match_audit(audited, tables, names),
    )


def _read(folder: RunFolder, models: Sequence[str], name: str) -> dict[str, CellRecords]:
    cell = Cell(name, 0)
    read = read_tables(folder.path, models, [cell])
    return {model: table[cell] for model, table in read.items()}


def _describe(one: OpenSet, tables: Mapping[str, CellRecords]) -> TestSet:
    first = next(iter(tables.values()))
    classes = len(one.data.classes or ())
    return TestSet(
        name=one.name,
        total=len(first),
        used=int(first.readable.sum()),
        classes=classes,
        labels=None if one.labels is None else one.labels.title,
        broken=list_broken([(Cell(one.name, 0), first.ids, first.error)]),
    )


def _score_answers(record: CellRecords) -> tuple[Flags, Flags]:
    """Return which images are correct at top 1, and at top 5."""
    best = record.prediction == record.target
    return best & record.readable, (record.top == record.target[:, None]).any(axis=1)


def replicate_set(
    tables: Mapping[str, CellRecords], number: int, name: str
) -> dict[str, tuple[Replicates, Replicates]]:
    """Return both accuracies of every model on one test set, all on the same resamples.

    All models' records have the same images in the same order; ``number``, the index of the test
    set, seeds the resamples.

    Raises:
        InputError: no image could be read.
    """
    count = len(next(iter(tables.values())))
    if not any(record.readable.any() for record in tables.values()):
        raise InputError(f"{show_name(name)}: no image could be read, so there is no accuracy.")

    columns = [functools.partial(_make_columns, record) for record in tables.values()]
    # A seed for each set, so that sets of the same size are resampled independently.
    sums = intervals.sum_resamples(columns, count, seed=SEED + number)
    return {
        model: (divide(values[:, 1], values[:, 0]), divide(values[:, 2], values[:, 0]))
        for model, values in zip(tables, sums, strict=True)
    }


def _make_columns(record: CellRecords) -> F64:
    """Return ``(N, 3)``: whether an image counts, is correct at top 1, and at top 5."""
    best, top = _score_answers(record)
    return np.stack([record.readable, best, top & record.readable], axis=1).astype(np.float64)


def _subtract(
    those: Mapping[str, tuple[Replicates, Replicates]],
    these: Mapping[str, tuple[Replicates, Replicates]],
) -> dict[str, tuple[Replicates, Replicates]]:
    return {
        name: (those[name][0] - these[name][0], those[name][1] - these[name][1]) for name in those
    }


def _score_model(
    name: str,
    title: str,
    found: Mapping[str, tuple[Replicates, Replicates]],
    *,
    against: str | None = None,
) -> EvaluatedModel:
    return EvaluatedModel(
        name=name,
        title=title,
        sets={
            one: Accuracy(_make_interval(best), _make_interval(top))
            for one, (best, top) in found.items()
        },
        mean=_make_interval(average([best for best, _ in found.values()])),
        against=against,
    )


def _make_interval(replicates: Replicates) -> Interval:
    found = intervals.percentile_interval(replicates)
    assert found is not None
    return round_interval(found)


# ---------------------------------------------------------------- with an audit


def join_audit(run: EvaluationRun, audit: Path) -> AuditFigures:
    """Return the results of an audit for the test sets of a finished evaluation.

    Raises:
        InputError: the folder holds no finished audit, or one of other test sets.
        BrokenFileError: a file of either cannot be read.
    """
    models = [model.name for model in run.scores.models]
    sets = [one.name for one in run.scores.sets]
    tables = {name: _read(run.folder, models, name) for name in sets}
    return _match_audit(read_audit(audit, sets), tables, models)


def _match_audit(audited: MatchedAudit, tables: _Tables, models: Sequence[str]) -> AuditFigures:
    closeness: dict[str, Closeness] = {}
    curves: list[BySimilarity] = []
    for name in audited.names:
        test_set = audited.figures(name)
        ids = next(iter(tables[name].values())).ids
        near = audited.read_similarities(name, ids)
        closeness[name] = Closeness(
            test=test_set.name,
            rows=test_set.rows,
            similarity=test_set.similarity,
            near_duplicates=test_set.near_duplicates,
            gap=test_set.gap,
            share_closer=test_set.share_closer,
            matched=int(np.isfinite(near).sum()),
        )
        for model in models:
            curve = _bin_by_similarity(model, name, near, tables[name][model])
            if curve is not None:
                curves.append(curve)
    reference = audited.content.reference
    return AuditFigures(
        name=audited.path.resolve().name,
        train_rows=audited.content.train.rows,
        reference_rows=None if reference is None else reference.rows,
        sets=closeness,
        by_similarity=tuple(curves),
        missing=audited.missing,
    )


def _bin_by_similarity(
    model: str, test: str, near: F64, record: CellRecords
) -> BySimilarity | None:
    """Return accuracy in bins of equal size by similarity; None if too few images are matched."""
    known = np.isfinite(near) & record.readable
    bins = min(BINS, int(known.sum()) // MIN_IN_BIN)
    if bins < 2:
        return None
    right = _score_answers(record)[0][known]
    found = accuracy_by_similarity(near[known], right, bins)
    order = np.argsort(near[known], kind="stable")
    parts = np.array_split(right[order], bins)
    return BySimilarity(
        model=model,
        test=test,
        bins=tuple(
            Bin(round_figure(float(similarity)), _compute_mean(part), len(part))
            for similarity, part in zip(found.similarity, parts, strict=True)
        ),
        advantage=round_figure(found.advantage) if np.isfinite(found.advantage) else None,
    )


def _compute_mean(right: Flags) -> Interval:
    return round_interval(intervals.bootstrap_mean(right.astype(np.float64), seed=SEED))
