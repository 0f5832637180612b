"""The charts of the page, as inline SVG.

SVG instead of a plotting library: colors come from the page's CSS variables, so charts follow dark
mode and print; they need no script and are small; and each mark has its values as a tooltip.
Positions along a bar are percentages, so that a chart fills any width without scaling its strokes.
Charts only turn series of values into markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.svg import colors, shapes
from shiftproof.report.svg.markup import Html, element, join
from shiftproof.report.wording import SHARES, NumberFormat

_NICE_TOPS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_NICE_REACHES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
_NICE_DIGITS = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)


@dataclass(frozen=True)
class SeriesStyle:
    """The style of a model: a number that determines color, marker and dash."""

    label: str
    number: int

    @property
    def style(self) -> str:
        """The CSS class of the color."""
        return f"m{self.number % len(colors.MODEL_LIGHT)}"

    @property
    def dash(self) -> str | None:
        """The dash of the model's line."""
        return colors.MODEL_DASHES[self.number % len(colors.MODEL_DASHES)]


@dataclass(frozen=True)
class ScatterPoint:
    """A point of a scatter plot: a model's, at two shares, with its tooltip."""

    series: SeriesStyle
    x: float
    y: float
    tooltip: str


@dataclass(frozen=True)
class Trace:
    """A line in a scatter plot: a model's, or a fit's, which has no style."""

    points: Sequence[tuple[float, float]]
    series: SeriesStyle | None = None


@dataclass(frozen=True)
class Curve:
    """A model's values by severity; 0 is clean."""

    series: SeriesStyle
    points: Sequence[tuple[int, Interval]]


def choose_top(highest: float, number_format: NumberFormat = SHARES) -> float:
    """Return a round upper end of an axis for ``highest``; at most 1 for shares."""
    if number_format.end is None:
        return _round_up(highest)
    return next((top for top in _NICE_TOPS if highest <= top), number_format.end)


def choose_axis_range(
    intervals_: Iterable[Interval | None], number_format: NumberFormat
) -> tuple[float, float]:
    """Return round ends of an axis for all intervals and 0; within 0 and 1 for shares."""
    intervals = [interval for interval in intervals_ if interval is not None]
    highest = max((interval.upper for interval in intervals), default=1.0)
    lowest = min((interval.lower for interval in intervals), default=0.0)
    if number_format.end is not None or lowest >= 0:
        return 0.0, choose_top(highest, number_format)
    return -choose_top(-lowest, number_format), choose_top(
        highest, number_format
    ) if highest > 0 else 0.0


def choose_reach(furthest: float, number_format: NumberFormat = SHARES) -> float:
    """Return a round half-width of an axis around 0 for ``furthest``; at most 1 for shares."""
    if number_format.end is None:
        return _round_up(furthest)
    return next((reach for reach in _NICE_REACHES if furthest <= reach), number_format.end)


def _round_up(figure: float) -> float:
    """Round ``figure`` up to a number with short quarters; 1 if it is not above 0."""
    if figure <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(figure))
    return next((digit * power for digit in _NICE_DIGITS if figure <= digit * power), 10 * power)


# ---------------------------------------------------------------- markers


def draw_marker(
    series: SeriesStyle, x: float, y: float, size: float = 3.2, title: str = ""
) -> Html:
    """Draw a model's marker: circle, square, triangle, diamond, then again from the first."""
    children = (shapes.title(title),) if title else ()
    shape = series.number % 4
    style = f"mark {series.style}"
    if shape == 0:
        return shapes.circle(style, x, y, size, *children)
    if shape == 1:
        side = 1.8 * size
        return element(
            "rect",
            {"class": style, "x": x - side / 2, "y": y - side / 2, "width": side, "height": side},
            *children,
        )
    reach = 1.25 * size
    corners = (
        [(x, y - reach), (x + reach, y + 0.8 * reach), (x - reach, y + 0.8 * reach)]
        if shape == 2
        else [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)]
    )
    return shapes.polygon(style, corners, *children)


def draw_key(series: SeriesStyle) -> Html:
    """Draw the sample of line and marker for a legend."""
    stroke = shapes.line(f"line {series.style}", series.dash, x1=1, y1=6, x2=27, y2=6)
    return shapes.sample("key", 28, 12, stroke, draw_marker(series, 14, 6))


def draw_dot(series: SeriesStyle) -> Html:
    """Draw a model's marker only, to precede its name."""
    return shapes.sample("dot", 10, 10, draw_marker(series, 5, 5, 3.6))


def make_legend(rows: Iterable[tuple[SeriesStyle, str, str]]) -> list[dict[str, object]]:
    """Return the rows of a legend: sample, label, title and settings."""
    return [
        {"key": draw_key(series), "label": series.label, "title": title, "settings": settings}
        for series, title, settings in rows
    ]


# ---------------------------------------------------------------- severity curves

_WIDTH, _HEIGHT = 196.0, 136.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 30.0, 8.0, 8.0, 20.0
_LETTER = 5.5
"""Extra width for each letter by which a label is longer than "100 %"."""


def draw_severity_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    severities: Sequence[int],
    top: float,
    low: float = 0.0,
    number_format: NumberFormat = SHARES,
) -> Html:
    """Draw values against severity: a line with its interval band for each model.

    ``low`` and ``top`` are the ends of the value axis, the same for all compared panels.
    """
    ticks = [low + (top - low) * step / 2 for step in range(3)]
    labels = [number_format.tick(tick, named=tick == top) for tick in ticks]
    left = _LEFT + _LETTER * max(0, max(map(len, labels)) - len("100 %"))
    last = max([*severities, 1])
    start = 0 if any(severity == 0 for curve in curves for severity, _ in curve.points) else 1

    def x(severity: int) -> float:
        return left + (severity - start) / max(last - start, 1) * (_WIDTH - left - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (1 - (min(value, top) - low) / (top - low)) * (_HEIGHT - _TOP - _BOTTOM)

    pieces = _make_rules(
        left, [(y(tick), label) for tick, label in zip(ticks, labels, strict=True)]
    )
    for severity in sorted({0, *severities} if start == 0 else set(severities)):
        name = str(severity) if severity else "clean"
        pieces.append(shapes.label(x(severity), _HEIGHT - 5, name, "middle"))
    for curve in curves:
        if not any(interval.bare for _, interval in curve.points):
            pieces.append(_make_band(curve, x, y))
    for curve in curves:
        line = [(x(severity), y(interval.value)) for severity, interval in curve.points]
        pieces.append(shapes.polyline(f"line {curve.series.style}", line, curve.series.dash))
    for curve in curves:
        for severity, interval in curve.points:
            position = f"severity {severity}" if severity else "clean"
            tooltip = f"{curve.series.label}, {position}: {number_format.with_span(interval)}"
            pieces.append(draw_marker(curve.series, x(severity), y(interval.value), 2.6, tooltip))
    description = f"{title} by severity. {_describe_curves(curves, number_format)}"
    return shapes.drawing("curves", (_WIDTH, _HEIGHT), pieces, description)


def _make_rules(left: float, heights: Sequence[tuple[float, str]]) -> list[Html]:
    """Draw the axis below and the lines of a grid above it, each with its label at the left."""
    pieces = []
    for step, (height, label) in enumerate(heights):
        style = "grid" if step else "axis"
        pieces.append(shapes.line(style, x1=left, x2=_WIDTH - _RIGHT, y1=height, y2=height))
        pieces.append(shapes.label(left - 5, height + 3.5, label, "end"))
    return pieces


def _describe_curves(curves: Sequence[Curve], number_format: NumberFormat) -> str:
    """Return the figures of all curves as text for screen readers."""
    return "; ".join(
        f"{curve.series.label}: "
        + ", ".join(
            f"{'clean' if severity == 0 else severity} {number_format.with_sign(interval.value)}"
            for severity, interval in curve.points
        )
        for curve in curves
    )


def _make_band(curve: Curve, x: Callable[[int], float], y: Callable[[float], float]) -> Html:
    upper = [(x(severity), y(interval.upper)) for severity, interval in curve.points]
    lower = [(x(severity), y(interval.lower)) for severity, interval in curve.points]
    if len(upper) == 1:
        # A band of one point has no area: draw it as a whisker.
        (center, high), (_, low) = upper[0], lower[0]
        return shapes.line(f"whisker {curve.series.style}", x1=center, x2=center, y1=high, y2=low)
    return shapes.polygon(f"band {curve.series.style}", [*upper, *lower[::-1]])


# ---------------------------------------------------------------- one share against another

_SIDE = 300.0
_INSET, _FOOT, _HEAD = 36.0, 38.0, 20.0


def draw_scatter(
    points: Sequence[ScatterPoint],
    *,
    title: str,
    across: str,
    upward: str,
    top: float,
    traces: Sequence[Trace] = (),
    diagonal: bool = True,
) -> Html:
    """Draw one share against another, both from 0 to ``top``.

    ``title`` is for screen readers; ``across`` and ``upward`` name the axes; ``diagonal`` draws the line
    where the two are equal.
    """
    right, bottom = _SIDE - 10, _SIDE - _FOOT

    def x(fraction: float) -> float:
        return _INSET + min(fraction, top) / top * (right - _INSET)

    def y(fraction: float) -> float:
        return bottom - min(fraction, top) / top * (bottom - _HEAD)

    pieces: list[Html] = []
    for step in range(5):
        value = top * step / 4
        style = "grid" if step else "axis"
        for x1, y1, x2, y2 in (
            (_INSET, y(value), right, y(value)),
            (x(value), _HEAD, x(value), bottom),
        ):
            pieces.append(shapes.line(style, x1=x1, y1=y1, x2=x2, y2=y2))
        if step % 2 == 0:
            label = f"{100 * value:g}"
            pieces.append(shapes.label(_INSET - 6, y(value) + 4, label, "end"))
            pieces.append(shapes.label(x(value), bottom + 15, label, "middle"))
    pieces.append(shapes.label(4, 10, upward, "start"))
    pieces.append(shapes.label(right, _SIDE - 6, across, "end"))
    if diagonal:
        pieces.append(shapes.line("agree", x1=x(0), y1=y(0), x2=x(top), y2=y(top)))
    pieces += [
        _draw_trace(trace.series, [(x(x_value), y(y_value)) for x_value, y_value in trace.points])
        for trace in traces
    ]
    pieces += [
        draw_marker(point.series, x(point.x), y(point.y), 2.9, point.tooltip) for point in points
    ]
    return shapes.drawing("scatter", (_SIDE, _SIDE), pieces, title)


def _draw_trace(series: SeriesStyle | None, points: Sequence[tuple[float, float]]) -> Html:
    if series is None:
        return shapes.polyline("fit", points)
    return shapes.polyline(f"line {series.style}", points, series.dash)


# ---------------------------------------------------------------- bars

_BAR = 9.0
_GAP = 5.0


def draw_bars(
    rows: Sequence[tuple[SeriesStyle, Interval | None]],
    *,
    title: str,
    top: float,
    low: float = 0.0,
    number_format: NumberFormat = SHARES,
) -> Html:
    """Draw one horizontal bar with its interval per model, on an axis from ``low`` to ``top``."""
    height = len(rows) * (_BAR + _GAP) + _GAP
    pieces = _make_quarters(height)[1:]
    pieces.append(shapes.line("axis", x1=0, x2=0, y1=0, y2=height))
    for position, (series, interval) in enumerate(rows):
        if interval is None:
            continue
        y = _GAP + position * (_BAR + _GAP)
        description = f"{series.label}: {number_format.with_span(interval)}"
        pieces.append(
            element(
                "rect",
                {
                    "class": f"bar {series.style}",
                    "x": 0,
                    "y": y,
                    "width": _to_percent(interval.value, low, top),
                    "height": _BAR,
                },
                shapes.title(description),
            )
        )
        if not interval.bare:
            pieces.append(_make_whisker(interval, y + _BAR / 2, low, top, "whisker"))
    description = "; ".join(
        f"{series.label} {number_format.with_span(interval)}"
        for series, interval in rows
        if interval is not None
    )
    return shapes.strip("bars", height, pieces, f"{title}: {description}")


def draw_axis(top: float, low: float = 0.0, number_format: NumberFormat = SHARES) -> Html:
    """Write the numbers of the axis that all bars of a table share."""
    pieces = []
    for step in range(5):
        anchor = "start" if step == 0 else "end" if step == 4 else "middle"
        text = number_format.tick(low + (top - low) * step / 4, named=step == 4)
        pieces.append(shapes.label(f"{25 * step}%", 11, text, anchor))
    return shapes.strip("bars", 14, pieces)


# ---------------------------------------------------------------- intervals on their own


def draw_interval(series: SeriesStyle, interval: Interval, *, top: float, low: float = 0.0) -> Html:
    """Draw a value and its interval from ``low`` to ``top``, as decoration of the number."""
    start, end = (
        _to_percent(end_value, low, top) for end_value in (interval.lower, interval.upper)
    )
    pieces = [
        shapes.line("grid", x1=0, x2="100%", y1=6, y2=6),
        shapes.line(f"reach {series.style}", x1=start, x2=end, y1=6, y2=6),
        shapes.circle(f"mark {series.style}", _to_percent(interval.value, low, top), 6, 4),
    ]
    return shapes.strip("strip", 12, pieces)


def draw_difference_axis(
    interval: Interval,
    *,
    reach: float,
    title: str,
    lower_is_better: bool,
    number_format: NumberFormat = SHARES,
) -> Html:
    """Draw a paired difference with its interval around 0."""
    low, high = -reach, reach
    state = "flat"
    if not interval.spans_zero:
        state = "better" if (interval.value < 0) == lower_is_better else "worse"
    start, end = (
        _to_percent(end_value, low, high) for end_value in (interval.lower, interval.upper)
    )
    tooltip = shapes.title(f"{number_format.change(interval.value)}{number_format.points}")
    pieces = [
        shapes.line("grid", x1=0, x2="100%", y1=14, y2=14),
        shapes.line("zero", x1="50%", x2="50%", y1=2, y2=26),
        shapes.line(f"reach {state}", x1=start, x2=end, y1=14, y2=14),
        shapes.circle(f"mark {state}", _to_percent(interval.value, low, high), 14, 5, tooltip),
        shapes.label("0%", 40, number_format.tick_change(low), "start"),
        shapes.label("50%", 40, "0", "middle"),
        shapes.label("100%", 40, number_format.tick_change(high), "end"),
    ]
    return shapes.strip("difference", 44, pieces, title)


_FALL = 14.0


def draw_drops(
    rows: Sequence[tuple[SeriesStyle, float | None, float | None]], *, title: str, top: float
) -> Html:
    """Draw for each model a line from a hollow ring, before, to its marker, after."""
    height = len(rows) * _FALL
    pieces = _make_quarters(height)
    descriptions = []
    for position, (series, before, after) in enumerate(rows):
        y = _FALL * (position + 0.5)
        positions = [_to_percent(value, 0, top) for value in (before, after) if value is not None]
        if len(positions) == 2:
            pieces.append(
                shapes.line(f"drop {series.style}", x1=positions[0], x2=positions[1], y1=y, y2=y)
            )
        for value, style in ((before, "ring"), (after, "mark")):
            if value is not None:
                pieces.append(
                    shapes.circle(f"{style} {series.style}", _to_percent(value, 0, top), y, 4)
                )
        descriptions.append(f"{series.label} {wording.share(before)} to {wording.share(after)}")
    return shapes.strip("drops", height, pieces, f"{title}: {'; '.join(descriptions)}")


def draw_dots(
    rows: Sequence[tuple[SeriesStyle, Interval]],
    *,
    title: str,
    top: float,
    low: float = 0.0,
    number_format: NumberFormat = SHARES,
) -> Html:
    """Draw the figures of all models on one axis, with a line from the least to the most."""
    height = 18
    pieces = _make_quarters(height)
    positions = [_to_percent(interval.value, low, top) for _, interval in rows]
    ends = sorted(positions, key=lambda position: float(position.rstrip("%")))
    middle = height / 2
    pieces.append(shapes.line("axis", x1=ends[0], x2=ends[-1], y1=middle, y2=middle))
    pieces += [
        # Markers are positioned by percentages: each is a separate drawing.
        element(
            "svg",
            {
                "x": position,
                "y": middle,
                "overflow": "visible",
                "width": 1,
                "height": 1,
                "aria-hidden": "true",
            },
            draw_marker(series, 0, 0, 3.6, f"{series.label}: {number_format.with_span(interval)}"),
        )
        for (series, interval), position in zip(rows, positions, strict=True)
    ]
    return shapes.strip("dots", height, pieces, title)


# ---------------------------------------------------------------- parts


def _make_quarters(height: float) -> list[Html]:
    """Draw the upright lines at the quarters of a strip."""
    positions = [f"{tick}%" for tick in (0, 25, 50, 75, 100)]
    return [
        shapes.line("grid", x1=position, x2=position, y1=0, y2=height) for position in positions
    ]


def _make_whisker(interval: Interval, y: float, low: float, high: float, style: str) -> Html:
    start, end = _to_percent(interval.lower, low, high), _to_percent(interval.upper, low, high)
    return join(
        [
            shapes.line(style, x1=start, x2=end, y1=y, y2=y),
            *(shapes.line(style, x1=x, x2=x, y1=y - 3, y2=y + 3) for x in (start, end)),
        ]
    )


def _to_percent(value: float, low: float, high: float) -> str:
    share = 100 * (value - low) / (high - low)
    share = max(0.0, min(100.0, share)) if math.isfinite(share) else 0.0
    return f"{share:.2f}".rstrip("0").rstrip(".") + "%"
