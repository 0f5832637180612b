"""Sections specific to segmenters: classes, confusions of pixels, conditions."""

from __future__ import annotations

from shiftproof.report import wording
from shiftproof.report.grid.drops import (
    MAX_LISTED,
    MAX_OPEN,
    DropRow,
    build_drops_section,
    describe_ranges,
)
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.grid.words import describe_grid
from shiftproof.report.sections import Section
from shiftproof.report.segmentation.wording import describe_worst, name_taker
from shiftproof.report.svg import charts, colors
from shiftproof.runs.scores.segmentation import ConfusedClass, Confusion, Detail

TAKERS = 3
"""Number of classes named as confusions in a row."""


def build_classes_section(shown: PageContent) -> Section | None:
    """Build the IoU of each class, the largest loss first; None without classes."""
    details = [entry.detail(Detail) for entry in shown.entries]
    place = next((at for at, detail in enumerate(details) if detail.classes), None)
    if place is None:
        return None
    order = list(details[place].classes)[:MAX_LISTED]
    by_name = [{one.name: one for one in detail.classes} for detail in details]
    rows = [
        DropRow(
            one.name,
            [found.get(one.name) for found in by_name],
            [wording.count(one.images), wording.count(one.pixels)],
        )
        for one in order
    ]
    first = shown.entries[place]
    whose = f" of {first.label}" if len(shown.entries) > 1 else ""
    worst = describe_worst(first.label, order)
    return build_drops_section(
        "classes",
        "Class by class",
        "Classes",
        shown.entries,
        rows,
        words=[
            "Intersection over union of each class, over the pixels of all images, on clean images "
            f"and as the mean {describe_grid(shown.first.scores)}, the largest loss{whose} first. "
            f"{describe_ranges(order)}",
            worst,
        ],
        first="Class",
        counted=("Images", "Pixels"),
    )


def build_conditions_section(shown: PageContent) -> Section | None:
    """Build mIoU by recording condition; None if there is only one."""
    details = [entry.detail(Detail) for entry in shown.entries]
    names = list(dict.fromkeys(name for detail in details for name in detail.conditions))
    if not names:
        return None
    rows = [DropRow(name, [one.conditions.get(name) for one in details]) for name in names]
    told = describe_ranges(drop for row in rows for drop in row.drops)
    return build_drops_section(
        "conditions",
        "By weather and light of the images",
        "Conditions",
        shown.entries,
        rows,
        words=[
            "mIoU over the images of each condition, without and with the corruptions. Conditions have "
            f"different images, except in datasets with synthetic fog or rain. {told}"
        ],
        first="Condition",
    )


# ---------------------------------------------------------------- where the pixels go


def build_takers_section(shown: PageContent) -> Section | None:
    """Build the confusions of each class; None if unknown."""
    details = [(entry, entry.detail(Detail)) for entry in shown.entries]
    tables = [
        _make_takers_table(entry, detail)
        for entry, detail in details
        if any(one.takers for one in detail.classes)
    ]
    if not tables:
        return None
    return Section(
        "takers",
        "What each class is predicted as",
        "Mistaken for",
        "segmentation_takers.html.j2",
        {"tables": tables, "over": describe_grid(shown.first.scores)},
    )


def _make_takers_table(entry: Entry, detail: Detail) -> dict[str, object]:
    rows = [
        {
            "title": one.name,
            "clean": wording.percent(one.recall.clean),
            "mean": wording.percent(one.recall.mean),
            "takers": [_make_taker(taker) for taker in one.takers[:TAKERS]],
        }
        for one in detail.classes
        if one.pixels
    ]
    return {
        "label": entry.label,
        "dot": charts.draw_dot(entry.series),
        "rows": rows[:MAX_OPEN],
        "folded": rows[MAX_OPEN:MAX_LISTED],
        "matrix": None if detail.confusion is None else _make_matrix(detail.confusion),
    }


def _make_taker(taker: ConfusedClass) -> dict[str, str]:
    clean = "" if taker.clean is None else f"{wording.percent(taker.clean)} → "
    return {"name": name_taker(taker.name), "share": f"{clean}{wording.percent(taker.mean)}"}


def _make_matrix(confusion: Confusion) -> dict[str, object]:
    """Return the confusion table for corrupted images, with the clean figures as tooltips."""
    columns = [*confusion.classes, "another class"]
    rows = []
    for at, name in enumerate(confusion.classes):
        clean = None if confusion.clean is None else confusion.clean[at]
        rows.append(
            {
                "title": name,
                "cells": [
                    _make_cell(name, columns[place], value, None if clean is None else clean[place])
                    for place, value in enumerate(confusion.mean[at])
                ],
            }
        )
    return {"columns": columns, "rows": rows}


def _make_cell(true: str, said: str, mean: float, clean: float | None) -> dict[str, str]:
    before = "" if clean is None else f", {wording.share(clean)} on clean images"
    text = f"{100 * mean:.0f}"
    return {
        "style": f"s{colors.find_sequential_level(mean)}",
        "text": "" if text == "0" else text,
        "title": f"{true} said to be {said}: {wording.share(mean)}{before}",
    }
