"""The sections of an evaluation's page: accuracies, and accuracies against similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.evaluation import figures as evaluation_figures
from shiftproof.report.evaluation.figures import Curve, Spot
from shiftproof.report.sections import Section, build_reading_section
from shiftproof.report.similarity.wording import format_cosine, format_cosine_change
from shiftproof.report.similarity.wording import span as cosine_span
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.runs.scores.evaluation import (
    AuditFigures,
    Closeness,
    EvaluatedModel,
    EvaluationScores,
)

# ---------------------------------------------------------------- accuracies


def build_overview_section(scores: EvaluationScores, looks: dict[str, SeriesStyle]) -> Section:
    """Build the accuracies on each test set, and the significant differences."""
    rows = [
        _make_row(
            one.name,
            _make_classes(one.classes, one.labels, one.used),
            scores.models,
            looks,
            one.name,
        )
        for one in scores.sets
    ]
    if len(scores.sets) > 1:
        rows.append(_make_row("Mean", "over the test sets", scores.models, looks, None))
    return Section(
        "overview",
        "Accuracy on each test set",
        "Accuracy",
        "evaluation_accuracy.html.j2",
        {
            "legend": _make_legend(scores.models, looks),
            "axis": charts.draw_axis(1.0),
            "labels": [model.name for model in scores.models],
            "level": wording.level(scores.interval.level),
            "rows": rows,
            "differences": [_make_difference(one) for one in scores.differences],
        },
    )


def _make_classes(count: int, labels: str | None, used: int) -> str:
    of_set = f", those of {labels}" if labels is not None else ""
    return f"{wording.pluralize(used, 'image')}, {wording.pluralize(count, 'class')}{of_set}"


def _make_row(
    title: str,
    note: str,
    models: Sequence[EvaluatedModel],
    looks: dict[str, SeriesStyle],
    name: str | None,
) -> dict[str, Any]:
    found = [model.mean if name is None else model.sets[name].accuracy for model in models]
    return {
        "title": title,
        "note": note,
        "bars": charts.draw_bars(
            [(looks[model.name], figure) for model, figure in zip(models, found, strict=True)],
            title=title,
            top=1.0,
        ),
        "figures": [
            {"value": wording.percent(figure.value), "span": wording.span(figure)}
            for figure in found
        ],
    }


def _make_difference(one: EvaluatedModel) -> str:
    """Describe on which test sets a model is significantly better or worse than the first."""
    said = []
    for word, sign in (("better", 1), ("worse", -1)):
        named = [
            f"{name} ({wording.points(figure.accuracy.value)})"
            for name, figure in one.sets.items()
            if not figure.accuracy.spans_zero and sign * figure.accuracy.value > 0
        ]
        if named:
            said.append(f"{word} on {wording.join_list(named)}")
    if not said:
        return f"On no test set is the difference between {one.name} and {one.against} significant."
    return f"{one.name} is {wording.join_list(said)} than {one.against}, in percentage points."


def _make_legend(
    models: Sequence[EvaluatedModel], looks: dict[str, SeriesStyle]
) -> list[dict[str, object]]:
    return [
        {
            "label": model.name,
            "key": charts.draw_key(looks[model.name]),
            "title": model.title if model.title != model.name else "",
            "settings": "",
        }
        for model in models
    ]


# ---------------------------------------------------------------- with an audit


def build_beside_sections(
    scores: EvaluationScores, audit: AuditFigures, looks: dict[str, SeriesStyle]
) -> list[Section]:
    """Build accuracy against similarity: between test sets, and within each."""
    spots = [
        Spot(
            looks[model.name],
            each.similarity.value,
            model.sets[name].accuracy,
            name,
            f"{model.name}, {name}: {wording.share(model.sets[name].accuracy.value)} "
            f"at {format_cosine(each.similarity.value)}",
        )
        for model in scores.models
        for name, each in audit.sets.items()
    ]
    found = [
        Section(
            "similarity",
            "Accuracy against similarity",
            "Similarity",
            "evaluation_similarity.html.j2",
            {
                "legend": _make_legend(scores.models, looks),
                "chart": evaluation_figures.plot_sets(
                    spots, axis="mean similarity to the nearest training row"
                ),
                "labels": [model.name for model in scores.models],
                "rows": [
                    _make_closeness(name, each, scores.models) for name, each in audit.sets.items()
                ],
                "reference": audit.reference_rows is not None,
                "train": wording.count(audit.train_rows),
                "audit": audit.name,
                "level": wording.level(scores.interval.level),
            },
        )
    ]
    within = _make_within(scores, audit, looks)
    return found if within is None else [*found, within]


def _make_closeness(name: str, each: Closeness, models: Sequence[EvaluatedModel]) -> dict[str, Any]:
    return {
        "name": name,
        "similarity": format_cosine(each.similarity.value),
        "gap": format_cosine_change(wording.get_value(each.gap)),
        "gap_span": cosine_span(each.gap, signed=True) if each.gap is not None else "",
        "duplicates": wording.percent(each.near_duplicates.value),
        "closer": wording.percent(wording.get_value(each.share_closer)),
        "accuracies": [_format_figure(model.sets[name].accuracy) for model in models],
    }


def _format_figure(figure: Interval) -> dict[str, str]:
    return {"value": wording.percent(figure.value), "span": wording.span(figure)}


def _make_within(
    scores: EvaluationScores, audit: AuditFigures, looks: dict[str, SeriesStyle]
) -> Section | None:
    """Build a curve for each test set whose images have rows in the audit."""
    panels = []
    for name in audit.sets:
        curves = [each for each in audit.by_similarity if each.test == name]
        if not curves:
            continue
        drawn = [
            Curve(looks[each.model], [(one.similarity, one.accuracy) for one in each.bins])
            for each in curves
        ]
        advantages = [
            f"{each.model} {wording.percent(each.advantage)}{wording.PERCENT}"
            for each in curves
            if each.advantage is not None
        ]
        panels.append(
            {
                "title": name,
                "chart": evaluation_figures.plot_within(drawn, title=name),
                "note": "In pairs of a right and a wrong prediction, the image with the right one is "
                f"closer to the training set in {wording.join_list(advantages)} of the pairs."
                if advantages
                else "",
            }
        )
    if not panels:
        return None
    return Section(
        "within",
        "Within each test set",
        "Within",
        "evaluation_within.html.j2",
        {"legend": _make_legend(scores.models, looks), "panels": panels},
    )


def reading_of(scores: EvaluationScores) -> Section:
    """Build the explanations of the page."""
    return build_reading_section(
        "evaluation_reading.html.j2",
        {
            "level": wording.level(scores.interval.level),
            "audit": scores.audit is not None,
            "several": len(scores.models) > 1,
            "labels": any(one.labels for one in scores.sets),
        },
    )
