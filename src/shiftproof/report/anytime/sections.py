"""The sections of the page of an anytime run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shiftproof.report import wording
from shiftproof.report.anytime.wording import describe_difference, describe_end, describe_model
from shiftproof.report.sections import Section, build_reading_section
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.svg.lines import Axis, Line, plot_lines, write_percent
from shiftproof.runs.scores.anytime import AnytimeEstimate, AnytimeScores, CellDraws

_START = 0.25
"""Before this share of the path every interval is so wide that it would hide the rest."""


def build_overview_section(scores: AnytimeScores) -> Section:
    """Build the number in words, and how it narrowed."""
    asked = scores.differences if scores.compare else scores.models
    return Section(
        "overview",
        scores.headline.title,
        "At a glance",
        "anytime_overview.html.j2",
        {
            "words": [
                *(describe_model(scores, one) for one in scores.models),
                *(describe_difference(scores, one) for one in scores.differences),
                describe_end(scores),
            ],
            "legend": charts.make_legend(
                (series, one.title, "") for series, one in zip(_looks(asked), asked, strict=True)
            ),
            "chart": _plot_path(scores, asked),
            "level": wording.level(scores.interval.level),
            "reason": scores.reason,
        },
    )


def _looks(asked: Sequence[AnytimeEstimate]) -> list[SeriesStyle]:
    return [
        SeriesStyle(
            one.name if one.against is None else f"{one.name} {wording.MINUS} {one.against}", place
        )
        for place, one in enumerate(asked)
    ]


def _plot_path(scores: AnytimeScores, asked: Sequence[AnytimeEstimate]) -> Any:
    first = min(int(_START * len(scores.passes)), max(len(scores.passes) - 2, 0))
    shown = [figure for one in asked for figure in one.path[first:]]
    low, high = min(one.lower for one in shown), max(one.upper for one in shown)
    room = 0.05 * (high - low or 0.01)
    lines = [
        Line(series, list(zip(scores.passes[first:], one.path[first:], strict=True)))
        for series, one in zip(_looks(asked), asked, strict=True)
    ]
    what = "difference of " if scores.compare else ""
    return plot_lines(
        lines,
        Axis(scores.passes[first], scores.passes[-1], "pairs asked", lambda value: f"{value:,.0f}"),
        Axis(low - room, high + room, f"{what}{scores.headline.title}, %", write_percent),
        spoken=" ".join(
            (describe_difference if scores.compare else describe_model)(scores, one)
            for one in asked
        ),
    )


def build_draws_section(scores: AnytimeScores) -> Section:
    """Build the number of evaluated images and the estimated error of each cell."""
    found: dict[str, dict[int, CellDraws]] = {}
    for cell in scores.cells:
        found.setdefault(cell.corruption, {})[cell.severity] = cell
    most = max(cell.images for cell in scores.cells) or 1
    return Section(
        "draws",
        "Images drawn in each cell",
        "Draws",
        "anytime_draws.html.j2",
        {
            "severities": scores.severities,
            "models": [one.title or one.name for one in scores.models],
            "rows": [
                {
                    "title": wording.corruption_title(name),
                    "cells": [
                        _make_cell(row.get(severity), most, scores)
                        for severity in scores.severities
                    ],
                }
                for name, row in found.items()
            ],
        },
    )


def _make_cell(cell: CellDraws | None, most: int, scores: AnytimeScores) -> dict[str, object]:
    if cell is None:
        return {"images": wording.NONE, "share": 0, "errors": ""}
    return {
        "images": f"{cell.images:,}",
        "share": round(100 * cell.images / most),
        "errors": " / ".join(wording.percent(cell.errors[one.name]) for one in scores.models),
    }


def reading_of(scores: AnytimeScores) -> Section:
    """Build the words on how to read the page."""
    return build_reading_section(
        "anytime_reading.html.j2",
        {
            "level": wording.level(scores.interval.level),
            "several": len(scores.differences) > 1 and scores.compare,
        },
    )
