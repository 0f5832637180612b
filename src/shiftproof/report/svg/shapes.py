"""The SVG elements of charts; colors come by CSS class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from shiftproof.report.svg.markup import Attribute, Html, element

Points: TypeAlias = Sequence[tuple[float, float]]


def line(style: str, dash: str | None = None, **ends: Attribute) -> Html:
    """Return a straight line between ``x1``, ``y1`` and ``x2``, ``y2``."""
    return element("line", {"class": style, **ends, "stroke-dasharray": dash})


def circle(style: str, x: Attribute, y: float, radius: float, *children: Html) -> Html:
    """Return a circle; ``children`` may have its title."""
    return element("circle", {"class": style, "cx": x, "cy": y, "r": radius}, *children)


def polyline(style: str, points: Points, dash: str | None = None) -> Html:
    """Return an open line through points."""
    return element(
        "polyline", {"class": style, "points": _format_points(points), "stroke-dasharray": dash}
    )


def polygon(style: str, points: Points, *children: Html) -> Html:
    """Return a closed area; ``children`` may have its title."""
    return element("polygon", {"class": style, "points": _format_points(points)}, *children)


def label(x: Attribute, y: float, text: str, anchor: str, style: str | None = "tick") -> Html:
    """Return a text; ``anchor`` is its point at ``x``: start, middle or end."""
    return element("text", {"class": style, "x": x, "y": y, "text-anchor": anchor}, text)


def title(text: str) -> Html:
    """Return the tooltip of a mark."""
    return element("title", None, text)


def drawing(style: str, size: tuple[float, float], pieces: Sequence[Html], spoken: str) -> Html:
    """Return a chart that scales with its width; ``spoken`` is the text for screen readers."""
    box = f"0 0 {size[0]:g} {size[1]:g}"
    attributes = {"class": style, "viewBox": box, "role": "img", "aria-label": spoken}
    return element("svg", attributes, *pieces)


def strip(style: str, height: float, pieces: Sequence[Html], spoken: str | None = None) -> Html:
    """Return a chart of full width and fixed height; without ``spoken`` it is decoration."""
    attributes: dict[str, Attribute] = {"class": style, "width": "100%", "height": height}
    attributes |= (
        {"aria-hidden": "true"} if spoken is None else {"role": "img", "aria-label": spoken}
    )
    return element("svg", attributes, *pieces)


def sample(style: str, width: int, height: int, *pieces: Html) -> Html:
    """Return a drawing of fixed size, as decoration of the text beside it."""
    attributes: dict[str, Attribute] = {
        "class": style, "viewBox": f"0 0 {width} {height}", "width": width, "height": height,
        "aria-hidden": "true",
    }  # fmt: skip
    return element("svg", attributes, *pieces)


def _format_points(points: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
