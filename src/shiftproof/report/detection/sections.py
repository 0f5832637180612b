"""The sections that only pages of detectors have: P by size of object, and by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, Shown
from shiftproof.report.grid.sections import list_dots
from shiftproof.report.grid.words import over
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts as figures
from shiftproof.runs.scores.detection import SIZES, ClassFall, Detail, Fall
from shiftproof.runs.scores.grid import GridScores

MOST_CLASSES = 25
"""So many classes are listed openly, the others to be unfolded."""

MOST_LISTED = 1500
"""A longer list would make a page that no browser likes; the run's files have the rest."""

# ---------------------------------------------------------------- by size and by class


def sizes_section(shown: Shown) -> Section | None:
    """Build P by the size of objects; None where it is not measured."""
    entries, scores = shown.entries, shown.first.scores
    details = [entry.detail(Detail) for entry in entries]
    names = [name for name in SIZES if any(name in detail.sizes for detail in details)]
    if not names:
        return None
    nothing = Fall()
    rows = [
        (
            wording.capital(SIZES[name]),
            None,
            [detail.sizes.get(name, nothing) for detail in details],
        )
        for name in names
    ]
    return Section(
        "sizes",
        "Small objects and large ones",
        "Sizes",
        "falls.html.j2",
        {
            "words": f"{scores.measure.name} by the size of the objects, on clean images and as the mean "
            f"{over(scores)}. Small is an area up to "
            f"32{_BY}32 pixels of the image, "
            f"large one beyond 96{_BY}96. These figures have no intervals.",
            "first": "Objects",
            "counted": False,
            **_list_falls(entries, rows),
            "folded": [],
        },
    )


def classes_section(shown: Shown) -> Section | None:
    """Build P of each class, the largest loss first; None where it is not measured."""
    entries, scores = shown.entries, shown.first.scores
    details = [entry.detail(Detail) for entry in entries]
    place = next((at for at, detail in enumerate(details) if detail.classes), None)
    if place is None:
        return None
    nothing = Fall()
    by_name: list[dict[str, Fall]] = [
        {one.name: one for one in detail.classes} for detail in details
    ]
    order = sorted(
        details[place].classes,
        key=lambda one: (one.lost is None, -(one.lost or 0.0), one.index or 0),
    )[:MOST_LISTED]
    rows = [
        (
            one.name,
            "" if one.objects is None else f"{one.objects:,}",
            [falls.get(one.name, nothing) for falls in by_name],
        )
        for one in order
    ]
    counted = any(one.objects is not None for one in order)
    open_rows, folded = rows[:MOST_CLASSES], rows[MOST_CLASSES:]
    return Section(
        "classes",
        "Class by class",
        "Classes",
        "falls.html.j2",
        {
            "words": _class_words(
                scores, order, entries[place].label if len(entries) > 1 else None
            ),
            "first": "Class",
            "counted": counted,
            **_list_falls(entries, open_rows),
            "folded": _list_falls(entries, folded)["rows"],
        },
    )


def _class_words(scores: GridScores, order: Sequence[ClassFall], model: str | None) -> str:
    """Say what the classes are ordered by, and how little stands behind some; None is the only model."""
    few = sum(one.objects is not None and one.objects < _FEW_OBJECTS for one in order)
    doubt = (
        f", and {few} of the {len(order)} classes {'has' if few == 1 else 'have'} fewer than "
        f"{_FEW_OBJECTS} objects: there a single one moves the figure by points."
    )
    return (
        f"{scores.measure.name} of each class that has objects here, on clean images and as the mean "
        f"{over(scores)}, the largest loss{f' of {model}' if model else ''} first. "
        f"These figures have no intervals{doubt if few else '.'}"
    )


_FEW_OBJECTS = 20

_BY = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"

FallRow: TypeAlias = tuple[str, str | None, Sequence[Fall]]


def _list_falls(shown: Sequence[Entry], rows: Sequence[FallRow]) -> dict[str, object]:
    return {
        "entries": list_dots(shown),
        "axis": figures.axis(1.0),
        "rows": [
            {
                "title": title,
                "count": count,
                "chart": figures.falls(
                    [
                        (entry.look, fall.clean, fall.mean)
                        for entry, fall in zip(shown, found, strict=True)
                    ],
                    title=title,
                    top=1.0,
                ),
                "falls": [
                    {
                        "clean": wording.percent(fall.clean),
                        "mean": wording.percent(fall.mean),
                        "change": wording.points(None if fall.lost is None else -fall.lost),
                    }
                    for fall in found
                ],
            }
            for title, count, found in rows
        ],
    }
