"""The sections of the page of an audit: figures, curves, pruning, classes, certificates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.sections import Section
from shiftproof.report.similarity import figures as similarity_figures
from shiftproof.report.similarity import wording as similarity_wording
from shiftproof.report.similarity.figures import Line
from shiftproof.report.similarity.wording import format_cosine, format_cosine_change, span
from shiftproof.report.svg import charts, colors
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.wording import SHARES
from shiftproof.runs.scores.audit import AuditScores, Certificate, TestSet

SEARCHES = {
    "train": "the nearest training rows of each test row",
    "nearest": "the nearest test row of each training row",
    "reference": "the nearest reference row of each test row",
    "pruned": "the training rows that come closer than the reference",
}
"""Description of each search, by the name of its certificate."""

TRAIN, REFERENCE = SeriesStyle("training set", 0), SeriesStyle("reference", 1)

MAX_CLASSES = 25
"""Number of classes shown; the others are collapsed."""

MAX_LISTED = 1500
"""Limit of a list, for the sake of browsers; the run's files have the rest."""


# ---------------------------------------------------------------- at a glance


def build_overview_section(scores: AuditScores) -> Section:
    """Build the scores of each test set, with their interpretation."""
    cards = [
        _make_card(scores, "near_duplicates", "Near-duplicates", _AT_LEAST.format(scores.duplicates)),
        _make_card(
            scores, "share_closer", "Closer than the reference",
            "share of test rows that are closer to the training set",
        ),
    ]  # fmt: skip
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "similarity_overview.html.j2",
        {
            "cards": [card for card in cards if card is not None],
            "verdicts": [
                {
                    "name": each.name,
                    "state": _make_state(each.gap),
                    "value": format_cosine_change(wording.get_value(each.gap)),
                    "span": span(each.gap, signed=True),
                    "verdict": similarity_wording.describe_verdict(each, scores),
                    "duplicates": similarity_wording.describe_duplicates(each, scores),
                    "nearest": format_cosine(each.similarity.value),
                    "reference": format_cosine(wording.get_value(each.reference_similarity)),
                    "density": format_cosine(each.density.value),
                }
                for each in scores.sets
            ],
            "compared": scores.reference is not None,
            "k": scores.k,
            "level": wording.level(scores.interval.level),
        },
    )


_AT_LEAST = "share of test rows with a training row at {:g} or above"


def _make_state(gap: Interval | None) -> str:
    """Return the style: a closer training set is a warning, a farther one is not."""
    if gap is None or gap.spans_zero:
        return "flat"
    return "worse" if gap.value > 0 else "better"


def _make_card(scores: AuditScores, name: str, title: str, note: str) -> dict[str, Any] | None:
    found = [(each, getattr(each, name)) for each in scores.sets if getattr(each, name) is not None]
    if not found:
        return None
    top = charts.choose_top(max(interval.upper for _, interval in found))
    return {
        "title": title,
        "note": note,
        "rows": [
            {
                "name": each.name,
                **SHARES.cell(interval),
                "strip": charts.draw_interval(TRAIN, interval, top=top),
            }
            for each, interval in found
        ],
    }


# ---------------------------------------------------------------- gap curves


def build_curves_section(scores: AuditScores) -> Section:
    """Build the histograms and cumulative curves of each test set."""
    shown = similarity_figures.find_occupied(
        [
            side
            for each in scores.sets
            for side in (each.histogram.train, each.histogram.reference)
            if side is not None
        ],
        scores.edges,
    )
    return Section(
        "curves",
        "Gap curves",
        "Gap curves",
        "similarity_curves.html.j2",
        {
            "legend": charts.make_legend(
                (series, "", "")
                for series in ((TRAIN, REFERENCE) if scores.reference else (TRAIN,))
            ),
            "sets": [
                {
                    "name": each.name,
                    "histogram": similarity_figures.histogram(
                        _make_sides(each.histogram.train, each.histogram.reference),
                        scores.edges,
                        shown,
                        title=each.name,
                    ),
                    "cumulative": similarity_figures.cumulative(
                        [
                            Line(series, shares)
                            for series, shares in _make_sides(
                                each.cumulative.train, each.cumulative.reference
                            )
                        ],
                        scores.edges,
                        shown,
                        title=each.name,
                    ),
                }
                for each in scores.sets
            ],
            "compared": scores.reference is not None,
        },
    )


def _make_sides(
    train: Sequence[float], reference: Sequence[float] | None
) -> list[tuple[SeriesStyle, Sequence[float]]]:
    return [(TRAIN, train), *([] if reference is None else [(REFERENCE, reference)])]


# ---------------------------------------------------------------- pruning


def build_pruning_section(scores: AuditScores) -> Section | None:
    """Build the matrix of pruning overlaps; None without a reference."""
    pruning = scores.pruning
    if pruning is None:
        return None
    removed = {each.name: each.pruned for each in scores.sets if each.pruned is not None}
    return Section(
        "pruning",
        "What pruning for one leaves out of another",
        "Pruning",
        "similarity_pruning.html.j2",
        {
            "names": pruning.names,
            "rows": [
                {
                    "name": name,
                    "removed": f"{removed[name].rows:,}" if name in removed else "",
                    "share": wording.share(removed[name].share) if name in removed else "",
                    "cells": [
                        {
                            "text": wording.percent(share),
                            "style": "none"
                            if share is None
                            else f"s{colors.find_sequential_level(share)}",
                        }
                        for share in shared
                    ],
                }
                for name, shared in zip(pruning.names, pruning.shared, strict=True)
            ],
            "combined": f"{pruning.combined:,}",
            "share": wording.share(pruning.share),
            "total": f"{scores.train.rows:,}",
        },
    )


# ---------------------------------------------------------------- classes


def build_classes_section(scores: AuditScores) -> Section | None:
    """Build the figures of each class; None without labels."""
    sets = [each for each in scores.sets if each.classes]
    if not sets:
        return None
    return Section(
        "classes",
        "Class by class",
        "Classes",
        "similarity_classes.html.j2",
        {
            "sets": [_list_classes(each) for each in sets],
            "compared": scores.reference is not None,
        },
    )


def _list_classes(tested: TestSet) -> dict[str, Any]:
    by_gap = all(each.gap is not None for each in tested.classes)
    order = sorted(
        tested.classes,
        key=lambda each: -((each.gap if by_gap else each.similarity) or 0.0),
    )[:MAX_LISTED]
    rows = [
        [
            each.label,
            f"{each.rows:,}",
            format_cosine(each.similarity),
            format_cosine(each.reference_similarity),
            format_cosine_change(each.gap),
            wording.percent(each.share_closer),
            wording.percent(each.near_duplicates),
        ]
        for each in order
    ]
    return {"name": tested.name, "rows": rows[:MAX_CLASSES], "folded": rows[MAX_CLASSES:]}


# ---------------------------------------------------------------- certificates


def build_certificates_section(scores: AuditScores) -> Section:
    """Build the table of the searches' certificates."""
    return Section(
        "certificate",
        "Why these are exact",
        "Certificate",
        "similarity_certificate.html.j2",
        {
            "sets": [
                {
                    "name": each.name,
                    "rows": [
                        _list_certificate(title, found)
                        for name, title in SEARCHES.items()
                        if (found := getattr(each.certificates, name)) is not None
                    ],
                }
                for each in scores.sets
            ]
        },
    )


def _list_certificate(title: str, found: Certificate) -> list[str]:
    return [
        title,
        found.precision if found.device == "cpu" else f"{found.precision} on {found.device}",
        f"{found.bound:.2g}",
        f"{found.dimensions:,}",
        f"{found.products:,}",
        f"{found.candidates:,}",
        f"{found.rechecked:,}",
        f"{found.set_aside:,}",
        f"{found.skipped:,}",
    ]
