"""Boxes drawn over a picture, as inline SVG in the pixels of the image.

What a box means is told by its line (solid, dashed, dotted, thin) and shape as well as by its color,
and by a sign before its name. Lines have a dark edge, so that they stand out on any photograph.
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
"""More boxes of one kind would hide the picture."""

MAX_LABELS = 5
"""Maximum number of names in one image, for legibility."""

_LONGEST_NAME = 14

_SHOWN_WIDTH = 250
"""Pixels of the screen that a picture is wide, about; letters are sized for that."""

_LETTERS = 10.5
"""Pixels of the screen that letters are high, at that width."""


@dataclass(frozen=True)
class Mark:
    """A box to draw: kind, class, confidence (None for ground truth), and coordinates."""

    kind: str
    name: str
    score: float | None
    box: Box

    @property
    def words(self) -> str:
        """The class and the score, for screen readers."""
        return self.name if self.score is None else f"{self.name} {100 * self.score:.0f}"


def draw_marks(
    things: Sequence[GroundTruthBox],
    here: Sequence[PredictedBox],
    clean: Sequence[PredictedBox] | None,
) -> list[Mark]:
    """Return what there is to draw in one picture.

    Kept is a box on an object; lost is an object that was found on the clean image and is not here;
    missed one that was found in neither; extra is a box on no object; aside is a box on an object that
    does not count. ``clean`` is None where nothing is known of the clean image: then nothing is lost.
    """
    found = [
        Mark(
            EXTRA if one.thing is None else KEPT if things[one.thing].counts else ASIDE,
            one.name,
            one.score,
            one.box,
        )
        for one in here
    ]
    seen = {one.thing for one in here}
    before = {one.thing for one in clean or ()}
    unseen = [
        Mark(LOST if place in before else MISSED, thing.name, None, thing.box)
        for place, thing in enumerate(things)
        if thing.counts and place not in seen
    ]
    return [*found, *unseen]


def count(drawn: Sequence[Mark], kind: str) -> int:
    """Return how many marks are of a kind."""
    return sum(mark.kind == kind for mark in drawn)


def draw(
    size: tuple[int, int], drawn: Sequence[Mark], *, style: str = "", most: int = MAX_BOXES
) -> Html:
    """Draw marks over an image of ``size``, width and height.

    ``style`` are classes to add; of each kind the ``most`` surest are drawn.
    """
    shown = [
        mark for kind in (MISSED, ASIDE, EXTRA, LOST, KEPT) for mark in _surest(drawn, kind)[:most]
    ]
    return element(
        "svg",
        {
            "class": f"boxes {style}".strip(),
            "viewBox": f"0 0 {size[0]} {size[1]}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": describe_boxes(drawn),
        },
        *(_outline(mark, size) for mark in shown),
        *_make_labels(shown, size),
    )


def sample(kind: str) -> Html:
    """Draw the sample of a kind for a legend, on the gray of a photograph."""
    size = (34, 22)
    return shapes.sample(
        "boxes sample",
        *size,
        element("rect", {"class": "ground", "width": size[0], "height": size[1], "rx": 3}),
        _outline(Mark(kind, "", None, (5.0, 4.0, 24.0, 14.0)), size),
    )


def describe_boxes(drawn: Sequence[Mark]) -> str:
    """Return the alternative text of the drawing."""
    parts = []
    for kind, title in (
        (KEPT, "found"),
        (LOST, "lost"),
        (EXTRA, "on no object"),
        (MISSED, "never found"),
    ):
        names = [mark.words for mark in _surest(drawn, kind)]
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            parts.append(f"{title}: {', '.join(names[:8])}{more}")
    return "; ".join(parts) or "no boxes"


def _surest(drawn: Sequence[Mark], kind: str) -> list[Mark]:
    found = [mark for mark in drawn if mark.kind == kind]
    return sorted(found, key=lambda mark: -(mark.score or 0.0))


def _outline(mark: Mark, size: tuple[int, int]) -> Html:
    left, top, right, bottom = _inside(mark.box, size)
    place: dict[str, str | int | float | None] = {
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
    }
    if mark.kind == EXTRA:
        place["rx"] = min(right - left, bottom - top) / 4
    pieces = [
        element("rect", {"class": "edge", **place}),
        element("rect", {"class": "box", **place}),
    ]
    if mark.kind == LOST:
        # Crossed out: told from a box at a glance, and without its color.
        for y1, y2 in ((top, bottom), (bottom, top)):
            pieces.append(shapes.line("cross", x1=left, y1=y1, x2=right, y2=y2))
    return element("g", {"class": mark.kind}, shapes.title(mark.words), join(pieces))


def _inside(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The corners of a box, moved into the image so that its line can be seen."""
    width, height = size
    rim = 0.005 * width
    left, right = (min(max(x, rim), width - rim) for x in (box[0], box[0] + box[2]))
    top, bottom = (min(max(y, rim), height - rim) for y in (box[1], box[1] + box[3]))
    return left, top, right, bottom


# ---------------------------------------------------------------- names


def _make_labels(shown: Sequence[Mark], size: tuple[int, int]) -> list[Html]:
    """Name the marks that matter most, where names do not run into each other."""
    letters = _LETTERS * size[0] / _SHOWN_WIDTH
    taken: list[tuple[float, float, float, float]] = []
    written: list[Html] = []
    for kind in (LOST, KEPT, EXTRA):
        for mark in _surest(shown, kind):
            if len(written) == MAX_LABELS:
                return written
            text = f"{SIGNS[kind]} {_short(mark)}"
            place = _free_place(mark, _wide(text) * letters, 1.4 * letters, size, taken)
            if place is not None:
                taken.append(place)
                written.append(_make_label(kind, text, place, letters))
    return written


def _short(mark: Mark) -> str:
    name = mark.name
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}…"
    return name if mark.score is None else f"{name} {100 * mark.score:.0f}"


def _wide(text: str) -> float:
    """How wide a text is, in heights of its letters, with a rim; generous, as fonts differ."""
    return 0.6 + sum(1.05 if ord(letter) > 0x2E7F else 0.58 for letter in text)


def _free_place(
    mark: Mark,
    width: float,
    height: float,
    size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float] | None:
    """The first place at the box's corners that is in the image and not taken."""
    left, top, right, bottom = _inside(mark.box, size)
    for y in (top - height, top, bottom - height, bottom):
        for x in (left, right - width):
            inside = min(max(x, 0.0), size[0] - width)
            place = (inside, y, inside + width, y + height)
            if inside < 0 or y < 0 or y + height > size[1]:
                continue
            if not any(_meet(place, other) for other in taken):
                return place
    return None


def _meet(
    first: tuple[float, float, float, float], second: tuple[float, float, float, float]
) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def _make_label(
    kind: str, text: str, place: tuple[float, float, float, float], letters: float
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
                "x": left + 0.3 * letters,
                "y": top + 1.05 * letters,
                "font-size": letters,
                # Whatever the font, the name stays on its ground.
                "textLength": right - left - 0.6 * letters,
                "lengthAdjust": "spacingAndGlyphs",
            },
            text,
        ),
    )
