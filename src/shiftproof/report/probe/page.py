"""The page of probes: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from shiftproof.report import provenance, wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.numbers import numbers_section
from shiftproof.report.probe import tables as probe_tables
from shiftproof.report.probe import wording as probe_wording
from shiftproof.report.sections import Document, Section, run_names
from shiftproof.report.svg import charts as figures
from shiftproof.report.svg.charts import Look
from shiftproof.runs.opened import OpenRun
from shiftproof.runs.scores.probe import Factor, Probed, ProbeGallery, ProbeScores

ProbeRun: TypeAlias = OpenRun[ProbeScores, ProbeGallery]


@dataclass(frozen=True)
class ProbeEntry:
    """A model on the page: its scores, the run they are from, and how it looks."""

    run: ProbeRun
    scored: Probed
    look: Look

    @property
    def label(self) -> str:
        """The model's name, with the run's name before it where several runs are shown."""
        return self.look.label


BROKEN = "An image that cannot be read is left out for every factor and every model alike."


def document(runs: Sequence[ProbeRun], pictures: Pictures) -> Document:
    """Build the page of one run, or of several side by side.

    ``pictures`` are those of the first run that has any.
    """
    shown = _entries(runs)
    encoders = [entry for entry in shown if entry.scored.control is None]
    sections = [
        _overview(runs, shown),
        *_groups(runs, shown),
        _strips(runs, pictures),
        _readings(shown),
        provenance.broken_section(runs, BROKEN),
        numbers_section(
            runs,
            lambda run: probe_tables.summary(run.scores),
            lambda run: probe_tables.readings_csv(run.scores),
            unit="fractions",
        ),
        provenance.settings_section(runs),
        Section(
            "reading",
            "How to read this",
            "How to read",
            "probe_reading.html.j2",
            {
                "level": wording.level(runs[0].scores.interval.level),
                "interval": runs[0].scores.interval,
                "collapsed": wording.share(runs[0].scores.collapsed_below),
                "few": wording.FEW_IMAGES,
            },
        ),
    ]
    names = list(dict.fromkeys(entry.scored.title or entry.label for entry in encoders))
    return Document(
        title=f"What {wording.listing(names)} {'keeps' if len(names) == 1 else 'keep'}",
        kicker="Probe" if len(runs) == 1 else f"Comparison of {len(runs)} probes",
        byline=[
            provenance.byline(run, name, _counts(run.scores))
            for run, name in zip(runs, run_names(runs), strict=True)
        ],
        lead=[
            " ".join(
                probe_wording.findings(entry.run.scores, entry.scored, _subject(entry, len(runs)))
            )
            for entry in encoders[:4]
        ],
        sections=[section for section in sections if section is not None],
        alarms=provenance.differing(runs, {"versions": lambda run: run.settings.get("versions")}),
        warnings=[
            words for run in runs for words in [probe_wording.few(run.scores)] if words is not None
        ][:1],
    )


def _entries(runs: Sequence[ProbeRun]) -> list[ProbeEntry]:
    found: list[ProbeEntry] = []
    for run, name in zip(runs, run_names(runs), strict=True):
        for model in run.scores.models:
            label = model.name if len(runs) == 1 else f"{name}: {model.name}"
            found.append(ProbeEntry(run, model, Look(label, len(found))))
    return found


def _subject(entry: ProbeEntry, runs: int) -> str:
    return entry.scored.title or entry.label if runs == 1 else entry.label


def _counts(scores: ProbeScores) -> list[str]:
    return [
        wording.plural(scores.used, "image"),
        wording.plural(len(scores.factors), "factor"),
        wording.plural(scores.images.versions, "version"),
    ]


# ---------------------------------------------------------------- sections


def _overview(runs: Sequence[ProbeRun], shown: Sequence[ProbeEntry]) -> Section:
    comparisons = [
        probe_wording.compared(run.scores, change, change.name, str(change.against))
        for run in runs
        for change in run.scores.differences
    ]
    columns = [
        ("kept", "Kept"),
        ("hidden", "Only by a network"),
        ("collapsed", "Collapsed"),
        ("undecided", "Undecided"),
        ("unread", "Read by nothing"),
    ]
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "probe_overview.html.j2",
        {
            "columns": [title for _, title in columns],
            "rows": [
                {
                    "label": entry.label,
                    "cells": [
                        [
                            factor.title
                            for factor in probe_wording.with_verdict(
                                entry.run.scores, entry.scored, verdict
                            )
                        ]
                        for verdict, _ in columns
                    ],
                }
                for entry in shown
                if entry.scored.control is None
            ],
            "comparisons": comparisons,
            "several": len(runs) > 1,
        },
    )


def _groups(runs: Sequence[ProbeRun], shown: Sequence[ProbeEntry]) -> list[Section]:
    """Build a section of bars for each group of factors."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for group, names in run.scores.groups().items():
            listed = found.setdefault(group, [])
            listed += [name for name in names if name not in listed]
    table = {factor.name: factor for run in runs for factor in run.scores.factors}
    return [
        Section(
            group,
            _GROUP_TITLES[group],
            wording.group_title(group),
            "probe_factors.html.j2",
            {
                "title": _GROUP_TITLES[group],
                "legend": _legend(shown) if place == 0 else [],
                "axis": figures.axis(1.0),
                "labels": [entry.label for entry in shown],
                "level": wording.level(runs[0].scores.interval.level) if place == 0 else "",
                "rows": [
                    _bar_row(table[name], shown)
                    for name in sorted(names, key=lambda name: -_most(shown[0], name))
                ],
            },
        )
        for place, (group, names) in enumerate(found.items())
    ]


_GROUP_TITLES = {
    "geometry": "Geometry",
    "color": "Color and light",
    "texture": "Texture, sharpness and noise",
    "weather": "Weather",
}


def _legend(shown: Sequence[ProbeEntry]) -> list[dict[str, object]]:
    return [
        {
            "label": entry.label,
            "key": figures.key(entry.look),
            "title": entry.scored.title if entry.scored.title != entry.scored.name else "",
            "settings": "",
        }
        for entry in shown
    ]


def _most(entry: ProbeEntry, name: str) -> float:
    kept = entry.scored.factors.get(name)
    return 0.0 if kept is None or kept.beside is None else kept.beside.value


def _bar_row(factor: Factor, shown: Sequence[ProbeEntry]) -> dict[str, object]:
    found = [entry.scored.factors.get(factor.name) for entry in shown]
    bars = [None if kept is None else kept.beside for kept in found]
    verdicts = [
        (entry.label, probe_wording.verdict_words(kept))
        for entry, kept in zip(shown, found, strict=True)
        if kept is not None and kept.verdict is not None
    ]
    return {
        "title": factor.title,
        "range": (
            factor.unit
            if factor.binary
            else f"{probe_wording.value_words(factor, factor.low)} to "
            f"{probe_wording.value_words(factor, factor.high)}, {factor.unit}"
        ),
        "verdict": ", ".join(
            words if len(verdicts) == 1 else f"{label}: {words}" for label, words in verdicts
        ),
        "bars": figures.bars(
            [(entry.look, interval) for entry, interval in zip(shown, bars, strict=True)],
            title=factor.title,
            top=1.0,
        ),
        "figures": [
            {"value": wording.percent(wording.value_of(i)), "span": wording.span(i)} for i in bars
        ],
    }


def _strips(runs: Sequence[ProbeRun], pictures: Pictures) -> Section | None:
    run = next((run for run in runs if run.gallery.sheets), None)
    if run is None or not pictures.uris:
        return None
    table = {factor.name: factor for factor in run.scores.factors}
    strips = [
        {
            "title": table[strip.factor].title,
            "id": strip.id,
            "pictures": [
                {
                    "uri": pictures.uri(file),
                    "alt": f"{table[strip.factor].title} at "
                    f"{probe_wording.value_words(table[strip.factor], value)}",
                    "value": probe_wording.value_words(table[strip.factor], value),
                }
                for value, file in ((one.value, one.file) for one in strip.pictures)
            ],
        }
        for strip in run.gallery.sheets[: pictures.sheets]
        if strip.factor in table
    ]
    return Section(
        "strips",
        "What each factor does",
        "Pictures",
        "probe_strips.html.j2",
        {"strips": strips, "left_out": pictures.left_out},
    )


def _readings(shown: Sequence[ProbeEntry]) -> Section:
    """Build the table of all three readings, folded away."""
    return Section(
        "readings",
        "Three ways to read",
        "Readings",
        "probe_readings.html.j2",
        {
            "rows": [
                {
                    "model": entry.label,
                    "factor": factor.title,
                    "figures": [
                        {
                            "value": wording.percent(wording.value_of(interval)),
                            "span": wording.span(interval),
                        }
                        for interval in (kept.beside, kept.alone, kept.network)
                    ],
                    "verdict": probe_wording.verdict_words(kept),
                }
                for entry in shown
                for factor in entry.run.scores.factors
                for kept in [entry.scored.factors[factor.name]]
            ]
        },
    )
