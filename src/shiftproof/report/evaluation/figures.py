"""Accuracy against similarity: of whole test sets as marks, and within one as a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.svg import shapes
from shiftproof.report.svg.charts import SeriesStyle, choose_top, draw_marker
from shiftproof.report.svg.markup import Html
from shiftproof.report.wording import MINUS

_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 14.0, 20.0, 36.0

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Between the marks of the axis of similarities."""


@dataclass(frozen=True)
class Spot:
    """A mark: a model's accuracy at a similarity, and what is written beside it."""

    series: SeriesStyle
    similarity: float
    accuracy: Interval
    label: str
    words: str


@dataclass(frozen=True)
class Curve:
    """A model's accuracies along the similarity, rising."""

    series: SeriesStyle
    points: Sequence[tuple[float, Interval]]


def plot_sets(spots: Sequence[Spot], *, axis: str) -> Html:
    """Draw the accuracy on each test set against how close the training set comes to it."""
    frame = _make_frame(
        [spot.similarity for spot in spots], [spot.accuracy for spot in spots], 760, 320
    )
    pieces = frame.grid(axis)
    named: set[str] = set()
    for spot in spots:
        x, y = frame.x(spot.similarity), frame.y(spot.accuracy.value)
        pieces.append(_make_whisker(frame, spot.series, x, spot.accuracy))
        pieces.append(draw_marker(spot.series, x, y, 3.6, spot.words))
        if spot.label not in named:
            named.add(spot.label)
            beyond = x > frame.width - 90
            anchor = "end" if beyond else "start"
            pieces.append(shapes.label(x + (-8 if beyond else 8), y - 6, spot.label, anchor))
    spoken = "; ".join(spot.words for spot in spots)
    return frame.drawing(pieces, f"Accuracy against {axis}. {spoken}")


def plot_within(curves: Sequence[Curve], *, title: str) -> Html:
    """Draw the accuracy of models along the similarity of one test set's images."""
    points = [point for curve in curves for point in curve.points]
    frame = _make_frame([at for at, _ in points], [figure for _, figure in points], 300, 200)
    pieces = frame.grid("similarity to the nearest training row")
    for curve in curves:
        upper = [(frame.x(at), frame.y(figure.upper)) for at, figure in curve.points]
        lower = [(frame.x(at), frame.y(figure.lower)) for at, figure in curve.points]
        line = [(frame.x(at), frame.y(figure.value)) for at, figure in curve.points]
        pieces.append(shapes.polygon(f"band {curve.series.style}", [*upper, *lower[::-1]]))
        pieces.append(shapes.polyline(f"line {curve.series.style}", line, curve.series.dash))
        pieces += [
            draw_marker(
                curve.series, x, y, 2.6,
                f"{curve.series.label}: {wording.share(figure.value)} at {_cosine(at)}",
            )
            for (x, y), (at, figure) in zip(line, curve.points, strict=True)
        ]  # fmt: skip
    return frame.drawing(pieces, f"{title}: accuracy along the similarity")


@dataclass(frozen=True)
class _Frame:
    """Where similarities and accuracies lie in a drawing."""

    low: float
    high: float
    step: float
    top: float
    width: float
    height: float

    def x(self, similarity: float) -> float:
        share = (similarity - self.low) / (self.high - self.low)
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def y(self, accuracy: float) -> float:
        share = min(accuracy, self.top) / self.top
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def grid(self, axis: str) -> list[Html]:
        right, bottom = self.width - _RIGHT, self.height - _BOTTOM
        pieces: list[Html] = []
        for step in range(5):
            value = self.top * step / 4
            y = self.y(value)
            style = "grid" if step else "axis"
            pieces.append(shapes.line(style, x1=_LEFT, x2=right, y1=y, y2=y))
            pieces.append(shapes.label(_LEFT - 6, y + 4, f"{100 * value:g}", "end"))
        for step in range(round((self.high - self.low) / self.step) + 1):
            at = self.low + step * self.step
            pieces.append(shapes.label(self.x(at), bottom + 15, _cosine(at), "middle"))
        pieces.append(shapes.label(4, 12, "accuracy, %", "start"))
        pieces.append(shapes.label(right, self.height - 5, axis, "end"))
        return pieces

    def drawing(self, pieces: Sequence[Html], spoken: str) -> Html:
        return shapes.drawing("scatter", (self.width, self.height), pieces, spoken)


def _make_frame(
    similarities: Sequence[float], accuracies: Sequence[Interval], width: float, height: float
) -> _Frame:
    """Return a frame that holds all, with the similarities between marks of a short step."""
    low, high = min(similarities), max(similarities)
    reach = max(high - low, 0.02)
    step = next((step for step in _STEPS if reach / step <= 5), _STEPS[-1])
    first = step * math.floor(low / step - 0.25)
    last = step * math.ceil(high / step + 0.25)
    top = choose_top(max(figure.upper for figure in accuracies))
    return _Frame(first, last, step, top, width, height)


def _make_whisker(frame: _Frame, series: SeriesStyle, x: float, figure: Interval) -> Html:
    low, high = frame.y(figure.lower), frame.y(figure.upper)
    return shapes.line(f"line {series.style}", x1=x, x2=x, y1=low, y2=high)


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)
