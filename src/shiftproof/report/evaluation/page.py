"""The page of an evaluation: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from shiftproof.errors import InputError
from shiftproof.metrics.intervals import Interval
from shiftproof.report import provenance, wording
from shiftproof.report.evaluation import figures as evaluation_figures
from shiftproof.report.evaluation import tables
from shiftproof.report.evaluation.figures import Curve, Spot
from shiftproof.report.numbers import tables_section
from shiftproof.report.sections import Document, Section, run_names
from shiftproof.report.similarity.wording import cosine, cosine_change
from shiftproof.report.similarity.wording import span as cosine_span
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import Look
from shiftproof.runs.opened import OpenRun
from shiftproof.runs.scores.evaluation import (
    AuditFigures,
    Closeness,
    Evaluated,
    EvaluationScores,
    NoPictures,
)

EvaluationRun: TypeAlias = OpenRun[EvaluationScores, NoPictures]

_BROKEN = "An image that cannot be read is left out for every model alike."


def document(runs: Sequence[EvaluationRun]) -> Document:
    """Build the page of one evaluation.

    Raises:
        InputError: several; models that are to be compared belong into one.
    """
    if len(runs) > 1:
        raise InputError(
            f"Expected one evaluation, got {len(runs)}: name all models in one, so that their "
            "differences have paired intervals. Write a report for each."
        )
    [run] = runs
    scores = run.scores
    looks = {model.name: Look(model.name, place) for place, model in enumerate(scores.models)}
    sections = [
        _overview(scores, looks),
        *([] if scores.audit is None else _beside(scores, scores.audit, looks)),
        provenance.broken_section(runs, _BROKEN),
        tables_section(
            [(None, tables.summary(scores), tables.every_figure(scores))], unit="fractions"
        ),
        provenance.settings_section(runs),
        _reading(scores),
    ]
    names = [model.title or model.name for model in scores.models]
    return Document(
        title=f"Accuracy of {wording.listing(names[:3])}"
        + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
        kicker="Evaluation",
        byline=[
            provenance.byline(
                run,
                run_names(runs)[0],
                [
                    wording.plural(len(scores.sets), "test set"),
                    wording.plural(scores.used, "image"),
                ],
            )
        ],
        lead=_lead(scores),
        sections=[section for section in sections if section is not None],
        warnings=_warnings(scores),
    )


def _lead(scores: EvaluationScores) -> list[str]:
    found = []
    for model in scores.models[:4]:
        said = [
            f"{wording.share(figure.accuracy.value)} on {name}"
            for name, figure in model.sets.items()
        ]
        found.append(f"{model.title or model.name} is right for {wording.listing(said)}.")
    return found


def _warnings(scores: EvaluationScores) -> list[str]:
    found = [
        f"{one.name}: only {wording.plural(one.used, 'image')}, so its intervals are wide."
        for one in scores.sets
        if one.used < wording.FEW_IMAGES
    ]
    audit = scores.audit
    if audit is not None and audit.missing:
        found.append(
            f"The audit has no test set {wording.listing(list(audit.missing))}, so nothing is known "
            "of how close the training set comes there."
        )
    if audit is not None:
        found += [
            f"{name}: no row of the audit is named as an image of this evaluation, so there is no "
            "curve within it. Embed the test set from the same folder."
            for name, each in audit.sets.items()
            if not each.matched
        ]
        found += [
            f"{name}: {each.matched:,} of {each.rows:,} rows of the audit are images of this "
            "evaluation; the curve is over these alone."
            for name, each in audit.sets.items()
            if 0 < each.matched < each.rows
        ]
    return found


# ---------------------------------------------------------------- accuracies


def _overview(scores: EvaluationScores, looks: dict[str, Look]) -> Section:
    rows = [
        _row(one.name, _classes(one.classes, one.labels, one.used), scores.models, looks, one.name)
        for one in scores.sets
    ]
    if len(scores.sets) > 1:
        rows.append(_row("Mean", "over the test sets", scores.models, looks, None))
    return Section(
        "overview",
        "Accuracy on each test set",
        "Accuracy",
        "evaluation_accuracy.html.j2",
        {
            "legend": _legend(scores.models, looks),
            "axis": charts.axis(1.0),
            "labels": [model.name for model in scores.models],
            "level": wording.level(scores.interval.level),
            "rows": rows,
            "differences": [_difference(one, scores) for one in scores.differences],
        },
    )


def _classes(count: int, labels: str | None, used: int) -> str:
    of_set = f", those of {labels}" if labels is not None else ""
    return f"{wording.plural(used, 'image')}, {wording.plural(count, 'class', 'classes')}{of_set}"


def _row(
    title: str,
    note: str,
    models: Sequence[Evaluated],
    looks: dict[str, Look],
    name: str | None,
) -> dict[str, Any]:
    found = [model.mean if name is None else model.sets[name].accuracy for model in models]
    return {
        "title": title,
        "note": note,
        "bars": charts.bars(
            [(looks[model.name], figure) for model, figure in zip(models, found, strict=True)],
            title=title,
            top=1.0,
        ),
        "figures": [
            {"value": wording.percent(figure.value), "span": wording.span(figure)}
            for figure in found
        ],
    }


def _difference(one: Evaluated, scores: EvaluationScores) -> str:
    """Say on which test sets a model is beyond chance better or worse than the first."""
    said = []
    for word, sign in (("better", 1), ("worse", -1)):
        named = [
            f"{name} ({wording.points(figure.accuracy.value)})"
            for name, figure in one.sets.items()
            if not figure.accuracy.spans_zero and sign * figure.accuracy.value > 0
        ]
        if named:
            said.append(f"{word} on {wording.listing(named)}")
    if not said:
        return f"On none of the test sets can it be told whether {one.name} or {one.against} is better."
    return f"{one.name} is {wording.listing(said)} than {one.against}, in percentage points."


def _legend(models: Sequence[Evaluated], looks: dict[str, Look]) -> list[dict[str, object]]:
    return [
        {
            "label": model.name,
            "key": charts.key(looks[model.name]),
            "title": model.title if model.title != model.name else "",
            "settings": "",
        }
        for model in models
    ]


# ---------------------------------------------------------------- beside an audit


def _beside(scores: EvaluationScores, audit: AuditFigures, looks: dict[str, Look]) -> list[Section]:
    spots = [
        Spot(
            looks[model.name],
            each.similarity.value,
            model.sets[name].accuracy,
            name,
            f"{model.name}, {name}: {wording.share(model.sets[name].accuracy.value)} "
            f"at {cosine(each.similarity.value)}",
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
                "legend": _legend(scores.models, looks),
                "chart": evaluation_figures.plot_sets(
                    spots, axis="mean similarity to the nearest training row"
                ),
                "labels": [model.name for model in scores.models],
                "rows": [
                    _closeness(name, each, scores.models) for name, each in audit.sets.items()
                ],
                "reference": audit.reference_rows is not None,
                "train": wording.count(audit.train_rows),
                "audit": audit.name,
                "level": wording.level(scores.interval.level),
            },
        )
    ]
    within = _within(scores, audit, looks)
    return found if within is None else [*found, within]


def _closeness(name: str, each: Closeness, models: Sequence[Evaluated]) -> dict[str, Any]:
    return {
        "name": name,
        "similarity": cosine(each.similarity.value),
        "gap": cosine_change(wording.value_of(each.gap)),
        "gap_span": cosine_span(each.gap, signed=True) if each.gap is not None else "",
        "duplicates": wording.percent(each.near_duplicates.value),
        "closer": wording.percent(wording.value_of(each.share_closer)),
        "accuracies": [_spelt(model.sets[name].accuracy) for model in models],
    }


def _spelt(figure: Interval) -> dict[str, str]:
    return {"value": wording.percent(figure.value), "span": wording.span(figure)}


def _within(
    scores: EvaluationScores, audit: AuditFigures, looks: dict[str, Look]
) -> Section | None:
    """Build the curves of each test set whose images have rows in the audit."""
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
                "note": f"An image answered rightly is the closer one in {wording.listing(advantages)}"
                " of pairs with one answered wrongly."
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
        {"legend": _legend(scores.models, looks), "panels": panels},
    )


def _reading(scores: EvaluationScores) -> Section:
    return Section(
        "reading",
        "How to read this",
        "How to read",
        "evaluation_reading.html.j2",
        {
            "level": wording.level(scores.interval.level),
            "audit": scores.audit is not None,
            "several": len(scores.models) > 1,
            "labels": any(one.labels for one in scores.sets),
        },
    )
