"""Line charts: values with interval bands along a numeric axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report.svg import shapes
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.svg.markup import Html
from shiftproof.report.wording import MINUS

_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 14.0, 20.0, 36.0


@dataclass(frozen=True)
class Line:
    """A model's values along the axis, in ascending order."""

    series: SeriesStyle
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
        shapes.line("grid" if step else "axis", x1=_LEFT, x2=right, y1=y(value), y2=y(value))
        for step, value in enumerate(up.ticks())
    ]
    for value in up.ticks():
        pieces.append(shapes.label(_LEFT - 6, y(value) + 4, up.write(value), "end"))
    for value in across.ticks():
        pieces.append(shapes.label(x(value), bottom + 15, across.write(value), "middle"))
    pieces.append(shapes.label(4, 12, up.title, "start"))
    pieces.append(shapes.label(right, height - 5, across.title, "end"))
    for line in lines:
        upper = [(x(position), y(figure.upper)) for position, figure in line.points]
        lower = [(x(position), y(figure.lower)) for position, figure in line.points]
        middle = [(x(position), y(figure.value)) for position, figure in line.points]
        pieces.append(shapes.polygon(f"band {line.series.style}", [*upper, *lower[::-1]]))
        pieces.append(shapes.polyline(f"line {line.series.style}", middle, line.series.dash))
    return shapes.drawing("scatter", size, pieces, spoken)


def write_percent(value: float) -> str:
    """Write a share as a number of percent."""
    return f"{100 * value:.3g}".replace("-", MINUS)
