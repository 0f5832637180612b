"""Sentences specific to classifiers: their performance, and label-free estimates."""

from __future__ import annotations

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.words import Words, describe_grid
from shiftproof.runs.scores.classification import Estimator
from shiftproof.runs.scores.grid import GridScores, ModelScores

WITH_LABELS = Words(
    same="{subject} changes no prediction that counts: the {measure} is the same {compared}."
)
WITHOUT_LABELS = Words(
    # Without labels a prediction that stays is not therefore a right one.
    helps="makes the predictions more stable",
    harms="makes the predictions less stable",
    same=WITH_LABELS.same,
)


def has_labels(scores: GridScores) -> bool:
    """Whether the figures are errors against labels, and not disagreement with the clean answers."""
    return scores.measure.name == "error"


def choose_words(scores: GridScores) -> Words:
    """Return the words for changes."""
    return WITH_LABELS if has_labels(scores) else WITHOUT_LABELS


def write_headline(scores: GridScores, model: ModelScores, label: str) -> str:
    """Say in one or two sentences how a model fares."""
    mean = model.summary.get("mean")
    if mean is None:
        return f"{label}: no figure under corruption could be computed."
    if not has_labels(scores):
        return (
            f"Under corruption, the prediction of {label} differs from that for the clean image on "
            f"{wording.share(mean.value)} of the images ({describe_grid(scores)})."
        )
    clean = model.summary.get("clean")
    if clean is None:
        return (
            f"{label} gets {wording.share(mean.value)} of the corrupted images wrong "
            f"({describe_grid(scores)})."
        )
    return (
        f"{label} gets {wording.share(clean.value)} of the clean images wrong, and "
        f"{wording.share(mean.value)} of the corrupted images ({describe_grid(scores)})."
    )


# ---------------------------------------------------------------- errors without labels


def round_percent(fraction: float) -> str:
    """Return ``71`` for 0.713, and ``0.4`` for 0.004: no more digits than an estimate deserves."""
    text = f"{100 * fraction:.0f}"
    return f"{100 * fraction:.1f}".replace("0.0", "0") if text == "0" else text


def format_half_width(interval: Interval) -> str:
    """Return ``71 ± 12 %``; the larger half where the ends are not equally far."""
    half = max(interval.value - interval.lower, interval.upper - interval.value)
    space = "\N{NO-BREAK SPACE}"
    return f"{round_percent(interval.value)}{space}±{space}{round_percent(half)}{wording.PERCENT}"


def invert_share(interval: Interval) -> Interval:
    """Return the share that is right with its interval, from the share that is wrong."""
    return Interval(1 - interval.value, 1 - interval.upper, 1 - interval.lower)


TOO_WIDE = 0.2
"""Half-width of an interval from which on an estimate is of no use as a number."""


def is_too_wide(interval: Interval) -> bool:
    """Whether a half of an interval is ``TOO_WIDE`` or wider, so that its value is uninformative."""
    return max(interval.value - interval.lower, interval.upper - interval.value) >= TOO_WIDE


def format_rough_span(interval: Interval) -> str:
    """Return ``2–60 %``."""
    return f"{round_percent(interval.lower)}{wording.DASH}{round_percent(interval.upper)}{wording.PERCENT}"


def describe_accuracy(label: str, interval: Interval) -> str:
    """Describe the estimated accuracy of a model, or that it is uncertain."""
    if is_too_wide(interval):
        return (
            f"How often {label} is right on your images cannot be estimated without labels: "
            f"anything within {format_rough_span(interval)} is plausible."
        )
    return f"{label} is estimated to be right on {format_half_width(interval)} of your original images."


def describe_bias(bias: float) -> str:
    """Describe the bias of an estimator of the error; less than half a point is none."""
    if abs(bias) < 0.005:
        return "it has no bias"
    return f"on average it is too {'optimistic' if bias < 0 else 'pessimistic'}"


def describe_errors(estimator: Estimator) -> str:
    """Describe the errors of an estimator, on average and at worst."""
    return (
        f"off by {wording.percent(estimator.mean_absolute_error)} points on average over "
        f"{wording.pluralize(estimator.cells, 'cell')}, and by "
        f"{wording.percent(abs(estimator.worst.estimate - estimator.worst.error))} at worst "
        f"({wording.title_cell(str(estimator.worst.cell))}: estimate "
        f"{wording.share(estimator.worst.estimate)}, true error {wording.share(estimator.worst.error)})"
    )
