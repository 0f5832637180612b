"""Sentences specific to segmenters."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.counts import pluralize
from shiftproof.report import wording
from shiftproof.report.grid.words import describe_grid
from shiftproof.runs.scores.grid import GridScores, ModelScores
from shiftproof.runs.scores.segmentation import ClassDrop, Detail

_MAX_CLASSES = 12


def headline(scores: GridScores, model: ModelScores, label: str) -> str:
    """Say in one sentence how a segmenter fares."""
    clean, mean = model.summary.get("clean"), model.summary.get("mean")
    name = scores.measure.name
    if mean is None:
        return f"{label}: no figure under corruption could be computed."
    under = f"{wording.share(mean.value)} under corruption ({describe_grid(scores)})"
    if clean is None:
        return f"{label} reaches {name} {under}."
    kept = model.summary.get("rpc")
    keeps = "" if kept is None else f": it keeps {wording.share(kept.value)} of it"
    return (
        f"{label} reaches {name} {wording.share(clean.value)} on clean images and {under}{keeps}."
    )


def describe_worst(label: str, classes: Sequence[ClassDrop]) -> str:
    """Say which class loses most, and what takes its pixels; "" where none loses."""
    row = next((one for one in classes if one.lost is not None and one.lost > 0), None)
    if row is None:
        return ""
    text = (
        f"{label} loses most on {row.name}: IoU {wording.share(row.clean)} on clean images, "
        f"{wording.share(row.mean)} under corruption"
    )
    taker = next((one for one in row.takers if one.mean), None)
    if taker is None:
        return f"{text}."
    return f"{text}. {wording.share(taker.mean)} of its pixels are predicted as {name_taker(taker.name)}."


def name_taker(taker: str | None) -> str:
    """Return the name of a class that takes pixels; None stands for no class of the data."""
    return "none of the classes" if taker is None else taker


def describe_missing(label: str, missing: Sequence[str], detail: Detail, scores: GridScores) -> str:
    """Name the classes of the data that a segmenter lacks, and the effect on its mIoU."""
    there = {one.name for one in detail.classes if one.pixels}
    counted = [name for name in missing if name in there]
    more = len(missing) - _MAX_CLASSES
    listed = wording.join_list([*missing[:_MAX_CLASSES], *([f"{more} more"] if more > 0 else [])])
    it = "it" if len(missing) == 1 else "them"
    text = f"{label} cannot predict {listed}: the model has no class for {it}. "
    if not counted:
        return text + "No pixel here has such a class, so this has no effect."
    return text + (
        f"In the {scores.measure.name}, a mean over the classes, {len(counted)} of the "
        f"{pluralize(len(there), 'class')} here {'counts' if len(counted) == 1 else 'count'} as 0, "
        "clean and corrupted. Compare it only with models that lack the same classes."
    )
