"""The table of an evaluation: a row per test set, a column per model."""

from __future__ import annotations

from shiftproof.counts import pluralize
from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.table_writing import Column, Row, Table, ends, write_csv
from shiftproof.runs.scores.evaluation import Closeness, EvaluationScores

_TOP = 5

_CLOSENESS = {
    "similarity": "nearest training row",
    "gap": "gap to the reference",
    "near_duplicates": "near-duplicates",
    "share_closer": "closer than the reference",
}


def summarize(scores: EvaluationScores) -> Table:
    """Return the accuracies, their mean over the test sets, and the results of an audit."""
    scored = [*scores.models, *scores.differences]
    rows = [
        Row(
            "set",
            one.name,
            one.name,
            "accuracy",
            "accuracy",
            tuple(model.sets[one.name].accuracy for model in scored),
        )
        for one in scores.sets
    ]
    if len(scores.sets) > 1:
        figures = tuple(model.mean for model in scored)
        rows.append(Row("summary", "mean", "Mean", "", "accuracy", figures))
    rows += [
        Row(
            "top5",
            f"{one.name} top-5",
            f"{one.name}, top 5",
            "top-5 accuracy",
            "top5_accuracy",
            tuple(model.sets[one.name].top5 for model in scored),
        )
        for one in scores.sets
        # With five classes top-5 accuracy is always 1.
        if one.classes > _TOP
    ]
    level = wording.level(scores.interval.level)
    return Table(
        columns=tuple(Column(model.name, model.against) for model in scored),
        rows=tuple(rows),
        caption=f"Accuracy in %, {level} intervals over the images of each test set"
        + ("; differences in percentage points." if scores.differences else "."),
        notes=tuple(_make_notes(scores, level)),
    )


def _make_notes(scores: EvaluationScores, level: str) -> list[str]:
    counts = ", ".join(
        f"{one.name} {pluralize(one.used, 'image')} of {pluralize(one.classes, 'class')}"
        for one in scores.sets
    )
    notes = [f"accuracy in %, {level} intervals over images; {counts}"]
    if scores.audit is not None:
        notes += [f"{name}: {closeness_words(found)}" for name, found in scores.audit.sets.items()]
    broken = len(scores.images.broken)
    if broken:
        notes.append(f"{wording.pluralize(broken, 'broken file')} left out, see the report")
    return notes


def closeness_words(found: Closeness) -> str:
    """Describe the training set's similarity to a test set in one line."""
    said = [f"nearest training row {wording.NUMBERS.figure(found.similarity.value)}"]
    if found.gap is not None:
        span = wording.NUMBERS.change_span(found.gap)
        said.append(f"gap {wording.NUMBERS.change(found.gap.value)} ({span})")
    said.append(f"near-duplicates {wording.share(found.near_duplicates.value)}")
    return ", ".join(said)


def write_figures(scores: EvaluationScores) -> str:
    """Return all values as CSV: accuracies, audit results, and accuracies by similarity."""
    lines: list[list[object]] = [
        ["model", "against", "test set", "measure", "similarity", "value", "low", "high"]
    ]
    for model in (*scores.models, *scores.differences):
        for name, found in model.sets.items():
            for measure, figure in (("accuracy", found.accuracy), ("top5", found.top5)):
                lines.append([model.name, model.against or "", name, measure, "", *ends(figure)])
    if scores.audit is not None:
        for name, closeness in scores.audit.sets.items():
            lines += [
                ["", "", name, _CLOSENESS[measure], "", *ends(figure)]
                for measure, figure in _make_figures(closeness)
            ]
        for curve in scores.audit.by_similarity:
            lines += [
                [curve.model, "", curve.test, "accuracy", one.similarity, *ends(one.accuracy)]
                for one in curve.bins
            ]
    return write_csv(lines)


def _make_figures(found: Closeness) -> list[tuple[str, Interval]]:
    figures = [(name, getattr(found, name)) for name in _CLOSENESS]
    return [(name, figure) for name, figure in figures if figure is not None]
