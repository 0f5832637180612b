"""Standalone figures: SVG files with their own colors, for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shiftproof.errors import InputError
from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.svg import colors, shapes
from shiftproof.report.svg.charts import SeriesStyle, choose_reach, choose_top, draw_marker
from shiftproof.report.svg.markup import Attribute, Html, element

_WIDTH = 640.0
_LEFT, _RIGHT, _TOP = 48.0, 16.0, 14.0
_PLOT = 240.0
_BOTTOM = _TOP + _PLOT
_ROW = 20.0
_LABELS = 168.0
_LEGEND = 18.0


def draw_curves(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Interval | None]],
    *,
    title: str,
    axis: str = "",
) -> str:
    """Draw a line for each row over the columns, with the band of its intervals.

    Args:
        columns: names of the positions along the axis, at equal distances.
        rows: by name one share in 0..1 per column; None leaves a gap.
        title: title of the figure, also for screen readers.
        axis: title of the axis.

    Returns:
        The text of an SVG file of 640 pixels in width.

    Raises:
        InputError: a row has more or fewer figures than there are columns.

    >>> draw_curves(["1", "2"], {"a": [Interval(0.1), Interval(0.2)]}, title="Error")[:4]
    '<svg'
    """
    _check_lengths(columns, rows)
    top = _find_top(value for values in rows.values() for value in values)
    steps = max(len(columns) - 1, 1)

    def x(position: int) -> float:
        return _LEFT + position / steps * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _BOTTOM - max(0.0, min(share, top)) / top * _PLOT

    pieces: list[Html] = []
    for step in range(5):
        value = top * step / 4
        pieces.append(
            _draw_line("grid" if step else "axis", _LEFT, y(value), _WIDTH - _RIGHT, y(value))
        )
        label = f"{100 * value:g}" + (" %" if step == 4 else "")
        pieces.append(_make_text(_LEFT - 6, y(value) + 4, label, "end"))
    for position, name in enumerate(columns):
        pieces.append(_make_text(x(position), _BOTTOM + 16, name, "middle"))
    pieces.append(_make_text(_LEFT, _BOTTOM + 32, axis, "start"))
    all_series = [SeriesStyle(name, number) for number, name in enumerate(rows)]
    values_by_series = [
        [(column, value) for column, value in enumerate(values) if value is not None]
        for values in rows.values()
    ]
    for series, values in zip(all_series, values_by_series, strict=True):
        high = [(x(column), y(value.upper)) for column, value in values]
        low = [(x(column), y(value.lower)) for column, value in reversed(values)]
        pieces.append(shapes.polygon(f"band {series.style}", [*high, *low]))
    for series, values in zip(all_series, values_by_series, strict=True):
        points = [(x(column), y(interval.value)) for column, interval in values]
        pieces.append(shapes.polyline(f"line {series.style}", points, series.dash))
        for column, interval in values:
            tooltip = f"{series.label}, {columns[column]}: {wording.share(interval.value)}"
            pieces.append(draw_marker(series, x(column), y(interval.value), 3.0, tooltip))
    pieces += _draw_legend(all_series)
    height = _BOTTOM + 48 + _LEGEND * ((len(rows) + 1) // 2)
    return _write_file(pieces, height=height, title=title)


def draw_bars(rows: Mapping[str, Interval | None], *, title: str, signed: bool = False) -> str:
    """Draw a horizontal bar for each row, with its interval.

    Args:
        rows: by name a share in 0..1, or a difference of two; None leaves a gap.
        title: title of the figure, also for screen readers.
        signed: whether the figures are differences, where lower is better: bars go to both sides of 0, in
            the color of better, worse or not significant.

    Returns:
        The text of an SVG file of 640 pixels in width.

    >>> draw_bars({"fog": Interval(-0.1, -0.2, 0.0)}, title="Change", signed=True)[:4]
    '<svg'
    """
    intervals = [value for value in rows.values() if value is not None]
    start, end = 0.0, _find_top(intervals)
    if signed:
        start = -choose_reach(max((-value.lower for value in intervals), default=0.0))
        end = choose_reach(max((value.upper for value in intervals), default=0.0))
    height = _TOP + _ROW * len(rows)

    def x(share: float) -> float:
        fraction = (max(start, min(share, end)) - start) / (end - start)
        return _LABELS + fraction * (_WIDTH - _LABELS - _RIGHT - 64)

    pieces: list[Html] = []
    for value in _find_ticks(start, end):
        pieces.append(_draw_line("grid", x(value), _TOP, x(value), height))
        label = wording.format_tick(value) if signed else f"{100 * value:g}"
        pieces.append(_make_text(x(value), height + 14, label, "middle"))
    for position, (name, interval) in enumerate(rows.items()):
        middle = _TOP + _ROW * (position + 0.5)
        pieces.append(_make_text(_LABELS - 8, middle + 4, name, "end"))
        if interval is None:
            continue
        left, right = sorted((x(0.0), x(interval.value)))
        style = f"bar {_classify(interval) if signed else 'm0'}"
        geometry = {"x": left, "y": middle - 6, "width": right - left, "height": 12}
        pieces.append(element("rect", {"class": style, **geometry}))
        pieces.append(_draw_line("whisker", x(interval.lower), middle, x(interval.upper), middle))
        number = wording.points(interval.value) if signed else wording.percent(interval.value)
        pieces.append(_make_text(x(max(interval.upper, 0.0)) + 6, middle + 4, number, "start"))
    pieces.append(_draw_line("axis", x(0.0), _TOP, x(0.0), height))
    return _write_file(pieces, height=height + 22, title=title)


# ---------------------------------------------------------------- parts


def _check_lengths(columns: Sequence[str], rows: Mapping[str, Sequence[Interval | None]]) -> None:
    for name, values in rows.items():
        if len(values) != len(columns):
            raise InputError(
                f"Expected a figure or None for each of {len(columns)} columns, got {len(values)} for "
                f"{name!r}."
            )


def _find_top(values: Iterable[Interval | None]) -> float:
    return choose_top(max((value.upper for value in values if value is not None), default=1))


def _find_ticks(start: float, end: float) -> list[float]:
    """Return the ends, 0, and the quarters of the longer side; a short end is left out."""
    step = max(-start, end) / 4
    inside = [step * k for k in range(-3, 4) if start < step * k < end]
    ends = [limit for limit in (start, end) if limit and abs(limit) >= step / 2]
    return sorted({0.0, *inside, *ends})


def _classify(interval: Interval) -> str:
    """Return the CSS class as on the page: better, worse, or not significant."""
    if interval.lower <= 0 <= interval.upper:
        return "flat"
    return "better" if interval.value < 0 else "worse"


def _draw_legend(all_series: Sequence[SeriesStyle]) -> list[Html]:
    """Draw a legend in two columns below the plot."""
    pieces: list[Html] = []
    for position, series in enumerate(all_series):
        left, y = _LEFT + position % 2 * 290.0, _BOTTOM + 52 + _LEGEND * (position // 2)
        style, end = f"line {series.style}", left + 26
        pieces.append(shapes.line(style, series.dash, x1=left, x2=end, y1=y, y2=y))
        pieces.append(draw_marker(series, left + 13, y))
        pieces.append(_make_text(left + 32, y + 4, series.label, "start"))
    return pieces


def _draw_line(style: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    return shapes.line(style, x1=x1, y1=y1, x2=x2, y2=y2)


def _make_text(x: float, y: float, text: str, anchor: str) -> Html:
    return shapes.label(x, y, text, anchor, style=None)


# ---------------------------------------------------------------- the file


def _write_file(pieces: Sequence[Html], *, height: float, title: str) -> str:
    """Return a complete SVG file with its own style."""
    attributes: dict[str, Attribute] = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {_WIDTH:g} {height:g}",
        "width": _WIDTH,
        "role": "img",
        "aria-label": title,
    }
    ground = element("rect", {"class": "paper", "width": "100%", "height": "100%"})
    style = Html(f"<style>{_write_style()}</style>")
    return f"{element('svg', attributes, shapes.title(title), style, ground, *pieces)}\n"


def _write_style() -> str:
    common = (
        "text{font:12px system-ui,sans-serif;fill:var(--soft)}.paper{fill:var(--paper)}"
        ".grid{stroke:var(--rule)}.axis{stroke:var(--soft)}.whisker{stroke:var(--ink);stroke-width:1.2}"
        ".line{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}"
        ".mark{fill:var(--c)}.bar{fill:var(--c)}.band{fill:var(--c);opacity:.14}"
        ".better{--c:var(--good)}.worse{--c:var(--bad)}.flat{--c:var(--soft)}"
    )
    numbers = range(len(colors.MODEL_LIGHT))
    models = "".join(f".m{number}{{--c:var(--m{number})}}" for number in numbers)
    light = _list_colors(
        ["#ffffff", "#1a1c20", "#5a5f68", "#dedcd6", "#0b5c97", "#a84a08"], colors.MODEL_LIGHT
    )
    dark = _list_colors(
        ["#15171b", "#e9e8e4", "#a9adb5", "#363a41", "#8cc8f5", "#f7b269"], colors.MODEL_DARK
    )
    return f"svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}{common}{models}"


def _list_colors(page: Sequence[str], models: Sequence[str]) -> str:
    """Return the CSS variables of the page's colors, which a standalone file must include."""
    names = ["paper", "ink", "soft", "rule", "good", "bad"]
    names += [f"m{number}" for number in range(len(models))]
    return "".join(
        f"--{name}:{color};" for name, color in zip(names, [*page, *models], strict=True)
    )
