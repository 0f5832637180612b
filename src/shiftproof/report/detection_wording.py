"""Findings about detectors in words. A sentence claims an effect only where the interval leaves out 0."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.report import wording
from shiftproof.report.detection_scores import Scored, Scores
from shiftproof.report.reading import Interval


def level(scores: Scores) -> str:
    """Return ``95 %``; empty where no figure has an interval."""
    return wording.level(scores) if scores.resampled else ""


def over(scores: Scores) -> str:
    """Return ``over 15 corruptions at severities 1 to 5``."""
    return (
        f"over {wording.plural(len(scores.corruptions), 'corruption')} "
        f"at {wording.severities_phrase(scores.severities)}"
    )


def short_title(title: str) -> str:
    """Return what tells a model apart in a heading: of a file's path its name alone.

    >>> short_title("onnx:/models/fastestdet.onnx")
    'fastestdet.onnx'
    """
    return title.rstrip("/").rpartition("/")[2] or title


def headline(scores: Scores, model: Scored, label: str) -> str:
    """Say in one sentence how a detector fares."""
    clean, mean = model.summary.clean, model.summary.mean
    if mean is None:
        return f"{label}: no figure under corruption could be computed."
    under = f"{wording.share(mean.value)} under corruption ({over(scores)})"
    if clean is None:
        return (
            f"{label} reaches an {scores.measure} of {under}. How it does on clean images is not "
            "known here."
        )
    kept = model.summary.relative
    keeps = (
        "" if kept is None else f": it keeps {wording.share(kept.value)} of its {scores.measure}"
    )
    return (
        f"{label} reaches an {scores.measure} of {wording.share(clean.value)} on clean images and "
        f"{under}{keeps}."
    )


def finding(scores: Scores, difference: Scored, label: str) -> str:
    """Say the verdict in a few words, for under the title."""
    interval = difference.summary.mean
    if interval is None:
        return ""
    if interval.value == 0 and (interval.bare or interval.is_zero):
        return f"{label} is just as good under corruption."
    if interval.bare:
        return f"{label} is {_apart(interval)} under corruption, without an interval."
    if interval.spans_zero:
        return f"Whether {label} is better under corruption cannot be told from {_images(scores)}."
    return f"{label} is {_apart(interval)} under corruption."


def verdict(scores: Scores, difference: Scored, label: str, against: str) -> str:
    """Say what a model changes under corruption, and claim no more than its paired interval."""
    measure = f"{scores.measure} under corruption"
    interval = difference.summary.mean
    if interval is None:
        return f"No difference in {measure} could be computed for {label} against {against}."
    if interval.value == 0 and (interval.bare or interval.is_zero):
        return f"The {measure} of {label} is the same as that of {against}."
    if interval.bare:
        return (
            f"The {measure} of {label} is {_apart(interval)} than that of {against}. Whether that is "
            "more than chance cannot be told: there are no images to resample, so no interval."
        )
    ends = f"{wording.level(scores)} interval {wording.points_span(interval)}"
    if interval.spans_zero:
        return (
            f"Whether {label} helps cannot be told from {_images(scores)}: against {against} the "
            f"{measure} changes by {wording.points(interval.value)} percentage points, and the "
            f"interval holds both gains and losses ({ends})."
        )
    if interval.value > 0:
        return (
            f"{label} raises the {measure} by {wording.percent(interval.value)} percentage points "
            f"against {against} ({ends})."
        )
    return (
        f"{label} does harm here: it lowers the {measure} by {wording.percent(-interval.value)} "
        f"percentage points against {against} ({ends})."
    )


def clean_verdict(scores: Scores, difference: Scored) -> str:
    """Say what a model changes on clean images: the price of a repair."""
    interval = difference.summary.clean
    if interval is None:
        return ""
    if interval.value == 0 and (interval.bare or interval.is_zero):
        return f"On clean images the {scores.measure} does not change."
    if interval.bare:
        return f"On clean images it is {_apart(interval)}."
    ends = f"{wording.level(scores)} interval {wording.points_span(interval)}"
    if interval.spans_zero:
        return (
            f"On clean images the {scores.measure} changes by {wording.points(interval.value)} points "
            f"({ends}): not distinguishable from no change."
        )
    if interval.value < 0:
        fall = wording.percent(-interval.value)
        return f"The price: on clean images the {scores.measure} falls by {fall} points ({ends})."
    rise = wording.percent(interval.value)
    return f"On clean images the {scores.measure} rises by {rise} points ({ends})."


def tally(difference: Scored) -> str:
    """Count the corruptions that get better and worse, and how many of them for sure."""
    return wording.tally_of(list(difference.corruptions.values()), lower_is_better=False)


def classes_missing(label: str, missing: Sequence[str], scored: Scored, scores: Scores) -> str:
    """Say which classes of the data a detector has not, and what that does to its P."""
    objects = {one.name: one.objects for one in scored.classes}
    counted = [name for name in missing if name in objects]
    listed = wording.listing(
        [
            f"{name} ({wording.plural(objects[name] or 0, 'object')})"
            if objects.get(name)
            else name
            for name in missing[:_MOST_CLASSES]
        ]
        + ([f"{len(missing) - _MOST_CLASSES} more"] if len(missing) > _MOST_CLASSES else [])
    )
    it = "it" if len(missing) == 1 else "them"
    text = f"{label} can never find {listed}: no class of the detector stands for {it}. "
    if scored.classes and not counted:
        return text + "There are no such objects here, so that changes nothing."
    share = (
        f"{len(counted)} of the {len(objects)} classes with objects here " if counted else "they "
    )
    return text + (
        f"In the {scores.measure}, a mean over the classes, {share}"
        f"{'count' if len(counted) != 1 else 'counts'} as 0, clean and corrupted: hold it only "
        "against detectors with the same gap."
    )


_MOST_CLASSES = 12


def _apart(interval: Interval) -> str:
    points = wording.percent(abs(interval.value))
    return f"{points} points {'higher' if interval.value > 0 else 'lower'}"


def _images(scores: Scores) -> str:
    if scores.used is None:
        return "this table"
    return wording.plural(scores.used, "image").replace(" ", "\N{NO-BREAK SPACE}")
