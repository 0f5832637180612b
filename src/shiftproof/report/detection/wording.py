"""Sentences specific to detectors."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.counts import pluralize
from shiftproof.report import wording
from shiftproof.report.grid.words import describe_grid
from shiftproof.runs.scores.detection import Detail
from shiftproof.runs.scores.grid import GridScores, ModelScores


def short_title(title: str) -> str:
    """Return the short name of a model for headings: for a path, the file name.

    >>> short_title("onnx:/models/fastestdet.onnx")
    'fastestdet.onnx'
    """
    return title.rstrip("/").rpartition("/")[2] or title


def headline(scores: GridScores, model: ModelScores, label: str) -> str:
    """Say in one sentence how a detector fares."""
    clean, mean = model.summary.get("clean"), model.summary.get("mean")
    if mean is None:
        return f"{label}: no figure under corruption could be computed."
    under = f"{wording.share(mean.value)} under corruption ({describe_grid(scores)})"
    if clean is None:
        return f"{label} reaches an {scores.measure.name} of {under}. There is no figure for clean images."
    kept = model.summary.get("rpc")
    keeps = (
        ""
        if kept is None
        else f": it keeps {wording.share(kept.value)} of its {scores.measure.name}"
    )
    return (
        f"{label} reaches an {scores.measure.name} of {wording.share(clean.value)} on clean images and "
        f"{under}{keeps}."
    )


def describe_missing(label: str, missing: Sequence[str], detail: Detail, scores: GridScores) -> str:
    """Name the classes of the data that a detector lacks, and the effect on its P."""
    objects = {one.name: one.objects for one in detail.classes}
    counted = [name for name in missing if name in objects]
    listed = wording.join_list(
        [
            f"{name} ({wording.pluralize(objects[name] or 0, 'object')})"
            if objects.get(name)
            else name
            for name in missing[:_MAX_CLASSES]
        ]
        + ([f"{len(missing) - _MAX_CLASSES} more"] if len(missing) > _MAX_CLASSES else [])
    )
    it = "it" if len(missing) == 1 else "them"
    text = f"{label} cannot find {listed}: the detector has no class for {it}. "
    if detail.classes and not counted:
        return text + "There are no such objects here, so this has no effect."
    share = (
        f"{len(counted)} of the {pluralize(len(objects), 'class')} with objects here "
        if counted
        else "they "
    )
    return text + (
        f"In the {scores.measure.name}, a mean over the classes, {share}"
        f"{'count' if len(counted) != 1 else 'counts'} as 0, clean and corrupted. Compare it only "
        "with detectors that lack the same classes."
    )


_MAX_CLASSES = 12
