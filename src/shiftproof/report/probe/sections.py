"""The sections of the page of probes: verdicts, bars, pictures, and all readouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shiftproof.report import wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.probe import wording as probe_wording
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.wording import SHARES
from shiftproof.runs.run import ProbeRun
from shiftproof.runs.scores.probe import READINGS, Factor, ProbedModel, ProbeGallery


@dataclass(frozen=True)
class ProbeEntry:
    """A model on the page: its scores, run, and line style."""

    run: ProbeRun
    scored: ProbedModel
    series: SeriesStyle

    @property
    def label(self) -> str:
        """The model's name, with the run's name before it where several runs are shown."""
        return self.series.label


def build_overview_section(runs: Sequence[ProbeRun], shown: Sequence[ProbeEntry]) -> Section:
    """Build the verdicts on each encoder, and the differences between encoders."""
    comparisons = [
        probe_wording.compare(run.scores, change, change.name, str(change.against))
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
                            for factor in probe_wording.find_by_verdict(
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


def build_factor_sections(runs: Sequence[ProbeRun], shown: Sequence[ProbeEntry]) -> list[Section]:
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
            wording.corruption_title(group),
            "probe_factors.html.j2",
            {
                "title": _GROUP_TITLES[group],
                "legend": charts.make_legend(_make_legend_row(entry) for entry in shown)
                if place == 0
                else [],
                "axis": charts.draw_axis(1.0),
                "labels": [entry.label for entry in shown],
                "level": wording.level(runs[0].scores.interval.level) if place == 0 else "",
                "rows": [
                    _make_bar_row(table[name], shown)
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


def _make_legend_row(entry: ProbeEntry) -> tuple[SeriesStyle, str, str]:
    scored = entry.scored
    return entry.series, scored.title if scored.title != scored.name else "", ""


def _most(entry: ProbeEntry, name: str) -> float:
    kept = entry.scored.factors.get(name)
    return 0.0 if kept is None or kept.beside is None else kept.beside.value


def _make_bar_row(factor: Factor, shown: Sequence[ProbeEntry]) -> dict[str, object]:
    found = [entry.scored.factors.get(factor.name) for entry in shown]
    bars = [None if kept is None else kept.beside for kept in found]
    verdicts = [
        (entry.label, probe_wording.describe_verdict(kept))
        for entry, kept in zip(shown, found, strict=True)
        if kept is not None and kept.verdict is not None
    ]
    return {
        "title": factor.title,
        "range": (
            factor.unit
            if factor.binary
            else f"{probe_wording.describe_value(factor, factor.low)} to "
            f"{probe_wording.describe_value(factor, factor.high)}, {factor.unit}"
        ),
        "verdict": ", ".join(
            words if len(verdicts) == 1 else f"{label}: {words}" for label, words in verdicts
        ),
        "bars": charts.draw_bars(
            [(entry.series, interval) for entry, interval in zip(shown, bars, strict=True)],
            title=factor.title,
            top=1.0,
        ),
        "figures": [SHARES.cell(interval) for interval in bars],
    }


def build_strips_section(runs: Sequence[ProbeRun], pictures: Pictures) -> Section | None:
    """Build one photograph under each factor; None if the runs have none."""
    run = next((run for run in runs if run.gallery(ProbeGallery).strips), None)
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
                    f"{probe_wording.describe_value(table[strip.factor], value)}",
                    "value": probe_wording.describe_value(table[strip.factor], value),
                }
                for value, file in ((one.value, one.file) for one in strip.pictures)
            ],
        }
        for strip in run.gallery(ProbeGallery).strips[: pictures.sheets]
        if strip.factor in table
    ]
    return Section(
        "strips",
        "What each factor does",
        "Pictures",
        "probe_strips.html.j2",
        {"strips": strips, "left_out": pictures.left_out},
    )


def build_readings_section(shown: Sequence[ProbeEntry]) -> Section:
    """Build the collapsed table of all three readouts."""
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
                    "figures": [SHARES.cell(getattr(kept, name)) for name in READINGS],
                    "verdict": probe_wording.describe_verdict(kept),
                }
                for entry in shown
                for factor in entry.run.scores.factors
                for kept in [entry.scored.factors[factor.name]]
            ]
        },
    )
