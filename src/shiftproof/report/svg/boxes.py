"""Boxes drawn over an image, as inline SVG in the pixels of the image.

The kind of a box is shown by its line (solid, dashed, dotted, thin), its shape, its color and a sign
before its name. Lines have a dark edge, so that they stand out on any photograph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shiftproof.report.svg import shapes
from shiftproof.report.svg.markup import Html, element, join
from shiftproof.runs.scores.detection import Box, GroundTruthBox, PredictedBox

KEPT, LOST, EXTRA, MISSED, ASIDE = "kept", "lost", "extra", "missed", "aside"

SIGNS = {KEPT: "✓", LOST: "✗", EXTRA: "?"}
"""Prefixes of the names; the other two kinds have no names."""

MAX_BOXES = 20
"""More boxes of one kind would hide the image."""

MAX_LABELS = 5
"""Maximum number of names in one image, for legibility."""

_LONGEST_NAME = 14

_SHOWN_WIDTH = 250
"""Approximate width of an image on the screen, in pixels, for which letters are sized."""

_LETTERS = 10.5
"""Height of letters on the screen, in pixels, at that width."""


@dataclass(frozen=True)
class Mark:
    """A box to draw: kind, class, confidence (None for ground truth), and coordinates."""

    kind: str
    name: str
    score: float | None
    box: Box

    @property
    def text(self) -> str:
        """The class and the score, for screen readers."""
        return self.name if self.score is None else f"{self.name} {100 * self.score:.0f}"


def list_marks(
    objects: Sequence[GroundTruthBox],
    predictions: Sequence[PredictedBox],
    clean_predictions: Sequence[PredictedBox] | None,
) -> list[Mark]:
    """Return the boxes to draw over one image.

    Kept is a box on an object; lost is an object that was found only on the clean image; missed is one
    that was found on neither; extra is a box on no object; aside is a box on an object that does not
    count. Without ``clean_predictions`` nothing is lost.
    """
    marks = [
        Mark(
            EXTRA
            if prediction.thing is None
            else KEPT
            if objects[prediction.thing].counts
            else ASIDE,
            prediction.name,
            prediction.score,
            prediction.box,
        )
        for prediction in predictions
    ]
    found_objects = {prediction.thing for prediction in predictions}
    clean_objects = {prediction.thing for prediction in clean_predictions or ()}
    missing = [
        Mark(LOST if index in clean_objects else MISSED, thing.name, None, thing.box)
        for index, thing in enumerate(objects)
        if thing.counts and index not in found_objects
    ]
    return [*marks, *missing]


def count_marks(marks: Sequence[Mark], kind: str) -> int:
    """Return the number of marks of a kind."""
    return sum(mark.kind == kind for mark in marks)


def draw_boxes(
    size: tuple[int, int], marks: Sequence[Mark], *, style: str = "", limit: int = MAX_BOXES
) -> Html:
    """Draw marks over an image of ``size``, width and height.

    ``style`` are classes to add; of each kind the ``limit`` highest scores are drawn.
    """
    shown = [
        mark
        for kind in (MISSED, ASIDE, EXTRA, LOST, KEPT)
        for mark in _sort_by_score(marks, kind)[:limit]
    ]
    return element(
        "svg",
        {
            "class": f"boxes {style}".strip(),
            "viewBox": f"0 0 {size[0]} {size[1]}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": describe_boxes(marks),
        },
        *(_draw_outline(mark, size) for mark in shown),
        *_draw_labels(shown, size),
    )


def draw_sample(kind: str) -> Html:
    """Draw the sample of a kind for a legend, on the gray of a photograph."""
    size = (34, 22)
    return shapes.sample(
        "boxes sample",
        *size,
        element("rect", {"class": "ground", "width": size[0], "height": size[1], "rx": 3}),
        _draw_outline(Mark(kind, "", None, (5.0, 4.0, 24.0, 14.0)), size),
    )


def describe_boxes(marks: Sequence[Mark]) -> str:
    """Return the alternative text of the drawing."""
    parts = []
    for kind, title in (
        (KEPT, "found"),
        (LOST, "lost"),
        (EXTRA, "on no object"),
        (MISSED, "never found"),
    ):
        names = [mark.text for mark in _sort_by_score(marks, kind)]
        if names:
            rest = f" and {len(names) - 8} more" if len(names) > 8 else ""
            parts.append(f"{title}: {', '.join(names[:8])}{rest}")
    return "; ".join(parts) or "no boxes"


def _sort_by_score(marks: Sequence[Mark], kind: str) -> list[Mark]:
    selected = [mark for mark in marks if mark.kind == kind]
    return sorted(selected, key=lambda mark: -(mark.score or 0.0))


def _draw_outline(mark: Mark, size: tuple[int, int]) -> Html:
    left, top, right, bottom = _clip_box(mark.box, size)
    geometry: dict[str, str | int | float | None] = {
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
    }
    if mark.kind == EXTRA:
        geometry["rx"] = min(right - left, bottom - top) / 4
    elements = [
        element("rect", {"class": "edge", **geometry}),
        element("rect", {"class": "box", **geometry}),
    ]
    if mark.kind == LOST:
        # Crossed out, so that it differs from other boxes also without color.
        for y1, y2 in ((top, bottom), (bottom, top)):
            elements.append(shapes.line("cross", x1=left, y1=y1, x2=right, y2=y2))
    return element("g", {"class": mark.kind}, shapes.title(mark.text), join(elements))


def _clip_box(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the corners of a box, moved into the image so that its line is visible."""
    width, height = size
    margin = 0.005 * width
    left, right = (min(max(x, margin), width - margin) for x in (box[0], box[0] + box[2]))
    top, bottom = (min(max(y, margin), height - margin) for y in (box[1], box[1] + box[3]))
    return left, top, right, bottom


# ---------------------------------------------------------------- names


def _draw_labels(marks: Sequence[Mark], size: tuple[int, int]) -> list[Html]:
    """Draw the names of the most important marks, where names do not overlap."""
    font_size = _LETTERS * size[0] / _SHOWN_WIDTH
    occupied: list[tuple[float, float, float, float]] = []
    labels: list[Html] = []
    for kind in (LOST, KEPT, EXTRA):
        for mark in _sort_by_score(marks, kind):
            if len(labels) == MAX_LABELS:
                return labels
            text = f"{SIGNS[kind]} {_shorten_name(mark)}"
            place = _find_free_place(
                mark, _measure_width(text) * font_size, 1.4 * font_size, size, occupied
            )
            if place is not None:
                occupied.append(place)
                labels.append(_draw_label(kind, text, place, font_size))
    return labels


def _shorten_name(mark: Mark) -> str:
    name = mark.name
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}…"
    return name if mark.score is None else f"{name} {100 * mark.score:.0f}"


def _measure_width(text: str) -> float:
    """Return the width of a text with a margin, in font sizes; generous, as fonts differ."""
    return 0.6 + sum(1.05 if ord(letter) > 0x2E7F else 0.58 for letter in text)


def _find_free_place(
    mark: Mark,
    width: float,
    height: float,
    size: tuple[int, int],
    occupied: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float] | None:
    """Return the first rectangle at the box's corners that is in the image and not occupied."""
    left, top, right, bottom = _clip_box(mark.box, size)
    for y in (top - height, top, bottom - height, bottom):
        for x in (left, right - width):
            x_inside = min(max(x, 0.0), size[0] - width)
            place = (x_inside, y, x_inside + width, y + height)
            if x_inside < 0 or y < 0 or y + height > size[1]:
                continue
            if not any(_overlap(place, other) for other in occupied):
                return place
    return None


def _overlap(
    first: tuple[float, float, float, float], second: tuple[float, float, float, float]
) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def _draw_label(
    kind: str, text: str, place: tuple[float, float, float, float], font_size: float
) -> Html:
    left, top, right, bottom = place
    return element(
        "g",
        {"class": f"label {kind}", "aria-hidden": "true"},
        element(
            "rect",
            {
                "x": left,
                "y": top,
                "width": right - left,
                "height": bottom - top,
                "rx": 0.45 * (bottom - top) if kind == EXTRA else 0,
            },
        ),
        element(
            "text",
            {
                "x": left + 0.3 * font_size,
                "y": top + 1.05 * font_size,
                "font-size": font_size,
                # In every font the name stays on its background.
                "textLength": right - left - 0.6 * font_size,
                "lengthAdjust": "spacingAndGlyphs",
            },
            text,
        ),
    )
