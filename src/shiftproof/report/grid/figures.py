"""One figure over the corruption grid, as bars, heat maps and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry
from shiftproof.report.svg import charts, colors
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.wording import NumberFormat
from shiftproof.runs.run import Run
from shiftproof.types import Cell


@dataclass(frozen=True)
class Column:
    """What one model reaches over the grid, or a difference between two.

    ``clean`` is None where the clean images have no figure; ``groups`` are the means of whole groups
    of corruptions, where they are shown.
    """

    run: Run
    label: str
    clean: Interval | None
    cells: Mapping[Cell, Interval]
    corruptions: Mapping[str, Interval]
    mean: Interval | None
    groups: Mapping[str, Interval] = field(default_factory=dict)


def group_corruptions(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Return the corruptions of all runs by group."""
    merged: dict[str, list[str]] = {}
    for column in columns:
        for group, names in column.run.scores.groups().items():
            listed = merged.setdefault(group, [])
            listed.extend(name for name in names if name not in listed)
    return merged


def describe_severities(runs: Sequence[Run]) -> str:
    """Return ``severities 1 to 5``, or that each run has its own."""
    first = runs[0].scores.severities
    if all(run.scores.severities == first for run in runs):
        return wording.describe_severities(first)
    return "the severities of each run"


def make_legend(
    shown: Sequence[Entry], *, spell: Callable[[str], str] = str
) -> list[dict[str, object]]:
    """Return the legend of all models: sample, name, title as ``spell`` spells it, and adapter."""
    return charts.make_legend(
        (one.series, _make_title(one, spell), wording.describe_adapter(one.adapter))
        for one in shown
    )


def _make_title(entry: Entry, spell: Callable[[str], str]) -> str:
    return spell(entry.scored.title) if entry.scored.title != entry.scored.name else ""


# ---------------------------------------------------------------- bars


def make_bars(
    looks: Sequence[SeriesStyle],
    columns: Sequence[Column],
    changes: Sequence[Column],
    *,
    clean: bool,
    number_format: NumberFormat,
) -> dict[str, object]:
    """Return the groups of rows with a bar for each model, and the axis that they share.

    ``looks`` are those of ``columns``; ``clean`` puts the clean images first.
    """
    shown = (
        interval
        for column in columns
        for interval in (column.clean if clean else None, *column.corruptions.values())
    )
    low, top = charts.choose_axis_range(shown, number_format)

    def row(
        title: str, get: Callable[[Column], Interval | None], *, total: bool = False
    ) -> dict[str, object]:
        intervals = [get(column) for column in columns]
        pairs = list(zip(looks, intervals, strict=True))
        return {
            "title": title,
            "total": total,
            "bars": charts.draw_bars(
                pairs, title=title, top=top, low=low, number_format=number_format
            ),
            "figures": [number_format.cell(interval) for interval in intervals],
            "deltas": [number_format.change_cell(get(change)) for change in changes],
        }

    def of_corruption(name: str) -> dict[str, object]:
        return row(wording.corruption_title(name), lambda column: column.corruptions.get(name))

    def of_group(group: str, names: Sequence[str]) -> dict[str, object]:
        title = wording.corruption_title(group)
        rows = [of_corruption(name) for name in names]
        if any(group in column.groups for column in columns):
            mean = f"Mean over {title.lower()}"
            rows.append(row(mean, lambda column: column.groups.get(group), total=True))
        return {"title": title, "rows": rows}

    groups = [of_group(group, names) for group, names in group_corruptions(columns).items()]
    whole = row("Mean over corruptions", lambda column: column.mean)
    groups.append({"title": "All", "rows": [whole]})
    if clean:
        first = row("Clean images", lambda column: column.clean)
        groups.insert(0, {"title": "No corruption", "rows": [first]})
    return {"groups": groups, "axis": charts.draw_axis(top, low, number_format)}


# ---------------------------------------------------------------- heat maps

CellPaint: TypeAlias = dict[str, str]
"""A cell of a heat map: its text, its style, and in words what it is."""

Paint: TypeAlias = Callable[[Interval, str], CellPaint]


def scale_of(columns: Sequence[Column], number_format: NumberFormat) -> tuple[float, float]:
    """Return the ends of the scale that the cells of all models share; of shares, 0 and 1."""
    if number_format.end is not None:
        return 0.0, number_format.end
    return charts.choose_axis_range(map(_without_ends, _figures_of(columns)), number_format)


def _figures_of(columns: Sequence[Column]) -> list[Interval]:
    return [
        interval
        for column in columns
        for interval in (column.clean, *column.cells.values())
        if interval is not None
    ]


def _without_ends(interval: Interval) -> Interval:
    return Interval(interval.value)


def find_reach(changes: Sequence[Column], number_format: NumberFormat) -> float:
    """Return the reach of the scale that the cells of all differences share."""
    furthest = max(
        (abs(interval.value) for change in changes for interval in change.cells.values()),
        default=0.0,
    )
    reach = charts.choose_reach(furthest, number_format)
    # A difference of a few points is to look small.
    return reach if number_format.end is None else max(0.1 * number_format.end, reach)


def paint_difference(
    interval: Interval,
    title: str,
    reach: float,
    *,
    lower_is_better: bool,
    number_format: NumberFormat,
) -> CellPaint:
    """Return the cell of a difference: blue is better, and bold is significant."""
    worse = interval.value if lower_is_better else -interval.value
    return {
        "text": number_format.change(interval.value),
        "style": f"d{colors.find_diverging_level(worse, reach)}"
        + ("" if interval.spans_zero else " sure"),
        "title": f"{title}: {number_format.change_with_span(interval)}",
    }


def make_difference_scale(
    reach: float, *, lower_is_better: bool, number_format: NumberFormat
) -> tuple[list[tuple[str, str]], str]:
    """Return the steps of the scale of differences, from better to worse."""
    sign = 1 if lower_is_better else -1
    steps = [
        (
            f"d{colors.find_diverging_level(share * reach, reach)}",
            number_format.tick_change(sign * share * reach),
        )
        for share in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    return steps, f"{number_format.points.strip()}, better to worse".removeprefix(", ")


def _are_long(column: Column, number_format: NumberFormat) -> bool:
    """Whether figures need small letters to stay in their cells; shares never do."""
    return number_format.end is None and any(
        len(number_format.figure(interval.value)) > len("17.4")
        for interval in _figures_of([column])
    )


def make_heat_map(
    column: Column, paint: Paint, *, difference: bool, clean: bool, number_format: NumberFormat
) -> dict[str, object]:
    """Return corruption by severity; ``paint`` makes a cell from a figure and its title."""
    scores = column.run.scores

    def cell(interval: Interval | None, title: str) -> CellPaint:
        if interval is None:
            return {"text": wording.NONE, "style": "none", "title": f"{title}: not measured"}
        return paint(interval, title)

    def row(name: str) -> dict[str, object]:
        title = wording.corruption_title(name)
        return {
            "title": title,
            "cells": [
                cell(column.cells.get(Cell(name, severity)), f"{title}, severity {severity}")
                for severity in scores.severities
            ],
            "mean": cell(column.corruptions.get(name), f"{title}, mean"),
        }

    return {
        "title": column.label,
        "difference": difference,
        "small": difference or _are_long(column, number_format),
        "unit": (number_format.points if difference else number_format.sign).strip(),
        "severities": scores.severities,
        "clean": cell(column.clean, "Clean") if clean else None,
        "mean": cell(column.mean, "Mean over corruptions"),
        "groups": [
            {
                "title": wording.corruption_title(group),
                "mean": cell(column.groups[group], f"{wording.corruption_title(group)}, mean")
                if group in column.groups
                else None,
                "rows": [row(name) for name in names],
            }
            for group, names in scores.groups().items()
        ],
    }


# ---------------------------------------------------------------- severity curves


def make_curve_groups(
    runs: Sequence[Run],
    looks: Sequence[SeriesStyle],
    columns: Sequence[Column],
    *,
    clean: bool,
    number_format: NumberFormat,
) -> list[dict[str, object]]:
    """Return a panel per corruption, by group, all on the same axis."""
    low, top = charts.choose_axis_range(_figures_of(columns), number_format)
    severities = sorted({severity for run in runs for severity in run.scores.severities})

    def panel(name: str) -> dict[str, object]:
        title = wording.corruption_title(name)
        curves = [
            charts.Curve(series, points)
            for series, column in zip(looks, columns, strict=True)
            if (points := _make_points(column, name, clean=clean))
        ]
        chart = charts.draw_severity_curves(
            curves,
            title=title,
            severities=severities,
            top=top,
            low=low,
            number_format=number_format,
        )
        return {"title": title, "chart": chart}

    return [
        {"title": wording.corruption_title(group), "panels": [panel(name) for name in names]}
        for group, names in group_corruptions(columns).items()
    ]


def _make_points(column: Column, corruption: str, *, clean: bool) -> list[tuple[int, Interval]]:
    points = [
        (severity, interval)
        for severity in column.run.scores.severities
        if (interval := column.cells.get(Cell(corruption, severity))) is not None
    ]
    # A model that was not run on this corruption has nothing but its clean figure to show.
    if points and clean and column.clean is not None:
        points.insert(0, (0, column.clean))
    return points
