"""Line charts: values with interval bands along a numeric axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.svg.markup import Html, element
from shiftproof.report.wording import MINUS

_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 14.0, 20.0, 36.0


@dataclass(frozen=True)
class Line:
    """A model's values along the axis, in ascending order."""

    look: SeriesStyle
    points: Sequence[tuple[float, Interval]]


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``, with its title and number format."""

    low: float
    high: float
    title: str
    write: Callable[[float], str]
    steps: int = 4

    def ticks(self) -> list[float]:
        """Return the positions of the ticks."""
        return [
            self.low + (self.high - self.low) * step / self.steps for step in range(self.steps + 1)
        ]

    def share(self, value: float) -> float:
        """Return the position of a value along the axis, clipped to 0..1."""
        width = self.high - self.low or 1.0
        return min(max((value - self.low) / width, 0.0), 1.0)


def plot_lines(
    lines: Sequence[Line],
    across: Axis,
    up: Axis,
    *,
    spoken: str,
    size: tuple[float, float] = (760, 300),
) -> Html:
    """Draw lines with their bands; ``spoken`` is the text for screen readers."""
    width, height = size
    right, bottom = width - _RIGHT, height - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + across.share(value) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - up.share(value) * (bottom - _TOP)

    pieces = [
        element(
            "line",
            {
                "class": "grid" if step else "axis",
                "x1": _LEFT, "x2": right, "y1": y(value), "y2": y(value),
            },
        )
        for step, value in enumerate(up.ticks())
    ]  # fmt: skip
    pieces += [_text(_LEFT - 6, y(value) + 4, up.write(value), "end") for value in up.ticks()]
    pieces += [
        _text(x(value), bottom + 15, across.write(value), "middle") for value in across.ticks()
    ]
    pieces += [_text(4, 12, up.title, "start"), _text(right, height - 5, across.title, "end")]
    for line in lines:
        upper = [(x(at), y(figure.upper)) for at, figure in line.points]
        lower = [(x(at), y(figure.lower)) for at, figure in line.points]
        middle = [(x(at), y(figure.value)) for at, figure in line.points]
        band = {"class": f"band {line.look.style}", "points": _points([*upper, *lower[::-1]])}
        stroke = {
            "class": f"line {line.look.style}",
            "points": _points(middle),
            "stroke-dasharray": line.look.dash,
        }
        pieces += [element("polygon", band), element("polyline", stroke)]
    return element(
        "svg",
        {
            "class": "scatter",
            "viewBox": f"0 0 {width:g} {height:g}",
            "role": "img",
            "aria-label": spoken,
        },
        *pieces,
    )


def write_percent(value: float) -> str:
    """Write a share as a number of percent."""
    return f"{100 * value:.3g}".replace("-", MINUS)


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return element("text", {"class": "tick", "x": x, "y": y, "text-anchor": anchor}, text)
