"""Sections specific to segmenters: classes, confusions of pixels, conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, Shown
from shiftproof.report.grid.words import over
from shiftproof.report.sections import Section
from shiftproof.report.segmentation.wording import name_of, tell_worst
from shiftproof.report.svg import charts as figures
from shiftproof.report.svg import colors
from shiftproof.runs.scores.segmentation import ClassFall, Confusion, Detail, RangedFall, Taker

MOST_CLASSES = 25
"""Number of classes shown at once; further ones are collapsed."""

MOST_LISTED = 1500
"""Maximum length of the list, to keep the page small; the run's files have the rest."""

TAKERS = 3
"""Number of classes named as confusions in a row."""


def classes_section(shown: Shown) -> Section | None:
    """Build the IoU of each class, the largest loss first; None without classes."""
    details = [entry.detail(Detail) for entry in shown.entries]
    place = next((at for at, detail in enumerate(details) if detail.classes), None)
    if place is None:
        return None
    order = list(details[place].classes)[:MOST_LISTED]
    by_name = [{one.name: one for one in detail.classes} for detail in details]
    rows = [
        _fall_row(shown.entries, one.name, one, [r.get(one.name) for r in by_name]) for one in order
    ]
    first = shown.entries[place]
    whose = f" of {first.label}" if len(shown.entries) > 1 else ""
    return Section(
        "classes",
        "Class by class",
        "Classes",
        "segmentation_classes.html.j2",
        {
            "words": "Intersection over union of each class, over the pixels of all images, on clean "
            f"images and as the mean {over(shown.first.scores)}, the largest loss{whose} first. "
            f"{_list_ranges(order)}",
            "worst": tell_worst(first.label, order),
            "first": "Class",
            "counted": True,
            **_entries(shown.entries),
            "rows": rows[:MOST_CLASSES],
            "folded": rows[MOST_CLASSES:],
        },
    )


def conditions_section(shown: Shown) -> Section | None:
    """Build mIoU by recording condition; None if there is only one."""
    details = [entry.detail(Detail) for entry in shown.entries]
    names = list(dict.fromkeys(name for detail in details for name in detail.conditions))
    if not names:
        return None
    told = [fall for detail in details for fall in detail.conditions.values()]
    rows = [
        _fall_row(shown.entries, name, None, [detail.conditions.get(name) for detail in details])
        for name in names
    ]
    return Section(
        "conditions",
        "By the weather and light of the images",
        "Conditions",
        "segmentation_classes.html.j2",
        {
            "words": "mIoU over the images of each condition as they were taken, and with the "
            "corruptions on top. Conditions hold different images, or the same ones where a dataset "
            f"was fogged. {_list_ranges(told)}",
            "worst": "",
            "first": "Condition",
            "counted": False,
            **_entries(shown.entries),
            "rows": rows,
            "folded": [],
        },
    )


def _entries(entries: Sequence[Entry]) -> dict[str, object]:
    return {
        "entries": [{"label": entry.label, "dot": figures.dot(entry.look)} for entry in entries],
        "axis": figures.axis(1.0),
    }


def _fall_row(
    entries: Sequence[Entry], title: str, row: ClassFall | None, falls: Sequence[RangedFall | None]
) -> dict[str, object]:
    known = [fall or RangedFall() for fall in falls]
    drawn = [(e.look, fall.clean, fall.mean) for e, fall in zip(entries, known, strict=True)]
    return {
        "title": title,
        "pixels": "" if row is None else wording.count(row.pixels),
        "images": "" if row is None else wording.count(row.images),
        "chart": figures.falls(drawn, title=title, top=1.0),
        "falls": [
            {
                "clean": wording.percent(fall.clean),
                "mean": wording.percent(fall.mean),
                "span": _span(fall.ranges.mean),
                "change": wording.points(None if fall.lost is None else -fall.lost),
                "change_span": _change_span(fall.ranges.lost),
                "sure": fall.ranges.lost is not None and not fall.ranges.lost.spans_zero,
            }
            for fall in known
        ],
    }


def _span(found: Interval | None) -> str:
    return "" if found is None or found.bare else wording.span(found)


def _change_span(lost: Interval | None) -> str:
    """Return the interval of a change, the negative of the loss."""
    if lost is None or lost.bare:
        return ""
    return wording.SHARES.change_span(Interval(-lost.value, -lost.upper, -lost.lower))


def _list_ranges(falls: Iterable[RangedFall]) -> str:
    """Describe the small figures, which older runs do not have."""
    if all(fall.ranges.mean is None for fall in falls):
        return "These figures have no intervals."
    return (
        "The small figures are intervals over images, of the corrupted figure and of the change; a "
        "change in bold has one that leaves out 0."
    )


# ---------------------------------------------------------------- where the pixels go


def takers_section(shown: Shown) -> Section | None:
    """Build the confusions of each class; None if unknown."""
    details = [(entry, entry.detail(Detail)) for entry in shown.entries]
    tables = [
        _takers_table(entry, detail)
        for entry, detail in details
        if any(one.takers for one in detail.classes)
    ]
    if not tables:
        return None
    return Section(
        "takers",
        "What each class is taken for",
        "Mistaken for",
        "segmentation_takers.html.j2",
        {"tables": tables, "over": over(shown.first.scores)},
    )


def _takers_table(entry: Entry, detail: Detail) -> dict[str, object]:
    rows = [
        {
            "title": one.name,
            "clean": wording.percent(one.recall.clean),
            "mean": wording.percent(one.recall.mean),
            "takers": [_taker(taker) for taker in one.takers[:TAKERS]],
        }
        for one in detail.classes
        if one.pixels
    ]
    return {
        "label": entry.label,
        "dot": figures.dot(entry.look),
        "rows": rows[:MOST_CLASSES],
        "folded": rows[MOST_CLASSES:MOST_LISTED],
        "matrix": None if detail.confusion is None else _matrix(detail.confusion),
    }


def _taker(taker: Taker) -> dict[str, str]:
    clean = "" if taker.clean is None else f"{wording.percent(taker.clean)} → "
    return {"name": name_of(taker.name), "share": f"{clean}{wording.percent(taker.mean)}"}


def _matrix(confusion: Confusion) -> dict[str, object]:
    """Return the confusion table for corrupted images, with the clean figures as tooltips."""
    columns = [*confusion.classes, "another class"]
    rows = []
    for at, name in enumerate(confusion.classes):
        clean = None if confusion.clean is None else confusion.clean[at]
        rows.append(
            {
                "title": name,
                "cells": [
                    _cell(name, columns[place], value, None if clean is None else clean[place])
                    for place, value in enumerate(confusion.mean[at])
                ],
            }
        )
    return {"columns": columns, "rows": rows}


def _cell(true: str, said: str, mean: float, clean: float | None) -> dict[str, str]:
    before = "" if clean is None else f", {wording.share(clean)} on clean images"
    text = f"{100 * mean:.0f}"
    return {
        "style": f"s{colors.sequential_level(mean)}",
        "text": "" if text == "0" else text,
        "title": f"{true} said to be {said}: {wording.share(mean)}{before}",
    }
