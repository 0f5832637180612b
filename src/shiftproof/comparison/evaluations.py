"""Comparing two evaluations on their common test sets and images."""

from __future__ import annotations

import numpy as np

from shiftproof.comparison.figures import Figure, Pair, find_worst
from shiftproof.errors import RunMismatchError
from shiftproof.evaluate.summary import replicate_set
from shiftproof.runs.records.classification import CellRecords, read_cell
from shiftproof.runs.resamples import Replicates
from shiftproof.runs.run import EvaluationRun
from shiftproof.types import Cell

_NAMES = ("baseline", "candidate")


def pair_evaluations(
    baseline: EvaluationRun, candidate: EvaluationRun, models: tuple[str, str]
) -> Pair:
    """Score one model of each run on the common images, from their records.

    Raises:
        RunMismatchError: no test set or image in common, or different labels of the same images.
        BrokenFileError: a table cannot be read.
    """
    theirs = set(candidate.scores.corruptions)
    names = [name for name in baseline.scores.corruptions if name in theirs]
    if not names:
        raise RunMismatchError(
            f"{baseline.path} and {candidate.path} have no test set in common. Evaluate both on the "
            "same --set."
        )
    figures, images = [], 0
    for place, name in enumerate(names):
        cell = Cell(name, 0)
        pair = _select_shared(
            read_cell(baseline.folder.records_file(models[0], cell)),
            read_cell(candidate.folder.records_file(models[1], cell)),
            f"{baseline.path} and {candidate.path}, {name}",
        )
        found = replicate_set(dict(zip(_NAMES, pair, strict=True)), place, name)
        figures.append(_make_figure(name, found["baseline"][0], found["candidate"][0]))
        images += len(pair[0])
    worst = find_worst(figures)
    return Pair(
        [_average(figures), *([] if worst is None else [worst]), *figures],
        images,
        len(names),
        aliases={"accuracy": "mean"},
        warnings=_describe_unshared(baseline, candidate, len(names), images),
    )


def _make_figure(name: str, baseline: Replicates, candidate: Replicates) -> Figure:
    return Figure(name, name, "set", "share", False, baseline, candidate)


def _average(figures: list[Figure]) -> Figure:
    """Return the unweighted mean over the test sets."""
    mean = [
        np.mean([getattr(one, side) for one in figures], axis=0)
        for side in ("baseline", "candidate")
    ]
    return Figure("mean", "Mean accuracy", "headline", "share", False, *mean)


def _select_shared(
    one: CellRecords, other: CellRecords, what: str
) -> tuple[CellRecords, CellRecords]:
    """Return the records of the common images, in the same order."""
    places = {name: at for at, name in enumerate(other.ids)}
    mine = [at for at, name in enumerate(one.ids) if name in places]
    if not mine:
        raise RunMismatchError(f"{what}: no image in common, so nothing can be paired.")
    theirs = [places[one.ids[at]] for at in mine]
    pair = one.pick(np.array(mine)), other.pick(np.array(theirs))
    wrong = int((pair[0].target != pair[1].target).sum())
    if wrong:
        raise RunMismatchError(
            f"{what}: other labels on {wrong} of the {len(mine)} images that both have. Evaluate both "
            "on the same data."
        )
    return pair


def _describe_unshared(
    baseline: EvaluationRun, candidate: EvaluationRun, sets: int, images: int
) -> list[str]:
    """Describe what only one of the two has, and other differences."""
    told = []
    alone = set(baseline.scores.corruptions) ^ set(candidate.scores.corruptions)
    if alone:
        told.append(
            f"Test sets that one run alone has are not compared: {', '.join(sorted(alone))}."
        )
    counts = [sum(one.total for one in run.scores.sets if one.name not in alone)
              for run in (baseline, candidate)]  # fmt: skip
    if any(count != images for count in counts):
        told.append(
            f"The runs have {counts[0]} and {counts[1]} images in the {sets} test sets that both have; "
            f"only the {images} that both have are paired."
        )
    return told
