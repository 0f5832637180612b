"""Charts of test rows' similarity to the nearest row: histograms, and cumulative shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shiftproof.report import wording
from shiftproof.report.svg import shapes
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.svg.markup import Html

_WIDTH, _HEIGHT = 300.0, 172.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 10.0, 10.0, 24.0

BARS = 30
"""The most bars of a histogram."""


@dataclass(frozen=True)
class Line:
    """One side: its look, and a share from 0 to 1 for every bin."""

    series: SeriesStyle
    shares: Sequence[float]


@dataclass(frozen=True)
class Range:
    """The bins that are drawn: from ``first`` up to and without ``last``."""

    first: int
    last: int


def find_occupied(histograms: Sequence[Sequence[float]], edges: Sequence[float]) -> Range:
    """Return the bins that hold anything, with the tenths around them.

    >>> find_occupied([[0, 1, 0, 0]], [0.0, 0.25, 0.5, 0.75, 1.0])
    Range(first=0, last=3)
    """
    used = [place for counts in histograms for place, count in enumerate(counts) if count] or range(
        len(edges) - 1
    )
    margin = max(1, round(0.05 / (edges[1] - edges[0])))
    return Range(max(0, min(used) - margin), min(len(edges) - 1, max(used) + 1 + margin))


def shares(counts: Sequence[float]) -> list[float]:
    """Return counts as shares of their sum; zeros where there are none."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def coarsen(counts: Sequence[float], shown: Range, most: int) -> tuple[list[float], int]:
    """Return the counts of the bins shown, so many to a bar that there are at most ``most`` bars.

    >>> coarsen([1, 2, 3, 4, 5], Range(0, 5), 3)
    ([3, 7, 5], 2)
    """
    width = -(-(shown.last - shown.first) // most)
    chosen = list(counts[shown.first : shown.last])
    return [sum(chosen[at : at + width]) for at in range(0, len(chosen), width)], width


def histogram(
    sides: Sequence[tuple[SeriesStyle, Sequence[float]]],
    edges: Sequence[float],
    shown: Range,
    *,
    title: str,
) -> Html:
    """Draw the histograms of both sides over each other, as outlines with a light ground."""
    lines = []
    width = 1
    for series, counts in sides:
        grouped, width = coarsen(counts, shown, BARS)
        total = sum(counts) or 1.0
        lines.append(Line(series, [count / total for count in grouped]))
    top = max((max(line.shares, default=0.0) for line in lines), default=0.0) or 1.0
    frame = _Frame(edges, shown, top)
    pieces = frame.grid([0.0, top / 2, top], label=False)
    for line in lines:
        corners = [(frame.x(edges[shown.first]), frame.y(0.0))]
        for place, share in enumerate(line.shares):
            low = edges[min(shown.first + place * width, shown.last)]
            high = edges[min(shown.first + (place + 1) * width, shown.last)]
            corners += [(frame.x(low), frame.y(share)), (frame.x(high), frame.y(share))]
        corners.append((frame.x(edges[shown.last]), frame.y(0.0)))
        pieces.append(shapes.polygon(f"band {line.series.style}", corners))
        pieces.append(shapes.polyline(f"line {line.series.style}", corners, line.series.dash))
    return shapes.drawing(
        "curves", (_WIDTH, _HEIGHT), pieces, f"{title}: histogram of similarities"
    )


def cumulative(lines: Sequence[Line], edges: Sequence[float], shown: Range, *, title: str) -> Html:
    """Draw the share of test rows at or below each similarity; farther right is closer."""
    frame = _Frame(edges, shown, 1.0)
    pieces = frame.grid([0.0, 0.25, 0.5, 0.75, 1.0], label=True)
    medians = []
    for line in lines:
        points = [(frame.x(edges[shown.first]), frame.y(0.0))]
        points += [
            (frame.x(edges[place + 1]), frame.y(line.shares[place]))
            for place in range(shown.first, shown.last)
        ]
        pieces.append(shapes.polyline(f"line {line.series.style}", points, line.series.dash))
        half = next((p for p, share in enumerate(line.shares) if share >= 0.5), None)
        if half is not None:
            medians.append(f"{line.series.label}: half at or below {edges[half + 1]:.2f}")
    return shapes.drawing("curves", (_WIDTH, _HEIGHT), pieces, f"{title}. {'; '.join(medians)}")


@dataclass(frozen=True)
class _Frame:
    """Where similarities and shares lie in a drawing."""

    edges: Sequence[float]
    shown: Range
    top: float

    def x(self, similarity: float) -> float:
        low, high = self.edges[self.shown.first], self.edges[self.shown.last]
        return _LEFT + (similarity - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, share: float) -> float:
        return _TOP + (1 - min(share, self.top) / self.top) * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self, levels: Sequence[float], *, label: bool) -> list[Html]:
        pieces = []
        for level in levels:
            y = self.y(level)
            style = "grid" if level else "axis"
            pieces.append(shapes.line(style, x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
            unit = " %" if level == levels[-1] else ""
            text = f"{100 * level:.3g}{unit}"
            if label or level in (levels[0], levels[-1]):
                pieces.append(shapes.label(_LEFT - 5, y + 3.5, text, "end"))
        low, high = self.edges[self.shown.first], self.edges[self.shown.last]
        for step in range(5):
            similarity = low + (high - low) * step / 4
            anchor = "middle" if step < 4 else "end"
            text = f"{similarity:.2f}".replace("-", wording.MINUS)
            pieces.append(shapes.label(self.x(similarity), _HEIGHT - 7, text, anchor))
        return pieces
