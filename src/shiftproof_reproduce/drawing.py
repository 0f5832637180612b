"""A table as a figure that stands alone: SVG with its own colours, for light and dark pages."""

from __future__ import annotations

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.svg import colors as colours
from shiftproof.report.svg.charts import Look, marker, nice_reach, nice_top
from shiftproof.report.svg.markup import Html, element
from shiftproof_reproduce.result import Table, Value

_WIDTH = 640.0
_LEFT, _RIGHT, _TOP = 48.0, 16.0, 14.0
_PLOT = 240.0
_ROW = 20.0
_LABELS = 168.0


def draw(table: Table) -> str:
    """Return the figure of a table as the text of an SVG file."""
    return curves(table) if table.drawing == "curves" else bars(table)


def curves(table: Table) -> str:
    """Draw a line per row over the columns, which stand at equal distances, with its band."""
    top = _top(table)
    steps = max(len(table.columns) - 1, 1)
    legend = 18.0 * ((len(table.rows) + 1) // 2)
    bottom = _TOP + _PLOT

    def x(position: int) -> float:
        return _LEFT + position / steps * (_WIDTH - _LEFT - _RIGHT)

    def y(fraction: float) -> float:
        return bottom - max(0.0, min(fraction, top)) / top * _PLOT

    pieces: list[Html] = []
    for step in range(5):
        value = top * step / 4
        pieces.append(_line("grid" if step else "axis", _LEFT, y(value), _WIDTH - _RIGHT, y(value)))
        label = f"{100 * value:g}" + (" %" if step == 4 else "")
        pieces.append(_text(_LEFT - 6, y(value) + 4, label, "end"))
    for position, name in enumerate(table.columns):
        pieces.append(_text(x(position), bottom + 16, name, "middle"))
    pieces.append(_text(_LEFT, bottom + 32, table.corner, "start"))
    looks = [Look(name, number) for number, name in enumerate(table.rows)]
    for look, values in zip(looks, table.values, strict=True):
        there = _there(values)
        high = [(x(at), y(each.upper)) for at, each in there]
        low = [(x(at), y(each.lower)) for at, each in reversed(there)]
        pieces.append(
            element("polygon", {"class": f"band {look.style}", "points": _points([*high, *low])})
        )
    for look, values in zip(looks, table.values, strict=True):
        there = _there(values)
        line = [(x(at), y(each.value)) for at, each in there]
        pieces.append(
            element(
                "polyline",
                {
                    "class": f"line {look.style}",
                    "points": _points(line),
                    "stroke-dasharray": look.dash,
                },
            )
        )
        for at, each in there:
            said = f"{look.label}, {table.columns[at]}: {wording.share(each.value)}"
            pieces.append(marker(look, x(at), y(each.value), 3.0, said))
    for position, look in enumerate(looks):
        column, row = position % 2, position // 2
        left, line_y = _LEFT + column * 290.0, bottom + 52 + 18.0 * row
        pieces.append(
            element(
                "line",
                {
                    "class": f"line {look.style}",
                    "x1": left,
                    "x2": left + 26,
                    "y1": line_y,
                    "y2": line_y,
                    "stroke-dasharray": look.dash,
                },
            )
        )
        pieces.append(marker(look, left + 13, line_y))
        pieces.append(_text(left + 32, line_y + 4, look.label, "start"))
    return _alone(pieces, height=bottom + 48 + legend, title=table.title)


def bars(table: Table) -> str:
    """Draw a bar per row with its interval, of the first column; changes to both sides of 0."""
    rows = [(name, values[0]) for name, values in zip(table.rows, table.values, strict=True)]
    known = [value for _, value in rows if value is not None]
    signed = table.unit == "change"
    start, end = 0.0, _top(table)
    if signed:
        start = -nice_reach(max((-value.lower for value in known), default=0.0))
        end = nice_reach(max((value.upper for value in known), default=0.0))
    height = _TOP + _ROW * len(rows)

    def x(fraction: float) -> float:
        share = (max(start, min(fraction, end)) - start) / (end - start)
        return _LABELS + share * (_WIDTH - _LABELS - _RIGHT - 64)

    pieces: list[Html] = []
    for value in _ticks(start, end):
        pieces.append(_line("grid", x(value), _TOP, x(value), height))
        label = wording.axis_number(value) if signed else f"{100 * value:g}"
        pieces.append(_text(x(value), height + 14, label, "middle"))
    for position, (name, interval) in enumerate(rows):
        middle = _TOP + _ROW * (position + 0.5)
        pieces.append(_text(_LABELS - 8, middle + 4, name, "end"))
        if interval is None:
            continue
        left, right = sorted((x(0.0), x(interval.value)))
        style = _state(interval) if signed else "m0"
        pieces.append(
            element(
                "rect",
                {
                    "class": f"bar {style}",
                    "x": left,
                    "y": middle - 6,
                    "width": right - left,
                    "height": 12,
                },
            )
        )
        pieces.append(_line("whisker", x(interval.lower), middle, x(interval.upper), middle))
        number = wording.points(interval.value) if signed else wording.percent(interval.value)
        pieces.append(_text(x(max(interval.upper, 0.0)) + 6, middle + 4, number, "start"))
    pieces.append(_line("axis", x(0.0), _TOP, x(0.0), height))
    return _alone(pieces, height=height + 22, title=table.title)


# ---------------------------------------------------------------- parts


def _there(values: list[Value]) -> list[tuple[int, Interval]]:
    return [(at, value) for at, value in enumerate(values) if value is not None]


def _top(table: Table) -> float:
    return nice_top(max((v.upper for row in table.values for v in row if v is not None), default=1))


def _ticks(start: float, end: float) -> list[float]:
    """Return the ends, 0 and the quarters of the longer side that are not too near to them."""
    step = max(-start, end) / 4
    inside = [step * k for k in range(-3, 4) if start < step * k < end]
    ends = [each for each in (start, end) if each and abs(each) >= step / 2]
    return sorted({0.0, *inside, *ends})


def _state(interval: Interval) -> str:
    """As on the page: better, worse, or not to be told from no change."""
    if interval.lower <= 0 <= interval.upper:
        return "flat"
    return "better" if interval.value < 0 else "worse"


def _line(style: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    return element("line", {"class": style, "x1": x1, "y1": y1, "x2": x2, "y2": y2})


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return element("text", {"x": x, "y": y, "text-anchor": anchor}, text)


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _alone(pieces: list[Html], *, height: float, title: str) -> str:
    """Return a whole SVG file with the style that a page would give it."""
    drawing = element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH:g} {height:g}",
            "width": _WIDTH,
            "role": "img",
            "aria-label": title,
        },
        element("title", None, title),
        Html(f"<style>{_style()}</style>"),
        element("rect", {"class": "paper", "width": "100%", "height": "100%"}),
        *pieces,
    )
    return f"{drawing}\n"


def _style() -> str:
    common = (
        "text{font:12px system-ui,sans-serif;fill:var(--soft)}.paper{fill:var(--paper)}"
        ".grid{stroke:var(--rule)}.axis{stroke:var(--soft)}.whisker{stroke:var(--ink);stroke-width:1.2}"
        ".line{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}"
        ".mark{fill:var(--c)}.bar{fill:var(--c)}.band{fill:var(--c);opacity:.14}"
        ".better{--c:var(--good)}.worse{--c:var(--bad)}.flat{--c:var(--soft)}"
    )
    models = "".join(
        f".m{number}{{--c:var(--m{number})}}" for number in range(len(colours.MODEL_LIGHT))
    )
    light = _palette("#ffffff", "#1a1c20", "#5a5f68", "#dedcd6", "#0b5c97", "#a84a08")
    dark = _palette("#15171b", "#e9e8e4", "#a9adb5", "#363a41", "#8cc8f5", "#f7b269")
    light += _colours(colours.MODEL_LIGHT)
    dark += _colours(colours.MODEL_DARK)
    return f"svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}{common}{models}"


def _palette(paper: str, ink: str, soft: str, rule: str, good: str, bad: str) -> str:
    """The page's own colours, which a file that stands alone has to bring along."""
    return f"--paper:{paper};--ink:{ink};--soft:{soft};--rule:{rule};--good:{good};--bad:{bad};"


def _colours(models: tuple[str, ...]) -> str:
    return "".join(f"--m{number}:{colour};" for number, colour in enumerate(models))
