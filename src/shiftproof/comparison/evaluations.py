"""Comparing two evaluations on their common test sets and images."""

from __future__ import annotations

import numpy as np

from shiftproof.comparison.figures import Figure, PairedFigures, find_worst
from shiftproof.counts import pluralize
from shiftproof.errors import RunMismatchError
from shiftproof.evaluate.summary import replicate_set
from shiftproof.report.sections import look_up
from shiftproof.runs.records.classification import CellRecords, read_cell
from shiftproof.runs.run import EvaluationRun
from shiftproof.types import Cell

_NAMES = ("baseline", "candidate")


def pair_evaluations(
    baseline: EvaluationRun, candidate: EvaluationRun, models: tuple[str, str]
) -> PairedFigures:
    """Score one model of each run on the common images, from their records.

    Raises:
        RunMismatchError: no test set or image in common, or different labels of the same images.
        BrokenFileError: a table cannot be read.
    """
    candidate_sets = set(candidate.scores.corruptions)
    names = [name for name in baseline.scores.corruptions if name in candidate_sets]
    if not names:
        raise RunMismatchError(
            f"{baseline.path} and {candidate.path} have no test set in common. Evaluate both on the "
            "same --set."
        )
    figures, images = [], 0
    for index, name in enumerate(names):
        cell = Cell(name, 0)
        records = _select_shared(
            read_cell(baseline.folder.records_file(models[0], cell)),
            read_cell(candidate.folder.records_file(models[1], cell)),
            f"{baseline.path} and {candidate.path}, {name}",
            same_classes=_have_same_classes(baseline, candidate, models),
        )
        replicates = replicate_set(dict(zip(_NAMES, records, strict=True)), index, name)
        accuracies = [replicates[side][0] for side in _NAMES]
        figures.append(Figure(name, name, "set", "share", False, *accuracies))
        images += len(records[0])
    worst = find_worst(figures)
    return PairedFigures(
        [_average(figures), *([] if worst is None else [worst]), *figures],
        images,
        len(names),
        aliases={"accuracy": "mean"},
        warnings=_describe_unshared(baseline, candidate, len(names), images),
    )


def _average(figures: list[Figure]) -> Figure:
    """Return the unweighted mean over the test sets."""
    means = [np.mean([getattr(one, side) for one in figures], axis=0) for side in _NAMES]
    return Figure("mean", "Mean accuracy", "headline", "share", False, *means)


def _have_same_classes(
    baseline: EvaluationRun, candidate: EvaluationRun, models: tuple[str, str]
) -> bool:
    """Whether both models list the same classes in the same order, as far as the runs say."""
    stated = [
        look_up(run.settings, "models", model, "classes", "fingerprint")
        for run, model in zip((baseline, candidate), models, strict=True)
    ]
    return stated[0] == stated[1]


def _select_shared(
    one: CellRecords, other: CellRecords, what: str, *, same_classes: bool
) -> tuple[CellRecords, CellRecords]:
    """Return the records of the common images, in the same order."""
    index = {name: row for row, name in enumerate(other.ids)}
    rows = [row for row, name in enumerate(one.ids) if name in index]
    if not rows:
        raise RunMismatchError(f"{what}: no image in common, so nothing can be paired.")
    other_rows = [index[one.ids[row]] for row in rows]
    shared = one.pick(np.array(rows)), other.pick(np.array(other_rows))
    different = int((shared[0].target != shared[1].target).sum())
    if different:
        raise RunMismatchError(
            f"{what}: other labels on {different} of {pluralize(len(rows), 'image')} that both have. "
            + (
                "Evaluate both on the same data."
                if same_classes
                else "Their models have other classes, or the same in another order, and an evaluation "
                "does not store their names: evaluate both with the classes in one order."
            )
        )
    return shared


def _describe_unshared(
    baseline: EvaluationRun, candidate: EvaluationRun, sets: int, images: int
) -> list[str]:
    """Describe the test sets and images that only one of the two has."""
    warnings = []
    unshared = set(baseline.scores.corruptions) ^ set(candidate.scores.corruptions)
    if unshared:
        warnings.append(
            f"Test sets that one run alone has are not compared: {', '.join(sorted(unshared))}."
        )
    counts = [
        sum(one.total for one in run.scores.sets if one.name not in unshared)
        for run in (baseline, candidate)
    ]
    if any(count != images for count in counts):
        warnings.append(
            f"The runs have {counts[0]} and {counts[1]} images in the {sets} test sets that both have; "
            f"only the {images} that both have are paired."
        )
    return warnings
