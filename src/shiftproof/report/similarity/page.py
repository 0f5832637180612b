"""The page of an audit: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shiftproof.errors import InputError
from shiftproof.metrics.intervals import Interval
from shiftproof.report import provenance, wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.numbers import tables_section
from shiftproof.report.sections import Document, Section
from shiftproof.report.similarity import figures as similarity_figures
from shiftproof.report.similarity import pictures as similarity_pictures
from shiftproof.report.similarity import tables as similarity_tables
from shiftproof.report.similarity import wording as similarity_wording
from shiftproof.report.similarity.figures import Line
from shiftproof.report.similarity.scores import (
    CERTIFICATES,
    Certificate,
    Scores,
    SimilarityRun,
    Tested,
)
from shiftproof.report.similarity.wording import cosine, cosine_change, span
from shiftproof.report.svg import charts as figures
from shiftproof.report.svg import colors as colours
from shiftproof.report.svg.charts import Look
from shiftproof.runs.scores.reading import clean_text

TRAIN, REFERENCE = Look("training set", 0), Look("reference", 1)

MOST_CLASSES = 25
"""So many classes are listed openly, the others to be unfolded."""

MOST_LISTED = 1500
"""A longer list would make a page that no browser likes; the run's files have the rest."""


def document(runs: Sequence[SimilarityRun], pictures: Pictures) -> Document:
    """Build the page of one audit.

    Raises:
        InputError: several audits; each has a page of its own.
    """
    if len(runs) > 1:
        raise InputError(
            f"Expected one audit, got {len(runs)}: their figures hang on their encoders and training "
            "sets. Write a report for each."
        )
    [run] = runs
    scores = run.scores
    sections = [
        _overview(scores),
        _curves(scores),
        similarity_pictures.leakage_section(run, pictures),
        _pruning(scores),
        _classes(scores),
        _certificates(scores),
        tables_section(
            [(None, similarity_tables.summary(scores), similarity_tables.curves_csv(scores))],
            unit="counts and shares",
        ),
        _settings(run),
        Section(
            "reading",
            "How to read this",
            "How to read",
            "similarity_reading.html.j2",
            {
                "level": _level(scores),
                "k": scores.k,
                "threshold": f"{scores.duplicates:g}",
                "reference": scores.reference is not None,
            },
        ),
    ]
    return Document(
        title=f"Is it only similarity? {wording.listing([each.name for each in scores.sets[:4]])}"
        + (f" and {len(scores.sets) - 4} more" if len(scores.sets) > 4 else ""),
        kicker="Train-test similarity",
        byline=[_byline(run)],
        lead=similarity_wording.lead(scores),
        sections=[section for section in sections if section is not None],
        warnings=similarity_wording.warnings(scores),
    )


def _byline(run: SimilarityRun) -> list[str]:
    scores = run.scores
    started = run.provenance.get("started")
    return [
        wording.plural(scores.train.rows, "training row"),
        *(
            []
            if scores.reference is None
            else [wording.plural(scores.reference.rows, "reference row")]
        ),
        wording.plural(sum(each.rows for each in scores.sets), "test row"),
        f"{scores.train.width} wide",
        *([clean_text(started)[:10]] if isinstance(started, str) else []),
    ]


def _level(scores: Scores) -> str:
    return f"{100 * scores.level:g}{wording.PERCENT}"


# ---------------------------------------------------------------- at a glance


def _overview(scores: Scores) -> Section:
    cards = [
        _card(scores, "near_duplicates", "Near-duplicates", _AT_LEAST.format(scores.duplicates)),
        _card(
            scores, "share_closer", "Closer than the reference",
            "share of test rows that the training set comes closer to",
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
                    "state": _state(each.gap),
                    "value": cosine_change(wording.value_of(each.gap)),
                    "span": span(each.gap, signed=True),
                    "verdict": similarity_wording.verdict(each, scores),
                    "duplicates": similarity_wording.duplicates(each, scores),
                    "nearest": cosine(each.similarity.value),
                    "reference": cosine(wording.value_of(each.reference_similarity)),
                    "density": cosine(each.density.value),
                }
                for each in scores.sets
            ],
            "compared": scores.reference is not None,
            "k": scores.k,
            "level": _level(scores),
        },
    )


_AT_LEAST = "share of test rows with a training row at {:g} or above"


def _state(gap: Interval | None) -> str:
    """Closer is marked as what needs care, farther as what needs none."""
    if gap is None or gap.spans_zero:
        return "flat"
    return "worse" if gap.value > 0 else "better"


def _card(scores: Scores, name: str, title: str, note: str) -> dict[str, Any] | None:
    found = [(each, getattr(each, name)) for each in scores.sets if getattr(each, name) is not None]
    if not found:
        return None
    top = figures.nice_top(max(interval.upper for _, interval in found))
    return {
        "title": title,
        "note": note,
        "rows": [
            {
                "name": each.name,
                "value": wording.percent(interval.value),
                "span": wording.span(interval),
                "strip": figures.strip(TRAIN, interval, top=top),
            }
            for each, interval in found
        ],
    }


# ---------------------------------------------------------------- gap curves


def _curves(scores: Scores) -> Section:
    shown = similarity_figures.occupied(
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
            "legend": [
                {"key": figures.key(look), "label": look.label, "title": "", "settings": ""}
                for look in ((TRAIN, REFERENCE) if scores.reference else (TRAIN,))
            ],
            "sets": [
                {
                    "name": each.name,
                    "histogram": similarity_figures.histogram(
                        _sides(each.histogram.train, each.histogram.reference),
                        scores.edges,
                        shown,
                        title=each.name,
                    ),
                    "cumulative": similarity_figures.cumulative(
                        [
                            Line(look, shares)
                            for look, shares in _sides(
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


def _sides(
    train: Sequence[float], reference: Sequence[float] | None
) -> list[tuple[Look, Sequence[float]]]:
    return [(TRAIN, train), *([] if reference is None else [(REFERENCE, reference)])]


# ---------------------------------------------------------------- pruning


def _pruning(scores: Scores) -> Section | None:
    pruning = scores.pruning
    if pruning is None:
        return None
    removed = {each.name: each for each in scores.sets}
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
                    "removed": f"{removed[name].pruned_rows or 0:,}" if name in removed else "",
                    "share": wording.share(removed[name].pruned_share) if name in removed else "",
                    "cells": [
                        {
                            "text": wording.percent(share),
                            "style": "none"
                            if share is None
                            else f"s{colours.sequential_level(share)}",
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


def _classes(scores: Scores) -> Section | None:
    sets = [each for each in scores.sets if each.classes]
    if not sets:
        return None
    return Section(
        "classes",
        "Class by class",
        "Classes",
        "similarity_classes.html.j2",
        {
            "sets": [_class_rows(each) for each in sets],
            "compared": scores.reference is not None,
        },
    )


def _class_rows(tested: Tested) -> dict[str, Any]:
    by_gap = all(each.gap is not None for each in tested.classes)
    order = sorted(
        tested.classes,
        key=lambda each: -((each.gap if by_gap else each.similarity) or 0.0),
    )[:MOST_LISTED]
    rows = [
        [
            each.label,
            f"{each.rows:,}",
            cosine(each.similarity),
            cosine(each.reference_similarity),
            cosine_change(each.gap),
            wording.percent(each.share_closer),
            wording.percent(each.near_duplicates),
        ]
        for each in order
    ]
    return {"name": tested.name, "rows": rows[:MOST_CLASSES], "folded": rows[MOST_CLASSES:]}


# ---------------------------------------------------------------- certificates


def _certificates(scores: Scores) -> Section:
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
                        _certificate(CERTIFICATES[name], found)
                        for name, found in each.certificates.items()
                    ],
                }
                for each in scores.sets
            ]
        },
    )


def _certificate(title: str, found: Certificate) -> list[str]:
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


# ---------------------------------------------------------------- the rest


def _settings(run: SimilarityRun) -> Section:
    return Section(
        "settings",
        "Settings and provenance",
        "Settings",
        "settings.html.j2",
        {
            "runs": [
                {
                    "name": None,
                    "blocks": [
                        ("Settings", provenance.flat(run.settings)),
                        ("Intervals", provenance.flat(run.scores.interval)),
                        (provenance.PROVENANCE, provenance.flat(run.provenance)),
                    ],
                }
            ]
        },
    )
