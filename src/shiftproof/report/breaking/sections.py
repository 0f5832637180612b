"""The sections of the page of breaking points."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.breaking.tables import describe_recovered
from shiftproof.report.gallery import Pictures
from shiftproof.report.sections import Section, build_reading_section
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.svg.lines import Axis, Line, plot_lines, write_percent
from shiftproof.report.wording import NUMBERS
from shiftproof.runs.run import BreakingRun
from shiftproof.runs.scores.breaking import BreakingGallery, BreakingScores, BrokenPicture


def build_overview_section(scores: BreakingScores, looks: Sequence[SeriesStyle]) -> Section:
    """Build the mean breaking severity under each corruption, and the errors that it means."""
    rows = [
        {
            "title": wording.corruption_title(name),
            "bars": charts.draw_bars(
                [
                    (series, model.corruptions[place].severity)
                    for series, model in zip(looks, scores.models, strict=True)
                ],
                title=wording.corruption_title(name), top=5.0, number_format=NUMBERS,
            ),
            "figures": [
                {
                    "value": NUMBERS.figure(model.corruptions[place].severity.value),
                    "error": wording.percent(model.corruptions[place].error.value),
                    "survived": wording.percent(model.corruptions[place].survived.value),
                }
                for model in scores.models
            ],
        }
        for place, name in enumerate(scores.corruptions)
    ]  # fmt: skip
    return Section(
        "overview",
        "Mean breaking severity",
        "Breaking severity",
        "breaking_overview.html.j2",
        {
            "words": describe_models(scores),
            "legend": charts.make_legend((series, "", "") for series in looks),
            "axis": charts.draw_axis(5.0, number_format=NUMBERS),
            "labels": [series.label for series in looks],
            "rows": rows,
            "level": wording.level(scores.interval.level),
            "reason": scores.reason,
        },
    )


def describe_models(scores: BreakingScores) -> list[str]:
    """Say of each model where its answers break, and of each other whether it holds longer."""
    found = []
    for model in scores.models:
        said = (
            f"{model.title or model.name} breaks at severity {_number(model.severity)} on the mean; "
            f"with a clean error of {wording.share(model.clean.value)} that is an error of "
            f"{wording.share(model.error.value)} over severities 1 to 5"
        )
        mce = "" if model.mce is None else f", and an mCE of {wording.share(model.mce.value)}"
        found += [f"{said}{mce}.", describe_recovered(model)]
    for one in scores.differences:
        change = f"{NUMBERS.change(one.severity.value)} ({NUMBERS.change_span(one.severity)})"
        decided = "" if not one.severity.spans_zero else "; that may be chance"
        found.append(f"{one.name} minus {one.against}: {change} severities{decided}.")
    return found


def _number(figure: Interval) -> str:
    low, high = NUMBERS.figure(figure.lower), NUMBERS.figure(figure.upper)
    return f"{NUMBERS.figure(figure.value)} ({low} to {high})"


def build_curves_section(scores: BreakingScores, looks: Sequence[SeriesStyle]) -> Section:
    """Build the share of images that are still right along the severity, a panel per corruption."""
    panels = []
    for place, name in enumerate(scores.corruptions):
        lines = [
            Line(
                series,
                list(zip((0.0, *scores.levels), model.corruptions[place].curve, strict=True)),
            )
            for series, model in zip(looks, scores.models, strict=True)
        ]
        title = wording.corruption_title(name)
        panels.append(
            {
                "title": title,
                "chart": plot_lines(
                    lines,
                    Axis(0.0, 5.0, "severity", lambda value: f"{value:.0f}", steps=5),
                    Axis(0.0, 1.0, "still right, %", write_percent),
                    spoken=f"{title}: share of images still right along the severity",
                    size=(300, 190),
                ),
            }
        )
    return Section(
        "curves",
        "Still right at each severity",
        "Curves",
        "breaking_curves.html.j2",
        {
            "legend": charts.make_legend((series, "", "") for series in looks),
            "panels": panels,
            "level": wording.level(scores.interval.level),
        },
    )


def build_gallery_section(run: BreakingRun, pictures: Pictures) -> Section | None:
    """Build the images at their breaking points."""
    sheets = run.gallery(BreakingGallery).sheets[: pictures.sheets]
    if not sheets:
        return None
    return Section(
        "gallery",
        "Where they break",
        "Pictures",
        "breaking_gallery.html.j2",
        {
            "model": run.scores.models[0].title or run.scores.models[0].name,
            "sheets": [
                {
                    "id": sheet.id,
                    "label": sheet.label or "",
                    "uri": pictures.uri(sheet.clean),
                    "pictures": [_make_picture(one, pictures) for one in sheet.pictures],
                }
                for sheet in sheets
            ],
        },
    )


def _make_picture(one: BrokenPicture, pictures: Pictures) -> dict[str, str | None]:
    title = wording.corruption_title(one.corruption)
    at = "never broken" if one.severity is None else f"severity {one.severity:.2f}"
    return {
        "uri": pictures.uri(one.file),
        "title": title,
        "at": at,
        "answer": one.answer or "",
        "alt": f"{title}, {at}",
    }


def reading_of(scores: BreakingScores) -> Section:
    """Build the words on how to read the page."""
    return build_reading_section(
        "breaking_reading.html.j2",
        {
            "level": wording.level(scores.interval.level),
            "labeled": scores.labeled,
            "levels": len(scores.levels),
            "passes": f"{scores.passes:.2f}",
        },
    )
